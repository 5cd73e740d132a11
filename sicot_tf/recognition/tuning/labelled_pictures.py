"""Validation pictures and scenes whose answer is known, from JSON Lines."""

import dataclasses
import glob
import json
import pathlib
from collections.abc import Iterator
from collections.abc import Sequence
from typing import Any


@dataclasses.dataclass(frozen=True)
class LabelledPicture:
    """A picture of one SKU."""

    image: pathlib.Path
    sku_id: str


@dataclasses.dataclass(frozen=True)
class Scene:
    """A picture of several objects.

    Attributes:
        image: its file.
        boxes: as `answers.Box`.
        sku_ids: of the same objects; empty where the record names none.
    """

    image: pathlib.Path
    boxes: list[tuple[int, int, int, int]]
    sku_ids: list[str]


def read_pictures(pattern: str, split: str) -> list[LabelledPicture]:
    """Raw records of a split: `split`, `image` and `sku_id` are read.

    Args:
        pattern: of JSON Lines files; relative images lie beside each.

    Raises:
        ValueError: if there is none, or a line lacks one of them.
    """
    return [
        LabelledPicture(image, str(row["sku_id"]))
        for image, row in _read(pattern, (split,), "sku_id")
    ]


def read_sku_ids(pattern: str) -> set[str]:
    """SKUs of the raw records of all splits: those a classifier can know."""
    return {str(row["sku_id"]) for _, row in _read(pattern, None, "sku_id")}


def read_scenes(pattern: str, splits: Sequence[str]) -> list[Scene]:
    """Scenes of some splits: `split`, `image`, `objects` with a `box` each.

    Raises:
        ValueError: as `read_pictures`.
    """
    return [
        Scene(
            image,
            [tuple(each["box"]) for each in row["objects"]],
            [str(each.get("sku_id", "")) for each in row["objects"]],
        )
        for image, row in _read(pattern, splits, "objects")
    ]


def _read(
    pattern: str, splits: Sequence[str] | None, label: str
) -> list[tuple[pathlib.Path, dict[str, Any]]]:
    """(image, record) of the splits' records, in the order of the files."""
    paths = sorted(map(pathlib.Path, glob.glob(pattern)))
    if not paths:
        raise ValueError(f"Expected files, found none at {pattern}.")
    found = [row for path in paths for row in _read_file(path, splits, label)]
    if not found:
        wanted = " or ".join(splits or ["any"])
        raise ValueError(
            f"Expected records with split {wanted} in {pattern}, "
            f"found none in {len(paths)} files. Name another --split."
        )
    return found


def _read_file(
    path: pathlib.Path, splits: Sequence[str] | None, label: str
) -> Iterator[tuple[pathlib.Path, dict[str, Any]]]:
    with path.open(encoding="utf-8") as file:
        for number, line in enumerate(file, start=1):
            try:
                row = json.loads(line)
                is_wanted = splits is None or row["split"] in splits
                image = path.parent / row["image"]
                row[label]
            except (ValueError, KeyError, TypeError) as error:
                raise ValueError(
                    f"Expected JSON with split, image and {label} in line "
                    f"{number} of {path}, received {line[:80]!r}."
                ) from error
            if is_wanted:
                yield image, row
