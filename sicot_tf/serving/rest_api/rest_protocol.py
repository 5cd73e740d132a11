"""uvicorn's HTTP/1.1 for clients that are slow, wrong, gone, or too many.

uvicorn waits for ever for the rest of a request, and closes without a word
where a body ends too early. Whatever its parser refuses is answered here as
JSON, counted, and never logged: a port scan must not fill a disk.
"""

import asyncio
import contextlib
import json
import sys
from collections.abc import Callable
from typing import Any

import h11
from uvicorn.protocols.http import h11_impl

# A request may take a second more for each so many bytes that came: slow
# lines end their pictures, who sends a byte a second does not.
_MIN_BYTES_PER_SECOND = 1000
# Closed at once, a socket with unread bytes resets the connection, and the
# client never reads why.
_LINGER_SECONDS = 1.0
_MAX_TEXT_LENGTH = 200


class RestProtocol(h11_impl.H11Protocol):
    """One connection.

    Args:
        receive_seconds: in which a request must have come, header and body.
        max_connections: with more of them the one that is idle the longest
            is closed; if none is, the new one is told 503.
        record: told the status of each answer that no application gave.
        options: of uvicorn.
    """

    def __init__(
        self,
        *,
        receive_seconds: float,
        max_connections: int,
        record: Callable[[int], None],
        **options: Any,
    ):
        super().__init__(**options)
        self._receive_seconds = receive_seconds
        self._max_connections = max_connections
        self._record = record
        self._receive_timer: asyncio.TimerHandle | None = None
        self._receive_start = 0.0
        self._num_bytes = 0
        self._is_refused = False

    def connection_made(self, transport: asyncio.Transport) -> None:
        """Makes room, and waits for a first request as for all others."""
        has_room = (
            len(self.connections) < self._max_connections
            or self._close_idle_connection()
        )
        super().connection_made(transport)
        if not has_room:
            self._refuse(503, "Too many connections")
            return
        self.timeout_keep_alive_task = self.loop.call_later(
            self.timeout_keep_alive, self.timeout_keep_alive_handler
        )

    def data_received(self, data: bytes) -> None:
        """A part of a request."""
        if self._is_refused:
            return
        self._num_bytes += len(data)
        super().data_received(data)
        if self._is_refused:
            return
        if not self._is_receiving():
            self._stop_receive_timer()
        elif self._receive_timer is None:
            self._num_bytes = len(data)
            self._receive_start = self.loop.time()
            self._receive_timer = self.loop.call_later(
                self._receive_seconds, self._check_receipt
            )

    def eof_received(self) -> bool:
        """The client sends no more, but may still listen."""
        if self._is_refused:
            return False
        if self.cycle is not None and not self.cycle.response_complete:
            if not self.cycle.more_body:
                self.cycle.keep_alive = False
                return True
            self._refuse(400, "Request body ends too early")
        elif self._is_receiving():
            self._refuse(400, "Request header ends too early")
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        """Nothing more can be sent."""
        self._stop_receive_timer()
        self._unset_keepalive_if_required()
        super().connection_lost(exc)

    def send_400_response(self, msg: str) -> None:
        """Says what h11 found, inside uvicorn's handler of its error."""
        error = sys.exception()
        status = getattr(error, "error_status_hint", 400)
        text = str(error or msg)[:_MAX_TEXT_LENGTH]
        self._refuse(status, f"Invalid HTTP request: {text}")

    def timeout_keep_alive_handler(self) -> None:
        """Nothing came for long, or the answer was not taken."""
        if self.transport.get_write_buffer_size():
            # To close would be to wait for the client.
            self.transport.abort()
        else:
            super().timeout_keep_alive_handler()

    def shutdown(self) -> None:
        """Part of the end of the server."""
        if self._is_refused or self.transport.is_closing():
            return
        if self.cycle is None:
            # Just connected: its request is on its way.
            self.loop.call_later(_LINGER_SECONDS, self._shut_down_late)
        else:
            super().shutdown()

    def _shut_down_late(self) -> None:
        if not self.transport.is_closing():
            super().shutdown()

    def _close_idle_connection(self) -> bool:
        """Closes the one that waits the longest; whether there was one."""
        idle = [
            connection
            for connection in self.connections
            if connection.timeout_keep_alive_task is not None
        ]
        if not idle:
            return False
        oldest = min(idle, key=lambda each: each.timeout_keep_alive_task.when())
        oldest._unset_keepalive_if_required()
        oldest.timeout_keep_alive_handler()
        return True

    def _is_receiving(self) -> bool:
        """Whether a request has begun to come and is not whole."""
        state = self.conn.their_state
        return state is h11.SEND_BODY or (
            state is h11.IDLE and bool(self.conn.trailing_data[0])
        )

    def _check_receipt(self) -> None:
        """The time is over, unless enough has come."""
        deadline = (
            self._receive_start
            + self._receive_seconds
            + self._num_bytes / _MIN_BYTES_PER_SECOND
        )
        if self.loop.time() < deadline:
            self._receive_timer = self.loop.call_at(
                deadline, self._check_receipt
            )
        else:
            self._receive_timer = None
            self._refuse(
                408,
                f"Request was not received within {self._receive_seconds:g} "
                "seconds",
            )

    def _refuse(self, status: int, text: str) -> None:
        """Answers for the application, and ends the connection."""
        self._is_refused = True
        self._stop_receive_timer()
        self._unset_keepalive_if_required()
        if self.transport.is_closing():
            return
        if self.cycle is not None and not self.cycle.response_complete:
            # The application must not answer, too.
            self.cycle.disconnected = True
            self.cycle.message_event.set()
        if self.conn.our_state not in (h11.IDLE, h11.SEND_RESPONSE):
            self.transport.close()
            return
        self._record(status)
        # As `json_responses.error`, without TensorFlow.
        body = json.dumps({"error": text}).encode()
        headers = [
            *self.server_state.default_headers,
            (b"content-type", b"application/json"),
            (b"content-length", str(len(body)).encode()),
            (b"connection", b"close"),
        ]
        if status == 503:
            headers.append((b"retry-after", b"1"))
        for event in (
            h11.Response(
                status_code=status,
                headers=headers,
                reason=h11_impl.STATUS_PHRASES.get(status, b""),
            ),
            h11.Data(data=body),
            h11.EndOfMessage(),
        ):
            self.transport.write(self.conn.send(event))
        with contextlib.suppress(OSError):
            # The client may have gone.
            self.transport.write_eof()
        self.flow.resume_reading()
        self.loop.call_later(_LINGER_SECONDS, self.transport.abort)

    def _stop_receive_timer(self) -> None:
        if self._receive_timer is not None:
            self._receive_timer.cancel()
            self._receive_timer = None
