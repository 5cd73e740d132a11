"""The HTTP interface of the recognition service.

Every refusal is an `answers.Refusal`: the right code and one sentence.
"""

import asyncio
import dataclasses
import functools
import logging
import pathlib
from typing import Annotated
from typing import Any

import fastapi
import pydantic
import starlette.exceptions
from fastapi import exceptions
from fastapi import responses

import sicot_tf
from sicot_tf.recognition import answers
from sicot_tf.recognition import api_page
from sicot_tf.recognition import front
from sicot_tf.recognition import limits
from sicot_tf.recognition import live_release
from sicot_tf.recognition import metrics
from sicot_tf.recognition import model_server
from sicot_tf.recognition import panel
from sicot_tf.recognition import photos
from sicot_tf.recognition import pictures
from sicot_tf.recognition import pipeline
from sicot_tf.recognition import wishes

_log = logging.getLogger(__name__)
_WEB = pathlib.Path(__file__).parent / "web"
_MAX_PRODUCTS = 1000
_PICTURE_SECONDS = 3600
_RETRY_SECONDS = 2
# Until variants are assigned.
_VARIANT = "default"
_CODES = {
    400: "The form has no photo, or can't be read.",
    401: "The API key is missing or unknown.",
    408: "The photo comes too slowly.",
    413: "The photo has too many bytes or pixels.",
    415: "The bytes are no JPEG, PNG, WebP, GIF or BMP.",
    422: "The photo is damaged, or a parameter is unknown or out of range.",
    429: "Too many requests a minute.",
    502: "The model answers with something else.",
    503: "Busy, or not ready: try again after Retry-After seconds.",
    504: "The model server did not answer in time.",
}
_UPLOAD = {
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


@dataclasses.dataclass(frozen=True)
class Limits:
    """What is refused, and when one gives up."""

    max_bytes: int = photos.MAX_BYTES
    max_pixels: int = photos.MAX_PIXELS
    max_queue: int = 64
    timeout_seconds: float = 30.0
    requests_per_minute: int = 0


@dataclasses.dataclass
class Service:
    """What requests share.

    Attributes:
        live: the release in use.
        is_draining: the process ends; load balancers send others elsewhere.
    """

    live: live_release.LiveRelease
    server: model_server.ModelServer
    pictures: pictures.Pictures
    keys: limits.ApiKeys
    limits: Limits
    queue: limits.Queue
    counters: metrics.Metrics
    is_draining: bool = False


class Products(pydantic.BaseModel):
    """All products of a SKU, the newest first."""

    sku_id: str
    products: list[answers.Product]
    index_generation: str


def make(service: Service) -> fastapi.FastAPI:
    """The application; who runs it starts and ends what it needs."""
    app = fastapi.FastAPI(
        title="Product recognition",
        version=sicot_tf.__version__,
        description="From a photo to the products of the catalogue on it.",
        # Their pages load scripts of another host.
        docs_url=None,
        redoc_url=None,
    )
    app.add_middleware(front.Front, counters=service.counters)
    app.add_exception_handler(starlette.exceptions.HTTPException, _refuse_http)
    app.add_exception_handler(
        exceptions.RequestValidationError, _refuse_parameters
    )
    for kind in (photos.PhotoError, model_server.ModelServerError):
        app.add_exception_handler(kind, _refuse_status)
    app.add_exception_handler(live_release.NoReleaseError, _refuse_no_release)

    def guard(request: fastapi.Request) -> None:
        service_keys = service.keys.check(request)
        rate.check(request, service_keys)

    rate = limits.RateLimit(service.limits.requests_per_minute)
    guarded = [fastapi.Depends(guard)]
    _add_recognition(app, service, guarded)
    _add_catalogue(app, service, guarded)
    _add_operation(app, service)
    _add_pages(app)
    return app


def _add_recognition(
    app: fastapi.FastAPI, service: Service, guarded: list[Any]
) -> None:
    @app.post(
        "/v1/recognize",
        dependencies=guarded,
        response_model=answers.Answer,
        summary="The products on a photo",
        responses=_refusals(*_CODES),
        openapi_extra={"requestBody": {"required": True, "content": _UPLOAD}},
    )
    async def recognize(
        request: fastapi.Request,
        # Only for the documentation: fields of the form count, too.
        _: Annotated[wishes.Wishes, fastapi.Query()],
    ) -> fastapi.Response:
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
            try:
                async with asyncio.timeout(service.limits.timeout_seconds):
                    answer = await _recognise(service, request, data, wanted)
            except TimeoutError as error:
                raise limits.refusal(
                    504, "The answer took too long. Try again later."
                ) from error
        service.counters.count_answer(answer)
        return fastapi.Response(
            answer.model_dump_json(), media_type="application/json"
        )


async def _recognise(
    service: Service,
    request: fastapi.Request,
    data: bytes,
    wanted: wishes.Wishes,
) -> answers.Answer:
    with service.live.acquire() as release:
        return await pipeline.recognise(
            data,
            wanted,
            release=release,
            server=service.server,
            picture_url=service.pictures.url,
            request_id=request.state.request_id,
            variant=_VARIANT,
            max_bytes=service.limits.max_bytes,
            max_pixels=service.limits.max_pixels,
        )


def _add_catalogue(
    app: fastapi.FastAPI, service: Service, guarded: list[Any]
) -> None:
    @app.get(
        "/v1/products/{sku_id:path}",
        dependencies=guarded,
        summary="All products of a SKU",
        responses=_refusals(401, 404, 422, 429, 503),
    )
    async def products(sku_id: str) -> Products:
        """The newest first, at most 1,000."""
        with service.live.acquire() as release:
            found = await asyncio.to_thread(
                release.index.products_of, sku_id, _MAX_PRODUCTS
            )
            if not found:
                raise limits.refusal(
                    404, f"The catalogue has no product of SKU {sku_id:.200}."
                )
            return Products(
                sku_id=sku_id,
                products=[
                    panel.to_product(each, service.pictures.url)
                    for each in found
                ],
                index_generation=release.index_generation,
            )

    # No key: the id itself is signed, and a page's <img> sends no header.
    @app.get(
        "/v1/pictures/{identity}",
        summary="A picture of the catalogue",
        response_class=fastapi.Response,
        responses=_refusals(404, 422, 503),
    )
    async def picture(identity: str) -> fastapi.Response:
        """The file that an answer's picture URL means."""
        with service.live.acquire() as release:
            found = await asyncio.to_thread(
                service.pictures.find, identity, release.index
            )
        if found is None:
            raise limits.refusal(404, "There is no such picture.")
        path, content_type = found
        return responses.FileResponse(
            path,
            media_type=content_type,
            headers={"Cache-Control": f"public, max-age={_PICTURE_SECONDS}"},
        )


def _add_operation(app: fastapi.FastAPI, service: Service) -> None:
    @app.get("/healthz", summary="Whether the process runs")
    async def healthz() -> dict[str, str]:
        return {"status": "ok"}

    @app.get(
        "/readyz",
        summary="Whether photos are answered",
        responses=_refusals(503),
    )
    async def readyz() -> dict[str, str | int]:
        """503 before there is a release, without model server, at the end."""
        if service.is_draining:
            raise limits.refusal(503, "The service ends.")
        with service.live.acquire() as release:
            name, version = release.model_name, release.model_version
            if version not in await service.server.versions(name):
                raise limits.refusal(
                    503, f"The model server has no version {version} of {name}."
                )
            return {
                "status": "ready",
                "model_version": version,
                "index_generation": release.index_generation,
            }

    @app.get("/metrics", response_class=responses.PlainTextResponse)
    async def read_metrics() -> fastapi.Response:
        """Numbers for Prometheus."""
        return fastapi.Response(
            service.counters.text(),
            media_type="text/plain; version=0.0.4; charset=utf-8",
        )


def _add_pages(app: fastapi.FastAPI) -> None:
    # By name: what a request says is never made a path.
    files = {path.name: path for path in _WEB.glob("*.*") if path.is_file()}

    @functools.cache
    def render_docs() -> str:
        return api_page.render(app.openapi())

    @app.get("/docs", include_in_schema=False)
    async def docs() -> fastapi.Response:
        return responses.HTMLResponse(
            render_docs(),
            headers={"Content-Security-Policy": api_page.POLICY},
        )

    @app.get("/", include_in_schema=False)
    @app.get("/{name}", include_in_schema=False)
    async def page(name: str = "index.html") -> fastapi.Response:
        if name not in files:
            raise starlette.exceptions.HTTPException(404)
        return responses.FileResponse(
            files[name], headers={"Cache-Control": "no-cache"}
        )


def _refusals(*codes: int) -> dict[int | str, dict[str, Any]]:
    other = {404: "There is no such thing."}
    return {
        code: {
            "model": answers.Refusal,
            "description": (_CODES | other)[code],
        }
        for code in codes
    }


def _answer(
    request: fastapi.Request,
    status: int,
    sentence: str,
    headers: dict[str, str] | None = None,
) -> fastapi.Response:
    refusal = answers.Refusal(
        error=sentence, request_id=request.state.request_id
    )
    return fastapi.Response(
        refusal.model_dump_json(),
        status,
        headers,
        media_type="application/json",
    )


def _refuse_http(
    request: fastapi.Request, error: starlette.exceptions.HTTPException
) -> fastapi.Response:
    sentence = error.detail
    if error.status_code == 404 and sentence == "Not Found":
        sentence = f"There is nothing at {request.url.path:.200}. See /docs."
    elif error.status_code == 405:
        sentence = f"{request.method} is not possible here. See /docs."
    return _answer(request, error.status_code, sentence, error.headers)


def _refuse_status(
    request: fastapi.Request,
    error: photos.PhotoError | model_server.ModelServerError,
) -> fastapi.Response:
    headers = {}
    if error.status > 500:
        _log.warning("Request %s: %s", request.state.request_id, error.details)
    if error.status == 503:
        headers["Retry-After"] = str(_RETRY_SECONDS)
    return _answer(request, error.status, str(error), headers)


def _refuse_no_release(
    request: fastapi.Request, error: live_release.NoReleaseError
) -> fastapi.Response:
    return _answer(
        request, 503, str(error), {"Retry-After": str(_RETRY_SECONDS)}
    )


def _refuse_parameters(
    request: fastapi.Request, error: exceptions.RequestValidationError
) -> fastapi.Response:
    return _answer(request, 422, wishes.sentence(error.errors()))
