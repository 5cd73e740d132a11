"""Top-1 and top-3 accuracy of head and tail classes, with intervals.

NumPy in, JSON-able dictionaries out. Accuracies are fractions from 0 to 1.

The intervals are 95 % percentile intervals of a cluster bootstrap: classes
are drawn with replacement, each with all its test records. Records of one
class share its difficulty, so drawing records would give intervals that are
too narrow. They cover the choice of test classes, not another training seed.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

GROUPS = ("overall", "head", "tail")
METRICS = ("top1", "top3")
AVERAGES = ("micro", "macro")

_QUANTILES = (0.025, 0.975)
# Numbers of one block of resamples: 8 million, 64 MB.
_BLOCK = 2**23
_MIN_BIN_CLASSES = 5


def accuracy_table(
    labels: np.ndarray,
    top_labels: np.ndarray,
    train_counts: np.ndarray,
    head_threshold: int,
    *,
    num_resamples: int = 2000,
    seed: int = 0,
) -> dict[str, Any]:
    """Accuracy of all, head and tail classes (Tables 2 and 4 of the paper).

    A class is head from `head_threshold` training images on, that number
    included; a class without training images is tail. "micro" is the share
    of records, "macro" the mean over the classes that have test records.

    Args:
        labels: `[num_records]` integers, the true classes.
        top_labels: `[num_records, k]` integers, best class first; `k` is at
            least 3, or the number of classes if there are fewer.
        train_counts: `[num_classes]` integers, training images of a class.
        head_threshold: training images of the smallest head class.
        num_resamples: draws of the bootstrap.
        seed: of the bootstrap.

    Returns:
        `groups[group][metric][average]` holds `value`, `low` and `high`:
        None in a group without test records, and no interval from a single
        class. `reference` holds the accuracy of guessing and of always
        naming the classes with the most training images.

    Raises:
        ValueError: if the arguments do not fit each other.
    """
    sums = class_sums(labels, [top_labels], train_counts, head_threshold)
    groups = {}
    for group, members in members_of_groups(train_counts, head_threshold):
        points, drawn = _accuracies(sums[members], num_resamples, seed)
        low, high = np.quantile(drawn, _QUANTILES, axis=0)
        groups[group] = _count(sums, train_counts, members)
        for metric, average, at in _cells():
            groups[group].setdefault(metric, {})[average] = {
                "value": _plain(points[0][at]),
                "low": _plain(low[0][at]),
                "high": _plain(high[0][at]),
            }
    return {
        "head_threshold": int(head_threshold),
        "num_resamples": num_resamples,
        "seed": seed,
        "groups": groups,
        "reference": _reference(labels, train_counts),
    }


def compare(
    labels: np.ndarray,
    top_labels_a: np.ndarray,
    top_labels_b: np.ndarray,
    train_counts: np.ndarray,
    head_threshold: int,
    *,
    name_a: str,
    name_b: str,
    num_resamples: int = 2000,
    seed: int = 0,
) -> dict[str, Any]:
    """Accuracy of run b minus run a on the same records, paired.

    Both runs are resampled together, so what makes a class hard for both
    cancels out. Arguments are those of `accuracy_table`.

    Returns:
        `groups[group][metric][average]` holds `a`, `b`, `difference`
        (b - a), `low`, `high`, and two shares. `share_not_above_zero` is the
        share of resamples whose difference is zero or negative.
        `two_sided_share` is twice the smaller of the shares at or below and
        at or above zero, at most 1. It reads like a two-sided p-value, but
        it is not one: resamples scatter around the observed difference, not
        around zero. At 2000 resamples 0.0 means below 0.001.

    Raises:
        ValueError: if the arguments do not fit each other.
    """
    sums = class_sums(
        labels, [top_labels_a, top_labels_b], train_counts, head_threshold
    )
    groups = {}
    for group, members in members_of_groups(train_counts, head_threshold):
        points, drawn = _accuracies(sums[members], num_resamples, seed)
        # Rounded, so that gains and losses that cancel give zero.
        drawn = np.round(drawn[:, 1] - drawn[:, 0], 12)
        low, high = np.quantile(drawn, _QUANTILES, axis=0)
        # Adding 0 * low keeps NaN, which is neither below nor above.
        below = (drawn <= 0).mean(axis=0) + 0 * low
        above = (drawn >= 0).mean(axis=0) + 0 * low
        two_sided = np.minimum(1.0, 2.0 * np.minimum(below, above))
        groups[group] = _count(sums, train_counts, members)
        for metric, average, at in _cells():
            groups[group].setdefault(metric, {})[average] = {
                "a": _plain(points[0][at]),
                "b": _plain(points[1][at]),
                "difference": _plain(points[1][at] - points[0][at]),
                "low": _plain(low[at]),
                "high": _plain(high[at]),
                "share_not_above_zero": _plain(below[at]),
                "two_sided_share": _plain(two_sided[at]),
            }
    return {
        "name_a": name_a,
        "name_b": name_b,
        "head_threshold": int(head_threshold),
        "num_resamples": num_resamples,
        "seed": seed,
        "groups": groups,
    }


def accuracy_by_training_images(
    labels: np.ndarray,
    top_labels: np.ndarray,
    train_counts: np.ndarray,
    head_threshold: int,
    *,
    num_resamples: int = 2000,
    seed: int = 0,
) -> list[dict[str, Any]]:
    """Macro top-1 accuracy for each range of training images a class.

    Bins double in width (0, 1, 2, 3-4, 5-8, ...) and break at
    `head_threshold`. A bin with fewer than 5 tested classes is joined with
    its neighbour on the same side of the threshold. Equal labels and counts
    give equal bins, so runs can be laid side by side.

    Returns:
        One dictionary for each bin, fewest images first: `group` (head or
        tail), `min_images`, `max_images`, `num_classes`, `num_records`,
        `value`, `low`, `high`.

    Raises:
        ValueError: if the arguments do not fit each other.
    """
    sums = class_sums(labels, [top_labels], train_counts, head_threshold)
    tested = sums[:, 0] > 0
    macro_top1 = (AVERAGES.index("macro"), METRICS.index("top1"))
    bins = []
    head = train_counts >= head_threshold
    for group, side in (("tail", ~head), ("head", head)):
        for members in _doubling_bins(train_counts, tested & side):
            points, drawn = _accuracies(sums[members], num_resamples, seed)
            low, high = np.quantile(drawn, _QUANTILES, axis=0)
            bins.append(
                {
                    "group": group,
                    "min_images": int(train_counts[members].min()),
                    "max_images": int(train_counts[members].max()),
                    "num_classes": int(members.sum()),
                    "num_records": int(sums[members, 0].sum()),
                    "value": _plain(points[0][macro_top1]),
                    "low": _plain(low[0][macro_top1]),
                    "high": _plain(high[0][macro_top1]),
                }
            )
    return bins


def class_sums(
    labels: np.ndarray,
    top_labels_by_run: Sequence[np.ndarray],
    train_counts: np.ndarray,
    head_threshold: int,
) -> np.ndarray:
    """Checks everything, then counts.

    Returns:
        `[num_classes, 1 + 2 * runs]` int64: test records of a class, and for
        each run those right at top-1 and at top-3.
    """
    _check_integers("train_counts", train_counts, 1)
    num_classes = len(train_counts)
    if not num_classes or train_counts.min() < 0:
        raise ValueError(
            "Expected the number of training images of each class, zero or "
            f"more, received {train_counts}."
        )
    if head_threshold < 1:
        raise ValueError(
            "Expected head_threshold of at least 1 training image, received "
            f"{head_threshold}. Take the one stored with the dataset."
        )
    _check_integers("labels", labels, 1, num_classes)
    columns = [labels]
    for top_labels in top_labels_by_run:
        _check_integers("top_labels", top_labels, 2, num_classes)
        wanted = (len(labels), min(3, num_classes))
        if len(top_labels) != wanted[0] or top_labels.shape[1] < wanted[1]:
            raise ValueError(
                f"Expected top_labels of shape [{wanted[0]}, {wanted[1]} or "
                f"more], best class first, received {top_labels.shape}."
            )
        hits = top_labels[:, :3] == labels[:, np.newaxis]
        columns += [labels[hits[:, 0]], labels[hits.any(axis=1)]]
    return np.stack(
        [np.bincount(column, minlength=num_classes) for column in columns],
        axis=1,
    )


def _check_integers(
    name: str, array: np.ndarray, rank: int, num_classes: int = 0
) -> None:
    """Raises unless `array` holds integers, class ids if there are classes."""
    if array.ndim != rank or not np.issubdtype(array.dtype, np.integer):
        raise ValueError(
            f"Expected {name} as integers with {rank} dimensions, received "
            f"{array.dtype} of shape {array.shape}."
        )
    if (
        num_classes
        and array.size
        and (array.min() < 0 or array.max() >= num_classes)
    ):
        raise ValueError(
            f"Expected {name} from 0 to {num_classes - 1}, received "
            f"{array.min()} to {array.max()}. Labels and train_counts must "
            "come from the same dataset."
        )


def members_of_groups(
    train_counts: np.ndarray, head_threshold: int
) -> list[tuple[str, np.ndarray]]:
    """Each of GROUPS with `[num_classes]` booleans."""
    # The ranges of the paper's Table 4 start at the boundary: >=.
    head = train_counts >= head_threshold
    return list(zip(GROUPS, (np.ones_like(head), head, ~head), strict=True))


def _count(
    sums: np.ndarray, train_counts: np.ndarray, members: np.ndarray
) -> dict[str, Any]:
    """How many records and classes a group's numbers stand on."""
    tested = members & (sums[:, 0] > 0)
    return {
        "num_records": int(sums[members, 0].sum()),
        "num_classes": int(tested.sum()),
        "num_classes_without_records": int((members & ~tested).sum()),
        "num_classes_without_training_images": int(
            (tested & (train_counts == 0)).sum()
        ),
    }


def _accuracies(
    sums: np.ndarray, num_resamples: int, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Accuracies of a group and of its resamples.

    Classes with the same counts are interchangeable, so what is drawn is how
    often each distinct row comes up: the same distribution, and the work
    follows the distinct rows (hundreds to thousands), not the classes.

    Args:
        sums: `[classes, 1 + 2 * runs]` from `class_sums`.

    Returns:
        `[runs, averages, metrics]` and `[num_resamples, runs, averages,
        metrics]` float64. NaN without test records; resamples are NaN also
        for one tested class, which says nothing about other classes.
    """
    rows = sums[sums[:, 0] > 0]
    shape = (-1, len(AVERAGES), sums.shape[1] // 2, len(METRICS))
    points = np.full((1, 2 * (sums.shape[1] - 1)), np.nan)
    drawn = np.repeat(points, num_resamples, axis=0)
    if len(rows):
        distinct, counts = np.unique(rows, axis=0, return_counts=True)
        points = _weighted(counts[np.newaxis], distinct)
    if len(rows) > 1:
        generator = np.random.default_rng(seed)
        block = max(1, _BLOCK // len(distinct))
        for start in range(0, num_resamples, block):
            size = min(block, num_resamples - start)
            weights = generator.multinomial(len(rows), counts / len(rows), size)
            drawn[start : start + size] = _weighted(weights, distinct)
    return (
        points.reshape(shape)[0].swapaxes(0, 1),
        drawn.reshape(shape).swapaxes(1, 2),
    )


def _weighted(weights: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Micro, then macro accuracies, each row taken `weights` times."""
    sums = weights @ rows
    macro = weights @ (rows[:, 1:] / rows[:, :1])
    return np.concatenate(
        [sums[:, 1:] / sums[:, :1], macro / weights.sum(axis=1, keepdims=True)],
        axis=1,
    )


def _cells() -> list[tuple[str, str, tuple[int, int]]]:
    """Each metric and average with its place in `_accuracies`."""
    return [
        (metric, average, (row, column))
        for column, metric in enumerate(METRICS)
        for row, average in enumerate(AVERAGES)
    ]


def _doubling_bins(
    train_counts: np.ndarray, members: np.ndarray
) -> list[np.ndarray]:
    """Splits `members` into bins, `[num_classes]` booleans each."""
    # 0, 1, 2, 3-4, 5-8, ...: an exact power of two closes its bin.
    numbers = np.ceil(np.log2(np.maximum(train_counts, 1))) + (train_counts > 0)
    bins: list[np.ndarray] = []
    for number in np.unique(numbers[members]):
        found = members & (numbers == number)
        if bins and bins[-1].sum() < _MIN_BIN_CLASSES:
            bins[-1] = bins[-1] | found
        else:
            bins.append(found)
    if len(bins) > 1 and bins[-1].sum() < _MIN_BIN_CLASSES:
        bins[-2:] = [bins[-2] | bins[-1]]
    return bins


def _reference(
    labels: np.ndarray, train_counts: np.ndarray
) -> dict[str, dict[str, float | None]]:
    """Micro accuracy without looking at the picture."""
    num_classes = len(train_counts)
    # Ties go to the lower class id.
    largest = np.argsort(-train_counts, kind="stable")
    return {
        "chance": {
            "top1": _plain(1 / num_classes),
            "top3": _plain(min(3, num_classes) / num_classes),
        },
        "largest_classes": {
            metric: _plain(np.isin(labels, largest[:k]).mean())
            if len(labels)
            else None
            for metric, k in (("top1", 1), ("top3", 3))
        },
    }


def _plain(number: float) -> float | None:
    """A Python float for JSON; NaN becomes None.

    Twelve digits: matrix products differ in the last ones between machines.
    """
    return None if np.isnan(number) else round(float(number), 12)
