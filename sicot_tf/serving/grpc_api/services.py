"""Runs one gRPC call: deadline in, status code and message out."""

from collections.abc import Callable
from typing import TypeVar

import grpc
import tensorflow as tf

from sicot_tf.serving.inference import batching

_Response = TypeVar("_Response")

# TensorFlow's error codes are gRPC's, number by number.
_STATUS_CODES = {code.value[0]: code for code in grpc.StatusCode}
_MAX_MESSAGE_BYTES = 1024
# Without a deadline gRPC reports hundreds of years.
_LONGEST_TIMEOUT_SECONDS = 365 * 24 * 3600.0


def answer(
    context: grpc.ServicerContext,
    function: Callable[[float | None], _Response],
) -> _Response:
    """Calls `function` with the seconds left; None: without end.

    Nothing runs for a caller who is gone or whose deadline passed while the
    call waited for a thread.
    """
    if not context.is_active():
        context.abort(grpc.StatusCode.CANCELLED, "Cancelled by the caller")
    timeout_seconds = context.time_remaining()
    if timeout_seconds is not None:
        if timeout_seconds <= 0:
            context.abort(
                grpc.StatusCode.DEADLINE_EXCEEDED,
                "Timed out waiting for notification",
            )
        if timeout_seconds > _LONGEST_TIMEOUT_SECONDS:
            timeout_seconds = None
    try:
        with batching.calling_for(context.is_active):
            return function(timeout_seconds)
    except tf.errors.OpError as error:
        context.abort(_STATUS_CODES[error.error_code], cut(error.message))


def cut(text: str) -> str:
    """A message as TensorFlow Serving sends it: 1024 bytes at most."""
    content = text.encode("utf-8", "replace")
    if len(content) > _MAX_MESSAGE_BYTES:
        content = content[:_MAX_MESSAGE_BYTES] + b"...TRUNCATED"
    return content.decode("utf-8", "ignore")
