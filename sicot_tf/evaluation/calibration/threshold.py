"""Which scores are enough for a wanted precision, and what that costs.

A record is accepted if its score reaches the threshold. Precision is the
share of the accepted that is right, coverage the share of all that is
accepted. Bounds are exact (Clopper and Pearson, 1934), for records that are
right independently of each other.
"""

import math
from collections.abc import Mapping
from typing import Any
from typing import NamedTuple

import numpy as np
import tensorflow as tf

CONFIDENCE = 0.95
# More points than this make a line that hides its own course.
_MAX_POINTS = 300


class Choice(NamedTuple):
    """A threshold and what it does to the records it was chosen on."""

    threshold: float
    num_accepted: int
    num_right: int


def choose(
    scores: np.ndarray, right: np.ndarray, precision: float
) -> Choice | None:
    """The lowest threshold whose precision is shown to be high enough.

    Shown: its one-sided lower bound, at CONFIDENCE, is `precision` or more.
    It lies halfway to the next score, or to 0, so that rounding changes
    nothing.

    Args:
        scores: `[n]` top-1 scores.
        right: `[n]` bool, whether the top-1 class is the true one.

    Returns:
        None if no threshold is good enough.
    """
    distinct, num_accepted, num_right = _accepted(scores, right)
    good = np.flatnonzero(
        _chance(num_right, num_accepted, precision) <= 1 - CONFIDENCE
    )
    if not good.size:
        return None
    last = good[-1]
    following = np.append(distinct, 0.0)[last + 1]
    return Choice(
        threshold=float(float(distinct[last]) + float(following)) / 2,
        num_accepted=int(num_accepted[last]),
        num_right=int(num_right[last]),
    )


def fewest_records(precision: float) -> int:
    """Accepted records, all of them right, that show a precision."""
    return math.ceil(math.log(1 - CONFIDENCE) / math.log(precision))


def lower_bound(
    num_right: np.ndarray, num_records: np.ndarray, confidence: float
) -> np.ndarray:
    """The least precision that could well have given so many right ones.

    Args:
        num_right: `[...]` integers.
        num_records: `[...]` integers, 1 or more.
        confidence: one-sided, for example 0.95.
    """
    low = np.zeros(np.shape(num_right))
    high = np.ones_like(low)
    for _ in range(50):
        middle = (low + high) / 2
        enough = _chance(num_right, num_records, middle) <= 1 - confidence
        low, high = (
            np.where(enough, middle, low),
            np.where(enough, high, middle),
        )
    return low


def share(num_right: Any, num_records: Any) -> dict[str, Any]:
    """A share with its exact two-sided 95 % interval, as JSON has it.

    Arrays give lists; None stands where there are no records.
    """
    num_right, num_records = np.broadcast_arrays(num_right, num_records)
    some = np.maximum(num_records, 1)
    low = lower_bound(num_right, some, 0.975)
    high = 1 - lower_bound(some - num_right, some, 0.975)
    found = {}
    for name, each in (
        ("value", num_right / some),
        ("low", low),
        ("high", high),
    ):
        rounded = np.round(each, 12).astype(object)
        found[name] = np.where(num_records > 0, rounded, None).tolist()
    return found


def curve(scores: np.ndarray, right: np.ndarray) -> Mapping[str, Any]:
    """Coverage and precision of all thresholds, the highest first.

    Returns:
        `threshold`, `coverage` and `precision` (a `share`), as lists of at
        most 300; of more the evenly spaced ones are kept.
    """
    distinct, num_accepted, num_right = _accepted(scores, right)
    kept = np.unique(
        np.linspace(
            0, len(distinct) - 1, min(len(distinct), _MAX_POINTS)
        ).astype(int)
    )
    return {
        "threshold": distinct[kept].tolist(),
        "coverage": (num_accepted[kept] / max(1, len(scores))).tolist(),
        "precision": share(num_right[kept], num_accepted[kept]),
    }


def _accepted(
    scores: np.ndarray, right: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The distinct scores, highest first, and for each as the threshold how
    many records are accepted, and how many of them are right."""
    order = np.argsort(-scores, kind="stable")
    falling = scores[order]
    # Equal scores are accepted together.
    last = np.flatnonzero(np.diff(falling, append=-np.inf))
    return falling[last], last + 1, np.cumsum(right[order])[last]


def _chance(
    num_right: np.ndarray, num_records: np.ndarray, precision: Any
) -> np.ndarray:
    """Probability of so many right ones or more at a true precision.

    The upper tail of the binomial distribution as an incomplete beta function.
    """
    num_right, num_records, precision = np.broadcast_arrays(
        *(np.asarray(each, float) for each in (num_right, num_records)),
        np.asarray(precision, float),
    )
    chance = tf.math.betainc(
        np.maximum(num_right, 1), num_records - num_right + 1, precision
    ).numpy()
    return np.where(num_right > 0, chance, 1.0)
