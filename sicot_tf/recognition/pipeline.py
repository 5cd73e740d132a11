"""From a photo to its panel and its results.

The stages of section 3.1 of the first paper (Fig. 2 and 3): decode, localise,
recognise, category, index; and of the second one: box, embedding, category,
candidates, exact distances, order. Each is a function that can be left out or
replaced: the next ones go on with what is there.
"""

import asyncio
import dataclasses

import numpy as np

from sicot_tf.recognition import answers
from sicot_tf.recognition import model_server
from sicot_tf.recognition import nearest_products
from sicot_tf.recognition import panel
from sicot_tf.recognition import seen_objects
from sicot_tf.recognition.panel import Seen
from sicot_tf.recognition.releases import open_release
from sicot_tf.recognition.search import similar_products
from sicot_tf.recognition.settings import RecognitionSettings
from sicot_tf.recognition.stages import category
from sicot_tf.recognition.stages import nearest_pictures
from sicot_tf.recognition.stages import photos
from sicot_tf.recognition.stopwatch import Stopwatch
from sicot_tf.recognition.wishes import PhotoSearch
from sicot_tf.recognition.wishes import QuerySearch
from sicot_tf.recognition.wishes import Wishes

# Votes that an answer shows.
_MAX_CATEGORIES = 5


@dataclasses.dataclass(frozen=True)
class Request:
    """What an answer is made for and from.

    Attributes:
        release: what every part of the answer is taken from.
        picture_url: from a product and the place of a picture to its URL.
        settings: instead of those of the release.
        by_quality: whether results may be ordered by quality.
    """

    release: open_release.OpenRelease
    server: model_server.ModelServer
    picture_url: panel.PictureUrl
    request_id: str
    variant: str
    settings: RecognitionSettings | None = None
    by_quality: bool = True
    max_bytes: int = photos.MAX_BYTES
    max_pixels: int = photos.MAX_PIXELS

    @property
    def chosen(self) -> RecognitionSettings:
        """The numbers of the stages."""
        return self.settings or self.release.settings


async def recognise(
    data: bytes, wishes: Wishes, request: Request
) -> answers.Answer:
    """The panel of a photo, and the first page of its results.

    Raises:
        photos.PhotoError: if the photo is not to be answered.
        model_server.ModelServerError: if the model server does not answer.
    """
    watch = Stopwatch()
    release, settings = request.release, request.chosen
    photo, seen = await _see(data, wishes, request, watch)
    has_results = wishes.search and release.vector_index is not None

    def look_up() -> tuple[
        Shares, list[answers.RecognisedObject], answers.Search | None
    ]:
        products = nearest_products.Products(
            release.index, release.vector_index
        )
        wanted = wishes.category or wishes.similar or has_results
        nearest = similar_products.Nearest([[] for _ in seen], [])
        if wanted or settings.sku_search_weight:
            nearest = _nearest(
                *(seen, release, products, settings, wishes, watch),
                has_results=has_results,
            )
        with watch.stage("category"):
            shares = Shares({}, {}, {})
            if wishes.category or has_results:
                shares = find_category(seen, nearest, release, settings)
        with watch.stage("index"):
            objects = panel.make_objects(
                *(seen, nearest.neighbours),
                shares.fused if wishes.category else {},
                *(wishes, release, products, settings, request.picture_url),
            )
        results = None
        if has_results and seen[0].query.vector is not None:
            results = similar_products.of_photo(
                *(seen[0].query, nearest.hits, shares.fused, wishes),
                *(release, products, settings, watch),
                picture_url=request.picture_url,
                by_quality=request.by_quality,
            )
        return shares, objects, results

    shares, objects, results = await asyncio.to_thread(look_up)
    return answers.Answer(
        request_id=request.request_id,
        recognised=any(each.recognised for each in objects),
        photo=answers.Photo(width=photo.width, height=photo.height),
        category=shares.answer() if wishes.category else None,
        objects=objects,
        search=results,
        model_version=release.model_version,
        index_generation=release.index_generation,
        variant=request.variant,
        milliseconds=watch.stop(),
    )


async def search_photo(
    data: bytes, wishes: PhotoSearch, request: Request
) -> answers.SearchAnswer:
    """The results of a photo, the same as `recognise` gives.

    The release has a vector index.

    Raises:
        photos.PhotoError: if the photo is not to be answered, also one that
            the model finds nothing in.
        model_server.ModelServerError: if the model server does not answer.
    """
    watch = Stopwatch()
    release, settings = request.release, request.chosen
    _, seen = await _see(data, wishes, request, watch)
    query = seen[0].query
    if query.vector is None:
        raise photos.PhotoError(
            422,
            "The model sees nothing in the photo that could be looked for. "
            "Send another one.",
        )

    def look_up() -> answers.Search:
        products = nearest_products.Products(
            release.index, release.vector_index
        )
        nearest = _nearest(
            *(seen[:1], release, products, settings, wishes, watch),
            has_results=True,
        )
        with watch.stage("category"):
            shares = find_category(seen, nearest, release, settings)
        return similar_products.of_photo(
            *(query, nearest.hits, shares.fused, wishes),
            *(release, products, settings, watch),
            picture_url=request.picture_url,
            by_quality=request.by_quality,
        )

    return _search_answer(await asyncio.to_thread(look_up), request, watch)


async def search_query(
    wishes: QuerySearch, request: Request
) -> answers.SearchAnswer:
    """Other pages or filters of results, without the photo.

    The release has a vector index.

    Raises:
        query_token.TokenError: if the query is none, or of another model.
    """
    watch = Stopwatch()

    def look_up() -> answers.Search:
        return similar_products.of_token(
            *(wishes, request.release),
            nearest_products.Products(
                request.release.index, request.release.vector_index
            ),
            watch,
            picture_url=request.picture_url,
            by_quality=request.by_quality,
        )

    return _search_answer(await asyncio.to_thread(look_up), request, watch)


async def _see(
    data: bytes, wishes: PhotoSearch, request: Request, watch: Stopwatch
) -> tuple[photos.Photo, list[Seen]]:
    return await seen_objects.see(
        data,
        wishes,
        release=request.release,
        server=request.server,
        settings=request.chosen,
        watch=watch,
        max_bytes=request.max_bytes,
        max_pixels=request.max_pixels,
    )


def _search_answer(
    found: answers.Search, request: Request, watch: Stopwatch
) -> answers.SearchAnswer:
    return answers.SearchAnswer(
        request_id=request.request_id,
        search=found,
        model_version=request.release.model_version,
        index_generation=request.release.index_generation,
        variant=request.variant,
        milliseconds=watch.stop(),
    )


@dataclasses.dataclass(frozen=True)
class Shares:
    """Shares of the categories, 0 to 1: by each voter, and together."""

    by_model: dict[str, float]
    by_search: dict[str, float]
    fused: dict[str, float]

    def answer(self) -> answers.Category | None:
        """What an answer tells of them; None if nobody voted."""
        if not self.fused:
            return None
        name, score = next(iter(self.fused.items()))
        return answers.Category(
            name=name,
            score=score,
            by_model=_best(self.by_model),
            by_search=_best(self.by_search),
        )


def find_category(
    seen: list[Seen],
    nearest: similar_products.Nearest,
    release: open_release.OpenRelease,
    settings: RecognitionSettings,
) -> Shares:
    """The main object's category.

    An index without embeddings has no neighbours: the model votes alone.
    """
    main = seen[0].recognition
    by_model = category.by_model(
        main.sku_ids, main.scores, release.sku_categories.of
    )
    by_search = category.by_search(
        nearest.neighbours[0], settings.category_sharpness
    )
    fused = category.fuse(by_model, by_search, settings.category_search_weight)
    return Shares(by_model, by_search, fused)


def _nearest(
    seen: list[Seen],
    release: open_release.OpenRelease,
    products: nearest_products.Products,
    settings: RecognitionSettings,
    wishes: PhotoSearch,
    watch: Stopwatch,
    *,
    has_results: bool,
) -> similar_products.Nearest:
    """Nearest catalogue pictures of each object, as far as they are wanted."""
    queries = [each.query.vector for each in seen]
    if release.vector_index is not None:
        return similar_products.nearest(
            *(queries, release, products, settings.num_neighbours, watch),
            num_pictures=nearest_products.num_pictures(wishes)
            if has_results
            else 0,
        )
    pictures = release.nearest_pictures
    neighbours: list[list[nearest_pictures.Neighbour]] = [[] for _ in seen]
    if pictures.num_pictures:
        known = [i for i, each in enumerate(queries) if each is not None]
        if known:
            with watch.stage("search"):
                found = pictures.search(
                    np.stack([queries[i] for i in known]),
                    settings.num_neighbours,
                )
            for place, each in zip(known, found):
                neighbours[place] = each
    return similar_products.Nearest(neighbours, [])


def _best(shares: dict[str, float]) -> dict[str, float]:
    return dict(list(shares.items())[:_MAX_CATEGORIES])
