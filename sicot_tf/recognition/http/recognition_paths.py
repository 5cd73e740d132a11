"""POST /v1/recognize and /v1/events."""

import asyncio
from typing import Any

import fastapi

from sicot_tf.recognition import answers
from sicot_tf.recognition import pipeline
from sicot_tf.recognition import wishes
from sicot_tf.recognition.http import limits
from sicot_tf.recognition.http import refusals
from sicot_tf.recognition.http import visitors
from sicot_tf.recognition.http.service import Service
from sicot_tf.recognition.visits import events

CODES = (400, 401, 408, 413, 415, 422, 429, 502, 503, 504)
_EVENT = {
    "type": "object",
    "required": ["event"],
    "properties": {"event": {"enum": list(events.KINDS)}},
}
UPLOAD = {
    "multipart/form-data": {
        "schema": {
            "type": "object",
            "required": ["image"],
            "properties": {"image": {"type": "string", "format": "binary"}},
        }
    },
    "application/octet-stream": {
        "schema": {"type": "string", "format": "binary"}
    },
}


def add(app: fastapi.FastAPI, service: Service, guarded: list[Any]) -> None:
    """The path that all is about."""

    @app.post(
        "/v1/recognize",
        dependencies=guarded,
        response_model=answers.Answer,
        summary="The products on a photo",
        responses=refusals.described(*CODES),
        # By hand: parameters may be fields of the form, too, and are read once.
        openapi_extra={
            "parameters": wishes.described(),
            "requestBody": {"required": True, "content": UPLOAD},
        },
    )
    async def recognize(request: fastapi.Request) -> fastapi.Response:
        """The photo is the field `image` of a form, or the whole body.

        Parameters are taken from the query or from the form.
        """
        with service.queue.place():
            data, fields = await limits.read_upload(
                request,
                max_bytes=service.limits.max_bytes,
                timeout_seconds=service.limits.timeout_seconds,
            )
            wanted = wishes.read(request.query_params.multi_items(), fields)
            visitor = service.visitors.visitor(request)
            variant = service.visitors.choose(visitor, wanted.variant)
            try:
                async with asyncio.timeout(service.limits.timeout_seconds):
                    answer = await _recognise(
                        service, request, data, wanted, variant
                    )
            except TimeoutError as error:
                raise limits.refusal(
                    504, "The answer took too long. Try again later."
                ) from error
        service.counters.count_answer(answer)
        response = fastapi.Response(
            answer.model_dump_json(), media_type="application/json"
        )
        service.visitors.remember(request, response, visitor)
        return response


async def _recognise(
    service: Service,
    request: fastapi.Request,
    data: bytes,
    wanted: wishes.Wishes,
    variant: str,
) -> answers.Answer:
    with service.live.of(variant).acquire() as release:
        return await pipeline.recognise(
            data, wanted, service.request_of(request, release, variant)
        )


def add_events(
    app: fastapi.FastAPI, service: Service, guarded: list[Any]
) -> None:
    """What visitors tell."""

    @app.post(
        "/v1/events",
        dependencies=guarded,
        status_code=204,
        summary="What a visitor did",
        responses=refusals.described(401, 413, 422, 429),
        openapi_extra={
            "requestBody": {
                "required": True,
                "content": {"application/json": {"schema": _EVENT}},
            }
        },
    )
    async def event(request: fastapi.Request) -> fastapi.Response:
        """An object with `event`: visit, impression, click or trade.

        And, if they are known, request_id, sku_id, recognised, model_version,
        index_generation, product_id, position, shown. What is not given is
        added: time, event_id, and by the cookie of the page visitor and
        variant.
        """
        row = await visitors.read_row(request)
        visitor = service.visitors.visitor(request)
        event = service.visitors.to_event(row, request, visitor)
        await asyncio.to_thread(service.visitors.log.write, event)
        response = fastapi.Response(status_code=204)
        if "visitor" not in row:
            service.visitors.remember(request, response, visitor)
        return response
