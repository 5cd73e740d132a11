"""What a job shows of its work: stages, and files that appear.

Whatever runner makes them.
"""

import collections
import contextlib
import logging
import pathlib
import threading
import time
from collections.abc import Callable
from collections.abc import Iterator

from sicot_tf import progress

_SECONDS = 1.0
_log = logging.getLogger(__name__)


@contextlib.contextmanager
def stage(name: str, seconds: dict[str, float]) -> Iterator[None]:
    """Says what is going on and notes how long it took."""
    _log.info("%s ...", name)
    started = time.monotonic()
    yield
    seconds[name] = time.monotonic() - started


@contextlib.contextmanager
def watch(
    description: str,
    folder: pathlib.Path,
    pattern: str,
    *,
    total: int,
    count: Callable[[pathlib.Path], dict[str, int]],
    unit: str,
) -> Iterator[None]:
    """Shows how much of the work is done while the body runs.

    Args:
        folder: where finished work appears.
        pattern: glob of the files that mark finished work.
        total: units of all work.
        count: what a file stands for: `done` units, others are shown as they
            are, summed.
    """
    seen = set(folder.glob(pattern))
    sums = collections.Counter()
    for path in seen:
        sums.update(count(path))
    stop = threading.Event()
    with progress.bar(
        description=description,
        total=total,
        unit=unit,
        initial=sums.pop("done", 0),
        # Also tells how long it takes while nothing is finished.
        miniters=0,
    ) as bar:

        def update() -> None:
            for path in set(folder.glob(pattern)) - seen:
                seen.add(path)
                sums.update(count(path))
            done = sums.pop("done", 0)
            bar.set_postfix(sums, refresh=False)
            bar.update(done)

        def run() -> None:
            while not stop.wait(_SECONDS):
                update()

        thread = threading.Thread(target=run, daemon=True)
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join()
            update()
