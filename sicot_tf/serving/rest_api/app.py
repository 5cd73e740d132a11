"""TensorFlow Serving's REST interface over `server_core.ServerCore`.

Codes and headers are those of http_server.cc of TensorFlow Serving. Limits on
size and depth, `Retry-After`, `/healthz` and `/readyz` are this server's own.
"""

import asyncio
import concurrent.futures
import dataclasses
import functools
import gzip
import io
import logging
import os
import time
import zlib
from collections.abc import Callable
from typing import Any

import tensorflow as tf
from starlette import requests
from starlette import responses

from sicot_tf.serving import errors
from sicot_tf.serving import metrics
from sicot_tf.serving import server_core
from sicot_tf.serving.rest_api import calls
from sicot_tf.serving.rest_api import json_responses

_log = logging.getLogger(__name__)

# Some 20 images of 224 x 224 as decimals, 700 as base64. Parsed, JSON takes
# up to ten times its size in memory.
MAX_BODY_BYTES = 64 << 20

_CORS_HEADERS = {
    "Access-Control-Allow-Origin": "*",
    "Access-Control-Allow-Methods": "POST, GET",
    "Access-Control-Allow-Headers": "Content-Type",
}
# Others are 500.
_HTTP_STATUSES = {
    tf.errors.CANCELLED: 499,
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
    tf.errors.UNAVAILABLE: 503,
    tf.errors.UNAUTHENTICATED: 401,
}


class _TooLarge(tf.errors.ResourceExhaustedError):
    """A body above the limit."""

    def __init__(self, max_bytes: int):
        text = f"Request body is larger than {max_bytes} bytes"
        super().__init__(None, None, text)


@dataclasses.dataclass
class Api:
    """The REST interface, as an ASGI application: for example for uvicorn.

    Attributes:
        core: answers the requests.
        counts: counts them.
        cors: lets pages of other sites use the API.
        timeout_seconds: of a request, from the end of its body; None: none.
        monitoring_path: where `counts` are shown; None: nowhere.
        max_body_bytes: larger bodies, packed or unpacked, are refused.
        num_threads: requests that are worked on at a time; by default four
            for each processor, as in TensorFlow Serving.
        readiness: whether `/readyz` says yes; `/healthz` always does.
    """

    core: server_core.ServerCore
    counts: metrics.Metrics
    cors: bool = False
    timeout_seconds: float | None = 30.0
    monitoring_path: str | None = None
    max_body_bytes: int = MAX_BODY_BYTES
    num_threads: int | None = None
    readiness: Callable[[], bool] = lambda: True

    def __post_init__(self):
        self._calls = calls.RestCalls(self.core, self.counts.count)
        self._executor = concurrent.futures.ThreadPoolExecutor(
            self.num_threads or 4 * (os.cpu_count() or 1), "rest"
        )

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """One request, whatever its method and path."""
        request = requests.Request(scope, receive)
        path = scope.get("raw_path") or scope["path"].encode("utf-8")
        # Servers differ in whether the query is part of it.
        path = path.split(b"?")[0]
        if path.lower().startswith(b"/v1/"):
            response = await self._respond(request, path)
        else:
            response = await asyncio.to_thread(
                self._page, request.method, scope["path"]
            )
        if response is not None:
            self.counts.record_rest_response(response.status_code)
            await response(scope, receive, send)

    def _page(self, method: str, path: str) -> responses.Response:
        """Health and metrics."""
        if path not in ("/healthz", "/readyz", self.monitoring_path):
            return responses.PlainTextResponse("Not Found\n", 404)
        if method not in ("GET", "HEAD"):
            return responses.PlainTextResponse(
                "Method Not Allowed\n", 405, {"Allow": "GET, HEAD"}
            )
        if path == self.monitoring_path:
            return responses.Response(
                self.counts.text(), media_type=metrics.CONTENT_TYPE
            )
        if path == "/readyz" and not self.readiness():
            return responses.PlainTextResponse("not ready\n", 503)
        return responses.PlainTextResponse("ok\n")

    async def _respond(
        self, request: requests.Request, path: bytes
    ) -> responses.Response | None:
        """Answers below `/v1/`; None if the client has gone."""
        if self.cors and request.method == "OPTIONS":
            if request.headers.get("Origin", "").startswith("http"):
                return self._make_response(200, b"")
            return self._make_response(
                400, json_responses.error("Origin header is missing")
            )
        try:
            body = await self._read_body(request)
        except requests.ClientDisconnect:
            self.counts.count(calls.model_name(path), "CANCELLED")
            return None
        deadline = None
        if self.timeout_seconds is not None:
            deadline = time.monotonic() + self.timeout_seconds
        work = functools.partial(self._work, request, path, body, deadline)
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._executor, work)

    async def _read_body(self, request: requests.Request) -> bytes | None:
        """The body, after reading it; None if it is too large."""
        chunks = []
        num_bytes = 0
        async for chunk in request.stream():
            num_bytes += len(chunk)
            # Most clients listen only after they have sent everything. One
            # that never ends is cut off.
            if num_bytes > 4 * self.max_body_bytes:
                return None
            if num_bytes > self.max_body_bytes:
                chunks.clear()
            else:
                chunks.append(chunk)
        return b"".join(chunks) if num_bytes <= self.max_body_bytes else None

    def _work(
        self,
        request: requests.Request,
        path: bytes,
        body: bytes | None,
        deadline: float | None,
    ) -> responses.Response:
        """Answers one request in a thread of its own."""
        encoding = request.headers.get("Content-Encoding", "").lower()
        status = 200
        try:
            with self._calls.counting_errors(path):
                if body is None:
                    raise _TooLarge(self.max_body_bytes)
                if body and "gzip" in encoding:
                    body = _unpack(body, self.max_body_bytes)
            content = self._calls.answer(request.method, path, body, deadline)
        except tf.errors.OpError as error:
            status = _HTTP_STATUSES.get(error.error_code, 500)
            if isinstance(error, _TooLarge):
                status = 413
            content = json_responses.error(error.message)
        except MemoryError:
            status, content = 429, json_responses.error("Out of memory")
        except Exception as error:
            # A fault of this server: the client learns that it was one, the
            # log tells where, and the server goes on.
            _log.exception("%s %r failed", request.method, path)
            text = f"{type(error).__name__}: {error}"
            status, content = 500, json_responses.error(text)
        return self._make_response(status, content)

    def _make_response(self, status: int, content: bytes) -> responses.Response:
        headers = {"Content-Type": "application/json"}
        if self.cors:
            headers |= _CORS_HEADERS
        if status in (429, 503):
            headers["Retry-After"] = "1"
        return responses.Response(content, status, headers)


def _unpack(body: bytes, max_bytes: int) -> bytes:
    """What `body` holds, packed with gzip, perhaps in several parts."""
    try:
        with gzip.GzipFile(fileobj=io.BytesIO(body)) as file:
            unpacked = file.read(max_bytes + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise errors.invalid(
            f"Request body can't be unpacked as gzip: {error}"
        ) from None
    if len(unpacked) > max_bytes:
        raise _TooLarge(max_bytes)
    return unpacked
