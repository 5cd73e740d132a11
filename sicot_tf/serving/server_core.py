"""What the model server answers, whichever way a request came in.

gRPC and REST are thin layers over `ServerCore`: versions, errors, metrics and
request log are the same for both.
"""

import functools
import logging
import re
import time
from collections.abc import Callable
from typing import Any

import tensorflow as tf
from tensorflow_serving.apis import get_model_metadata_pb2
from tensorflow_serving.apis import get_model_status_pb2
from tensorflow_serving.apis import inference_pb2
from tensorflow_serving.apis import model_management_pb2
from tensorflow_serving.apis import model_pb2
from tensorflow_serving.apis import prediction_log_pb2

from sicot_tf.serving import errors
from sicot_tf.serving.inference import inference
from sicot_tf.serving.metrics import Metrics
from sicot_tf.serving.request_log import RequestLog
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

    Every call raises `tf.errors.OpError`: the subclass is the status code.

    Args:
        manager: has the loaded versions.
        metrics: counts every request.
        request_log: keeps a sample of the answered ones; None: no log.
        serialize_as_tensor_content: Predict answers with bytes.
        check_method_names: refuse signatures of another kind than the call.
    """

    def __init__(
        self,
        manager: model_manager.ModelManager,
        *,
        metrics: Metrics | None = None,
        request_log: RequestLog | None = None,
        serialize_as_tensor_content: bool = False,
        check_method_names: bool = False,
    ):
        self.manager = manager
        self._metrics = metrics or Metrics()
        self._request_log = request_log
        self._as_content = serialize_as_tensor_content
        self._check_method_names = check_method_names

    def get_model_metadata(
        self, request: get_model_metadata_pb2.GetModelMetadataRequest
    ) -> get_model_metadata_pb2.GetModelMetadataResponse:
        """Names, types and shapes of the signatures of a version."""
        _check_model_spec(request)
        if set(request.metadata_field) != {"signature_def"}:
            raise errors.invalid(
                "Expected the metadata_field signature_def, received "
                f"{list(request.metadata_field)}"
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
        return get_model_status_pb2.GetModelStatusResponse(
            model_version_status=self.manager.statuses(request.model_spec)
        )

    def reload_config(
        self,
        request: model_management_pb2.ReloadConfigRequest,
        timeout_seconds: float | None = None,
    ) -> model_management_pb2.ReloadConfigResponse:
        """Replaces the models; the answer tells how far counters grew."""
        before = {name: self._counter(name) for name in request.metric_names}
        self.manager.set_config(request.config, timeout_seconds=timeout_seconds)
        response = model_management_pb2.ReloadConfigResponse()
        response.status.error_code = 0
        for name, value in before.items():
            response.metric.add(
                name=name, int64_value_increase=self._counter(name) - value
            )
        return response

    def _counter(self, name: str) -> int:
        """First value of a counter, as TensorFlow Serving tells it; else 0."""
        return self._metrics.value(re.sub("[^a-zA-Z0-9_]", ":", name))

    def _infer(
        self,
        api: str,
        call: Callable[..., Any],
        request: Any,
        timeout_seconds: float | None = None,
        entrypoint: str = "GRPC",
    ) -> Any:
        """One request, counted and logged.

        Args:
            api: name of the call in the metrics.
            call: of `inference`.
            request: that of the call.
            timeout_seconds: that the caller still waits; None: for ever.
            entrypoint: "GRPC" or "REST", for the metrics.
        """
        start = time.monotonic()
        deadline = None if timeout_seconds is None else start + timeout_seconds
        model_spec = _model_spec(request)
        options = {}
        if api == "Predict":
            options["as_content"] = self._as_content and entrypoint == "GRPC"
        code = tf.errors.OK
        try:
            if api != "MultiInference":
                _check_model_spec(request)
            with self.manager.use(model_spec) as servable:
                response = call(
                    servable,
                    request,
                    deadline,
                    check_method_name=self._check_method_names,
                    record_runtime=lambda seconds: self._metrics.record_runtime(
                        model_spec.name, api, seconds
                    ),
                    **options,
                )
        except tf.errors.OpError as error:
            code = error.error_code
            raise
        except Exception as error:
            fault = _fault(api, model_spec.name, error)
            code = fault.error_code
            raise fault from error
        finally:
            self._metrics.record(
                model_spec.name,
                # As TensorFlow Serving names them.
                api if entrypoint == "GRPC" else api.lower(),
                entrypoint,
                errors.code_name(code),
                time.monotonic() - start,
                0 if api == "Predict" else _num_examples(request),
            )
        if self._request_log is not None and self._request_log.sample():
            self._request_log.write(_make_log(api, request, response))
        return response

    predict = functools.partialmethod(_infer, "Predict", inference.predict)
    classify = functools.partialmethod(_infer, "Classify", inference.classify)
    regress = functools.partialmethod(_infer, "Regress", inference.regress)
    multi_inference = functools.partialmethod(
        _infer, "MultiInference", inference.multi_inference
    )


def _fault(api: str, name: str, error: Exception) -> tf.errors.OpError:
    """What the client learns of a fault of this server; the log tells where."""
    if isinstance(error, MemoryError):
        return errors.resource_exhausted(f"Out of memory in {api}")
    _log.error("%s of model %s failed", api, name, exc_info=error)
    return errors.internal(f"{type(error).__name__}: {error}")


def _check_model_spec(request: Any) -> None:
    """Raises if a request names no model at all."""
    if not request.HasField("model_spec"):
        raise errors.invalid("Missing ModelSpec")


def _model_spec(request: Any) -> model_pb2.ModelSpec:
    """What a request asks for; of several tasks the first one counts."""
    if not isinstance(request, inference_pb2.MultiInferenceRequest):
        return request.model_spec
    return next(iter(request.tasks), inference_pb2.InferenceTask()).model_spec


def _num_examples(request: Any) -> int:
    return len(request.input.example_list.examples) or len(
        request.input.example_list_with_context.examples
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
