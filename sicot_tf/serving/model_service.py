"""TensorFlow Serving's ModelService over gRPC."""

import grpc
from tensorflow_serving.apis import get_model_status_pb2
from tensorflow_serving.apis import model_management_pb2
from tensorflow_serving.apis import model_service_pb2_grpc

from sicot_tf.serving import server_core
from sicot_tf.serving.grpc_api import services


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
        return services.answer(
            context, lambda _: self._core.get_model_status(request)
        )

    def HandleReloadConfigRequest(
        self,
        request: model_management_pb2.ReloadConfigRequest,
        context: grpc.ServicerContext,
    ) -> model_management_pb2.ReloadConfigResponse:
        """Replaces the list of models."""
        return services.answer(
            context,
            lambda seconds: self._core.reload_config(request, seconds),
        )
