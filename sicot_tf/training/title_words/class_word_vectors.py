"""Word vectors of classes, made of the words that their titles share.

A word of one class alone teaches other classes nothing, and would let a class
hide what it knows behind a name of its own.
"""

from collections.abc import Callable

import numpy as np

from sicot_tf.data.annotations import Annotations
from sicot_tf.training.title_words.shared_words import WordCounts

# Classes that are made at once, and words whose vectors are looked up at once.
_CLASSES = 16_384
_WORDS = 2**17


def make(
    annotations: Annotations,
    counts: WordCounts,
    word_vectors: np.ndarray,
    classes: tuple[int, int],
    *,
    num_classes: int,
    max_words: int,
    sum_over_workers: Callable[[np.ndarray], np.ndarray] | None = None,
) -> np.ndarray:
    """Unit vectors of some classes, each times its gate.

    A class's vector is the mean of the vectors of its shared words, weighted
    by inverse document frequency, `log(titles / titles with the word)`. The
    gate is the share of shared words in the class's words, by the same weight:
    where a class's words are nearly its own, the few others say little of it.
    A class without shared words has zeros.

    Args:
        word_vectors: `[vocabulary_size + 1, word_dim]` float32.
        classes: the first that is wanted, and the one after the last.
        max_words: longer titles are cut, as in training.
        sum_over_workers: if each worker read records of its own; all of them
            call this, each for its own classes.

    Returns:
        `[last - first, word_dim]` float32.

    Raises:
        ValueError: if no two classes share a word that has a vector.
    """
    if not word_vectors[counts.is_shared].any():
        raise ValueError(
            "Expected words that the training titles of two classes share, "
            f"and vectors of them; of {len(word_vectors) - 1} words of the "
            f"data set {counts.is_shared.sum()} are shared. Rows can't be made "
            "of words here: train without --word_rows_scale."
        )
    weights = np.log(counts.num_titles / np.maximum(counts.num_records, 1))
    # All columns are sums over the words of a class.
    table = np.column_stack(
        [word_vectors, np.ones(len(word_vectors), np.float32)]
    )
    table *= (weights * counts.is_shared)[:, None].astype(np.float32)
    table = np.column_stack([table, weights.astype(np.float32)])
    by_class = np.argsort(annotations.labels, kind="stable")
    labels = annotations.labels[by_class]
    first, last = classes
    found = np.zeros([last - first, word_vectors.shape[1]], np.float32)
    for start in range(0, num_classes, _CLASSES):
        stop = min(start + _CLASSES, num_classes)
        own = max(start, first), min(stop, last)
        if sum_over_workers is None and own[0] >= own[1]:
            continue
        begin, end = np.searchsorted(labels, [start, stop])
        sums = np.zeros([stop - start, table.shape[1]])
        _add_words(
            sums, annotations, by_class[begin:end], start, table, max_words
        )
        if sum_over_workers is not None:
            sums = sum_over_workers(sums)
        if own[0] < own[1]:
            found[own[0] - first : own[1] - first] = _gated(
                sums[own[0] - start : own[1] - start]
            )
    return found


def _add_words(
    sums: np.ndarray,
    annotations: Annotations,
    record_numbers: np.ndarray,
    first_class: int,
    table: np.ndarray,
    max_words: int,
) -> None:
    """Adds rows of `[vocabulary_size + 1, columns]` to `[classes, columns]`.

    Args:
        record_numbers: `[n]` int64, ordered by class.
    """
    starts = annotations.starts[record_numbers]
    lengths = annotations.starts[record_numbers + 1] - starts
    lengths = np.minimum(lengths, max_words)
    ends = np.cumsum(lengths)
    row = 0
    while row < len(record_numbers):
        # Records of some words together, at least one.
        done = ends[row] - lengths[row]
        stop = max(row + 1, np.searchsorted(ends, done + _WORDS, side="right"))
        part = slice(row, stop)
        row = stop
        owners = np.repeat(np.arange(stop - part.start), lengths[part])
        if not len(owners):
            continue
        offsets = ends[part] - lengths[part] - done
        places = np.arange(len(owners)) - offsets[owners]
        words = annotations.word_ids[places + starts[part][owners]]
        labels = annotations.labels[record_numbers[part]][owners] - first_class
        borders = np.flatnonzero(np.diff(labels, prepend=-1))
        # float64: the same vectors, however many workers add them up.
        sums[labels[borders]] += np.add.reduceat(
            table[words], borders, axis=0, dtype=np.float64
        )


def _gated(sums: np.ndarray) -> np.ndarray:
    """`[classes, word_dim + 2]` sums to `[classes, word_dim]`."""
    vectors, shared, total = sums[:, :-2], sums[:, -2:-1], sums[:, -1:]
    norms = np.linalg.norm(vectors, axis=1, keepdims=True)
    gates = shared / np.where(total > 0, total, 1.0)
    return gates * vectors / np.where(norms > 0, norms, 1.0)


def align(
    new_vectors: np.ndarray,
    old_vectors: np.ndarray,
    old_rows: np.ndarray,
) -> np.ndarray:
    """Word vectors of a new data set where those of an old one stood.

    Words that were there keep their vectors. The new ones are turned as the
    others must be turned to meet the old ones (orthogonal Procrustes;
    Hamilton et al., arXiv 1605.09096): word2vec turns anew in each training.

    Args:
        new_vectors: `[vocabulary_size + 1, word_dim]` float32.
        old_vectors: `[old_size + 1, word_dim]` float32.
        old_rows: `[vocabulary_size + 1]` int64, row of each word among the
            old ones, or -1.
    """
    is_old = old_rows >= 0
    kept = old_vectors[old_rows[is_old]]
    left, _, right = np.linalg.svd(
        new_vectors[is_old].T.astype(np.float64) @ kept
    )
    aligned = (new_vectors @ (left @ right)).astype(np.float32)
    aligned[is_old] = kept
    return aligned
