"""TensorFlow Serving's PredictionService and ModelService over gRPC."""

from collections.abc import Callable
from typing import TypeVar

import grpc
import tensorflow as tf
from tensorflow_serving.apis import classification_pb2
from tensorflow_serving.apis import get_model_metadata_pb2
from tensorflow_serving.apis import get_model_status_pb2
from tensorflow_serving.apis import inference_pb2
from tensorflow_serving.apis import model_management_pb2
from tensorflow_serving.apis import model_service_pb2_grpc
from tensorflow_serving.apis import predict_pb2
from tensorflow_serving.apis import prediction_service_pb2_grpc
from tensorflow_serving.apis import regression_pb2

from sicot_tf.serving import server_core
from sicot_tf.serving.inference import batching

_Response = TypeVar("_Response")

# TensorFlow's error codes are gRPC's, number by number.
_STATUS_CODES = {code.value[0]: code for code in grpc.StatusCode}
_MAX_MESSAGE_BYTES = 1024
# Without a deadline gRPC reports hundreds of years.
_LONGEST_TIMEOUT_SECONDS = 365 * 24 * 3600.0


class PredictionService(prediction_service_pb2_grpc.PredictionServiceServicer):
    """Passes each call on to the core, with the caller's deadline."""

    def __init__(self, core: server_core.ServerCore):
        self._core = core

    def Predict(
        self,
        request: predict_pb2.PredictRequest,
        context: grpc.ServicerContext,
    ) -> predict_pb2.PredictResponse:
        """Runs a signature on named tensors."""
        return _answer(
            context,
            lambda seconds: self._core.predict(
                request, timeout_seconds=seconds
            ),
        )

    def Classify(
        self,
        request: classification_pb2.ClassificationRequest,
        context: grpc.ServicerContext,
    ) -> classification_pb2.ClassificationResponse:
        """Classes and scores of tf.Examples."""
        return _answer(
            context,
            lambda seconds: self._core.classify(
                request, timeout_seconds=seconds
            ),
        )

    def Regress(
        self,
        request: regression_pb2.RegressionRequest,
        context: grpc.ServicerContext,
    ) -> regression_pb2.RegressionResponse:
        """A number for each tf.Example."""
        return _answer(
            context,
            lambda seconds: self._core.regress(
                request, timeout_seconds=seconds
            ),
        )

    def MultiInference(
        self,
        request: inference_pb2.MultiInferenceRequest,
        context: grpc.ServicerContext,
    ) -> inference_pb2.MultiInferenceResponse:
        """Several signatures on the same tf.Examples."""
        return _answer(
            context,
            lambda seconds: self._core.multi_inference(
                request, timeout_seconds=seconds
            ),
        )

    def GetModelMetadata(
        self,
        request: get_model_metadata_pb2.GetModelMetadataRequest,
        context: grpc.ServicerContext,
    ) -> get_model_metadata_pb2.GetModelMetadataResponse:
        """Names, types and shapes of the signatures."""
        return _answer(
            context, lambda _: self._core.get_model_metadata(request)
        )


class ModelService(model_service_pb2_grpc.ModelServiceServicer):
    """Passes each call on to the core."""

    def __init__(self, core: server_core.ServerCore):
        self._core = core

    def GetModelStatus(
        self,
        request: get_model_status_pb2.GetModelStatusRequest,
        context: grpc.ServicerContext,
    ) -> get_model_status_pb2.GetModelStatusResponse:
        """States of the versions of a model."""
        return _answer(context, lambda _: self._core.get_model_status(request))

    def HandleReloadConfigRequest(
        self,
        request: model_management_pb2.ReloadConfigRequest,
        context: grpc.ServicerContext,
    ) -> model_management_pb2.ReloadConfigResponse:
        """Replaces the list of models."""
        return _answer(
            context,
            lambda seconds: self._core.reload_config(request, seconds),
        )


def _answer(
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
        context.abort(_STATUS_CODES[error.error_code], _cut(error.message))


def _cut(text: str) -> str:
    """A message as TensorFlow Serving sends it: 1024 bytes at most."""
    content = text.encode("utf-8", "replace")
    if len(content) > _MAX_MESSAGE_BYTES:
        content = content[:_MAX_MESSAGE_BYTES] + b"...TRUNCATED"
    return content.decode("utf-8", "ignore")
