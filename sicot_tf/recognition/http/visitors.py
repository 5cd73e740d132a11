"""Visitors of the page: their variant, and what they tell that they did.

One cookie with a random id, set only where events are kept; nothing else of a
visitor is known or written.
"""

import dataclasses
import datetime
import secrets
from collections.abc import Mapping
from typing import Any

import fastapi
import orjson
from starlette import requests

from sicot_tf.recognition.http import limits
from sicot_tf.recognition.settings import RecognitionSettings
from sicot_tf.recognition.visits import events
from sicot_tf.recognition.visits import variants

_COOKIE = "sicot_visitor"
_COOKIE_SECONDS = 365 * 86_400
_MAX_BYTES = 8 * 1024
# Without a test everybody gets the same.
ONLY_VARIANT = {"default": 1.0}


@dataclasses.dataclass(frozen=True)
class Visitors:
    """How visitors are assigned and where their events go.

    Attributes:
        log: None: no events are kept and no cookie is set.
        shares: of each variant, see `variants.parse_shares`.
        salt: another one for each test.
        settings: of variants that are not recognised with the release's.
    """

    log: events.EventLog | None = None
    shares: Mapping[str, float] = dataclasses.field(
        default_factory=lambda: dict(ONLY_VARIANT)
    )
    salt: str = ""
    settings: Mapping[str, RecognitionSettings] = dataclasses.field(
        default_factory=dict
    )

    def visitor(self, request: requests.Request) -> str:
        """The id that came as a cookie, or a new one."""
        given = request.cookies.get(_COOKIE, "")
        return given if events.NAME.fullmatch(given) else variants.new_visitor()

    def variant(self, visitor: str) -> str:
        """What a visitor gets, always the same."""
        return variants.assign(visitor, self.shares, self.salt)

    def choose(self, visitor: str, wanted: str | None) -> str:
        """The variant that a request asks for, or else its visitor's.

        Raises:
            HTTPException: 422 if there is none of this name.
        """
        if wanted is None:
            return self.variant(visitor)
        if wanted not in self.shares:
            raise limits.refusal(
                422,
                f"Expected variant {' or '.join(sorted(self.shares))}, "
                f"received {wanted[:60]!r}.",
            )
        return wanted

    def remember(
        self,
        request: requests.Request,
        response: fastapi.Response,
        visitor: str,
    ) -> None:
        """Sets the cookie, if events are kept and there is none yet."""
        if self.log and request.cookies.get(_COOKIE) != visitor:
            response.set_cookie(
                _COOKIE,
                visitor,
                max_age=_COOKIE_SECONDS,
                secure=request.url.scheme == "https",
                httponly=True,
                samesite="lax",
            )

    def to_event(
        self, row: Mapping[str, Any], request: requests.Request, visitor: str
    ) -> events.Event:
        """An event of the page, which tells neither who nor when.

        What a program sends may: a shop's trade has its own id, visitor and
        time.

        Raises:
            HTTPException: 422 if it is none.
        """
        agent = request.headers.get("user-agent")
        given = {
            "event_id": secrets.token_hex(16),
            "time": datetime.datetime.now(datetime.UTC).isoformat(),
            "visitor": visitor,
            "robot": "visitor" not in row and variants.is_robot(agent),
            **row,
        }
        try:
            if "variant" not in row:
                given["variant"] = self.variant(str(given["visitor"]))
            return events.parse(given)
        except ValueError as error:
            raise limits.refusal(422, str(error)) from error


async def read_row(request: requests.Request) -> Mapping[str, Any]:
    """The JSON object in a request.

    Raises:
        HTTPException: 413 if it is too long, 422 if it is none.
    """
    body = await limits.read_body(request, _MAX_BYTES)
    try:
        row = orjson.loads(body)
    except ValueError:
        row = None
    if not isinstance(row, dict):
        raise limits.refusal(
            422, "Expected an event as a JSON object, received something else."
        )
    return row
