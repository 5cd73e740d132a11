"""Which of several candidates is right most often, and how surely.

Pictures of one SKU share its difficulty, so intervals and standard errors draw
SKUs, not pictures.
"""

import math
from collections.abc import Callable
from collections.abc import Sequence

import numpy as np

_NUM_FOLDS = 5
_NUM_RESAMPLES = 2000
_QUANTILES = (0.025, 0.975)

# From `[candidates, pictures]` whether it is right and `[pictures]` SKUs to
# the candidate.
Choose = Callable[[np.ndarray, np.ndarray], int]


def most_right(right: np.ndarray, skus: np.ndarray) -> int:
    """The candidate with most right pictures; of equals the first.

    Args:
        right: `[candidates, pictures]` bool, the simplest first.
        skus: `[pictures]` integers; not needed here.
    """
    return int(right.sum(axis=1).argmax())


def simplest(right: np.ndarray, skus: np.ndarray) -> int:
    """The first candidate that is as good as the best, or nearly.

    Nearly: the best has more right pictures by at most one standard error.

    Args:
        right: `[candidates, pictures]` bool, the simplest first.
        skus: `[pictures]` integers, of which SKU a picture is.
    """
    best = right[most_right(right, skus)].astype(float)
    return next(
        row
        for row, each in enumerate(right)
        if (best - each).mean() <= standard_error(best - each, skus)
    )


def standard_error(differences: np.ndarray, skus: np.ndarray) -> float:
    """Standard error of the mean, if SKUs were drawn anew.

    Args:
        differences: `[pictures]`.
        skus: `[pictures]` integers from 0.
    """
    sums = np.bincount(skus, differences - differences.mean())
    return float(math.sqrt((sums**2).sum()) / len(differences))


def on_other_skus(
    right: np.ndarray, skus: np.ndarray, choose: Choose
) -> np.ndarray:
    """`[pictures]` bool, by the candidate that all other folds choose."""
    folds = skus % _NUM_FOLDS
    found = np.zeros(len(skus), bool)
    for fold in np.unique(folds):
        inside = folds == fold
        others = ~inside if not inside.all() else inside
        found[inside] = right[choose(right[:, others], skus[others])][inside]
    return found


def accuracy(right: np.ndarray, skus: np.ndarray) -> dict[str, float]:
    """Share of right pictures, with a 95 % interval by drawing SKUs."""
    num_right, num_all = np.bincount(skus, right), np.bincount(skus)
    rng = np.random.default_rng(0)
    shares = []
    for _ in range(_NUM_RESAMPLES):
        drawn = rng.integers(len(num_all), size=len(num_all))
        shares.append(num_right[drawn].sum() / num_all[drawn].sum())
    low, high = np.quantile(shares, _QUANTILES)
    return {
        "right": float(right.mean()),
        "low": float(low),
        "high": float(high),
    }


def numbers(sku_ids: Sequence[str] | np.ndarray) -> np.ndarray:
    """`[pictures]` integers from 0, equal for equal SKUs."""
    return np.unique(sku_ids, return_inverse=True)[1]
