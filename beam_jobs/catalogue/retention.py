"""The generations of a product index: a guard, an end, and a way back."""

import datetime
import pathlib
import shutil
from collections.abc import Container
from typing import Any

from sicot_tf import files
from sicot_tf.data import generations


class ShrinkError(ValueError):
    """The new index has far fewer products than the one in use."""


def now() -> str:
    """The time as it stands in `run.json`."""
    return datetime.datetime.now(datetime.UTC).isoformat()


def check_shrink(
    index: pathlib.Path, num_products: int, max_shrink_percent: float
) -> None:
    """Compares a new index with the one in use.

    Raises:
        ShrinkError: if it has fewer products by more than the percentage.
    """
    current = generations.latest(index)
    if current is not None:
        expect_as_many(
            num_products,
            _counts(current)["products"],
            max_shrink_percent,
            counted="products",
            current=current,
            question="Is the catalogue complete?",
        )


def expect_as_many(
    new: int,
    before: int,
    max_shrink_percent: float,
    *,
    counted: str,
    current: pathlib.Path,
    question: str,
) -> None:
    """Refuses a generation that holds far less than the one in use.

    Args:
        counted: what the numbers count.
        current: the generation in use, which has `before`.
        question: what may be the reason.

    Raises:
        ShrinkError: if it is less by more than the percentage.
    """
    if new < before * (1 - max_shrink_percent / 100):
        raise ShrinkError(
            f"The new index would have {new:,} {counted}, {current} "
            f"has {before:,}: that is more than --max_shrink_percent "
            f"{max_shrink_percent:g} fewer. LATEST stays as it is. {question} "
            "If it is meant so, add --force."
        )


def remove_old(
    index: pathlib.Path, keep: int, in_use: Container[pathlib.Path] = ()
) -> None:
    """Keeps the newest generations, and the one in use in any case.

    Args:
        in_use: resolved folders that others have in use.
    """
    current = generations.latest(index)
    for generation in generations.by_age(index)[:-keep]:
        if generation.name != current.name and (
            generation.resolve() not in in_use
        ):
            files.remove_folder(generation)
    # What a killed process left.
    for removed in index.glob(".removed-*"):
        shutil.rmtree(removed)


def roll_back(index: pathlib.Path, name: str | None = None) -> pathlib.Path:
    """Points `LATEST` to a generation, or to the one before the present one.

    Raises:
        ValueError: if there is no such generation.
    """
    known = {path.name: path for path in generations.by_age(index)}
    names = list(known)
    current = generations.latest(index)
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
    current = generations.latest(index)
    lines = [
        f"{'generation':24} {'products':>12} {'SKUs':>12} {'mode':6} built"
    ]
    for path in generations.by_age(index):
        counts, built_at = _counts(path), generations.built_at(path)
        mode = files.read_json(path / generations.MANIFEST)["mode"]
        in_use = current is not None and path.name == current.name
        lines.append(
            f"{path.name:24} {counts['products']:12,} {counts['skus']:12,} "
            f"{mode:6} {built_at[:19]}{'  <- LATEST' * in_use}"
        )
    return "\n".join(lines)


def _counts(generation: pathlib.Path) -> dict[str, Any]:
    return files.read_json(generation / generations.MANIFEST)["counts"]
