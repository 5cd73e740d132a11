"""A click log: who photographed what, was shown what, and clicked where.

    query (a test picture) -> ten products in an order -> the place looked at
        -> the product there, or nothing, clicked

A customer looks at one place of the list, at place k with a probability in
proportion to 1 / k, and clicks what is there with a probability that says how
well it fits. So the bias of the places is known, and a method that removes it
can be judged.
"""

from typing import Any

import numpy as np

from beam_jobs.shop import catalogue
from beam_jobs.shop import chance
from beam_jobs.shop import products

_NUM_SHOWN = 10
# Of so many products the list shows those that fit best.
_NUM_LOOKED_AT = 40
# How often the product itself is found.
_RECALL = 0.8
# What a product of the same type, colour, brand, pattern adds.
_SHARES = (0.45, 0.15, 0.1, 0.05)
_SAME_SKU = 0.95
# Of the order: a ranking by sight mistakes some products for others.
_RANKING_NOISE = 0.25


def examination() -> list[float]:
    """The probability that a customer looks at a place; from the first on."""
    weights = 1 / np.arange(1, _NUM_SHOWN + 1)
    return (weights / weights.sum()).tolist()


def attraction(query: products.Sku, shown: products.Sku) -> float:
    """The probability that a product which is looked at is clicked."""
    if query == shown:
        return _SAME_SKU
    same = (
        query.type == shown.type,
        query.colour == shown.colour,
        query.brand == shown.brand,
        query.pattern == shown.pattern,
    )
    return sum(share for share, is_same in zip(_SHARES, same) if is_same)


def query_sku(
    goods: products.Products, rng: np.random.Generator
) -> products.Sku:
    """An SKU that is asked for; the first ranks are asked for most."""
    num_skus = goods.shop.num_skus
    rank = int((num_skus + 1) ** rng.random()) - 1
    return goods.sku_of_rank(min(rank, num_skus - 1))


def event(
    goods: products.Products, number: int
) -> tuple[products.Sku, int, dict[str, Any]]:
    """One query and what came of it.

    Returns:
        The SKU in the picture, the number of the test picture, and a row: the
        product ids `shown`, `clicked` and its `position` from 1, both None
        where nothing was clicked.
    """
    rng = chance.generator(goods.shop.seed, "click", number)
    query = query_sku(goods, rng)
    picture = int(rng.integers(goods.shop.test_pictures))
    found = {
        int(each)
        for each in rng.integers(goods.shop.num_skus, size=_NUM_LOOKED_AT)
    } - {query.number}
    candidates = [goods.sku(each) for each in sorted(found)]
    if rng.random() < _RECALL:
        candidates.append(query)
    seen = np.array([attraction(query, each) for each in candidates])
    seen = seen + _RANKING_NOISE * rng.standard_normal(len(candidates))
    shown = [candidates[each] for each in np.argsort(-seen)[:_NUM_SHOWN]]
    place = int(rng.choice(_NUM_SHOWN, p=examination()))
    is_clicked = rng.random() < attraction(query, shown[place])
    return (
        query,
        picture,
        {
            "query_id": f"query/{number:07d}",
            "shown": [catalogue.product_id(each) for each in shown],
            "clicked": catalogue.product_id(shown[place])
            if is_clicked
            else None,
            "position": place + 1 if is_clicked else None,
            "generated": True,
        },
    )
