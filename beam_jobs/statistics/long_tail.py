"""How uneven classes and words are, and what head and tail share.

Pure functions of counts, and `describe`, which puts them together.
"""

from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any

import numpy as np

from sicot_tf.data import records

_QUANTILES = (0, 0.05, 0.25, 0.5, 0.75, 0.95, 1)
# Points of a drawn Lorenz curve.
_MAX_POINTS = 200


def gini(values: np.ndarray) -> float:
    """Gini coefficient: 0 if all are equal, towards 1 if one has it all.

    Half the mean absolute difference of two values, relative to the mean.

    Args:
        values: `[n]` counts, none negative.
    """
    values = np.sort(np.asarray(values, np.float64))
    total = values.sum()
    if not total:
        return 0.0
    ranks = np.arange(1, len(values) + 1)
    return float(2 * (ranks @ values) / (len(values) * total)) - (
        1 + 1 / len(values)
    )


def lorenz_curve(values: np.ndarray) -> list[tuple[float, float]]:
    """Share of the smallest classes (or words), share of what they have.

    Args:
        values: `[n]` counts, none negative.

    Returns:
        From (0, 0) to (1, 1), at most 200 points.
    """
    values = np.sort(np.asarray(values, np.float64))
    shares = np.append(0, np.cumsum(values)) / max(1, values.sum())
    last = len(values)
    places = np.unique(np.linspace(0, last, _MAX_POINTS).round().astype(int))
    return [
        (round(int(i) / max(1, last), 6), round(float(shares[i]), 6))
        for i in places
    ]


def quantiles(histogram: Mapping[int, int]) -> dict[str, int]:
    """Quantiles of integers, each a value that occurs.

    Args:
        histogram: value to how often it occurs.

    Returns:
        By percent: `{"0": smallest, "5": ..., "50": median, "100": largest}`.
    """
    pairs = sorted(pair for pair in histogram.items() if pair[1])
    if not pairs:
        return {}
    values, times = np.array(pairs).T
    reached = np.cumsum(times)
    # The first value that so many do not exceed.
    return {
        f"{100 * share:.0f}": int(
            values[np.searchsorted(reached, max(1, share * reached[-1]))]
        )
        for share in _QUANTILES
    }


def mean(histogram: Mapping[int, int]) -> float | None:
    """Mean of integers; `histogram` has how often each occurs."""
    total = sum(histogram.values())
    if not total:
        return None
    return round(sum(n * times for n, times in histogram.items()) / total, 3)


def count_values(values: np.ndarray) -> dict[int, int]:
    """How often each integer occurs."""
    found, times = np.unique(values, return_counts=True)
    return dict(zip(found.tolist(), times.tolist(), strict=True))


def shared_words(
    head_counts: np.ndarray, tail_counts: np.ndarray
) -> dict[str, int | float]:
    """Words that titles of both head and tail classes use (section 1, b).

    Args:
        head_counts: `[num_words]`, how often titles of head classes use each
            word of the vocabulary.
        tail_counts: the same of tail classes.
    """
    in_head, in_tail = head_counts > 0, tail_counts > 0
    both = in_head & in_tail
    counts = head_counts + tail_counts
    return {
        "vocabulary": len(counts),
        "head_only": int((in_head & ~in_tail).sum()),
        "shared": int(both.sum()),
        "tail_only": int((in_tail & ~in_head).sum()),
        "unused": int((counts == 0).sum()),
        "share_of_vocabulary": share(both.sum(), len(counts)),
        "share_of_occurrences": share(counts[both].sum(), counts.sum()),
        "share_of_tail_occurrences": share(
            tail_counts[both].sum(), tail_counts.sum()
        ),
    }


def tail_support(
    train_counts: np.ndarray,
    is_head: np.ndarray,
    word_counts: np.ndarray,
    tail_word_counts: np.ndarray,
) -> dict[str, int | None]:
    """How often the training data repeats what one tail record shows.

    Args:
        train_counts: `[num_classes]` training images.
        is_head: `[num_classes]` bool.
        word_counts: `[num_words]` occurrences in all training titles.
        tail_word_counts: of these, those in titles of tail classes.

    Returns:
        `images_of_its_class`: the median over the training images of tail
        classes; `occurrences_of_its_words`: the median over the words of
        their titles. None where there are none.
    """
    images = {
        count: count * classes
        for count, classes in count_values(train_counts[~is_head]).items()
    }
    values, places = np.unique(word_counts, return_inverse=True)
    in_tail = np.bincount(places, tail_word_counts, len(values)).astype(int)
    occurrences = dict(zip(values.tolist(), in_tail.tolist(), strict=True))
    return {
        "images_of_its_class": quantiles(images).get("50"),
        "occurrences_of_its_words": quantiles(occurrences).get("50"),
    }


def share(part: float, whole: float) -> float | None:
    """A fraction, rounded to millionths; None of nothing."""
    return round(float(part) / float(whole), 6) if whole else None


def describe(
    manifest: Mapping[str, Any],
    class_counts: Mapping[str, np.ndarray],
    is_head: np.ndarray,
    counts: Mapping[str, Mapping[Any, int]],
) -> dict[str, Any]:
    """The statistics of a generation, as JSON holds them.

    Args:
        class_counts: split to `[num_classes]` records.
        is_head: `[num_classes]` bool.
        counts: of a summary of `shard_summaries`.
    """
    train = class_counts["train"]
    head_words, tail_words = (
        word_counts(counts.get(f"words/{group}", {}), manifest)
        for group in ("head", "tail")
    )
    words = head_words + tail_words
    splits = {
        split: _describe_split(split, class_counts[split], counts)
        for split in records.SPLITS
    }
    return {
        "table_1": {
            "classes": len(train),
            **{f"{k}_images": v["records"] for k, v in splits.items()},
            "vocabulary": len(words),
            "head_threshold": manifest["long_tail"]["head_threshold"],
            "train_images_per_class": share(train.sum(), len(train)),
            "test_images_per_class": share(
                class_counts["test"].sum(), len(train)
            ),
            "words_per_title": splits["train"]["words_per_title"]["mean"],
        },
        "classes": _describe_classes(train, is_head),
        "words": {
            **shared_words(head_words, tail_words),
            **_describe_words(words),
        },
        "tail_support": tail_support(train, is_head, words, tail_words),
        "splits": splits,
        "letters": dict(sorted(counts.get("letters", {}).items())),
        "pictures": _describe_pictures(counts),
        "records_read": manifest["counts"]["records_read"],
        "rejected": manifest["counts"]["rejected"],
        "vocabulary_selection": manifest["vocabulary"],
        "config": manifest["config"],
        "inputs": manifest["inputs"],
    }


def word_counts(
    counts: Mapping[int, int], manifest: Mapping[str, Any]
) -> np.ndarray:
    """Counts by word id as `[vocabulary_size]`, the first word first."""
    first = records.PADDING_ID + 1
    dense = np.zeros(manifest["vocabulary_size"] + first, np.int64)
    if counts:
        ids, times = np.array(sorted(counts.items())).T
        dense[ids] = times
    return dense[first:]


def _describe_classes(train: np.ndarray, is_head: np.ndarray) -> dict[str, Any]:
    trained = train[train > 0]
    return {
        "without_training_images": int((train == 0).sum()),
        "head": _group(train, is_head),
        "tail": _group(train, ~is_head),
        "largest": int(train.max(initial=0)),
        "smallest": int(trained.min()) if trained.size else 0,
        "imbalance": share(train.max(), trained.min())
        if trained.size
        else None,
        "gini": round(gini(trained), 6),
        "quantiles": quantiles(count_values(train)),
        "by_training_images": _pairs(count_values(train)),
        "lorenz_curve": lorenz_curve(trained),
    }


def _describe_words(words: np.ndarray) -> dict[str, Any]:
    used = words[words > 0]
    return {
        "occurrences": int(words.sum()),
        "gini": round(gini(used), 6),
        "quantiles": quantiles(count_values(used)),
        "by_occurrences": _pairs(count_values(words)),
        "lorenz_curve": lorenz_curve(used),
    }


def _describe_pictures(
    counts: Mapping[str, Mapping[Any, int]],
) -> dict[str, Any]:
    return {
        **{
            name: {
                "quantiles": quantiles(counts.get(name, {})),
                "histogram": _pairs(counts.get(name, {})),
            }
            for name in ("shorter_side", "longer_side", "kilobytes")
        },
        "unreadable": sum(counts.get("unreadable_pictures", {}).values()),
    }


def _describe_split(
    split: str,
    class_counts: np.ndarray,
    counts: Mapping[str, Mapping[Any, int]],
) -> dict[str, Any]:
    num_records = counts.get("records", {}).get(split, 0)
    num_known = counts.get("known_words", {}).get(split, 0)
    num_unknown = counts.get("unknown_words", {}).get(split, 0)
    lengths = counts.get(f"title_words/{split}", {})
    return {
        "records": num_records,
        "classes": int((class_counts > 0).sum()),
        "records_per_class": quantiles(count_values(class_counts)),
        "titles_without_words": lengths.get(0, 0),
        "known_words": num_known,
        "unknown_words": num_unknown,
        "unknown_word_rate": share(num_unknown, num_known + num_unknown),
        "words_per_title": {
            "mean": mean(lengths),
            "quantiles": quantiles(lengths),
            "histogram": _pairs(lengths),
        },
        "scripts": dict(sorted(counts.get(f"scripts/{split}", {}).items())),
    }


def _group(train_counts: np.ndarray, members: np.ndarray) -> dict[str, Any]:
    images = train_counts[members].sum()
    return {
        "classes": int(members.sum()),
        "share_of_classes": share(members.sum(), len(members)),
        "train_images": int(images),
        "share_of_train_images": share(images, train_counts.sum()),
    }


def _pairs(counts: Mapping[int, int]) -> list[Sequence[int]]:
    """Sorted, as JSON has no objects with numbers for keys."""
    return [list(pair) for pair in sorted(counts.items())]
