"""TensorFlow Serving's PredictionService and ModelService over gRPC."""

import functools
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
        self.Predict = functools.partial(_answer, core, "predict")
        self.Classify = functools.partial(_answer, core, "classify")
        self.Regress = functools.partial(_answer, core, "regress")
        self.MultiInference = functools.partial(
            _answer, core, "multi_inference"
        )
        self.GetModelMetadata = functools.partial(
            _answer, core, "get_model_metadata"
        )


class ModelService(model_service_pb2_grpc.ModelServiceServicer):
    """Passes each call on to the core."""

    def __init__(self, core: server_core.ServerCore):
        self.GetModelStatus = functools.partial(
            _answer, core, "get_model_status"
        )
        self.HandleReloadConfigRequest = functools.partial(
            _answer, core, "reload_config"
        )


def _answer(
    core: server_core.ServerCore,
    call: str,
    request: Any,
    context: grpc.ServicerContext,
) -> Any:
    """Calls the core with the seconds left; None: without end.

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
            # Metadata and status take no time.
            options = {"timeout_seconds": seconds}
            if call.startswith("get_"):
                options = {}
            return getattr(core, call)(request, **options)
    except tf.errors.OpError as error:
        context.abort(_STATUS_CODES[error.error_code], _cut(error.message))


def _cut(text: str) -> str:
    """A message as TensorFlow Serving sends it: 1024 bytes at most."""
    content = text.encode("utf-8", "replace")
    if len(content) > _MAX_MESSAGE_BYTES:
        content = content[:_MAX_MESSAGE_BYTES] + b"...TRUNCATED"
    return content.decode("utf-8", "ignore")
