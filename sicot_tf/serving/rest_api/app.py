"""TensorFlow Serving's REST interface over `server_core.ServerCore`.

Codes and headers are those of http_server.cc of TensorFlow Serving. Limits on
size and depth, `Retry-After`, `/healthz` and `/readyz` are this server's own.
"""

import asyncio
import concurrent.futures
import contextlib
import logging
import os
import re
import time
import zlib
from collections.abc import AsyncIterator
from collections.abc import Callable
from typing import Any

import tensorflow as tf
from starlette import applications
from starlette import middleware
from starlette import requests
from starlette import responses
from starlette import routing

from sicot_tf.serving import metrics as metrics_lib
from sicot_tf.serving import server_core
from sicot_tf.serving.rest_api import calls
from sicot_tf.serving.rest_api import json_responses
from sicot_tf.serving.rest_api import json_values

_log = logging.getLogger(__name__)

# Some 20 images of 224 x 224 as decimals, 700 as base64. Parsed, JSON takes
# up to ten times its size in memory.
MAX_BODY_BYTES = 64 << 20

_CORS_HEADERS = {
    "Access-Control-Allow-Origin": "*",
    "Access-Control-Allow-Methods": "POST, GET",
    "Access-Control-Allow-Headers": "Content-Type",
}
_HTTP_STATUSES = {
    tf.errors.CANCELLED: 499,
    tf.errors.UNKNOWN: 500,
    tf.errors.INVALID_ARGUMENT: 400,
    tf.errors.DEADLINE_EXCEEDED: 504,
    tf.errors.NOT_FOUND: 404,
    tf.errors.ALREADY_EXISTS: 409,
    tf.errors.PERMISSION_DENIED: 403,
    tf.errors.RESOURCE_EXHAUSTED: 429,
    tf.errors.FAILED_PRECONDITION: 400,
    tf.errors.ABORTED: 409,
    tf.errors.OUT_OF_RANGE: 400,
    tf.errors.UNIMPLEMENTED: 501,
    tf.errors.INTERNAL: 500,
    tf.errors.UNAVAILABLE: 503,
    tf.errors.DATA_LOSS: 500,
    tf.errors.UNAUTHENTICATED: 401,
}


def make_app(
    core: server_core.ServerCore,
    *,
    cors: bool = False,
    timeout_seconds: float | None = 30.0,
    monitoring_path: str | None = None,
    metrics: metrics_lib.Metrics | None = None,
    max_body_bytes: int = MAX_BODY_BYTES,
    max_depth: int = json_values.MAX_DEPTH,
    num_threads: int | None = None,
    readiness: Callable[[], bool] = lambda: True,
) -> applications.Starlette:
    """The REST interface as an ASGI application, for example for uvicorn.

    Args:
        core: answers the requests.
        cors: lets pages of other sites use the API.
        timeout_seconds: of a request, from the end of its body; None: none.
        monitoring_path: where `metrics` are shown; None: nowhere.
        metrics: what is shown there.
        max_body_bytes: larger bodies, packed or unpacked, are refused.
        max_depth: JSON nested deeper is refused.
        num_threads: requests that are worked on at a time; by default four
            for each processor, as in TensorFlow Serving.
        readiness: whether `/readyz` says yes; `/healthz` always does.
    """
    api = _Api(
        core,
        cors,
        timeout_seconds,
        max_body_bytes,
        max_depth,
        num_threads or 4 * (os.cpu_count() or 1),
        (lambda name, code: None) if metrics is None else metrics.count,
    )

    record = (
        (lambda status: None)
        if metrics is None
        else metrics.record_rest_response
    )

    async def healthz(request: requests.Request) -> responses.Response:
        return responses.PlainTextResponse("ok\n")

    async def readyz(request: requests.Request) -> responses.Response:
        if readiness():
            return responses.PlainTextResponse("ok\n")
        return responses.PlainTextResponse("not ready\n", 503)

    def monitoring(request: requests.Request) -> responses.Response:
        return responses.Response(
            metrics.text(), media_type=metrics_lib.CONTENT_TYPE
        )

    @contextlib.asynccontextmanager
    async def lifespan(app: applications.Starlette) -> AsyncIterator[None]:
        yield
        api.close()

    routes = [
        routing.Route("/healthz", healthz),
        routing.Route("/readyz", readyz),
        # An object rather than a function: it takes every HTTP method.
        routing.Route("/{path:path}", api),
    ]
    if monitoring_path is not None and metrics is not None:
        routes.insert(0, routing.Route(monitoring_path, monitoring))
    return applications.Starlette(
        routes=routes,
        lifespan=lifespan,
        middleware=[middleware.Middleware(_Counter, record=record)],
    )


class _Counter:
    """Tells `record` the status of each answer."""

    def __init__(self, app: Any, record: Callable[[int], None]):
        self._app = app
        self._record = record

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """One request, or the start and end of the server."""

        async def record_and_send(message: Any) -> None:
            if message["type"] == "http.response.start":
                self._record(message["status"])
            await send(message)

        await self._app(scope, receive, record_and_send)


class _TooLarge(Exception):
    """A body above the limit."""


class _Api:
    """Everything below `/v1/`."""

    def __init__(
        self,
        core: server_core.ServerCore,
        cors: bool,
        timeout_seconds: float | None,
        max_body_bytes: int,
        max_depth: int,
        num_threads: int,
        count: Callable[[str, str], object],
    ):
        self._calls = calls.RestCalls(core, max_depth, count)
        self._count = count
        self._cors = cors
        self._timeout_seconds = timeout_seconds
        self._max_body_bytes = max_body_bytes
        self._executor = concurrent.futures.ThreadPoolExecutor(
            num_threads, "rest"
        )

    def close(self) -> None:
        self._executor.shutdown(wait=False)

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """One request, whatever its method and path."""
        request = requests.Request(scope, receive)
        path = scope.get("raw_path") or scope["path"].encode("utf-8")
        # Servers differ in whether the query is part of it.
        path = path.split(b"?")[0]
        if not path.lower().startswith(b"/v1/"):
            response = responses.PlainTextResponse("Not Found\n", 404)
        else:
            try:
                response = await self._respond(request, path)
            except requests.ClientDisconnect:
                self._count(calls.model_name(path), "CANCELLED")
                return
        await response(scope, receive, send)

    async def _respond(
        self, request: requests.Request, path: bytes
    ) -> responses.Response:
        if self._cors and request.method == "OPTIONS":
            if re.search("https?://", request.headers.get("Origin", "")):
                return self._make_response(200, b"")
            return self._make_error(
                400, "Origin header is missing in CORS preflight"
            )
        if "expect" in request.headers and (
            # The parser takes digits only.
            int(request.headers.get("Content-Length", 0)) > self._max_body_bytes
        ):
            # The client waits before it sends what nobody wants.
            return self._make_too_large(path)
        try:
            body = await self._read_body(request)
        except _TooLarge:
            return self._make_too_large(path)
        deadline = (
            None
            if self._timeout_seconds is None
            else time.monotonic() + self._timeout_seconds
        )
        return await asyncio.get_running_loop().run_in_executor(
            self._executor,
            self._work,
            request.method,
            path,
            request.headers.get("Content-Encoding", ""),
            body,
            deadline,
        )

    async def _read_body(self, request: requests.Request) -> bytes:
        """The body.

        Raises:
            _TooLarge: if it is, after reading it.
        """
        chunks = []
        num_bytes = 0
        async for chunk in request.stream():
            num_bytes += len(chunk)
            # Most clients listen only after they have sent everything. One
            # that never ends is cut off.
            if num_bytes > 4 * self._max_body_bytes:
                raise _TooLarge
            if num_bytes > self._max_body_bytes:
                chunks.clear()
            else:
                chunks.append(chunk)
        if num_bytes > self._max_body_bytes:
            raise _TooLarge
        return b"".join(chunks)

    def _work(
        self,
        method: str,
        path: bytes,
        encoding: str,
        body: bytes,
        deadline: float | None,
    ) -> responses.Response:
        """Answers one request in a thread of its own."""
        try:
            if body and "gzip" in encoding.lower():
                try:
                    body = _unpack(body, self._max_body_bytes)
                except tf.errors.OpError:
                    self._count(calls.model_name(path), "INVALID_ARGUMENT")
                    raise
            content = self._calls.answer(method, path, body, deadline)
        except _TooLarge:
            return self._make_too_large(path)
        except tf.errors.OpError as error:
            return self._make_error(
                _HTTP_STATUSES.get(error.error_code, 500), error.message
            )
        except MemoryError:
            return self._make_error(429, "Out of memory")
        except Exception as error:
            # A fault of this server: the client learns that it was one, the
            # log tells where, and the server goes on.
            _log.exception("%s %r failed", method, path)
            return self._make_error(500, f"{type(error).__name__}: {error}")
        return self._make_response(200, content)

    def _make_response(self, status: int, content: bytes) -> responses.Response:
        headers = {"Content-Type": "application/json"}
        if self._cors:
            headers |= _CORS_HEADERS
        if status in (429, 503):
            headers["Retry-After"] = "1"
        return responses.Response(content, status, headers)

    def _make_error(self, status: int, text: str) -> responses.Response:
        return self._make_response(status, json_responses.error(text))

    def _make_too_large(self, path: bytes) -> responses.Response:
        self._count(calls.model_name(path), "RESOURCE_EXHAUSTED")
        return self._make_error(
            413, f"Request body is larger than {self._max_body_bytes} bytes"
        )


def _unpack(body: bytes, max_bytes: int) -> bytes:
    """What `body` holds, packed with gzip, perhaps in several parts."""
    parts = []
    while body:
        decompressor = zlib.decompressobj(wbits=16 + zlib.MAX_WBITS)
        try:
            parts.append(decompressor.decompress(body, max_bytes + 1))
        except zlib.error as error:
            raise json_values.invalid(
                f"Request body can't be unpacked as gzip: {error}"
            ) from None
        max_bytes -= len(parts[-1])
        if max_bytes < 0:
            raise _TooLarge
        if not decompressor.eof:
            raise json_values.invalid(
                "Request body can't be unpacked as gzip: it ends too early"
            )
        # RFC 1952 lets zeros follow.
        body = decompressor.unused_data.lstrip(b"\0")
    return b"".join(parts)
