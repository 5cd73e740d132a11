"""From a heat map to boxes around the objects of a photo.

A region of the map that is hot enough is an object (Zhou et al. 2016, arXiv
1512.04150, section 3.2); how hot, and how much of it a box has to hold, is
chosen by `choose_localization`.
"""

import dataclasses
import math
from collections.abc import Sequence

import cv2
import numpy as np

from sicot_tf.recognition import settings as recognition_settings

Box = tuple[int, int, int, int]

# The map is enlarged to this many cells on a side, so that a box doesn't end
# where a cell does.
_SMOOTH_SIZE = 96
# What `choose_localization` tries.
_THRESHOLDS = (0.2, 0.3, 0.4, 0.5, 0.6, 0.7)
_MASSES = (0.8, 0.9, 1.0)
# Wider boxes fit a little better, but their crops are recognised worse:
# docs/localization.md.
_MARGINS = (0.0, 0.05, 0.1, 0.15)


def find_boxes(
    heat_map: np.ndarray,
    *,
    width: int,
    height: int,
    settings: recognition_settings.RecognitionSettings,
) -> list[Box]:
    """Boxes in pixels of the photo, that with the most heat first.

    Args:
        heat_map: `[rows, columns]` float, 0 or more, over the whole photo.
        width: of the photo, in pixels.
        height: of the photo, in pixels.
        settings: `heat_threshold`, `heat_mass`, `box_margin`, `max_objects`.

    Returns:
        `(x_min, y_min, x_max, y_max)`, the last two exclusive, at least one
        box; a map that is the same everywhere gives the whole photo.

    Raises:
        ValueError: if the map or the photo has no area.
    """
    if heat_map.ndim != 2 or not heat_map.size or min(width, height) < 1:
        raise ValueError(
            "Expected a heat map [rows, columns] and a photo of 1 pixel or "
            f"more, received a map of shape {heat_map.shape} and a photo of "
            f"{width} x {height} pixels."
        )
    whole = (0, 0, width, height)
    # Not finite counts as cold.
    heat_map = np.nan_to_num(heat_map.astype(np.float32), posinf=0, neginf=0)
    if heat_map.max() <= 0 or np.ptp(heat_map) <= 1e-6 * heat_map.max():
        return [whole]
    smooth = cv2.resize(
        heat_map, (_SMOOTH_SIZE, _SMOOTH_SIZE), interpolation=cv2.INTER_CUBIC
    )
    is_hot = smooth >= settings.heat_threshold * smooth.max()
    _, regions, stats, _ = cv2.connectedComponentsWithStats(
        is_hot.astype(np.uint8)
    )
    found = []
    # Region 0 is what is cold.
    for region in range(1, len(stats)):
        left, top, columns, rows, _ = stats[region]
        part = np.s_[top : top + rows, left : left + columns]
        heat = np.where(regions[part] == region, smooth[part], 0).clip(0)
        x_min, x_max = _hold(heat.sum(axis=0), settings.heat_mass)
        y_min, y_max = _hold(heat.sum(axis=1), settings.heat_mass)
        box = (left + x_min, top + y_min, left + x_max, top + y_max)
        box = np.array(box) / _SMOOTH_SIZE
        box *= (width, height, width, height)
        found.append((heat.sum(), box))
    found.sort(key=lambda each: -each[0])
    return [
        grow(box, settings.box_margin, width=width, height=height)
        for _, box in found[: settings.max_objects]
    ]


def grow(
    box: np.ndarray | Box, margin: float, *, width: int, height: int
) -> Box:
    """A box with a margin on each side, a share of its own sides.

    Whole pixels inside the photo, at least one.
    """
    x_min, y_min, x_max, y_max = (float(each) for each in box)
    x_margin, y_margin = margin * (x_max - x_min), margin * (y_max - y_min)
    left = int(np.clip(np.floor(x_min - x_margin), 0, width - 1))
    top = int(np.clip(np.floor(y_min - y_margin), 0, height - 1))
    right = int(np.clip(np.ceil(x_max + x_margin), left + 1, width))
    bottom = int(np.clip(np.ceil(y_max + y_margin), top + 1, height))
    return left, top, right, bottom


def to_square(box: Box, *, width: int, height: int) -> Box:
    """The box to cut out for a model that sees squares: nothing is lost.

    The shorter side grows to the longer one, moved inside the photo; where
    the photo is too small for a square, as far as it goes.
    """
    side = max(box[2] - box[0], box[3] - box[1])
    low, high = [], []
    for first, last, end in zip(box[:2], box[2:], (width, height)):
        start = (first + last - side) // 2
        start = max(0, min(start, end - side))
        low.append(start)
        high.append(min(end, start + side))
    return low[0], low[1], high[0], high[1]


def to_pixels(
    shares: tuple[float, float, float, float], size: tuple[int, int]
) -> Box:
    """A box in shares of the photo as one of whole pixels inside of it.

    Args:
        shares: x_min, y_min, x_max, y_max, 0 to 1; what is none is moved.
        size: width and height of the photo.
    """
    low, high = [], []
    for first, last, end in zip(shares[:2], shares[2:], size):
        # `max` and `min` take NaN for the bound.
        first, last = (min(1.0, max(0.0, each)) for each in (first, last))
        start = min(int(first * end), end - 1)
        low.append(start)
        high.append(max(start + 1, min(end, math.ceil(last * end))))
    return low[0], low[1], high[0], high[1]


def overlap(first: Box, second: Box) -> float:
    """Intersection over union of two boxes, 0 to 1."""
    sides = [
        min(first[axis + 2], second[axis + 2]) - max(first[axis], second[axis])
        for axis in (0, 1)
    ]
    shared = max(0, sides[0]) * max(0, sides[1])
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (first, second)]
    return shared / (sum(areas) - shared)


def _hold(heat: np.ndarray, mass: float) -> tuple[int, int]:
    """First and last (exclusive) of the cells that hold a share of the heat.

    Each of the four sides of a box gives up at most a quarter of the rest, so
    that the box holds at least the share.
    """
    spare = (1 - mass) / 4 * heat.sum()
    first = int(np.searchsorted(np.cumsum(heat), spare, side="right"))
    last = int(np.searchsorted(np.cumsum(heat[::-1]), spare, side="right"))
    return min(first, len(heat) - 1), max(len(heat) - last, first + 1)


@dataclasses.dataclass(frozen=True)
class Quality:
    """How well boxes fit those that are known; means of IoU, 0 to 1.

    Attributes:
        objects: of the best box of each known object.
        main: of the main box of each photo, with the object it fits best.
    """

    objects: float
    main: float


def measure(
    heat_maps: Sequence[np.ndarray],
    boxes: Sequence[Sequence[Box]],
    sizes: Sequence[tuple[int, int]],
    settings: recognition_settings.RecognitionSettings,
) -> Quality:
    """How well the settings find known objects.

    Args:
        heat_maps: `[rows, columns]` of each photo.
        boxes: of the objects of each photo, one or more.
        sizes: width and height of each photo.

    Raises:
        ValueError: if these are not equally many, or none.
    """
    _check(heat_maps, boxes, sizes)
    overlaps = _overlaps(heat_maps, boxes, sizes, settings)
    return Quality(
        float(np.concatenate([each.max(axis=0) for each in overlaps]).mean()),
        float(np.mean([each[0].max() for each in overlaps])),
    )


def _check(
    heat_maps: Sequence[np.ndarray],
    boxes: Sequence[Sequence[Box]],
    sizes: Sequence[tuple[int, int]],
) -> None:
    if not len(heat_maps) == len(boxes) == len(sizes) or not len(boxes):
        raise ValueError(
            "Expected as many heat maps as lists of boxes and sizes, 1 or "
            f"more, received {len(heat_maps)} heat maps, {len(boxes)} lists "
            f"and {len(sizes)} sizes."
        )


def _overlaps(
    heat_maps: Sequence[np.ndarray],
    boxes: Sequence[Sequence[Box]],
    sizes: Sequence[tuple[int, int]],
    settings: recognition_settings.RecognitionSettings,
) -> list[np.ndarray]:
    """IoU of each photo's boxes, `[found, known]`, the main one first."""
    return [
        np.array(
            [
                [overlap(box, each) for each in known]
                for box in find_boxes(
                    heat_map, width=width, height=height, settings=settings
                )
            ]
        )
        for heat_map, known, (width, height) in zip(heat_maps, boxes, sizes)
    ]


def choose_localization(
    heat_maps: Sequence[np.ndarray],
    boxes: Sequence[Sequence[Box]],
    sizes: Sequence[tuple[int, int]],
    settings: recognition_settings.RecognitionSettings,
) -> recognition_settings.RecognitionSettings:
    """The settings with the threshold, mass and margin that fit best.

    Args: as for `measure`; `settings` keeps its other fields.

    Returns:
        Those with the highest mean over photos of what the main box and the
        best boxes of the objects fit; `settings` itself unless that gains more
        than one standard error of the mean: the best of many candidates looks
        better than it is.

    Raises:
        ValueError: as `measure`.
    """

    def fits(
        candidate: recognition_settings.RecognitionSettings,
    ) -> np.ndarray:
        overlaps = _overlaps(heat_maps, boxes, sizes, candidate)
        return np.array(
            [each[0].max() + each.max(axis=0).mean() for each in overlaps]
        )

    _check(heat_maps, boxes, sizes)
    candidates = [
        dataclasses.replace(
            settings,
            heat_threshold=threshold,
            heat_mass=mass,
            box_margin=margin,
        )
        for threshold in _THRESHOLDS
        for mass in _MASSES
        for margin in _MARGINS
    ]
    found = [fits(each) for each in candidates]
    best = int(np.argmax([each.mean() for each in found]))
    gains = found[best] - fits(settings)
    standard_error = gains.std() / max(1, len(gains) - 1) ** 0.5
    return candidates[best] if gains.mean() > standard_error else settings
