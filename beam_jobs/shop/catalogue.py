"""Catalogue records, as `build_product_index` reads them: one an SKU."""

import math
from typing import Any

from beam_jobs.shop import chance
from beam_jobs.shop import products
from beam_jobs.shop import titles

CURRENCY = "EUR"
# A type costs from 1 to 150, a brand makes it half or twice as dear.
_CHEAPEST, _DEAREST = 1.0, 150.0


def product_id(sku: products.Sku) -> str:
    """The product of an SKU."""
    return f"shop/{sku.number:06d}"


def price(goods: products.Products, sku: products.Sku) -> float:
    """A price of type, brand and SKU; ends in .99 or .49 as prices do."""
    seed = goods.shop.seed
    type_id = goods.types[sku.type].type_id
    level = chance.generator(seed, "price of type", type_id).random()
    brand = chance.generator(seed, "price of brand", sku.brand).uniform(-1, 1)
    own = chance.generator(seed, "price", sku.number).uniform(-0.2, 0.2)
    base = _CHEAPEST * math.exp(level * math.log(_DEAREST / _CHEAPEST))
    halves = max(1, round(2 * base * 2 ** (brand + own)))
    return round(halves / 2 - 0.01, 2)


def record(
    goods: products.Products,
    names: titles.Titles,
    sku: products.Sku,
    image: str,
) -> dict[str, Any]:
    """The catalogue record of an SKU.

    Args:
        image: path of its picture.
    """
    colour, brand, a_type, pattern, _ = names.words_of(sku, "en")
    return {
        "product_id": product_id(sku),
        "sku_id": sku.sku_id,
        "title": names.full_title(sku),
        "image": image,
        "tags": [a_type, colour, brand, pattern],
        "category": goods.types[sku.type].category,
        "price": price(goods, sku),
        "currency": CURRENCY,
        "generated": True,
    }
