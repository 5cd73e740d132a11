"""What a customer wants to see and likes to buy: the truth behind clicks.

    relevance (does it fit the query?) x appeal (does it look a good offer?)
        = the probability of a click on a product that is looked at

Both are functions of products alone, for whoever judges a method that learns
from the click log; see `open_shop`.
"""

import math
import pathlib

from beam_jobs.shop import catalogue
from beam_jobs.shop import poor_pictures
from beam_jobs.shop import products
from beam_jobs.shop import settings
from sicot_tf import files

# What a product of the same type, colour, brand, pattern adds.
SHARES = {"type": 0.45, "colour": 0.15, "brand": 0.1, "pattern": 0.05}
SAME_SKU = 0.95
# Appeal is LEAST for the worst offer, and 1 for the best.
LEAST = 0.1
WEIGHTS = {"sales": 0.35, "price": 0.2, "freshness": 0.15, "quality": 0.3}
_MOST_SALES = 1_000
_DEAREST = 300.0
_FRESH_DAYS = 180.0


def open_shop(folder: pathlib.Path) -> products.Products:
    """The products of a shop that was built, for the functions of this file.

    Raises:
        OSError: if there is no `summary.json`.
    """
    summary = files.read_json(folder / "summary.json")
    return products.Products(
        settings.ShopConfig(**summary["settings"]["shop"]),
        [products.Type(**each) for each in summary["types"]],
    )


def relevance(query: products.Sku, shown: products.Sku) -> float:
    """How well a product fits a query, from 0 to 0.95."""
    if query == shown:
        return SAME_SKU
    return sum(
        share
        for name, share in SHARES.items()
        if getattr(query, name) == getattr(shown, name)
    )


def parts(goods: products.Products, sku: products.Sku) -> dict[str, float]:
    """What makes an offer a good one, each from 0 to 1: keys of `WEIGHTS`."""
    sold = math.log1p(catalogue.sales(goods, sku)) / math.log1p(_MOST_SALES)
    cost = math.log(max(1.0, catalogue.price(goods, sku))) / math.log(_DEAREST)
    wrong = poor_pictures.kind(goods.shop, sku.number, 0)
    return {
        "sales": min(1.0, sold),
        "price": 1 - min(1.0, cost),
        "freshness": math.exp(-catalogue.age_days(goods, sku) / _FRESH_DAYS),
        "quality": poor_pictures.QUALITIES[wrong],
    }


def appeal(goods: products.Products, sku: products.Sku) -> float:
    """How good an offer is, whoever asks: from 0.1 to 1."""
    value = sum(
        WEIGHTS[name] * part for name, part in parts(goods, sku).items()
    )
    return LEAST + (1 - LEAST) * value


def description() -> dict[str, object]:
    """The weights above, as the summary of a shop tells them."""
    return {
        "click": "examination[place] * relevance * appeal",
        "relevance": {"same_sku": SAME_SKU, "same": SHARES},
        "appeal": "least + (1 - least) * sum of weight * part",
        "least": LEAST,
        "weights": WEIGHTS,
        "parts": {
            "sales": f"min(1, log(1 + sales) / log(1 + {_MOST_SALES}))",
            "price": f"1 - min(1, log(max(1, price)) / log({_DEAREST:g}))",
            "freshness": "exp(-days from listed_at to the start of the log "
            f"/ {_FRESH_DAYS:g})",
            "quality": {
                wrong or "good": value
                for wrong, value in poor_pictures.QUALITIES.items()
            },
        },
        "function": "beam_jobs.shop.appeal",
    }
