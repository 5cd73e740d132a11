"""What a job shows of its work: stages, and files that appear.

Whatever runner makes them.
"""

import collections
import contextlib
import fnmatch
import logging
import re
import threading
import time
from collections.abc import Callable
from collections.abc import Iterator

from sicot_tf import progress
from sicot_tf.stores import folder
from sicot_tf.stores import locations

# Between two looks: at a disk, and at a store, where a look is a request.
_SECONDS = 1.0
_REMOTE_SECONDS = 10.0
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
    place: folder.Folder,
    pattern: str,
    *,
    total: int | None,
    count: Callable[[str], dict[str, int]],
    unit: str,
) -> Iterator[None]:
    """Shows how much of the work is done while the body runs.

    Args:
        place: where finished work appears.
        pattern: glob of the files that mark finished work.
        total: units of all work; None if that is not known.
        count: what a file's key stands for: `done` units, others are shown as
            they are, summed.
    """
    literal = re.split(r"[*?\[]", pattern, maxsplit=1)[0]

    def find() -> set[str]:
        keys = (each.key for each in place.list(literal))
        return set(fnmatch.filter(keys, pattern))

    seen = find()
    sums = collections.Counter()
    for key in seen:
        sums.update(count(key))
    remote = locations.is_remote(place.location)
    pause = _REMOTE_SECONDS if remote else _SECONDS
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
            for key in find() - seen:
                seen.add(key)
                sums.update(count(key))
            done = sums.pop("done", 0)
            bar.set_postfix(sums, refresh=False)
            bar.update(done)

        def run() -> None:
            while not stop.wait(pause):
                with contextlib.suppress(OSError):  # Only shown.
                    update()

        thread = threading.Thread(target=run, daemon=True)
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join()
            update()
