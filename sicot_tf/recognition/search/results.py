"""A page of results: filtered, ordered, counted, with its pictures."""

import collections
import math
from collections.abc import Sequence
from typing import Literal
from typing import Protocol

import numpy as np

from sicot_tf.catalogue import product_index
from sicot_tf.recognition import answers
from sicot_tf.recognition import panel
from sicot_tf.recognition import wishes
from sicot_tf.recognition.nearest_products import Found

OrderedBy = Literal["similarity", "quality"]
_MAX_TAGS = 20


class Ranker(Protocol):
    """What orders by quality: `sicot_tf.ranking.Ranker`."""

    def scores(
        self, similarities: np.ndarray, product_ids: Sequence[str]
    ) -> np.ndarray:
        """`[n]`, higher is better; none below its floor passes one above."""


def keep(found: Sequence[Found], wanted: wishes.Results) -> list[Found]:
    """Those within the price range that have all wanted tags."""
    tags = wanted.wanted_tags
    low, high = wanted.min_price, wanted.max_price
    if not tags and low is None and high is None:
        return list(found)
    return [
        each
        for each in found
        if tags <= set(each.product.tags)
        and _in_range(price_of(each.product), low, high)
    ]


def order(
    found: Sequence[Found],
    ranker: Ranker | None,
    wanted: OrderedBy,
) -> tuple[list[Found], OrderedBy]:
    """By quality if there is a ranker and it is wanted, and what it became.

    Args:
        found: by similarity, the most similar first.
    """
    if ranker is None or wanted == "similarity":
        return list(found), "similarity"
    if not found:
        return [], "quality"
    scores = ranker.scores(
        np.array([each.similarity for each in found], np.float32),
        [each.product.product_id for each in found],
    )
    places = np.argsort(-scores, kind="stable")
    return [found[place] for place in places], "quality"


def facets(found: Sequence[Found]) -> answers.Facets:
    """What results could be narrowed to, with numbers of products."""
    categories = collections.Counter(
        each.product.category for each in found if each.product.category
    )
    tags = collections.Counter(
        tag for each in found for tag in dict.fromkeys(each.product.tags)
    )
    prices = [
        price for each in found if (price := price_of(each.product)) is not None
    ]
    return answers.Facets(
        categories=dict(categories.most_common()),
        tags=dict(tags.most_common(_MAX_TAGS)),
        min_price=min(prices, default=None),
        max_price=max(prices, default=None),
    )


def page(
    found: Sequence[Found],
    wanted: wishes.Results,
    picture_url: panel.PictureUrl,
) -> list[answers.SearchResult]:
    """The results of the wanted page; none after the last."""
    start = (wanted.page - 1) * wanted.page_size
    return [
        answers.SearchResult(
            product=panel.to_product(each.product, picture_url),
            picture=_picture(each, picture_url),
            # Rounding may leave the range.
            similarity=min(max(each.similarity, -1.0), 1.0),
        )
        for each in found[start : start + wanted.page_size]
    ]


def price_of(product: product_index.Product) -> float | None:
    """The price as a number, also where the catalogue wrote it as a text."""
    price = product.attributes.get("price")
    if isinstance(price, bool) or not isinstance(price, int | float | str):
        return None
    try:
        price = float(price)
    except (ValueError, OverflowError):
        return None
    return price if math.isfinite(price) else None


def _in_range(
    price: float | None, low: float | None, high: float | None
) -> bool:
    """A product without price is in no range."""
    if low is None and high is None:
        return True
    return price is not None and (
        (low is None or price >= low) and (high is None or price <= high)
    )


def _picture(found: Found, picture_url: panel.PictureUrl) -> str | None:
    images = found.product.images
    if found.picture >= len(images):
        return None
    return picture_url(
        found.product.product_id, found.picture, images[found.picture]
    )
