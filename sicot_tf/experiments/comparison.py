"""Arms over seeds on the same test pictures: means, intervals, paired tests.

NumPy in, JSON-able dictionaries out. Accuracies are fractions from 0 to 1.

Intervals are 95 % percentile intervals of a hierarchical bootstrap: each
resample draws classes with replacement, each with all its records, and seeds
with replacement. All arms see the same draws, so differences are paired: in
class, picture and seed (runs of a seed share initial weights and order). With n
seeds their part of an interval is too narrow by the factor sqrt((n - 1) / n),
0.82 for three; one seed says nothing about seeds.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np

from sicot_tf.evaluation import metrics

_QUANTILES = (0.025, 0.975)
# Numbers of one block of resamples: 8 million, 64 MB.
_BLOCK = 2**23


@dataclasses.dataclass(frozen=True)
class Resampled:
    """Accuracies of an arm in a group of classes.

    Axes `averages` and `metrics` are those of `evaluation.metrics`.

    points: `[seeds, averages, metrics]` float64.
    drawn: `[resamples, averages, metrics]` float64, of the mean over seeds;
    NaN from fewer than two classes.
    """

    points: np.ndarray
    drawn: np.ndarray


def resample(
    labels: np.ndarray,
    top_labels: Mapping[str, np.ndarray],
    train_counts: np.ndarray,
    head_threshold: int,
    *,
    num_resamples: int = 2000,
    seed: int = 0,
) -> dict[str, dict[str, Resampled]]:
    """Accuracies of each arm, and of its resamples.

    Args:
        labels: `[num_records]` integers, the true classes.
        top_labels: of each arm `[seeds, num_records, k]` integers, best class
            first; seeds in the same order.
        train_counts: `[num_classes]` integers, training images of a class.
        head_threshold: training images of the smallest head class.

    Returns:
        By group of `metrics.GROUPS`, by arm.

    Raises:
        ValueError: if the arguments do not fit each other.
    """
    num_seeds = {len(each) for each in top_labels.values()}
    if len(num_seeds) != 1:
        raise ValueError(
            f"Expected arms with equally many seeds, received {num_seeds}."
        )
    (num_seeds,) = num_seeds
    sums = metrics.class_sums(
        labels,
        [run for runs in top_labels.values() for run in runs],
        train_counts,
        head_threshold,
    )
    generator = np.random.default_rng(seed)
    shape = (len(top_labels), num_seeds, len(metrics.METRICS))
    found = {}
    for group, members in metrics.members_of_groups(
        train_counts, head_threshold
    ):
        rows = sums[members & (sums[:, 0] > 0)]
        points = _accuracies(np.ones([1, len(rows)]), rows, shape)[0]
        drawn = np.full([num_resamples, *points.shape], np.nan)
        if len(rows) > 1:
            block = max(1, _BLOCK // len(rows))
            chances = np.full(len(rows), 1 / len(rows))
            for start in range(0, num_resamples, block):
                size = min(block, num_resamples - start)
                weights = generator.multinomial(len(rows), chances, size)
                drawn[start : start + size] = _accuracies(weights, rows, shape)
        # `[resamples, seeds]`, for all arms.
        shares = generator.multinomial(
            num_seeds, np.full(num_seeds, 1 / num_seeds), num_resamples
        )
        means = np.einsum("rasvm,rs->ravm", drawn, shares / num_seeds)
        found[group] = {
            name: Resampled(points[index], means[:, index])
            for index, name in enumerate(top_labels)
        }
    return found


def accuracy(arm: Resampled, average: str, metric: str) -> dict[str, Any]:
    """The mean over seeds with its interval.

    Returns:
        `value`, `low`, `high`, and `seeds`, the value of each seed.
    """
    at = _place(average, metric)
    points = arm.points[(slice(None), *at)]
    return _interval(points.mean(), arm.drawn[(slice(None), *at)]) | {
        "seeds": [_plain(each) for each in points]
    }


def difference(
    arm: Resampled, other: Resampled, average: str, metric: str
) -> dict[str, Any]:
    """Arm minus other, paired.

    Returns:
        As `accuracy`, and `two_sided`: twice the smaller of the shares of
        resamples at or below, and at or above, zero, at most 1. It reads like
        a two-sided p-value, but resamples scatter around the observed
        difference.
    """
    at = (slice(None), *_place(average, metric))
    points = arm.points[at] - other.points[at]
    # Rounded, so that gains and losses that cancel give zero.
    drawn = np.round(arm.drawn[at] - other.drawn[at], 12)
    two_sided = np.nan
    if not np.isnan(drawn).any():
        two_sided = 2 * min((drawn <= 0).mean(), (drawn >= 0).mean(), 0.5)
    return _interval(points.mean(), drawn) | {
        "seeds": [_plain(each) for each in points],
        "two_sided": _plain(two_sided),
    }


def surviving_share(
    arm: Resampled,
    baseline: Resampled,
    control: Resampled,
    average: str,
    metric: str,
) -> dict[str, Any]:
    """What part of a gain is the titles' own: (arm - control) / (arm - base).

    1: wrong titles gain nothing. 0: they gain as much. Above 1: they harm.

    Returns:
        `value`, `low`, `high`; all None unless the gain itself is above zero
        in 97.5 % of the resamples, for then the share means nothing.
    """
    at = (slice(None), *_place(average, metric))
    gain = difference(arm, baseline, average, metric)
    if not (gain["value"] and gain["low"] is not None and gain["low"] > 0):
        return {"value": None, "low": None, "high": None}
    own = (arm.points[at] - control.points[at]).mean()
    drawn = arm.drawn[at] - baseline.drawn[at]
    above = drawn > 0
    shares = (arm.drawn[at] - control.drawn[at])[above] / drawn[above]
    return _interval(own / gain["value"], shares)


def _accuracies(
    weights: np.ndarray, rows: np.ndarray, shape: tuple[int, int, int]
) -> np.ndarray:
    """Accuracies with each class taken `weights` times.

    Args:
        weights: `[resamples, classes]`.
        rows: `[classes, 1 + runs * metrics]` from `metrics.class_sums`.
        shape: arms, seeds, metrics.

    Returns:
        `[resamples, arms, seeds, averages, metrics]` float64.
    """
    if not len(rows):
        arms, seeds, num_metrics = shape
        empty = [len(weights), arms, seeds, len(metrics.AVERAGES), num_metrics]
        return np.full(empty, np.nan)
    # Products of integers are slow.
    weights, rows = weights.astype(np.float64), rows.astype(np.float64)
    sums = weights @ rows
    micro = sums[:, 1:] / sums[:, :1]
    macro = weights @ (rows[:, 1:] / rows[:, :1])
    macro /= weights.sum(axis=1, keepdims=True)
    return np.stack(
        [each.reshape(-1, *shape) for each in (micro, macro)], axis=3
    )


def _place(average: str, metric: str) -> tuple[int, int]:
    return metrics.AVERAGES.index(average), metrics.METRICS.index(metric)


def _interval(value: float, drawn: np.ndarray) -> dict[str, float | None]:
    low, high = np.quantile(drawn, _QUANTILES)
    return {"value": _plain(value), "low": _plain(low), "high": _plain(high)}


def _plain(number: float) -> float | None:
    """A Python float for JSON; NaN becomes None."""
    return None if np.isnan(number) else round(float(number), 12)
