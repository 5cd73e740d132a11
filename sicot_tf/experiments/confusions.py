"""Which classes are mistaken for which."""

import numpy as np


def top_pairs(
    labels: np.ndarray, best: np.ndarray, num_pairs: int
) -> list[tuple[int, int]]:
    """The most frequent mistakes, the most frequent first.

    Args:
        labels: `[num_records]` integers, the true classes.
        best: `[seeds, num_records]` integers, what they were taken for.

    Returns:
        Pairs of a true class and what it was taken for; of equally frequent
        ones those with the lower labels first.
    """
    wrong = best != labels
    pairs = np.stack([np.broadcast_to(labels, best.shape)[wrong], best[wrong]])
    distinct, counts = np.unique(pairs, axis=1, return_counts=True)
    order = np.argsort(-counts, kind="stable")[:num_pairs]
    return [(int(a), int(b)) for a, b in distinct.T[order]]


def share(labels: np.ndarray, best: np.ndarray, pair: tuple[int, int]) -> float:
    """Share of a class's records, over seeds, taken for another class."""
    true, taken_for = pair
    return float((best[:, labels == true] == taken_for).mean())
