"""The SKU by the nearest pictures: also of a product that no model knows.

A classifier knows the SKUs that it was trained on; an index those that have a
picture in it. Both give shares of SKUs, which are added by a weight.
"""

import math
from collections.abc import Mapping
from collections.abc import Sequence

from sicot_tf.recognition.stages import nearest_pictures


def shares(
    neighbours: Sequence[nearest_pictures.Neighbour], sharpness: float
) -> dict[str, float]:
    """Share of each SKU: the softmax of -sharpness * distance.

    A SKU counts by its nearest picture alone: many pictures are no reason.

    Args:
        neighbours: with squared distances.

    Returns:
        Shares that add up to 1, the largest first; {} without neighbours.
    """
    nearest: dict[str, float] = {}
    for each in neighbours:
        distance = nearest.get(each.sku_id, math.inf)
        nearest[each.sku_id] = min(distance, each.distance)
    # Seen from the nearest: the shares are equal, and none underflows.
    least = min(nearest.values(), default=0.0)
    weights = {
        sku_id: math.exp(-sharpness * (distance - least))
        for sku_id, distance in nearest.items()
    }
    total = sum(weights.values())
    return {
        sku_id: weights[sku_id] / total
        for sku_id in sorted(weights, key=lambda each: (-weights[each], each))
    }


def fuse(
    sku_ids: Sequence[str],
    scores: Sequence[float],
    search: Mapping[str, float],
    search_weight: float,
) -> tuple[list[str], list[float]]:
    """(1 - search_weight) * score + search_weight * share, the best first.

    SKUs that the recogniser does not name come in by their share alone.

    Args:
        sku_ids: `[k]`, of the recogniser.
        scores: `[k]`.
        search: from `shares`; without any the scores stay as they are.
        search_weight: 0 to 1.

    Returns:
        SKU ids and scores; of equal ones the recogniser's order.
    """
    if not search or not search_weight:
        return list(sku_ids), [float(score) for score in scores]
    fused = {
        sku_id: (1 - search_weight) * float(score)
        for sku_id, score in zip(sku_ids, scores, strict=True)
    }
    for sku_id, share in search.items():
        fused[sku_id] = fused.get(sku_id, 0.0) + search_weight * share
    order = sorted(fused, key=lambda each: -fused[each])
    return order, [fused[each] for each in order]
