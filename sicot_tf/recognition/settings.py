"""Numbers of the recognition stages, chosen on validation pictures."""

import dataclasses
import math
import pathlib
from typing import Any

from sicot_tf import files


@dataclasses.dataclass(frozen=True)
class RecognitionSettings:
    """How the stages weigh what they see; kept with a release.

    Attributes:
        category_search_weight: 0 to 1; share of the nearest catalogue pictures
            in the category, the rest is the model's.
        category_sharpness: 0 or more; a picture at squared distance d votes
            with exp(-category_sharpness * d).
        num_neighbours: catalogue pictures that vote.
        category_influence: 0 to 1; a SKU's score is multiplied by what its
            category has, divided by what the model gave it, to this power, and
            all scores together stay 1. 0 leaves the scores as they are. Never
            hides a SKU.
        sku_search_weight: 0 to 1; share of the nearest catalogue pictures in
            the score of a SKU, the rest is the classifier's. 0: SKUs that the
            classifier does not know are never answered.
        sku_search_sharpness: 0 or more; a SKU whose nearest picture lies at
            squared distance d has a share of exp(-sku_search_sharpness * d).
        sku_search_threshold: 0 to 1; with a weight above 0, the score from
            which on an answer counts as recognised. 1: none does.
        search_certainty: 0 to 1; results are narrowed to a category that has
            more than this share, but for products that look at least as much
            alike as the best of it. 1: never.
        heat_threshold: 0 to 1; cells of the heat map below this share of its
            maximum are no part of an object.
        heat_mass: 0 to 1; a box holds at least this share of the heat of its
            region.
        box_margin: share of its sides by which a box grows on each side.
        max_objects: boxes of a photo.

    Raises:
        ValueError: for a value of another type or out of its range.
    """

    category_search_weight: float = 0.5
    category_sharpness: float = 4.0
    num_neighbours: int = 30
    category_influence: float = 0.0
    sku_search_weight: float = 0.0
    sku_search_sharpness: float = 16.0
    sku_search_threshold: float = 1.0
    search_certainty: float = 1.0
    heat_threshold: float = 0.6
    heat_mass: float = 0.9
    box_margin: float = 0.15
    max_objects: int = 4

    def __post_init__(self) -> None:
        for name, (kind, least, most) in _RANGES.items():
            value = getattr(self, name)
            # A whole number is a number, too; True and False are none.
            fits = type(value) in (kind, int)
            if not (fits and least <= value <= most and math.isfinite(value)):
                expected = "a whole number" if kind is int else "a number"
                upper = f" to {most}" if most < math.inf else " or more"
                raise ValueError(
                    f"Expected {name} to be {expected}, {least}{upper}, "
                    f"received {value!r}."
                )


_RANGES: dict[str, tuple[type, float, float]] = {
    "category_search_weight": (float, 0, 1),
    "category_sharpness": (float, 0, math.inf),
    "num_neighbours": (int, 1, math.inf),
    "category_influence": (float, 0, 1),
    "sku_search_weight": (float, 0, 1),
    "sku_search_sharpness": (float, 0, math.inf),
    "sku_search_threshold": (float, 0, 1),
    "search_certainty": (float, 0, 1),
    "heat_threshold": (float, 0, 1),
    "heat_mass": (float, 0, 1),
    "box_margin": (float, 0, math.inf),
    "max_objects": (int, 1, math.inf),
}


def read(path: pathlib.Path | str) -> RecognitionSettings:
    """The settings that `python -m sicot_tf.tune_recognition` has chosen.

    They stand under `settings`; what is not there keeps its default.

    Raises:
        ValueError: if the file holds something else, a setting that is
            unknown, or a value out of its range; the error names the file.
    """
    content = files.read_json(path)
    chosen: Any = content.get("settings") if isinstance(content, dict) else None
    if not isinstance(chosen, dict):
        raise ValueError(
            f'Expected an object "settings" in {path}, as python -m '
            "sicot_tf.tune_recognition writes it. Run it again."
        )
    unknown = sorted(set(chosen) - set(_RANGES))
    if unknown:
        raise ValueError(
            f"{path} has settings that are unknown here: {unknown}. Known: "
            f"{sorted(_RANGES)}."
        )
    try:
        return RecognitionSettings(**chosen)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
