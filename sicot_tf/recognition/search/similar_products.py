"""The stage that finds similar products: of a photo, or of a query again."""

import dataclasses
from collections.abc import Sequence

import numpy as np

from sicot_tf.catalogue import vectors
from sicot_tf.recognition import answers
from sicot_tf.recognition import nearest_products
from sicot_tf.recognition import panel
from sicot_tf.recognition import stopwatch
from sicot_tf.recognition import wishes
from sicot_tf.recognition.releases import open_release
from sicot_tf.recognition.search import query_token
from sicot_tf.recognition.search import results
from sicot_tf.recognition.settings import RecognitionSettings
from sicot_tf.recognition.stages import category
from sicot_tf.recognition.stages import nearest_pictures


@dataclasses.dataclass(frozen=True)
class Nearest:
    """Catalogue pictures that look like the objects of a photo.

    Attributes:
        neighbours: of each object, those that vote.
        hits: of the main object, those that results are made of.
    """

    neighbours: list[list[nearest_pictures.Neighbour]]
    hits: list[vectors.Hit]


def nearest(
    queries: Sequence[np.ndarray | None],
    release: open_release.OpenRelease,
    products: nearest_products.Products,
    num_neighbours: int,
    watch: stopwatch.Stopwatch,
    *,
    num_pictures: int,
) -> Nearest:
    """What the vector index has of all categories.

    Args:
        queries: of each object, the main one first; None finds nothing.
        num_neighbours: pictures that vote.
        num_pictures: of the main object; 0: no results are wanted.
    """
    with watch.stage("search"):
        found = [
            []
            if query is None
            else nearest_products.search(
                release.vector_index,
                query,
                num_neighbours if place else max(num_neighbours, num_pictures),
            )
            for place, query in enumerate(queries)
        ]
    with watch.stage("products"):
        products.find(
            hit.product_id
            for place, hits in enumerate(found)
            for hit in (hits[:num_neighbours] if place else hits)
        )
        neighbours = [
            nearest_products.neighbours_of(hits[:num_neighbours], products)
            for hits in found
        ]
    return Nearest(neighbours, found[0][:num_pictures])


def of_photo(
    query: panel.LookedFor,
    hits: Sequence[vectors.Hit],
    shares: category.Shares,
    wanted: wishes.PhotoSearch,
    release: open_release.OpenRelease,
    products: nearest_products.Products,
    settings: RecognitionSettings,
    watch: stopwatch.Stopwatch,
    *,
    picture_url: panel.PictureUrl,
    by_quality: bool,
) -> answers.Search:
    """The wanted page of the products that look like a photo.

    Args:
        hits: of all categories.
        shares: of the categories, the largest first; {}: unknown.
        products: looked up so far.
        by_quality: whether a ranker may order them.
    """
    narrowed = None
    if shares:
        name, share = next(iter(shares.items()))
        narrowed = name if share > settings.search_certainty else None
    return _make(
        query_token.Query(query.vector, narrowed),
        *(hits, wanted, release, products, watch),
        picture_url=picture_url,
        by_quality=by_quality,
        box=query.box,
        box_from=query.box_from,
    )


def of_token(
    wanted: wishes.QuerySearch,
    release: open_release.OpenRelease,
    products: nearest_products.Products,
    watch: stopwatch.Stopwatch,
    *,
    picture_url: panel.PictureUrl,
    by_quality: bool,
) -> answers.Search:
    """The same for what an answer has called `search.query`.

    Raises:
        query_token.TokenError: if it is none, or of another model.
    """
    index = release.vector_index
    query = query_token.decode(
        wanted.query, index.saved_model_sha256, index.dim
    )
    hits = []
    if not wanted.category_filter:
        with watch.stage("search"):
            hits = nearest_products.search(
                index, query.vector, nearest_products.num_pictures(wanted)
            )
    return _make(
        *(query, hits, wanted, release, products, watch),
        picture_url=picture_url,
        by_quality=by_quality,
        box=None,
        box_from=None,
    )


def _make(
    query: query_token.Query,
    hits: Sequence[vectors.Hit],
    wanted: wishes.Results,
    release: open_release.OpenRelease,
    products: nearest_products.Products,
    watch: stopwatch.Stopwatch,
    *,
    picture_url: panel.PictureUrl,
    by_quality: bool,
    box: answers.Box | None,
    box_from: str | None,
) -> answers.Search:
    index = release.vector_index
    name = wanted.category_filter or query.category
    if name:
        with watch.stage("search"):
            within = nearest_products.search(
                *(index, query.vector, nearest_products.num_pictures(wanted)),
                name,
            )
        # What the user says is meant; what the service guesses may be wrong.
        hits = (
            within
            if wanted.category_filter
            else nearest_products.in_category(hits, within)
        )
    with watch.stage("products"):
        found = nearest_products.products_of(hits, products)
    with watch.stage("results"):
        ordered, ordered_by = results.order(
            found,
            release.ranker,
            wanted.ordered_by if by_quality else "similarity",
        )
        kept = results.keep(ordered, wanted)
        return answers.Search(
            query=query_token.encode(query, index.saved_model_sha256),
            box=box,
            box_from=box_from,
            total=len(kept),
            page=wanted.page,
            page_size=wanted.page_size,
            results=results.page(kept, wanted, picture_url),
            facets=results.facets(found),
            ordered_by=ordered_by,
            vector_index_generation=index.generation,
        )
