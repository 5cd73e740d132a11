"""The objects of an answer: what was seen, with the catalogue's products."""

import dataclasses
import math
from collections.abc import Callable

import numpy as np

from sicot_tf.catalogue import product_index
from sicot_tf.recognition import answers
from sicot_tf.recognition import nearest_products
from sicot_tf.recognition.model_server import Recognition
from sicot_tf.recognition.releases import open_release
from sicot_tf.recognition.settings import RecognitionSettings
from sicot_tf.recognition.stages import category
from sicot_tf.recognition.stages import nearest_pictures
from sicot_tf.recognition.stages import sku_search
from sicot_tf.recognition.wishes import Wishes

# From a product's id, and the place and text of one of its pictures, to the
# URL where it is seen; None if nobody can show it.
PictureUrl = Callable[[str, int, str], str | None]
# Similar pictures of an object.
_MAX_SIMILAR = 12


@dataclasses.dataclass(frozen=True)
class LookedFor:
    """What a vector index is asked for.

    Attributes:
        vector: `[dim]` float32 of length 1; None if there is none.
        box: the part of the photo that it is of, and who drew that.
    """

    vector: np.ndarray | None
    box: answers.Box
    box_from: str


@dataclasses.dataclass(frozen=True)
class Seen:
    """An object on the photo and what the model says of it."""

    box: answers.Box
    box_from: str
    recognition: Recognition
    query: LookedFor


def make_objects(
    seen: list[Seen],
    neighbours: list[list[nearest_pictures.Neighbour]],
    shares: category.Shares,
    wishes: Wishes,
    release: open_release.OpenRelease,
    products: nearest_products.Products,
    settings: RecognitionSettings,
    picture_url: PictureUrl,
) -> list[answers.RecognisedObject]:
    """One object of the answer for each that was seen.

    Args:
        neighbours: of each object.
        shares: of the categories of the main object; {} if unknown.
    """
    return [
        _make_object(
            # The category is that of the main object.
            *(each, near, {} if place else shares, wishes, release),
            *(products, settings, picture_url),
        )
        for place, (each, near) in enumerate(zip(seen, neighbours))
    ]


def _make_object(
    seen: Seen,
    neighbours: list[nearest_pictures.Neighbour],
    shares: category.Shares,
    wishes: Wishes,
    release: open_release.OpenRelease,
    products: nearest_products.Products,
    settings: RecognitionSettings,
    picture_url: PictureUrl,
) -> answers.RecognisedObject:
    recognition = seen.recognition
    categories_of = release.sku_categories.of
    sku_ids, scores = category.reweight(
        recognition.sku_ids,
        recognition.scores,
        categories_of,
        shares,
        settings.category_influence,
    )
    note = None
    # The threshold is one for the model's own best answer.
    recognised = recognition.recognised and sku_ids[0] == recognition.sku_ids[0]
    if settings.sku_search_weight and neighbours:
        sku_ids, scores = sku_search.fuse(
            sku_ids,
            scores,
            sku_search.shares(neighbours, settings.sku_search_sharpness),
            settings.sku_search_weight,
        )
        # Another score has another threshold.
        recognised = scores[0] >= settings.sku_search_threshold
    found = list(zip(sku_ids, scores))
    if wishes.category_filter:
        kept = [
            (sku_id, score)
            for sku_id, score in found
            if wishes.category_filter in categories_of(sku_id)
        ]
        if kept:
            # What was not asked about is no answer: surely not this one.
            recognised = recognised and kept[0] == found[0]
            found = kept
        else:
            recognised = False
            note = (
                "None of the likely SKUs has a product of category "
                f"{wishes.category_filter!r}; these are of others."
            )
    (sku_id, score), *others = found[: wishes.top_k]
    product, missing = find_product(sku_id, products, picture_url)
    return answers.RecognisedObject(
        box=seen.box,
        box_from=seen.box_from,
        sku_id=sku_id,
        score=_share(score),
        recognised=recognised,
        product=product,
        note=note or missing,
        alternatives=[
            answers.Alternative(
                sku_id=other,
                score=_share(other_score),
                product=find_product(other, products, picture_url)[0],
            )
            for other, other_score in others
        ],
        similar_pictures=_similar(neighbours, products, picture_url)
        if wishes.similar
        else [],
        words=[
            answers.SeenWord(word=word, probability=_share(probability))
            for word, probability in recognition.words
        ],
    )


def find_product(
    sku_id: str,
    products: nearest_products.Products,
    picture_url: PictureUrl,
) -> tuple[answers.Product | None, str | None]:
    """The newest product of a SKU, and a sentence if something is missing."""
    found = products.of_sku(sku_id)
    if found is None:
        return None, f"The catalogue has no product of SKU {sku_id}."
    product = to_product(found, picture_url)
    if not found.images:
        return product, "The catalogue has no picture of this product."
    if not product.pictures:
        return product, "The pictures of this product can't be shown here."
    return product, None


def to_product(
    product: product_index.Product, picture_url: PictureUrl
) -> answers.Product:
    """A product of the index as the service shows it."""
    attributes = dict(product.attributes)
    price = attributes.pop("price", None)
    if isinstance(price, bool) or not isinstance(price, int | float | str):
        price = None
    elif isinstance(price, float) and not math.isfinite(price):
        price = None
    urls = (
        picture_url(product.product_id, place, image)
        for place, image in enumerate(product.images)
    )
    return answers.Product(
        product_id=product.product_id,
        sku_id=product.sku_id,
        title=product.title,
        pictures=[url for url in urls if url],
        tags=product.tags,
        category=product.category,
        price=price,
        attributes=attributes,
    )


def _similar(
    neighbours: list[nearest_pictures.Neighbour],
    products: nearest_products.Products,
    picture_url: PictureUrl,
) -> list[answers.SimilarPicture]:
    """The nearest pictures that can be shown, one of each product."""
    found = {}
    for each in neighbours:
        if len(found) == _MAX_SIMILAR or each.product_id in found:
            continue
        product = products.product(each.product_id)
        if product is None or each.picture >= len(product.images):
            continue
        url = picture_url(
            each.product_id, each.picture, product.images[each.picture]
        )
        if url:
            found[each.product_id] = answers.SimilarPicture(
                product_id=each.product_id,
                sku_id=each.sku_id,
                picture=url,
                distance=each.distance,
            )
    return list(found.values())


def _share(value: float) -> float:
    """A probability that rounding may have moved out of its range."""
    return min(max(float(value), 0.0), 1.0)
