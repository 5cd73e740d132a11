"""What is asked of the model: where objects are, and what they are."""

import asyncio
import concurrent.futures
import functools
import os
from collections.abc import Callable
from typing import Any

from sicot_tf.recognition import answers
from sicot_tf.recognition import model_server
from sicot_tf.recognition.panel import LookedFor
from sicot_tf.recognition.panel import Seen
from sicot_tf.recognition.releases import open_release
from sicot_tf.recognition.search import query_token
from sicot_tf.recognition.settings import RecognitionSettings
from sicot_tf.recognition.stages import localization
from sicot_tf.recognition.stages import photos
from sicot_tf.recognition.stopwatch import Stopwatch
from sicot_tf.recognition.wishes import PhotoSearch

# Pixels are decoded by so many threads as there are cores: a photo of 50
# megapixels takes 300 MB meanwhile.
_decoders = concurrent.futures.ThreadPoolExecutor(os.cpu_count() or 1)
# Files whose header is read at once; of 256 kB it takes some milliseconds.
_SMALL_BYTES = 1 << 18


async def see(
    data: bytes,
    wishes: PhotoSearch,
    *,
    release: open_release.OpenRelease,
    server: model_server.ModelServer,
    settings: RecognitionSettings,
    watch: Stopwatch,
    max_bytes: int,
    max_pixels: int,
) -> tuple[photos.Photo, list[Seen]]:
    """The photo and its objects, the main one first.

    Raises:
        photos.PhotoError: if the photo is not to be answered.
        model_server.ModelServerError: if the model server does not answer.
    """
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
            photo, whole, boxes, box_from, release, server, watch
        )
    return photo, seen


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
    watch: Stopwatch,
) -> list[Seen]:
    """What the model says of each box, all in one batch.

    Of the main object the whole photo is asked, too, and the surer answer
    counts; where the user drew the box it is the answer, whatever it is. A
    branch that was trained for search is asked at the same time: it gets the
    whole photo, too, and draws its own box of the main object.
    """
    crops = []
    if box_from != "photo":
        squares = [
            localization.to_square(box, width=photo.width, height=photo.height)
            for box in boxes
        ]
        crops = await _decode(photos.encode_crops, photo, squares)
    pictures = crops if box_from == "user" else [whole, *crops]
    looked_for = crops if box_from == "user" else [whole, *crops[1:]]
    found, embedded = await asyncio.gather(
        server.recognise(release.model_name, release.model_version, pictures),
        _embed(looked_for, release, server, watch),
    )
    frame = (0, 0, photo.width, photo.height)
    looked_at = list(boxes)
    if box_from == "localisation":
        of_whole, main, *others = found
        if of_whole.scores[0] >= main.scores[0]:
            main, looked_at[0] = of_whole, frame
        found = [main, *others]
    if embedded is None:
        queries = [
            LookedFor(
                query_token.direction(each.embedding),
                box,
                "photo" if box == frame and box_from != "user" else box_from,
            )
            for each, box in zip(found, looked_at)
        ]
    else:
        queries = [
            LookedFor(query_token.direction(each.vector), box, box_from)
            for each, box in zip(embedded, boxes)
        ]
        if box_from != "user":
            queries[0] = LookedFor(
                queries[0].vector,
                localization.to_pixels(embedded[0].box, frame[2:]),
                "search",
            )
    return [
        Seen(box, box_from, each, query)
        for box, each, query in zip(boxes, found, queries)
    ]


async def _embed(
    pictures: list[bytes],
    release: open_release.OpenRelease,
    server: model_server.ModelServer,
    watch: Stopwatch,
) -> list[model_server.Embedded] | None:
    """None where the index holds what `recognise` tells of a picture."""
    index = release.vector_index
    if index is None or index.signature != model_server.SEARCH:
        return None
    with watch.stage("embed"):
        return await server.embed(
            release.model_name, release.model_version, pictures
        )


async def _decode(function: Callable[..., Any], *arguments: Any) -> Any:
    return await asyncio.get_running_loop().run_in_executor(
        _decoders, functools.partial(function, *arguments)
    )
