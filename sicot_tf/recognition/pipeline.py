"""From a photo to its panel: decode, localise, recognise, category, index.

The stages of section 3.1 of the paper (Fig. 2 and 3). Each is a function that
can be left out or replaced: the next ones go on with what is there.
"""

import asyncio
import concurrent.futures
import contextlib
import dataclasses
import functools
import os
import time
from collections.abc import Callable
from collections.abc import Iterator
from typing import Any

import numpy as np

from sicot_tf.recognition import answers
from sicot_tf.recognition import model_server
from sicot_tf.recognition import panel
from sicot_tf.recognition.panel import Seen
from sicot_tf.recognition.releases import open_release
from sicot_tf.recognition.settings import RecognitionSettings
from sicot_tf.recognition.stages import category
from sicot_tf.recognition.stages import localization
from sicot_tf.recognition.stages import nearest_pictures
from sicot_tf.recognition.stages import photos
from sicot_tf.recognition.wishes import Wishes

# Pixels are decoded by so many threads as there are cores: a photo of 50
# megapixels takes 300 MB meanwhile.
_decoders = concurrent.futures.ThreadPoolExecutor(os.cpu_count() or 1)
# Files whose header is read at once; of 256 kB it takes some milliseconds.
_SMALL_BYTES = 1 << 18
# Votes that an answer shows.
_MAX_CATEGORIES = 5


class Stopwatch:
    """Milliseconds of each stage, and `total`."""

    def __init__(self):
        self._start = time.perf_counter()
        self.milliseconds: dict[str, float] = {}

    @contextlib.contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Adds the time spent inside."""
        start = time.perf_counter()
        try:
            yield
        finally:
            spent = 1000 * (time.perf_counter() - start)
            self.milliseconds[name] = round(
                self.milliseconds.get(name, 0.0) + spent, 3
            )

    def stop(self) -> dict[str, float]:
        """All of them, for an answer."""
        total = 1000 * (time.perf_counter() - self._start)
        return self.milliseconds | {"total": round(total, 3)}


async def recognise(
    data: bytes,
    wishes: Wishes,
    *,
    release: open_release.OpenRelease,
    server: model_server.ModelServer,
    picture_url: panel.PictureUrl,
    request_id: str,
    variant: str,
    settings: RecognitionSettings | None = None,
    max_bytes: int = photos.MAX_BYTES,
    max_pixels: int = photos.MAX_PIXELS,
) -> answers.Answer:
    """The panel of a photo.

    Args:
        release: what every part of the answer is taken from.
        picture_url: from a product and the place of a picture to its URL.
        settings: instead of those of the release.

    Raises:
        photos.PhotoError: if the photo is not to be answered.
        model_server.ModelServerError: if the model server does not answer.
    """
    watch = Stopwatch()
    settings = settings or release.settings
    with watch.stage("decode"):
        read = functools.partial(
            photos.read, data, max_bytes=max_bytes, max_pixels=max_pixels
        )
        # To change the thread takes longer than a small file's header.
        is_small = len(data) <= _SMALL_BYTES
        photo = read() if is_small else await asyncio.to_thread(read)
        wanted_box = wishes.box_in(photo)
        whole = photo.data
        if photo.is_large:
            whole = await _decode(photos.encode_whole, photo)
    with watch.stage("localise"):
        if wanted_box:
            boxes, box_from = [wanted_box], "user"
        else:
            boxes, box_from = await localise(
                photo, whole, wishes.localize, release, server, settings
            )
    with watch.stage("recognise"):
        seen = await recognise_boxes(
            photo, whole, boxes, box_from, release, server
        )

    def look_up() -> tuple[Shares, list[answers.RecognisedObject]]:
        with watch.stage("category"):
            neighbours, shares = find_category(seen, wishes, release, settings)
        with watch.stage("index"):
            objects = panel.make_objects(
                *(seen, neighbours, shares.fused, wishes, release, settings),
                picture_url,
            )
        return shares, objects

    shares, objects = await asyncio.to_thread(look_up)
    return answers.Answer(
        request_id=request_id,
        recognised=any(each.recognised for each in objects),
        photo=answers.Photo(width=photo.width, height=photo.height),
        category=shares.answer(),
        objects=objects,
        model_version=release.model_version,
        index_generation=release.index_generation,
        variant=variant,
        milliseconds=watch.stop(),
    )


async def localise(
    photo: photos.Photo,
    whole: bytes,
    wanted: bool,
    release: open_release.OpenRelease,
    server: model_server.ModelServer,
    settings: RecognitionSettings,
) -> tuple[list[answers.Box], str]:
    """Boxes of the objects, the main one first, and who drew them."""
    heat_map = None
    if wanted:
        heat_map = await server.localise(
            release.model_name, release.model_version, whole
        )
    if heat_map is None:
        return [(0, 0, photo.width, photo.height)], "photo"
    boxes = localization.find_boxes(
        heat_map,
        width=photo.width,
        height=photo.height,
        settings=settings,
    )
    return boxes, "localisation"


async def recognise_boxes(
    photo: photos.Photo,
    whole: bytes,
    boxes: list[answers.Box],
    box_from: str,
    release: open_release.OpenRelease,
    server: model_server.ModelServer,
) -> list[Seen]:
    """What the model says of each box, all in one batch.

    Of the main object the whole photo is asked, too, and the surer answer
    counts; where the user drew the box it is the answer, whatever it is.
    """
    pictures = []
    if box_from != "user":
        pictures.append(whole)
    if box_from != "photo":
        crops = [
            localization.to_square(box, width=photo.width, height=photo.height)
            for box in boxes
        ]
        pictures += await _decode(photos.encode_crops, photo, crops)
    found = await server.recognise(
        release.model_name, release.model_version, pictures
    )
    if box_from == "localisation":
        of_whole, main, *others = found
        if of_whole.scores[0] >= main.scores[0]:
            main = of_whole
        found = [main, *others]
    return [Seen(box, box_from, each) for box, each in zip(boxes, found)]


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
    wishes: Wishes,
    release: open_release.OpenRelease,
    settings: RecognitionSettings,
) -> tuple[list[list[nearest_pictures.Neighbour]], Shares]:
    """Nearest catalogue pictures of each object, and the main one's category.

    An index without embeddings has no neighbours: the model votes alone.
    """
    embeddings = [each.recognition.embedding for each in seen]
    neighbours = [[] for _ in seen]
    wanted = wishes.category or wishes.similar
    nearest = release.nearest_pictures
    if wanted and nearest.num_pictures and embeddings[0] is not None:
        neighbours = nearest.search(
            np.stack(embeddings), settings.num_neighbours
        )
    if not wishes.category:
        return neighbours, Shares({}, {}, {})
    main = seen[0].recognition
    by_model = category.by_model(
        main.sku_ids, main.scores, release.sku_categories.of
    )
    by_search = category.by_search(neighbours[0], settings.category_sharpness)
    fused = category.fuse(by_model, by_search, settings.category_search_weight)
    return neighbours, Shares(by_model, by_search, fused)


async def _decode(function: Callable[..., Any], *arguments: Any) -> Any:
    return await asyncio.get_running_loop().run_in_executor(
        _decoders, functools.partial(function, *arguments)
    )


def _best(shares: dict[str, float]) -> dict[str, float]:
    return dict(list(shares.items())[:_MAX_CATEGORIES])
