"""The HTTP side of the model server: a port, and a thread for it."""

import socket
import threading
import time
from collections.abc import Callable

import uvicorn
from starlette import applications

_MAX_HEADER_BYTES = 64 * 2**10


class RestServer:
    """An HTTP server in a thread of its own.

    Args:
        app: answers the requests.
        port: TCP port on all interfaces; 0 takes a free one.
        drain_seconds: time that running requests have when it stops.

    Attributes:
        port: the port it got.

    Raises:
        OSError: if the port can't be had.
    """

    def __init__(
        self, app: applications.Starlette, port: int, drain_seconds: int
    ):
        # With the protocol named asyncio sets TCP_NODELAY; without it every
        # answer on a kept connection waits 40 ms.
        self._socket = socket.socket(
            socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP
        )
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            self._socket.bind(("0.0.0.0", port))
        except OSError as error:
            self._socket.close()
            raise OSError(
                f"Failed to start HTTP Server at 0.0.0.0:{port}: {error}"
            ) from error
        self.port = self._socket.getsockname()[1]
        self._server = uvicorn.Server(
            uvicorn.Config(
                app,
                # Unlike httptools it limits the size of headers.
                http="h11",
                h11_max_incomplete_event_size=_MAX_HEADER_BYTES,
                ws="none",
                log_level="warning",
                access_log=False,
                server_header=False,
                timeout_graceful_shutdown=drain_seconds,
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

    def stop(self) -> Callable[[float], None]:
        """Takes no more requests; returns what waits for running ones."""
        self._server.should_exit = True
        return self._thread.join
