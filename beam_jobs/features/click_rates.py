"""Clicks of each product, per customer who looked at it.

A product that stands far down is seen by few, so its shows count by how often
their places are looked at (clicks over expected clicks, Zhang and Jones,
Comparing Click Logs for Editorial Training and Human Evaluation, WWW 2007).
The mean of all products is added as so many looks, so that one click is no
rate.
"""

from collections.abc import Sequence

import numpy as np

from sicot_tf.data import clicks
from sicot_tf.ranking import position_bias
from sicot_tf.ranking import product_features

# Looks at the mean rate that each product starts with.
PRIOR_LOOKS = 10.0


def count(
    pages: Sequence[clicks.Page],
    rows: dict[str, int],
    examination: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """Looks and clicks of products, by fold of the page.

    Args:
        pages: of people, of train alone.
        rows: of each product.
        examination: of the places, see `position_bias`.

    Returns:
        `[num_folds, num_products]` float64 each.
    """
    shape = (product_features.NUM_FOLDS, len(rows))
    looks, clicked = np.zeros(shape), np.zeros(shape)
    for page in pages:
        fold = product_features.fold_of(page.query_id)
        looked = position_bias.at(
            examination, np.arange(1, len(page.shown) + 1)
        )
        for place, product_id in enumerate(page.shown):
            row = rows.get(product_id)
            if row is not None:
                looks[fold, row] += looked[place]
                clicked[fold, row] += place + 1 in page.positions
    return looks, clicked


def rates(looks: np.ndarray, clicked: np.ndarray) -> dict[str, np.ndarray]:
    """`click_rate`, and for each fold that of the other folds.

    NaN for a product that was not shown.

    Args:
        looks, clicked: of `count`.
    """
    found = {"click_rate": _smooth(looks.sum(0), clicked.sum(0))}
    for fold, name in enumerate(product_features.FOLD_NAMES):
        others = np.arange(len(looks)) != fold
        found[name] = _smooth(looks[others].sum(0), clicked[others].sum(0))
    return found


def _smooth(looks: np.ndarray, clicked: np.ndarray) -> np.ndarray:
    mean = clicked.sum() / max(looks.sum(), 1e-12)
    rate = (clicked + PRIOR_LOOKS * mean) / (looks + PRIOR_LOOKS)
    return np.where(looks > 0, rate, np.nan).astype(np.float32)
