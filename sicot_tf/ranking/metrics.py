"""How good an order of result pages is, by clicks or by a known truth.

Clicks count by inverse propensity, so that the order which was shown has no
advantage. Arrays are flat, page after page, as in `examples.Examples`.
"""

from collections.abc import Callable
from collections.abc import Mapping

import numpy as np

from sicot_tf.ranking import position_bias
from sicot_tf.ranking import training_examples


def ranks(scores: np.ndarray, starts: np.ndarray) -> np.ndarray:
    """`[n]` int rank from 1 of each product within its page.

    Equal scores keep their order.

    Args:
        scores: `[n]`, higher is better.
        starts: `[num_pages + 1]`.
    """
    page = np.repeat(np.arange(len(starts) - 1), np.diff(starts))
    order = np.lexsort((np.arange(len(scores)), -scores, page))
    found = np.empty(len(scores), np.int64)
    found[order] = np.arange(len(scores)) - starts[page[order]] + 1
    return found


def comparison_ndcg(
    scores: np.ndarray, comparisons: training_examples.Comparisons, k: int = 20
) -> np.ndarray:
    """`[num_clicks]` NDCG at k of each click against what was not clicked."""
    found = ranks(scores[comparisons.rows], comparisons.starts)
    of_clicked = found[comparisons.clicked]
    return np.where(of_clicked <= k, 1 / np.log2(of_clicked + 1), 0.0)


def truth_ndcg(
    scores: np.ndarray, gains: np.ndarray, starts: np.ndarray, k: int = 20
) -> np.ndarray:
    """`[num_pages]` NDCG at k by known gains; NaN for a page without gain."""
    found = _dcg(ranks(scores, starts), gains, starts, k)
    best = _dcg(ranks(gains, starts), gains, starts, k)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(best > 0, found / best, np.nan)


def _dcg(
    places: np.ndarray, gains: np.ndarray, starts: np.ndarray, k: int
) -> np.ndarray:
    parts = np.where(places <= k, gains / np.log2(places + 1), 0.0)
    sums = np.concatenate([[0.0], np.cumsum(parts)])
    return sums[starts[1:]] - sums[starts[:-1]]


def click_sums(
    scores: np.ndarray,
    examples: training_examples.Examples,
    examination: np.ndarray,
) -> dict[str, np.ndarray]:
    """What clicks say of an order, summed for each page.

    Returns:
        `[num_pages]` each: `weight` (of the clicks), `ndcg@20` and `mrr`
        times weight, and `clicks@1`, `clicks@5`: the clicks to expect at the
        first places of the new order (inverse propensity scoring).
    """
    new = ranks(scores, examples.starts)
    weight = np.where(
        examples.clicked,
        1 / position_bias.at(examination, examples.positions),
        0.0,
    )
    looked_at = position_bias.at(examination, new)
    parts = {
        "weight": weight,
        "ndcg@20": weight * np.where(new <= 20, 1 / np.log2(new + 1), 0),
        "mrr": weight / new,
        "clicks@1": weight * looked_at * (new <= 1),
        "clicks@5": weight * looked_at * (new <= 5),
    }
    return {
        name: np.bincount(examples.page_of, each, minlength=len(examples.pages))
        for name, each in parts.items()
    }


def click_metrics(sums: Mapping[str, np.ndarray]) -> dict[str, float]:
    """Means of `click_sums`: over clicks by weight, `clicks@` over pages."""
    weight = max(sums["weight"].sum(), 1e-12)
    return {
        name: float(
            each.mean() if name.startswith("clicks@") else each.sum() / weight
        )
        for name, each in sums.items()
        if name != "weight"
    }


def bootstrap(
    num_pages: int,
    measure: Callable[[np.ndarray], Mapping[str, float]],
    *,
    seed: int,
    repetitions: int = 1000,
) -> dict[str, tuple[float, float]]:
    """95 % intervals of measures of pages drawn anew with replacement.

    Args:
        measure: of `[num_pages]` int pages, some of them several times.
    """
    rng = np.random.default_rng(seed)
    drawn = [
        measure(rng.integers(num_pages, size=num_pages))
        for _ in range(repetitions)
    ]
    return {
        name: tuple(
            float(each)
            for each in np.nanpercentile(
                [values[name] for values in drawn], [2.5, 97.5]
            )
        )
        for name in drawn[0]
    }
