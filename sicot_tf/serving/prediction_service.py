"""TensorFlow Serving's PredictionService over gRPC."""

import grpc
from tensorflow_serving.apis import classification_pb2
from tensorflow_serving.apis import get_model_metadata_pb2
from tensorflow_serving.apis import inference_pb2
from tensorflow_serving.apis import predict_pb2
from tensorflow_serving.apis import prediction_service_pb2_grpc
from tensorflow_serving.apis import regression_pb2

from sicot_tf.serving import server_core
from sicot_tf.serving.grpc_api import services


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
        return services.answer(
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
        return services.answer(
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
        return services.answer(
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
        return services.answer(
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
        return services.answer(
            context, lambda _: self._core.get_model_metadata(request)
        )
