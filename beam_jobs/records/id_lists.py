"""Lists that people write: an id a line."""

import codecs
import dataclasses
import pathlib
from collections.abc import Collection
from typing import Any

# How many ids a message names.
_NUM_NAMED = 5
_UTF16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


@dataclasses.dataclass(frozen=True)
class IdList:
    """The ids of a file, each once, in its order.

    Attributes:
        num_repeated: lines whose id stood there before.
    """

    path: pathlib.Path
    ids: list[str]
    num_repeated: int

    def describe(self, unknown: Collection[str]) -> dict[str, Any]:
        """Counts for a report: `listed`, `repeated`, `unknown`, and examples.

        Args:
            unknown: the ids that nothing has.

        Raises:
            ValueError: if that is every one of them.
        """
        if self.ids and len(unknown) == len(self.ids):
            raise ValueError(
                f"Expected ids that the records have, an id a line, in "
                f"{self.path}; none of its {len(self.ids):,} is: "
                f"{_name(unknown)}."
            )
        return {
            "listed": len(self.ids),
            "repeated": self.num_repeated,
            "unknown": len(unknown),
            "unknown_ids": sorted(unknown)[:_NUM_NAMED],
        }


def read(path: pathlib.Path) -> IdList:
    """Reads a list; blanks around an id are none of it.

    Raises:
        ValueError: if it is not UTF-8.
        OSError: if it can't be read.
    """
    found = [line.strip() for line in read_lines(path)]
    ids = list(dict.fromkeys(found))
    return IdList(path, ids, len(found) - len(ids))


def read_lines(path: pathlib.Path) -> list[str]:
    """The lines that are not blank, without byte order mark and line ends.

    Raises:
        ValueError: if they are not UTF-8.
        OSError: if they can't be read.
    """
    content = path.read_bytes()
    if b"\0" in content or content.startswith(_UTF16):
        raise ValueError(
            f"Expected a list in UTF-8, {path} is UTF-16 or no text. Save it "
            "as UTF-8."
        )
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(
            f"Expected a list in UTF-8, {path} is not, from byte "
            f"{error.start:,} on. Save it as UTF-8."
        ) from error
    # Not `splitlines`, which also ends lines inside an id.
    lines = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    return [line for line in lines if line.strip()]


def _name(ids: Collection[str]) -> str:
    named = ", ".join(map(repr, sorted(ids)[:_NUM_NAMED]))
    return named + (", ..." if len(ids) > _NUM_NAMED else "")
