"""Queries: photos of one product, and scenes of which one product is meant.

Their pictures are their own; the artists are those of their split.
"""

import dataclasses
from typing import Any

import numpy as np

from beam_jobs.shop import catalogue
from beam_jobs.shop import chance
from beam_jobs.shop import pictures
from beam_jobs.shop import products
from beam_jobs.shop import scenes

_MAX_PRODUCTS = 4


@dataclasses.dataclass(frozen=True)
class Query:
    """What a customer looks for.

    Attributes:
        split: train, val or test.
        sku: what is meant.
        others: what is in the picture beside it, smaller.
    """

    number: int
    split: str
    kind: str
    sku: products.Sku
    others: tuple[products.Sku, ...]

    @property
    def query_id(self) -> str:
        """Of the query and its page of results."""
        return f"query/{self.number:07d}"


def asked_for(
    goods: products.Products, rng: np.random.Generator
) -> products.Sku:
    """An SKU that is asked for; the first ranks are asked for most."""
    num_skus = goods.shop.num_skus
    rank = int((num_skus + 1) ** rng.random()) - 1
    return goods.sku_of_rank(min(rank, num_skus - 1))


def query(goods: products.Products, number: int) -> Query:
    """A query, without its picture: half are photos, half scenes."""
    rng = chance.generator(goods.shop.seed, "query", number)
    split = scenes.split_of(rng.random())
    sku = asked_for(goods, rng)
    if rng.random() < 0.5:
        return Query(number, split, "photo", sku, ())
    numbers = rng.integers(
        goods.shop.num_skus, size=rng.integers(_MAX_PRODUCTS)
    )
    others = (goods.sku(int(each)) for each in numbers if each != sku.number)
    return Query(number, split, "scene", sku, tuple(others))


def draw(
    drawer: pictures.Pictures, asked: Query
) -> tuple[bytes, dict[str, Any]]:
    """The picture of a query.

    Returns:
        A JPEG, and the record without the path of the picture: `box` of what
        is meant, and all `objects`, as scenes have them.
    """
    jpeg, artists, boxes = drawer.query_picture(
        [asked.sku, *asked.others], asked.split, asked.number, asked.kind
    )
    skus = [asked.sku, *asked.others]
    return jpeg, {
        "query_id": asked.query_id,
        "split": asked.split,
        "kind": asked.kind,
        "sku_id": asked.sku.sku_id,
        "product_id": catalogue.product_id(asked.sku),
        "box": boxes[0],
        "objects": [
            {"sku_id": sku.sku_id, "box": box, "source": artist}
            for sku, box, artist in zip(skus, boxes, artists, strict=True)
        ],
        "generated": True,
    }
