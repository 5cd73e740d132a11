"""GET and POST /v1/search: the products that look alike."""

import asyncio
from collections.abc import Awaitable
from collections.abc import Callable
from typing import Any

import fastapi

from sicot_tf.recognition import answers
from sicot_tf.recognition import pipeline
from sicot_tf.recognition import wishes
from sicot_tf.recognition.http import limits
from sicot_tf.recognition.http import recognition_paths
from sicot_tf.recognition.http import refusals
from sicot_tf.recognition.http.service import Service

_Search = Callable[[pipeline.Request], Awaitable[answers.SearchAnswer]]


def add(app: fastapi.FastAPI, service: Service, guarded: list[Any]) -> None:
    """Results of a photo, and more of them by what was looked for."""

    @app.post(
        "/v1/search",
        dependencies=guarded,
        response_model=answers.SearchAnswer,
        summary="The products that look like a photo",
        responses=refusals.described(404, *recognition_paths.CODES),
        openapi_extra={
            "parameters": wishes.described(wishes.PhotoSearch),
            "requestBody": {
                "required": True,
                "content": recognition_paths.UPLOAD,
            },
        },
    )
    async def search_photo(request: fastapi.Request) -> fastapi.Response:
        """The results that /v1/recognize gives, without the panel.

        The photo is the field `image` of a form, or the whole body; parameters
        are taken from the query or from the form.
        """
        with service.queue.place():
            data, fields = await limits.read_upload(
                request,
                max_bytes=service.limits.max_bytes,
                timeout_seconds=service.limits.timeout_seconds,
            )
            wanted = wishes.read(
                request.query_params.multi_items(), fields, wishes.PhotoSearch
            )
            return await _answer(
                *(service, request, wanted),
                lambda made_from: pipeline.search_photo(
                    data, wanted, made_from
                ),
            )

    @app.get(
        "/v1/search",
        dependencies=guarded,
        response_model=answers.SearchAnswer,
        summary="More of the products that look alike",
        responses=refusals.described(401, 404, 409, 422, 429, 503, 504),
        openapi_extra={"parameters": wishes.described(wishes.QuerySearch)},
    )
    async def search_query(request: fastapi.Request) -> fastapi.Response:
        """Other pages and filters of an answer's `search.query`.

        Any replica answers: the query holds all that is needed. It is refused
        (409) once the model is another one; then send the photo again.
        """
        with service.queue.place():
            wanted = wishes.read(
                request.query_params.multi_items(), {}, wishes.QuerySearch
            )
            return await _answer(
                *(service, request, wanted),
                lambda made_from: pipeline.search_query(wanted, made_from),
            )


async def _answer(
    service: Service,
    request: fastapi.Request,
    wanted: wishes.Results,
    search: _Search,
) -> fastapi.Response:
    visitor = service.visitors.visitor(request)
    variant = service.visitors.choose(visitor, wanted.variant)
    with service.live.of(variant).acquire() as release:
        if release.vector_index is None:
            raise limits.refusal(
                404,
                "The release has no vector index, so there are no results. "
                "Publish one with --vector_index.",
            )
        try:
            async with asyncio.timeout(service.limits.timeout_seconds):
                answer = await search(
                    service.request_of(request, release, variant)
                )
        except TimeoutError as error:
            raise limits.refusal(
                504, "The answer took too long. Try again later."
            ) from error
    service.counters.count_search(answer.search, answer.milliseconds)
    response = fastapi.Response(
        answer.model_dump_json(), media_type="application/json"
    )
    service.visitors.remember(request, response, visitor)
    return response
