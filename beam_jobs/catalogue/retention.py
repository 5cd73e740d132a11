"""The generations of a product index: a guard, an end, and a way back."""

import datetime
import re
import shutil
from collections.abc import Container
from typing import Any

from sicot_tf import files
from sicot_tf.data import generations
from sicot_tf.data import publishing
from sicot_tf.stores import locations
from sicot_tf.stores import opening

# Of a generation, `<date>-<id>`.
_NAME = re.compile(r"\d{4}-\d\d-\d\d-[0-9a-f]{12}")


class ShrinkError(ValueError):
    """The new index has far fewer products than the one in use."""


def now() -> str:
    """The time as it stands in `run.json`."""
    return datetime.datetime.now(datetime.UTC).isoformat()


def is_built(index: locations.Location, name: str) -> bool:
    """Whether there is such a generation.

    Raises:
        ValueError: if its folder, on a disk, has lost its manifest.
    """
    if opening.open_folder(index).exists(f"{name}/{generations.MANIFEST}"):
        return True
    path = locations.join(index, name)
    if not locations.is_remote(path) and path.exists():
        generations.check_complete(path)
    return False


def read_manifest(index: locations.Location, name: str) -> dict[str, Any]:
    """The manifest of a generation."""
    return opening.open_folder(index).get_json(f"{name}/{generations.MANIFEST}")


def check_shrink(
    index: locations.Location, num_products: int, max_shrink_percent: float
) -> None:
    """Compares a new index with the one in use.

    Raises:
        ShrinkError: if it has fewer products by more than the percentage.
    """
    current = publishing.latest(index)
    if current is not None:
        manifest = read_manifest(index, locations.name(current))
        expect_as_many(
            num_products,
            manifest["counts"]["products"],
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
    current: locations.Location,
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
    index: locations.Location,
    keep: int,
    in_use: Container[locations.Location] = (),
) -> None:
    """Keeps the newest generations, and the one in use in any case.

    Args:
        in_use: resolved folders that others have in use.
    """
    current = locations.name(publishing.latest(index))
    for name in by_age(index)[:-keep]:
        place = locations.join(index, name)
        if not locations.is_remote(place):
            place = place.resolve()
        if name != current and place not in in_use:
            _remove(place)
    # What a killed process left.
    if locations.is_remote(index):
        _remove_halves(index)
    else:
        for removed in index.glob(".removed-*"):
            shutil.rmtree(removed)


def _remove(generation: locations.Location) -> None:
    """Removes a generation of which no reader may find half."""
    if locations.is_remote(generation):
        place = opening.open_folder(generation)
        place.delete(generations.MANIFEST)
        place.delete_all()
    else:
        files.remove_folder(generation)


def _remove_halves(index: locations.Location) -> None:
    """Removes files of generations that have no manifest."""
    place = opening.open_folder(index)
    keys = [entry.key for entry in place.list()]
    whole = {key.partition("/")[0] for key in keys if _is_manifest(key)}
    for key in keys:
        name, _, inside = key.partition("/")
        if inside and name not in whole and _NAME.fullmatch(name):
            place.delete(key)


def _is_manifest(key: str) -> bool:
    name, _, inside = key.partition("/")
    return inside == generations.MANIFEST and not name.startswith(".")


def by_age(index: locations.Location) -> list[str]:
    """Names of all generations in the order in which they were built."""
    place = opening.open_folder(index)
    names = [
        entry.key.partition("/")[0]
        for entry in place.list()
        if _is_manifest(entry.key)
    ]

    def age(name: str) -> tuple[str, str]:
        return generations.built_at(locations.join(index, name)), name

    return sorted(names, key=age)


def roll_back(index: locations.Location, name: str | None = None) -> str:
    """Points `LATEST` to a generation, or to the one before the present one.

    Returns:
        The name of the generation.

    Raises:
        ValueError: if there is no such generation.
    """
    names = by_age(index)
    current = publishing.latest(index)
    if name is None:
        position = names.index(locations.name(current)) if current else 0
        if position == 0:
            raise ValueError(f"{index} has no generation before the present.")
        name = names[position - 1]
    elif name not in names:
        raise ValueError(
            f"{index} has no generation {name!r}, only {', '.join(names)}."
        )
    publishing.point_latest(index, name)
    return name


def describe(index: locations.Location) -> str:
    """A table of the generations, the oldest first."""
    current = publishing.latest(index)
    in_use = current and locations.name(current)
    lines = [
        f"{'generation':24} {'products':>12} {'SKUs':>12} {'mode':6} built"
    ]
    for name in by_age(index):
        manifest = read_manifest(index, name)
        counts = manifest["counts"]
        built_at = generations.built_at(locations.join(index, name))
        lines.append(
            f"{name:24} {counts['products']:12,} {counts['skus']:12,} "
            f"{manifest['mode']:6} {built_at[:19]}"
            f"{'  <- LATEST' * (name == in_use)}"
        )
    return "\n".join(lines)
