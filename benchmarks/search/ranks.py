"""Ranks of the right product, and what they are worth."""

from typing import Any

import numpy as np

_DRAWS = 1000
_ROWS_AT_ONCE = 256


def of_products(
    queries: np.ndarray,
    vectors: np.ndarray,
    product_ids: np.ndarray,
    right: np.ndarray,
) -> np.ndarray:
    """`[queries]` int: 1 where the right product is the nearest.

    Args:
        queries: `[queries, dim]` of length 1.
        vectors: `[pictures, dim]` of length 1; a product is as near as its
            nearest picture.
        product_ids: `[pictures]`.
        right: `[queries]` product ids.
    """
    names, owner = np.unique(product_ids, return_inverse=True)
    order = np.argsort(owner, kind="stable")
    starts = np.searchsorted(owner[order], np.arange(len(names)))
    places = np.searchsorted(names, right)
    ranks = []
    for start in range(0, len(queries), _ROWS_AT_ONCE):
        rows = queries[start : start + _ROWS_AT_ONCE] @ vectors[order].T
        best = np.maximum.reduceat(rows, starts, axis=1)
        own = best[np.arange(len(best)), places[start : start + len(best)]]
        # Equal ones count as before it: a constant embedding finds nothing.
        ranks.append((best >= own[:, None]).sum(axis=1))
    return np.concatenate(ranks)


def measures(ranks: np.ndarray, skus: np.ndarray) -> dict[str, list[float]]:
    """Recall@1, @20 and mean average precision in %, with 95 % intervals.

    With one right product the average precision is 1 / rank.
    """
    values = {
        "recall@1": ranks == 1,
        "recall@20": ranks <= 20,
        "map": 1 / ranks,
    }
    return {name: _mean(100.0 * each, skus) for name, each in values.items()}


def gain(
    ranks: np.ndarray, others: np.ndarray, skus: np.ndarray
) -> list[float]:
    """Points of recall@1 over others, paired, with its interval."""
    return _mean(100.0 * (ranks == 1) - 100.0 * (others == 1), skus)


def described(row: dict[str, Any]) -> str:
    """A line of a table."""
    return "  ".join(
        f"{name} {mean:5.1f} ({low:.1f} to {high:.1f})"
        for name, (mean, low, high) in row.items()
    )


def _mean(values: np.ndarray, skus: np.ndarray) -> list[float]:
    """Mean and interval, drawing SKUs with all their queries."""
    _, owner = np.unique(skus, return_inverse=True)
    sums, counts = np.bincount(owner, values), np.bincount(owner)
    rng = np.random.default_rng(0)
    drawn = rng.integers(0, len(sums), [_DRAWS, len(sums)])
    means = sums[drawn].sum(axis=1) / counts[drawn].sum(axis=1)
    low, high = np.percentile(means, [2.5, 97.5])
    return [float(values.mean()), float(low), float(high)]


def overlap(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """`[n]`, intersection over union of boxes `[n, 4]`."""
    low = np.maximum(first[:, :2], second[:, :2])
    high = np.minimum(first[:, 2:], second[:, 2:])
    shared = np.prod(np.maximum(high - low, 0), axis=1)
    areas = [
        np.prod(each[:, 2:] - each[:, :2], axis=1) for each in (first, second)
    ]
    return shared / np.maximum(sum(areas) - shared, 1e-9)
