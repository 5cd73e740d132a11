"""Which variant of an A/B test a visitor gets, without a store."""

import hashlib
import math
import re
import secrets
from collections.abc import Mapping

from sicot_tf.recognition.visits import events

# Words of User-Agent headers that no browser of a person sends. Cubot is a
# maker of phones.
_ROBOT = re.compile(
    r"(?<!cu)bot\b|bot[/_-]|crawl|spider|slurp|headless|phantomjs|lighthouse"
    r"|monitor|preview|facebookexternalhit|curl/|wget|python|java/|go-http"
    r"|libwww|httpclient|scrapy|kube-probe|prometheus",
    re.IGNORECASE,
)


def parse_shares(text: str) -> dict[str, float]:
    """`a=0.9,b=0.1` as a mapping.

    Raises:
        ValueError: if it is none, or `check_shares` refuses it.
    """
    shares = {}
    for part in text.split(","):
        name, _, share = part.partition("=")
        name = name.strip()
        try:
            value = float(share)
        except ValueError:
            value = math.nan
        if name in shares or math.isnan(value):
            raise ValueError(
                "Expected each variant once with its share, as "
                f"current=0.5,new=0.5, received {text!r:.80}."
            )
        shares[name] = value
    check_shares(shares)
    return shares


def check_shares(shares: Mapping[str, float]) -> None:
    """Raises ValueError for names no event can hold, or no sum of 1."""
    if (
        not all(events.NAME.fullmatch(each) for each in shares)
        or not all(0 <= share <= 1 for share in shares.values())
        or not math.isclose(sum(shares.values()), 1, abs_tol=1e-6)
    ):
        raise ValueError(
            "Expected variants named by letters, digits, _, -, . and ~ with "
            f"shares of 0 to 1 that sum to 1, received {dict(shares)!r:.200}."
        )


def assign(visitor: str, shares: Mapping[str, float], salt: str) -> str:
    """The variant of a visitor: the same at every call, on every machine.

    SHA-256 of salt and visitor is a place in [0, 1), which the variants divide
    among them in the order of their names. With two variants, or two whose
    names are neighbours, a change of their shares moves exactly the visitors
    that it has to: from 0.1 to 0.3, a fifth of all. Between other pairs, the
    variants that lie between pass on as many. Another salt draws all anew:
    take one for each test, so that tests do not share their groups.

    Raises:
        ValueError: of `check_shares`.
    """
    check_shares(shares)
    digest = hashlib.sha256(f"{salt}\n{visitor}".encode()).digest()
    # 53 bits: what a float holds exactly, so that it stays below 1.
    place = (int.from_bytes(digest[:8], "big") >> 11) / 2**53
    end, last = 0.0, ""
    for name, share in sorted(shares.items()):
        if share:
            end, last = end + share, name
            if place < end:
                return name
    # The sum of the shares may be a hair below 1.
    return last


def new_visitor() -> str:
    """A random id of 128 bits that tells nothing of its visitor."""
    return secrets.token_hex(16)


def is_robot(user_agent: str | None) -> bool:
    """Whether a User-Agent header names a program; so does one that is empty.

    Robots that pretend to be a browser are not found here; the report also
    leaves out who does more in a day than people do.
    """
    return not user_agent or bool(_ROBOT.search(user_agent))
