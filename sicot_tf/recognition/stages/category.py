"""The category of a photo: what the classifier says, what the search says.

Pure functions of SKU ids, scores and neighbours. A category has a share, 0 to
1; shares are dictionaries whose values add up to 1, the largest first, or
empty dictionaries where nothing is known.
"""

import math
from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Mapping
from collections.abc import Sequence

from sicot_tf.recognition.stages import nearest_pictures

Shares = Mapping[str, float]
# From a SKU id to the shares of its categories: `SkuCategories.of`.
CategoriesOf = Callable[[str], Shares]

# To be wrong about the category may move a SKU down, never out.
_LEAST_FACTOR = 0.01


def by_model(
    sku_ids: Sequence[str],
    scores: Sequence[float],
    categories_of: CategoriesOf,
) -> dict[str, float]:
    """The classifier's probability, summed by category.

    A SKU in two categories counts in both, by the shares of its products. The
    list holds the best SKUs only: what is not in it, and SKUs without
    category, are left out, and the rest is divided by its sum.

    Args:
        sku_ids: `[k]`.
        scores: `[k]`, 0 to 1.
    """
    return _normalise(
        (category, score * share)
        for sku_id, score in zip(sku_ids, scores, strict=True)
        for category, share in categories_of(sku_id).items()
    )


def by_search(
    neighbours: Sequence[nearest_pictures.Neighbour], sharpness: float
) -> dict[str, float]:
    """Votes of the nearest catalogue pictures: exp(-sharpness * distance).

    The distance is squared already. Pictures without category do not vote.
    """
    voters = [each for each in neighbours if each.category is not None]
    # Seen from the nearest: the shares are equal, and no vote underflows.
    nearest = min((each.distance for each in voters), default=0.0)
    return _normalise(
        (each.category, math.exp(-sharpness * (each.distance - nearest)))
        for each in voters
    )


def fuse(
    model: Shares, search: Shares, search_weight: float
) -> dict[str, float]:
    """(1 - search_weight) * model + search_weight * search.

    If one of them is empty, the other counts alone.

    Args:
        search_weight: 0 to 1.
    """
    if not model or not search:
        search_weight = 0.0 if model else 1.0
    return _normalise(
        [
            *((name, (1 - search_weight) * model[name]) for name in model),
            *((name, search_weight * search[name]) for name in search),
        ]
    )


def reweight(
    sku_ids: Sequence[str],
    scores: Sequence[float],
    categories_of: CategoriesOf,
    category: Shares,
    influence: float,
) -> tuple[list[str], list[float]]:
    """The list again, SKUs of likely categories moved up; none is dropped.

    Jeffrey's rule (The Logic of Decision, 1965): a score is multiplied by what
    its category has now, divided by what the model gave it, so that the SKUs
    of a category together get the category's share, and what the model said
    is not counted twice. The factor (of several categories their mean, by the
    SKU's shares) is 0.01 at least, to the power of the influence; a SKU
    without category keeps 1. The list keeps its sum, so that what is not in it
    keeps its probability.

    Args:
        sku_ids: `[k]`, best first.
        scores: `[k]`.
        category: from `fuse`, or what a user has said; empty: nothing changes.
        influence: 0 to 1; 0: nothing changes.

    Returns:
        SKU ids and scores, best first; of equal ones the former first.
    """
    if not category or not influence:
        return list(sku_ids), [float(score) for score in scores]
    model = by_model(sku_ids, scores, categories_of)
    # Only a SKU with score 0 can have a category that is not in `model`.
    ratios = {name: category.get(name, 0.0) / model[name] for name in model}
    changed = []
    for sku_id, score in zip(sku_ids, scores, strict=True):
        own = categories_of(sku_id)
        factor = 1.0
        if own:
            factor = sum(own[name] * ratios.get(name, 0.0) for name in own)
        changed.append(score * max(factor, _LEAST_FACTOR) ** influence)
    total = sum(changed)
    scale = sum(scores) / total if total else 0.0
    order = sorted(range(len(changed)), key=lambda i: -changed[i])
    return (
        [sku_ids[i] for i in order],
        [float(changed[i] * scale) for i in order],
    )


def _normalise(parts: Iterable[tuple[str, float]]) -> dict[str, float]:
    """Sums by name that add up to 1, largest first; no name has 0."""
    sums = {}
    for name, value in parts:
        if value > 0:
            sums[name] = sums.get(name, 0.0) + float(value)
    total = sum(sums.values())
    return {
        name: sums[name] / total
        for name in sorted(sums, key=lambda name: (-sums[name], name))
    }
