"""Catalogue records, as `build_product_index` reads them: one an SKU."""

import datetime
import math
from collections.abc import Sequence
from typing import Any

from beam_jobs.shop import chance
from beam_jobs.shop import products
from beam_jobs.shop import titles

CURRENCY = "EUR"
# The click log starts here; all products are listed before.
LOG_START = datetime.datetime(2026, 3, 1, tzinfo=datetime.UTC)
# A type costs from 1 to 150, a brand makes it half or twice as dear.
_CHEAPEST, _DEAREST = 1.0, 150.0
# What no classifier knows came in the last month, all else in three years.
_NEW_DAYS, _OLD_DAYS = 30, 1095
# Sales of a year at the last rank, and how they grow towards the first.
_LEAST_SALES, _SALES_POWER, _SALES_SPREAD = 5, 0.6, 0.8
_YEAR = 365


def product_id(sku: products.Sku) -> str:
    """The product of an SKU."""
    return f"shop/{sku.number:06d}"


def sku_of(goods: products.Products, identifier: str) -> products.Sku:
    """The SKU of a product id."""
    return goods.sku(int(identifier.removeprefix("shop/")))


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


def age_days(goods: products.Products, sku: products.Sku) -> int:
    """Whole days from the listing of a product to the start of the log."""
    rng = chance.generator(goods.shop.seed, "listed", sku.number)
    if products.is_new(goods.shop, sku.rank):
        return int(rng.integers(1, _NEW_DAYS + 1))
    return int(rng.integers(_NEW_DAYS + 1, _OLD_DAYS + 1))


def sales(goods: products.Products, sku: products.Sku) -> int:
    """Pieces sold within a year: more of the first ranks, by chance."""
    rng = chance.generator(goods.shop.seed, "sales", sku.number)
    place = (sku.rank + 1) / goods.shop.num_skus
    listed = min(1.0, age_days(goods, sku) / _YEAR)
    of_a_year = _LEAST_SALES * place**-_SALES_POWER
    spread = math.exp(_SALES_SPREAD * rng.standard_normal())
    return int(of_a_year * spread * listed)


def record(
    goods: products.Products,
    names: titles.Titles,
    sku: products.Sku,
    images: Sequence[str],
) -> dict[str, Any]:
    """The catalogue record of an SKU.

    Args:
        images: paths of its pictures, the main one first.
    """
    colour, brand, a_type, pattern, _ = names.words_of(sku, "en")
    listed = LOG_START - datetime.timedelta(age_days(goods, sku))
    return {
        "product_id": product_id(sku),
        "sku_id": sku.sku_id,
        "title": names.full_title(sku),
        "image": images[0],
        **({"images": list(images)} if len(images) > 1 else {}),
        "tags": [a_type, colour, brand, pattern],
        "category": goods.types[sku.type].category,
        "price": price(goods, sku),
        "currency": CURRENCY,
        "sales": sales(goods, sku),
        "listed_at": f"{listed:%Y-%m-%dT%H:%M:%SZ}",
        "generated": True,
    }
