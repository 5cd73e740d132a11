"""Progress of long work: a bar on a terminal, a line now and then elsewhere."""

import io
import logging
import sys
from collections.abc import Iterable
from typing import Any

import tqdm

_log = logging.getLogger(__name__)
# A day of work is some thousand lines.
_SECONDS_PER_LINE = 30


def bar(
    iterable: Iterable[Any] | None = None,
    description: str = "",
    unit: str = "it",
    **settings: Any,
) -> tqdm.tqdm:
    """A bar with tqdm's own methods; logs plain lines if stderr is no terminal.

    Args:
        iterable: what is counted; None for a bar that is updated by hand.
        unit: plural of what is counted.
        **settings: of `tqdm.tqdm`.
    """
    kind = tqdm.tqdm if sys.stderr.isatty() else _Lines
    return kind(iterable, description, unit=f" {unit}", **settings)


class _Lines(tqdm.tqdm):
    """tqdm that logs where it would draw."""

    def __init__(self, *arguments: Any, **settings: Any):
        self._told = settings.get("initial", 0)
        # The file gets no more than tqdm's last line break.
        lines = {
            "mininterval": _SECONDS_PER_LINE,
            "miniters": 1,
            "file": io.StringIO(),
        }
        super().__init__(*arguments, **(lines | settings))

    def display(self, msg: str | None = None, pos: int | None = None) -> bool:
        """Logs what has changed."""
        if self.n != self._told:
            self._told = self.n
            rest = "/{total_fmt}{unit}, {elapsed}<{remaining}"
            if self.total is None:
                rest = "{unit}, {elapsed}"
            self.bar_format = (
                "{desc}: {n_fmt}" + rest + ", {rate_noinv_fmt}{postfix}"
            )
            _log.info("%s", msg or self)
        return True

    def clear(self, nolock: bool = False) -> None:
        """Has drawn nothing that could be cleared."""

    def moveto(self, n: int) -> None:
        """Has no line of its own on a screen."""
