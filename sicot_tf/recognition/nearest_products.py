"""The products whose pictures look most like a photo, from a vector index.

What the gallery has changed since the product index was built is the vector
index's to say; all else is looked up in the product index.
"""

import dataclasses
from collections.abc import Iterable
from collections.abc import Sequence

import numpy as np

from sicot_tf.catalogue import product_index
from sicot_tf.catalogue import vector_index
from sicot_tf.catalogue import vectors
from sicot_tf.recognition import wishes
from sicot_tf.recognition.stages import nearest_pictures

# Pictures that are looked at; with filters of price or tags, which only
# products can tell, more of them.
_NUM_PICTURES = 240
_NUM_FILTERED_PICTURES = 1200
# Newest products of a SKU, of which some may be deleted.
_MAX_OF_SKU = 10


def num_pictures(wanted: wishes.Results) -> int:
    """How many pictures the results are made of."""
    is_filtered = (
        wanted.wanted_tags
        or wanted.min_price is not None
        or wanted.max_price is not None
    )
    return _NUM_FILTERED_PICTURES if is_filtered else _NUM_PICTURES


@dataclasses.dataclass(frozen=True)
class Found:
    """A product that was found.

    Attributes:
        picture: place of the picture that looks most alike.
        similarity: of that picture, -1 to 1.
    """

    product: product_index.Product
    picture: int
    similarity: float


class Products:
    """Products of an index by id, each looked up once.

    Args:
        vectors: what knows of changes since; None: there are none.
    """

    def __init__(
        self,
        index: product_index.ProductIndex,
        vectors: vector_index.VectorIndex | None,
    ):
        self._index = index
        self._vectors = vectors
        self._known: dict[str, product_index.Product | None] = {}

    def find(self, ids: Iterable[str]) -> None:
        """Looks all of them up at once."""
        missing = dict.fromkeys(each for each in ids if each not in self._known)
        plain, vectors = [], self._vectors
        for product_id in missing:
            changed, product = False, None
            if vectors is not None:
                changed, product = vectors.product(product_id)
            if changed:
                self._known[product_id] = product
            else:
                plain.append(product_id)
        found = self._index.products(plain)
        self._known |= {each: found.get(each) for each in plain}

    def of_sku(self, sku_id: str) -> product_index.Product | None:
        """The newest product of a SKU, with all that was changed since."""
        limit = 1 if self._vectors is None else _MAX_OF_SKU
        found = self._index.products_of(sku_id, limit)
        for product in now(self._vectors, found):
            if product.sku_id == sku_id:
                return product
        # Those that came since are known by their pictures.
        known = filter(None, self._known.values())
        return next((each for each in known if each.sku_id == sku_id), None)

    def product(self, product_id: str) -> product_index.Product | None:
        """A product as it is now; None if there is none."""
        if product_id not in self._known:
            self.find([product_id])
        return self._known[product_id]


def now(
    vectors: vector_index.VectorIndex | None,
    products: Iterable[product_index.Product],
) -> list[product_index.Product]:
    """Products of the product index as they are now, without deleted ones."""
    if vectors is None:
        return list(products)
    found = []
    for product in products:
        is_changed, changed = vectors.product(product.product_id)
        found.append(changed if is_changed else product)
    return [each for each in found if each is not None]


def search(
    index: vector_index.VectorIndex,
    query: np.ndarray,
    k: int,
    category: str | None = None,
) -> list[vectors.Hit]:
    """The most similar pictures of one query.

    Args:
        query: `[dim]` float32 of length 1.
        category: only its products.
    """
    (hits,) = index.search(query[np.newaxis], k, category=category)
    return hits


def in_category(
    everywhere: Sequence[vectors.Hit], within: Sequence[vectors.Hit]
) -> list[vectors.Hit]:
    """Hits of a category, and those that are not to be hidden by it.

    A category that the service has guessed may be wrong: what looks at least
    as much alike as the best of the category stays.

    Args:
        everywhere: hits of all categories.
        within: hits of the category.
    """
    if not within:
        return list(everywhere)
    best = within[0].similarity
    inside = {(each.product_id, each.picture) for each in within}
    others = (
        each
        for each in everywhere
        if each.similarity >= best
        and (each.product_id, each.picture) not in inside
    )
    return sorted([*others, *within], key=lambda each: -each.similarity)


def products_of(hits: Iterable[vectors.Hit], products: Products) -> list[Found]:
    """A result for each product that is there, by its best picture."""
    hits = list(hits)
    products.find(each.product_id for each in hits)
    found: dict[str, Found] = {}
    for hit in hits:
        product = products.product(hit.product_id)
        if product is not None and hit.product_id not in found:
            found[hit.product_id] = Found(product, hit.picture, hit.similarity)
    return list(found.values())


def neighbours_of(
    hits: Iterable[vectors.Hit], products: Products
) -> list[nearest_pictures.Neighbour]:
    """The same as pictures that vote for a category or a SKU."""
    hits = list(hits)
    products.find(each.product_id for each in hits)
    found = ((each, products.product(each.product_id)) for each in hits)
    return [
        nearest_pictures.Neighbour(
            product_id=hit.product_id,
            sku_id=product.sku_id,
            category=product.category,
            picture=hit.picture,
            # |a - b|^2 of unit vectors; rounding may leave the range.
            distance=min(max(2 - 2 * hit.similarity, 0.0), 4.0),
        )
        for hit, product in found
        if product is not None
    ]
