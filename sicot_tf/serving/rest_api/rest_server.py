"""The HTTP side of the model server: a port, and a thread for it."""

import asyncio
import errno
import functools
import logging
import os
import resource
import socket
import threading
import time
from collections.abc import Awaitable
from collections.abc import Callable
from typing import Any

import uvicorn

from sicot_tf.serving.rest_api import rest_protocol

_log = logging.getLogger(__name__)
_MAX_HEADER_BYTES = 64 * 2**10
_MAX_BACKLOG = 2048
_CLOSE_HEADER = (b"connection", b"close")
_SECONDS_BETWEEN_LOG_LINES = 60.0


class RestServer:
    """An HTTP server in a thread of its own.

    Args:
        app: answers the requests; of ASGI.
        port: TCP port on all interfaces, IPv6 and IPv4; 0 takes a free one.
        idle_seconds: time after which a connection without requests is closed.
        receive_seconds: time in which a request must come; large ones have
            longer.
        max_connections: at a time; fewer if the process may not open three
            times as many files.
        record: told the status of each answer that `app` did not give.

    Attributes:
        port: the port it got.

    Raises:
        OSError: if the port can't be had.
    """

    def __init__(
        self,
        app: Callable[[Any, Any, Any], Awaitable[None]],
        port: int,
        *,
        idle_seconds: float = 620.0,
        receive_seconds: float = 30.0,
        max_connections: int = 4096,
        record: Callable[[int], None] = lambda status: None,
    ):
        self._socket = _listen(port)
        self.port = self._socket.getsockname()[1]
        # asyncio takes a whole backlog of connections before it looks at one
        # of them. The last third is for gRPC and for models.
        num_free_files = resource.getrlimit(resource.RLIMIT_NOFILE)[0] - len(
            os.listdir("/dev/fd")
        )
        max_connections = max(1, min(max_connections, num_free_files // 3))
        self._server = _Server(
            uvicorn.Config(
                app,
                http=functools.partial(
                    rest_protocol.RestProtocol,
                    receive_seconds=receive_seconds,
                    max_connections=max_connections,
                    record=record,
                ),
                h11_max_incomplete_event_size=_MAX_HEADER_BYTES,
                backlog=min(_MAX_BACKLOG, max_connections),
                timeout_keep_alive=idle_seconds,
                ws="none",
                lifespan="off",
                # Its warnings are about what clients send.
                log_level="error",
                log_config=None,
                access_log=False,
                server_header=False,
            )
        )
        self._thread = threading.Thread(
            target=self._server.run,
            kwargs={"sockets": [self._socket]},
            name="rest",
            daemon=True,
        )

    def start(self) -> None:
        """Returns once requests are answered.

        Raises:
            RuntimeError: if the server ends at once.
        """
        self._thread.start()
        while not self._server.started:
            if not self._thread.is_alive():
                raise RuntimeError("Failed to start HTTP Server")
            time.sleep(0.01)

    def drain(self) -> None:
        """From now on a connection is closed after its next answer."""
        # uvicorn makes the second from the first, each second.
        self._server.config.encoded_headers.append(_CLOSE_HEADER)
        state = self._server.server_state
        state.default_headers = [*state.default_headers, _CLOSE_HEADER]

    def stop(self, grace_seconds: float) -> Callable[[float], None]:
        """Takes no more requests; returns what waits for running ones."""
        self._server.config.timeout_graceful_shutdown = int(grace_seconds)
        self._server.should_exit = True
        return self._thread.join


class _Server(uvicorn.Server):
    """uvicorn, with few words about what happens many times a second."""

    def __init__(self, config: uvicorn.Config):
        super().__init__(config)
        self._next_line = 0.0

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Opens the port."""
        asyncio.get_running_loop().set_exception_handler(self._log_error)
        await super().startup(sockets)

    def _log_error(
        self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]
    ) -> None:
        """Of asyncio, which goes on to accept connections a second later.

        It tries as often as the backlog is long, and would print a traceback
        each time (https://github.com/python/cpython/issues/151615).
        """
        error = context.get("exception")
        if getattr(error, "errno", None) not in (errno.EMFILE, errno.ENFILE):
            loop.default_exception_handler(context)
        elif time.monotonic() >= self._next_line:
            self._next_line = time.monotonic() + _SECONDS_BETWEEN_LOG_LINES
            _log.error(
                "No connection can be accepted: %s. See ulimit -n.", error
            )


def _listen(port: int) -> socket.socket:
    """A socket on IPv6 and IPv4, as gRPC's, or on IPv4 alone."""
    has_ipv6 = socket.has_dualstack_ipv6()
    try:
        listener = socket.create_server(
            ("", port),
            family=socket.AF_INET6 if has_ipv6 else socket.AF_INET,
            dualstack_ipv6=has_ipv6,
        )
    except OSError as error:
        raise OSError(
            f"Failed to start HTTP Server at port {port}: {error}"
        ) from error
    # Connections have it from here; without it every answer on a kept one
    # waits 40 ms.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listener
