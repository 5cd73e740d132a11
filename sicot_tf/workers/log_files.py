"""What workers 1, 2, ... of one machine write, and what is told of it."""

import logging
import pathlib
import signal
import sys

from sicot_tf import exit_codes

START = "--- python -m"
_LAST_LINES = 20
_log = logging.getLogger(__name__)


def tell_mistake(index: int, log_dir: pathlib.Path) -> None:
    """Tells what a worker other than 0, which has the terminal, has logged."""
    _, found, mistake = _log_of(index, log_dir).rpartition("\nerror: ")
    if found:
        print(f"error: worker {index}: {mistake.rstrip()}", file=sys.stderr)
    else:
        report(index, exit_codes.BAD_INPUT, log_dir)


def report(index: int, code: int, log_dir: pathlib.Path) -> None:
    """Says who failed, with the last lines of its log."""
    if index == 0:
        _log.error(
            "The job failed: worker 0 %s; its output is above.", in_words(code)
        )
        return
    lines = _log_of(index, log_dir).splitlines()[-_LAST_LINES:]
    _log.error(
        "The job failed: worker %d %s. The end of %s:\n%s",
        *(index, in_words(code), path_of(index, log_dir)),
        "\n".join(lines),
    )


def path_of(index: int, log_dir: pathlib.Path) -> pathlib.Path:
    """Where a worker writes."""
    return log_dir / f"worker-{index}.log"


def _log_of(index: int, log_dir: pathlib.Path) -> str:
    """What a worker has logged since it was started."""
    text = path_of(index, log_dir).read_text("utf-8", "replace")
    return text.rpartition(START)[2]


def in_words(code: int) -> str:
    """How a process ended, of its exit code."""
    if code < 0:
        return f"was ended by {signal.Signals(-code).name}"
    return f"ended with exit code {code}"
