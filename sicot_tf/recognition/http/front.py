"""What every request passes: its id, headers of safety, counts, refusals."""

import logging
import re
import secrets

import starlette.types
from starlette import datastructures
from starlette import requests

from sicot_tf.recognition.http import metrics
from sicot_tf.recognition.http import refusals

_log = logging.getLogger(__name__)
_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
# The page brings its own scripts and styles. Pictures may be of a shop's own
# host (the catalogue says so), of the camera or of a file that was chosen.
_HEADERS = (
    (
        "content-security-policy",
        "default-src 'self'; img-src 'self' data: blob: https: http:; "
        "object-src 'none'; base-uri 'none'; form-action 'self'; "
        "frame-ancestors 'none'",
    ),
    ("x-content-type-options", "nosniff"),
    ("referrer-policy", "no-referrer"),
)


class Front:
    """The outermost layer of the application (pure ASGI: bodies stream)."""

    def __init__(self, app: starlette.types.ASGIApp, counters: metrics.Metrics):
        self._app = app
        self._counters = counters

    async def __call__(
        self,
        scope: starlette.types.Scope,
        receive: starlette.types.Receive,
        send: starlette.types.Send,
    ) -> None:
        """Handles a request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        given = datastructures.Headers(scope=scope).get("x-request-id", "")
        if not _REQUEST_ID.fullmatch(given):
            given = secrets.token_hex(8)
        scope.setdefault("state", {})["request_id"] = given
        code = 0

        async def send_with_headers(message: starlette.types.Message) -> None:
            nonlocal code
            if message["type"] == "http.response.start":
                code = message["status"]
                headers = datastructures.MutableHeaders(scope=message)
                headers["x-request-id"] = given
                for name, value in _HEADERS:
                    headers.setdefault(name, value)
            await send(message)

        try:
            await self._app(scope, receive, send_with_headers)
        except requests.ClientDisconnect:
            pass  # Nobody is there to answer to.
        except Exception:
            _log.exception("Request %s failed.", given)
            if code:
                raise  # Half an answer is out: the connection is closed.
            refusal = refusals.answer(
                given,
                500,
                "The service failed; its log tells more by the request id.",
            )
            await refusal(scope, receive, send_with_headers)
        finally:
            route = scope.get("route")
            path = getattr(route, "path", "other")
            # 499, as web servers say it: the client went away.
            self._counters.count_request(path, code or 499)
