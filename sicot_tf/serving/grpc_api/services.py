"""TensorFlow Serving's PredictionService and ModelService over gRPC."""

import functools
from collections.abc import Callable
from typing import Any

import grpc
import tensorflow as tf

# Not used here: reflection can describe only services that are imported.
from tensorflow_serving.apis import model_service_pb2  # noqa: F401
from tensorflow_serving.apis import model_service_pb2_grpc
from tensorflow_serving.apis import prediction_service_pb2  # noqa: F401
from tensorflow_serving.apis import prediction_service_pb2_grpc

from sicot_tf.serving import errors
from sicot_tf.serving import server_core
from sicot_tf.serving.inference import batching

# TensorFlow's error codes are gRPC's, number by number.
_STATUS_CODES = {code.value[0]: code for code in grpc.StatusCode}
_MAX_MESSAGE_BYTES = 1024
# Without a deadline gRPC reports hundreds of years.
_LONGEST_TIMEOUT_SECONDS = 365 * 24 * 3600.0


class Services(
    prediction_service_pb2_grpc.PredictionServiceServicer,
    model_service_pb2_grpc.ModelServiceServicer,
):
    """Passes each call on to the core."""

    def __init__(self, core: server_core.ServerCore):
        def answer(call: Callable[..., Any]) -> Callable[..., Any]:
            return functools.partial(_answer, call)

        self.Predict = answer(core.predict)
        self.Classify = answer(core.classify)
        self.Regress = answer(core.regress)
        self.MultiInference = answer(core.multi_inference)
        self.HandleReloadConfigRequest = answer(core.reload_config)
        # These two take no time.
        self.GetModelMetadata = answer(
            lambda request, **_: core.get_model_metadata(request)
        )
        self.GetModelStatus = answer(
            lambda request, **_: core.get_model_status(request)
        )


def _answer(
    call: Callable[..., Any], request: Any, context: grpc.ServicerContext
) -> Any:
    """Calls the core with the seconds left; None: without end.

    Nothing runs for a caller who is gone or whose deadline passed while the
    call waited for a thread.
    """
    seconds = context.time_remaining()
    try:
        if not context.is_active():
            raise errors.cancelled("Cancelled by the caller")
        if seconds is not None and seconds <= 0:
            raise errors.timed_out()
        if seconds is not None and seconds > _LONGEST_TIMEOUT_SECONDS:
            seconds = None
        with batching.calling_for(context.is_active):
            return call(request, timeout_seconds=seconds)
    except tf.errors.OpError as error:
        context.abort(_STATUS_CODES[error.error_code], _cut(error.message))


def _cut(text: str) -> str:
    """A message as TensorFlow Serving sends it: 1024 bytes at most."""
    content = text.encode("utf-8", "replace")
    if len(content) > _MAX_MESSAGE_BYTES:
        content = content[:_MAX_MESSAGE_BYTES] + b"...TRUNCATED"
    return content.decode("utf-8", "ignore")
