"""Whether scores say how often they are right, before and after calibration.

NumPy in, JSON-able dictionaries out. A record's score is that of its best
class. The expected calibration error is the mean over the records of the
distance, in their bin, of mean score and precision (Guo et al., 2017, arXiv
1706.04599, 15 bins of equal width; Nixon et al., 2019, arXiv 1904.01685: bins
of equally many records). Its interval is the 95 % percentile interval of a
bootstrap over classes, as those of the accuracies (`evaluation.metrics`).
"""

from typing import Any

import numpy as np

from sicot_tf.evaluation import metrics
from sicot_tf.evaluation.calibration import threshold as thresholds
from sicot_tf.training.calibrations import Calibration

BINNINGS = ("equal_width", "adaptive")
STAGES = ("before", "after")

_NUM_BINS = 15
# An adaptive bin of fewer says nothing: then there are fewer bins.
_MIN_BIN_RECORDS = 10
_NUM_RESAMPLES = 2000
# Numbers of one block of resamples: 8 million, 64 MB.
_BLOCK = 2**23


def measure(
    calibration: Calibration,
    *,
    labels: np.ndarray,
    right: np.ndarray,
    before: np.ndarray,
    after: np.ndarray,
    is_head: np.ndarray,
) -> dict[str, Any]:
    """What a calibration does to records.

    Args:
        labels: `[n]` integers, the true classes.
        right: `[n]` bool, whether the best class is the true one.
        before: `[n]` scores of the best class without calibration.
        after: the same with it.
        is_head: `[n]` bool, whether the true class is a head class.

    Returns:
        `temperature`, `threshold` (0 if the calibration has none, as in an
        export), `wanted_precision`; `errors[binning][stage]` and
        `bins[binning][stage]`; `groups[group]` with `num_records`,
        `num_accepted`, `coverage` and `precision`.
    """
    scores = dict(zip(STAGES, (before, after)))
    edges = {
        (binning, stage): _edges(binning, scores[stage])
        for binning in BINNINGS
        for stage in STAGES
    }
    return {
        "temperature": calibration.temperature,
        "threshold": calibration.threshold or 0.0,
        "wanted_precision": calibration.wanted_precision,
        "errors": {
            binning: {
                stage: expected_calibration_error(
                    labels, scores[stage], right, edges[binning, stage]
                )
                for stage in STAGES
            }
            for binning in BINNINGS
        },
        "bins": {
            binning: {
                stage: bins(scores[stage], right, edges[binning, stage])
                for stage in STAGES
            }
            for binning in BINNINGS
        },
        "groups": {
            group: _selection(after, right, members, calibration)
            for group, members in group_members(is_head).items()
        },
    }


def group_members(is_head: np.ndarray) -> dict[str, np.ndarray]:
    """`[n]` booleans for overall, head and tail."""
    members = (np.ones_like(is_head), is_head, ~is_head)
    return dict(zip(metrics.GROUPS, members, strict=True))


def expected_calibration_error(
    labels: np.ndarray,
    scores: np.ndarray,
    right: np.ndarray,
    edges: np.ndarray,
    *,
    num_resamples: int = _NUM_RESAMPLES,
    seed: int = 0,
) -> dict[str, float | None]:
    """`value`, and `low` and `high` of its interval (None for one class).

    Args:
        edges: `[bins + 1]`, rising; a bin holds its upper edge.
    """
    number = _bin_numbers(scores, edges)
    classes, index = np.unique(labels, return_inverse=True)
    # In each bin the right ones of a class less its scores.
    gaps = np.zeros([len(classes), len(edges) - 1])
    np.add.at(gaps, (index, number), right - scores.astype(np.float64))
    sizes = np.bincount(index)
    value = np.abs(gaps.sum(axis=0)).sum() / sizes.sum()
    found = {"value": round(float(value), 12), "low": None, "high": None}
    if len(classes) > 1:
        generator = np.random.default_rng(seed)
        even = np.full(len(classes), 1 / len(classes))
        drawn = []
        block = max(1, _BLOCK // len(classes))
        for start in range(0, num_resamples, block):
            weights = generator.multinomial(
                len(classes), even, min(block, num_resamples - start)
            )
            drawn.append(np.abs(weights @ gaps).sum(axis=1) / (weights @ sizes))
        low, high = np.quantile(np.concatenate(drawn), (0.025, 0.975))
        found["low"], found["high"] = (
            round(float(each), 12) for each in (low, high)
        )
    return found


def bins(
    scores: np.ndarray, right: np.ndarray, edges: np.ndarray
) -> list[dict[str, Any]]:
    """The bins that hold records, lowest first.

    Returns:
        `num_records`, `score` (their mean), `value` (the share that is right),
        `low` and `high` (its exact 95 % interval).
    """
    number = _bin_numbers(scores, edges)
    counts, num_right, sums = (
        np.bincount(number, weights, minlength=len(edges) - 1)
        for weights in (None, right, scores)
    )
    return [
        {
            "num_records": int(counts[each]),
            "score": round(float(sums[each] / counts[each]), 12),
            **thresholds.share(num_right[each], counts[each]),
        }
        for each in np.flatnonzero(counts)
    ]


def _edges(binning: str, scores: np.ndarray) -> np.ndarray:
    if binning == "equal_width":
        return np.linspace(0, 1, _NUM_BINS + 1)
    num_bins = max(1, min(_NUM_BINS, len(scores) // _MIN_BIN_RECORDS))
    edges = np.unique(np.quantile(scores, np.linspace(0, 1, num_bins + 1)))
    # All scores may be equal.
    return edges if len(edges) > 1 else np.array([0.0, 1.0])


def _bin_numbers(scores: np.ndarray, edges: np.ndarray) -> np.ndarray:
    return np.searchsorted(edges[1:-1], scores, side="left")


def _selection(
    scores: np.ndarray,
    right: np.ndarray,
    members: np.ndarray,
    calibration: Calibration,
) -> dict[str, Any]:
    """What the threshold does to a group."""
    accepted = members & (scores >= (calibration.threshold or 0.0))
    num_records, num_accepted = int(members.sum()), int(accepted.sum())
    return {
        "num_records": num_records,
        "num_accepted": num_accepted,
        "coverage": thresholds.share(num_accepted, num_records),
        "precision": thresholds.share((accepted & right).sum(), num_accepted),
    }
