"""The generations of a product index: one builder, a guard, a way back."""

import contextlib
import datetime
import fcntl
import os
import pathlib
import shutil
from collections.abc import Iterator
from typing import Any

from sicot_tf import files
from sicot_tf.data import generations

RUN = "run.json"
_WORK_PREFIX = ".build-"
_REMOVED_PREFIX = ".removed-"


class ShrinkError(ValueError):
    """The new index has far fewer products than the one in use."""


@contextlib.contextmanager
def only_builder(index: pathlib.Path) -> Iterator[None]:
    """Keeps other processes of this machine from changing the index.

    Raises:
        ValueError: if one is at it.
    """
    generations.make_folder(index)
    # The kernel lets go of the lock when the process ends, however it ends.
    descriptor = os.open(index, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(descriptor)
        raise ValueError(
            f"Another process is changing {index}. Wait until it has finished."
        ) from error
    try:
        yield
    finally:
        os.close(descriptor)


def work_folder(index: pathlib.Path, name: str) -> pathlib.Path:
    """The hidden folder in which a generation is built.

    What a killed process left of the same generation is still there; what is
    left of others is removed. Only for the one builder.
    """
    work = index.absolute() / f"{_WORK_PREFIX}{name}"
    for stale in index.absolute().glob(f"{_WORK_PREFIX}*"):
        if stale != work:
            shutil.rmtree(stale)
    work.mkdir(exist_ok=True)
    return work


def now() -> str:
    """The time as it stands in `run.json`."""
    return datetime.datetime.now(datetime.UTC).isoformat()


def latest(index: pathlib.Path) -> pathlib.Path | None:
    """The generation that `LATEST` names; None in a new index."""
    if not (index / generations.LATEST).exists():
        return None
    return generations.resolve_generation(index)


def by_age(index: pathlib.Path) -> list[pathlib.Path]:
    """All generations in the order in which they were built."""
    found = [path.parent for path in index.glob(f"*/{generations.MANIFEST}")]
    found = [path for path in found if not path.name.startswith(".")]
    return sorted(found, key=lambda path: (_built_at(path), path.name))


def _built_at(generation: pathlib.Path) -> str:
    run = generation / RUN
    return files.read_json(run)["built_at"] if run.exists() else ""


def check_shrink(
    index: pathlib.Path, num_products: int, max_shrink_percent: float
) -> None:
    """Compares a new index with the one in use.

    Raises:
        ShrinkError: if it has fewer products by more than the percentage.
    """
    current = latest(index)
    if current is None:
        return
    before = _counts(current)["products"]
    if num_products < before * (1 - max_shrink_percent / 100):
        raise ShrinkError(
            f"The new index would have {num_products:,} products, {current} "
            f"has {before:,}: that is more than --max_shrink_percent "
            f"{max_shrink_percent:g} fewer. LATEST stays as it is. Is the "
            "catalogue complete? If it is meant so, add --force."
        )


def remove_old(index: pathlib.Path, keep: int) -> None:
    """Keeps the newest generations, and the one in use in any case."""
    current = latest(index)
    for generation in by_age(index)[:-keep]:
        if generation.name != current.name:
            # No reader may find half of it.
            generation.rename(index / f"{_REMOVED_PREFIX}{generation.name}")
    for removed in index.glob(f"{_REMOVED_PREFIX}*"):
        shutil.rmtree(removed)


def roll_back(index: pathlib.Path, name: str | None = None) -> pathlib.Path:
    """Points `LATEST` to a generation, or to the one before the present one.

    Raises:
        ValueError: if there is no such generation.
    """
    known = {path.name: path for path in by_age(index)}
    names = list(known)
    current = latest(index)
    if name is None:
        place = names.index(current.name) if current else 0
        if place == 0:
            raise ValueError(f"{index} has no generation before the present.")
        name = names[place - 1]
    elif name not in known:
        raise ValueError(
            f"{index} has no generation {name!r}, only {', '.join(names)}."
        )
    generations.point_latest(known[name])
    return known[name]


def describe(index: pathlib.Path) -> str:
    """A table of the generations, the oldest first."""
    current = latest(index)
    lines = [
        f"{'generation':24} {'products':>12} {'SKUs':>12} {'mode':6} built"
    ]
    for path in by_age(index):
        counts = _counts(path)
        mode = files.read_json(path / generations.MANIFEST)["mode"]
        in_use = current is not None and path.name == current.name
        lines.append(
            f"{path.name:24} {counts['products']:12,} {counts['skus']:12,} "
            f"{mode:6} {_built_at(path)[:19]}{'  <- LATEST' * in_use}"
        )
    return "\n".join(lines)


def _counts(generation: pathlib.Path) -> dict[str, Any]:
    return files.read_json(generation / generations.MANIFEST)["counts"]
