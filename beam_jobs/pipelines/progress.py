"""A progress bar over files that appear, whatever runner makes them."""

import contextlib
import pathlib
import threading
from collections.abc import Callable
from collections.abc import Iterator

import tqdm

_SECONDS = 1.0


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
    seen: set[pathlib.Path] = set()
    sums: dict[str, int] = {}
    stop = threading.Event()

    def update(finished_before: bool = False) -> None:
        for path in sorted(set(folder.glob(pattern)) - seen):
            seen.add(path)
            counted = dict(count(path))
            done = counted.pop("done")
            if finished_before:  # Is no speed of this job.
                bar.initial += done
                bar.n += done
            else:
                bar.update(done)
            for name, number in counted.items():
                sums[name] = sums.get(name, 0) + number
        bar.set_postfix(sums, refresh=False)
        bar.refresh()

    def run() -> None:
        while not stop.wait(_SECONDS):
            update()

    with tqdm.tqdm(desc=description, total=total, unit=f" {unit}") as bar:
        update(finished_before=True)
        thread = threading.Thread(target=run, daemon=True)
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join()
            update()
