"""What the model server answers, whichever way a request came in.

gRPC and REST are thin layers over `ServerCore`: versions, errors, metrics and
request log are the same for both.
"""

import logging
import re
import time
from collections.abc import Callable
from typing import Any

import tensorflow as tf
from tensorflow.core.protobuf import error_codes_pb2
from tensorflow_serving.apis import classification_pb2
from tensorflow_serving.apis import get_model_metadata_pb2
from tensorflow_serving.apis import get_model_status_pb2
from tensorflow_serving.apis import inference_pb2
from tensorflow_serving.apis import input_pb2
from tensorflow_serving.apis import model_management_pb2
from tensorflow_serving.apis import model_pb2
from tensorflow_serving.apis import predict_pb2
from tensorflow_serving.apis import prediction_log_pb2
from tensorflow_serving.apis import regression_pb2

from sicot_tf.serving import metrics as metrics_lib
from sicot_tf.serving import request_log as request_log_lib
from sicot_tf.serving.inference import inference
from sicot_tf.serving.versions import model_manager

_log = logging.getLogger(__name__)
_LOG_FIELDS = {
    "Predict": "predict_log",
    "Classify": "classify_log",
    "Regress": "regress_log",
    "MultiInference": "multi_inference_log",
}


class ServerCore:
    """All calls of TensorFlow Serving's two services; thread-safe.

    Every call raises `tf.errors.OpError`: the subclass is the status code, the
    message the text of TensorFlow Serving.

    Args:
        manager: has the loaded versions.
        metrics: counts every request; None: nobody counts.
        request_log: keeps a sample of the answered ones; None: no log.
        serialize_as_tensor_content: whether Predict answers with bytes
            rather than typed values.
        check_method_names: whether signatures of another kind than the call
            are refused.
    """

    def __init__(
        self,
        manager: model_manager.ModelManager,
        *,
        metrics: metrics_lib.Metrics | None = None,
        request_log: request_log_lib.RequestLog | None = None,
        serialize_as_tensor_content: bool = False,
        check_method_names: bool = False,
    ):
        self.manager = manager
        self._metrics = metrics
        self._request_log = request_log
        self._as_content = serialize_as_tensor_content
        self._check_method_names = check_method_names

    def predict(
        self,
        request: predict_pb2.PredictRequest,
        *,
        timeout_seconds: float | None = None,
        entrypoint: str = "GRPC",
    ) -> predict_pb2.PredictResponse:
        """Runs a signature on named tensors.

        Args:
            request: as TensorFlow Serving takes it.
            timeout_seconds: time the caller still waits; None: for ever.
            entrypoint: "GRPC" or "REST", for the metrics.
        """
        return self._infer(
            "Predict",
            inference.predict,
            request,
            timeout_seconds,
            entrypoint,
            as_content=self._as_content and entrypoint == "GRPC",
        )

    def classify(
        self,
        request: classification_pb2.ClassificationRequest,
        *,
        timeout_seconds: float | None = None,
        entrypoint: str = "GRPC",
    ) -> classification_pb2.ClassificationResponse:
        """Classes and scores of tf.Examples; arguments as in `predict`."""
        return self._infer(
            "Classify", inference.classify, request, timeout_seconds, entrypoint
        )

    def regress(
        self,
        request: regression_pb2.RegressionRequest,
        *,
        timeout_seconds: float | None = None,
        entrypoint: str = "GRPC",
    ) -> regression_pb2.RegressionResponse:
        """A number for each tf.Example; arguments as in `predict`."""
        return self._infer(
            "Regress", inference.regress, request, timeout_seconds, entrypoint
        )

    def multi_inference(
        self,
        request: inference_pb2.MultiInferenceRequest,
        *,
        timeout_seconds: float | None = None,
        entrypoint: str = "GRPC",
    ) -> inference_pb2.MultiInferenceResponse:
        """Several signatures at once; arguments as in `predict`."""
        return self._infer(
            "MultiInference",
            inference.multi_inference,
            request,
            timeout_seconds,
            entrypoint,
        )

    def get_model_metadata(
        self, request: get_model_metadata_pb2.GetModelMetadataRequest
    ) -> get_model_metadata_pb2.GetModelMetadataResponse:
        """Names, types and shapes of the signatures of a version."""
        _check_model_spec(request)
        if not request.metadata_field:
            raise tf.errors.InvalidArgumentError(
                None,
                None,
                "GetModelMetadataRequest must specify at least one "
                "metadata_field",
            )
        for field in request.metadata_field:
            if field != "signature_def":
                raise tf.errors.InvalidArgumentError(
                    None, None, f"Metadata field {field} is not supported"
                )
        response = get_model_metadata_pb2.GetModelMetadataResponse()
        signatures = get_model_metadata_pb2.SignatureDefMap()
        with self.manager.use(request.model_spec) as servable:
            response.model_spec.name = servable.name
            response.model_spec.version.value = servable.version
            for key, signature in servable.signatures.items():
                signatures.signature_def[key].CopyFrom(signature)
                # TensorFlow Serving 2.20 leaves default values out.
                signatures.signature_def[key].ClearField("defaults")
        response.metadata["signature_def"].Pack(signatures)
        return response

    def get_model_status(
        self, request: get_model_status_pb2.GetModelStatusRequest
    ) -> get_model_status_pb2.GetModelStatusResponse:
        """State of a version, or of all; a version label is ignored."""
        _check_model_spec(request)
        response = get_model_status_pb2.GetModelStatusResponse()
        for version, state, error_code, text in self.manager.statuses(
            request.model_spec
        ):
            status = response.model_version_status.add(
                version=version, state=state
            ).status
            status.error_code = error_code
            status.error_message = text
        return response

    def reload_config(
        self,
        request: model_management_pb2.ReloadConfigRequest,
        timeout_seconds: float | None = None,
    ) -> model_management_pb2.ReloadConfigResponse:
        """Replaces the list of models; returns once new ones are available.

        The answer tells by how much each wanted counter grew.
        """
        if request.config.WhichOneof("config") != "model_config_list":
            raise tf.errors.InvalidArgumentError(
                None,
                None,
                "ServerModelConfig type not supported by "
                "HandleReloadConfigRequest. Only ModelConfigList is currently "
                "supported",
            )
        names = dict.fromkeys(request.metric_names)
        before = {name: self._counter(name) for name in names}
        self.manager.set_config(request.config, timeout_seconds=timeout_seconds)
        response = model_management_pb2.ReloadConfigResponse()
        response.status.error_code = 0
        for name in names:
            response.metric.add(
                name=name,
                int64_value_increase=self._counter(name) - before[name],
            )
        return response

    def _counter(self, name: str) -> int:
        """First value of a counter, as TensorFlow Serving tells it; else 0."""
        if self._metrics is None:
            return 0
        return self._metrics.value(re.sub("[^a-zA-Z0-9_]", ":", name))

    def _infer(
        self,
        api: str,
        function: Callable[..., Any],
        request: Any,
        timeout_seconds: float | None,
        entrypoint: str,
        **options: bool,
    ) -> Any:
        """One request from model_spec to answer, counted and logged."""
        start = time.monotonic()
        model_spec = _model_spec(request)
        status = "OK"
        try:
            if api != "MultiInference":
                _check_model_spec(request)
            with self.manager.use(model_spec) as servable:
                if timeout_seconds is not None:
                    timeout_seconds -= time.monotonic() - start
                response = function(
                    servable,
                    request,
                    timeout_seconds,
                    check_method_name=self._check_method_names,
                    record_runtime=self._record_runtime(model_spec.name, api),
                    **options,
                )
        except tf.errors.OpError as error:
            status = error_codes_pb2.Code.Name(error.error_code)
            raise
        except MemoryError as error:
            status = "RESOURCE_EXHAUSTED"
            raise tf.errors.ResourceExhaustedError(
                None, None, f"Out of memory in {api}"
            ) from error
        except Exception as error:
            # A fault of this server: the client learns that it was one, the
            # log tells where, and the server goes on.
            status = "INTERNAL"
            _log.exception("%s of model %s failed", api, model_spec.name)
            raise tf.errors.InternalError(
                None, None, f"{type(error).__name__}: {error}"
            ) from error
        finally:
            if self._metrics is not None:
                self._metrics.record(
                    model_spec.name,
                    # As TensorFlow Serving names them.
                    api if entrypoint == "GRPC" else api.lower(),
                    entrypoint,
                    status,
                    time.monotonic() - start,
                    0 if api == "Predict" else _num_examples(request.input),
                )
        if self._request_log is not None and self._request_log.sample():
            self._request_log.write(_make_log(api, request, response))
        return response

    def _record_runtime(
        self, name: str, api: str
    ) -> inference.RecordRuntime | None:
        if self._metrics is None:
            return None
        return lambda seconds: self._metrics.record_runtime(name, api, seconds)


def _check_model_spec(request: Any) -> None:
    """Raises if a request names no model at all."""
    if not request.HasField("model_spec"):
        raise tf.errors.InvalidArgumentError(None, None, "Missing ModelSpec")


def _model_spec(request: Any) -> model_pb2.ModelSpec:
    """What a request asks for; of several tasks the first one counts."""
    if not isinstance(request, inference_pb2.MultiInferenceRequest):
        return request.model_spec
    return (
        request.tasks[0].model_spec if request.tasks else model_pb2.ModelSpec()
    )


def _num_examples(examples: input_pb2.Input) -> int:
    return len(examples.example_list.examples) or len(
        examples.example_list_with_context.examples
    )


def _make_log(
    api: str, request: Any, response: Any
) -> prediction_log_pb2.PredictionLog:
    """A record that can warm up a later version."""
    log = prediction_log_pb2.PredictionLog()
    answered = response.results[0] if api == "MultiInference" else response
    log.log_metadata.model_spec.CopyFrom(answered.model_spec)
    pair = getattr(log, _LOG_FIELDS[api])
    pair.request.CopyFrom(request)
    pair.response.CopyFrom(response)
    return log
