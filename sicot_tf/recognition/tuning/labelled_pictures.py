"""Validation pictures and scenes whose answer is known, from JSON Lines."""

import dataclasses
import glob
import json
import pathlib
from collections.abc import Iterator
from typing import Any


@dataclasses.dataclass(frozen=True)
class LabelledPicture:
    """A picture of one SKU."""

    image: pathlib.Path
    sku_id: str


@dataclasses.dataclass(frozen=True)
class Scene:
    """A picture of several objects; boxes as `answers.Box`."""

    image: pathlib.Path
    boxes: list[tuple[int, int, int, int]]


def read_pictures(pattern: str, split: str) -> list[LabelledPicture]:
    """Raw records of a split: `split`, `image` and `sku_id` are read.

    Args:
        pattern: of JSON Lines files; relative images lie beside each.

    Raises:
        ValueError: if there is none, or a line lacks one of them.
    """
    return [
        LabelledPicture(image, str(row["sku_id"]))
        for image, row in _read(pattern, split, "sku_id")
    ]


def read_scenes(pattern: str, split: str) -> list[Scene]:
    """Scenes of a split: `split`, `image` and `objects` with a `box` each."""
    return [
        Scene(image, [tuple(each["box"]) for each in row["objects"]])
        for image, row in _read(pattern, split, "objects")
    ]


def _read(
    pattern: str, split: str, label: str
) -> list[tuple[pathlib.Path, dict[str, Any]]]:
    """(image, record) of the split's records, in the order of the files."""
    paths = sorted(map(pathlib.Path, glob.glob(pattern)))
    if not paths:
        raise ValueError(f"Expected files, found none at {pattern}.")
    found = [row for path in paths for row in _read_file(path, split, label)]
    if not found:
        raise ValueError(
            f"Expected records with split {split!r} in {pattern}, found none "
            f"in {len(paths)} files. Name another --split."
        )
    return found


def _read_file(
    path: pathlib.Path, split: str, label: str
) -> Iterator[tuple[pathlib.Path, dict[str, Any]]]:
    with path.open(encoding="utf-8") as file:
        for number, line in enumerate(file, start=1):
            try:
                row = json.loads(line)
                is_wanted = row["split"] == split
                image = path.parent / row["image"]
                row[label]
            except (ValueError, KeyError, TypeError) as error:
                raise ValueError(
                    f"Expected JSON with split, image and {label} in line "
                    f"{number} of {path}, received {line[:80]!r}."
                ) from error
            if is_wanted:
                yield image, row
