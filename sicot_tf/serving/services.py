"""TensorFlow Serving's two gRPC services over one loaded model version."""

import grpc
import tensorflow as tf
from tensorflow_serving.apis import get_model_metadata_pb2
from tensorflow_serving.apis import get_model_status_pb2
from tensorflow_serving.apis import model_pb2
from tensorflow_serving.apis import model_service_pb2_grpc
from tensorflow_serving.apis import predict_pb2
from tensorflow_serving.apis import prediction_service_pb2_grpc

from sicot_tf.serving import servable

# TensorFlow's error codes are gRPC's, number by number.
_STATUS_CODES = {code.value[0]: code for code in grpc.StatusCode}
_MAX_MESSAGE_BYTES = 1024
# Without a deadline gRPC reports hundreds of years.
_LONGEST_TIMEOUT_SECONDS = 365 * 24 * 3600.0


class PredictionService(prediction_service_pb2_grpc.PredictionServiceServicer):
    """Predict and GetModelMetadata; the other calls are UNIMPLEMENTED."""

    def __init__(self, model: servable.Servable):
        self._model = model

    def Predict(
        self,
        request: predict_pb2.PredictRequest,
        context: grpc.ServicerContext,
    ) -> predict_pb2.PredictResponse:
        """Runs one signature; the caller's deadline stops it."""
        try:
            _check_model_spec(request)
            _check_served(self._model, request.model_spec)
            return self._model.predict(
                request, timeout_seconds=_timeout_seconds(context)
            )
        except tf.errors.OpError as error:
            _abort(context, error)

    def GetModelMetadata(
        self,
        request: get_model_metadata_pb2.GetModelMetadataRequest,
        context: grpc.ServicerContext,
    ) -> get_model_metadata_pb2.GetModelMetadataResponse:
        """Names, types and shapes of the signatures."""
        try:
            _check_model_spec(request)
            _check_metadata_fields(request)
            _check_served(self._model, request.model_spec)
        except tf.errors.OpError as error:
            _abort(context, error)
        signatures = get_model_metadata_pb2.SignatureDefMap()
        for key, signature in self._model.signatures.items():
            signatures.signature_def[key].CopyFrom(signature)
            # TensorFlow Serving leaves default values out.
            signatures.signature_def[key].ClearField("defaults")
        response = get_model_metadata_pb2.GetModelMetadataResponse()
        response.model_spec.name = self._model.name
        response.model_spec.version.value = self._model.version
        response.metadata["signature_def"].Pack(signatures)
        return response

    def Classify(self, request: object, context: grpc.ServicerContext) -> None:
        """UNIMPLEMENTED: the exported signatures take no tf.Example."""
        _abort_unimplemented(context, "Classify", "use Predict")

    def Regress(self, request: object, context: grpc.ServicerContext) -> None:
        """UNIMPLEMENTED: the exported signatures take no tf.Example."""
        _abort_unimplemented(context, "Regress", "use Predict")

    def MultiInference(
        self, request: object, context: grpc.ServicerContext
    ) -> None:
        """UNIMPLEMENTED: the exported signatures take no tf.Example."""
        _abort_unimplemented(context, "MultiInference", "use Predict")


class ModelService(model_service_pb2_grpc.ModelServiceServicer):
    """GetModelStatus; reloading the configuration is UNIMPLEMENTED."""

    def __init__(self, model: servable.Servable):
        self._model = model

    def GetModelStatus(
        self,
        request: get_model_status_pb2.GetModelStatusRequest,
        context: grpc.ServicerContext,
    ) -> get_model_status_pb2.GetModelStatusResponse:
        """The one version and its state; a version label is ignored."""
        try:
            _check_model_spec(request)
            _check_known(self._model, request.model_spec)
        except tf.errors.OpError as error:
            _abort(context, error)
        # The port opens after the model is loaded and warm.
        response = get_model_status_pb2.GetModelStatusResponse()
        response.model_version_status.add(
            version=self._model.version,
            state=get_model_status_pb2.ModelVersionStatus.AVAILABLE,
        ).status.SetInParent()
        return response

    def HandleReloadConfigRequest(
        self, request: object, context: grpc.ServicerContext
    ) -> None:
        """UNIMPLEMENTED: the server has one model, named at its start."""
        _abort_unimplemented(
            context,
            "HandleReloadConfigRequest",
            "restart the server with other --model_base_path and --model_name",
        )


def _check_model_spec(request: object) -> None:
    """Raises if a request names no model at all."""
    if not request.HasField("model_spec"):
        raise tf.errors.InvalidArgumentError(None, None, "Missing ModelSpec")


def _check_metadata_fields(
    request: get_model_metadata_pb2.GetModelMetadataRequest,
) -> None:
    """Raises unless the request asks for signatures, and only for them."""
    if not request.metadata_field:
        raise tf.errors.InvalidArgumentError(
            None,
            None,
            "GetModelMetadataRequest must specify at least one metadata_field",
        )
    for field in request.metadata_field:
        if field != "signature_def":
            raise tf.errors.InvalidArgumentError(
                None, None, f"Metadata field {field} is not supported"
            )


def _check_served(
    model: servable.Servable, model_spec: model_pb2.ModelSpec
) -> None:
    """Raises unless `model_spec` means the version that is loaded."""
    if not model_spec.name:
        raise tf.errors.InvalidArgumentError(
            None, None, "ModelSpec has no name specified."
        )
    choice = model_spec.WhichOneof("version_choice")
    if choice == "version_label":
        raise tf.errors.InvalidArgumentError(
            None,
            None,
            f"Unrecognized servable version label: {model_spec.version_label}",
        )
    if choice == "version":
        wanted = f"Specific({model_spec.name}, {model_spec.version.value})"
        found = model_spec.version.value == model.version
    else:
        wanted = f"Latest({model_spec.name})"
        found = True
    if model_spec.name != model.name or not found:
        raise tf.errors.NotFoundError(
            None, None, f"Servable not found for request: {wanted}"
        )


def _check_known(
    model: servable.Servable, model_spec: model_pb2.ModelSpec
) -> None:
    """Raises unless GetModelStatus has something to tell of `model_spec`."""
    if model_spec.HasField("version"):
        found = model_spec.version.value == model.version
        wanted = f"version {model_spec.version.value}"
    else:
        found = True
        wanted = "any versions"
    if model_spec.name != model.name or not found:
        raise tf.errors.NotFoundError(
            None, None, f"Could not find {wanted} of model {model_spec.name}"
        )


def _timeout_seconds(context: grpc.ServicerContext) -> float | None:
    """Seconds until the caller gives up; None if it waits for ever."""
    remaining = context.time_remaining()
    if remaining is None or remaining > _LONGEST_TIMEOUT_SECONDS:
        return None
    return remaining


def _abort(context: grpc.ServicerContext, error: tf.errors.OpError) -> None:
    """Ends the call with TensorFlow's code and, cut, its message."""
    details = error.message.encode("utf-8")
    if len(details) > _MAX_MESSAGE_BYTES:
        details = details[:_MAX_MESSAGE_BYTES] + b"...TRUNCATED"
    context.abort(
        _STATUS_CODES[error.error_code], details.decode("utf-8", "ignore")
    )


def _abort_unimplemented(
    context: grpc.ServicerContext, method: str, advice: str
) -> None:
    """Ends the call; the text says what to do instead."""
    context.abort(
        grpc.StatusCode.UNIMPLEMENTED,
        f"{method} is not implemented by this server; {advice}.",
    )
