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

from sicot_tf.serving import server_core
from sicot_tf.serving.inference import batching

# TensorFlow's error codes are gRPC's, number by number.
_STATUS_CODES = {code.value[0]: code for code in grpc.StatusCode}
_MAX_MESSAGE_BYTES = 1024
# Without a deadline gRPC reports hundreds of years.
_LONGEST_TIMEOUT_SECONDS = 365 * 24 * 3600.0


class PredictionService(prediction_service_pb2_grpc.PredictionServiceServicer):
    """Passes each call on to the core, with the caller's deadline."""

    def __init__(self, core: server_core.ServerCore):
        self.Predict = _answering(core.predict)
        self.Classify = _answering(core.classify)
        self.Regress = _answering(core.regress)
        self.MultiInference = _answering(core.multi_inference)
        self.GetModelMetadata = _answering(
            lambda request, timeout_seconds: core.get_model_metadata(request)
        )


class ModelService(model_service_pb2_grpc.ModelServiceServicer):
    """Passes each call on to the core."""

    def __init__(self, core: server_core.ServerCore):
        self.HandleReloadConfigRequest = _answering(core.reload_config)
        self.GetModelStatus = _answering(
            lambda request, timeout_seconds: core.get_model_status(request)
        )


def _answering(answer: Callable[..., Any]) -> Callable[..., Any]:
    return functools.partial(_answer, answer)


def _answer(
    answer: Callable[..., Any], request: Any, context: grpc.ServicerContext
) -> Any:
    """Calls `answer` with the seconds left; None: without end.

    Nothing runs for a caller who is gone or whose deadline passed while the
    call waited for a thread.
    """
    if not context.is_active():
        context.abort(grpc.StatusCode.CANCELLED, "Cancelled by the caller")
    seconds = context.time_remaining()
    if seconds is not None:
        if seconds <= 0:
            context.abort(
                grpc.StatusCode.DEADLINE_EXCEEDED,
                "Timed out waiting for notification",
            )
        if seconds > _LONGEST_TIMEOUT_SECONDS:
            seconds = None
    try:
        with batching.calling_for(context.is_active):
            return answer(request, timeout_seconds=seconds)
    except tf.errors.OpError as error:
        context.abort(_STATUS_CODES[error.error_code], _cut(error.message))


def _cut(text: str) -> str:
    """A message as TensorFlow Serving sends it: 1024 bytes at most."""
    content = text.encode("utf-8", "replace")
    if len(content) > _MAX_MESSAGE_BYTES:
        content = content[:_MAX_MESSAGE_BYTES] + b"...TRUNCATED"
    return content.decode("utf-8", "ignore")
