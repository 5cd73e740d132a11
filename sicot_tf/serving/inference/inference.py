"""TensorFlow Serving's inference calls on one loaded version of a model.

Requests and answers are TensorFlow Serving's own messages. Codes and texts of
errors are those of its predict_util.cc, classifier.cc, regressor.cc and
multi_inference.cc. Nothing here knows of gRPC or HTTP.
"""

import time
from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Sequence

import numpy as np
import tensorflow as tf
from tensorflow.core.protobuf import meta_graph_pb2
from tensorflow_serving.apis import classification_pb2
from tensorflow_serving.apis import inference_pb2
from tensorflow_serving.apis import model_pb2
from tensorflow_serving.apis import predict_pb2
from tensorflow_serving.apis import regression_pb2

from sicot_tf.serving.inference import example_signatures
from sicot_tf.serving.inference import servable as servable_lib
from sicot_tf.serving.inference import tensors

# Told the seconds that TensorFlow itself took for a request.
RecordRuntime = Callable[[float], None]

_METHOD_NAMES = (
    tf.saved_model.PREDICT_METHOD_NAME,
    example_signatures.CLASSIFY,
    example_signatures.REGRESS,
)


def predict(
    servable: servable_lib.Servable,
    request: predict_pb2.PredictRequest,
    timeout_seconds: float | None = None,
    *,
    as_content: bool = False,
    check_method_name: bool = False,
    record_runtime: RecordRuntime | None = None,
) -> predict_pb2.PredictResponse:
    """Runs one signature on named tensors.

    Args:
        servable: the loaded version.
        request: its model_spec chooses nothing but the signature.
        timeout_seconds: time the caller still waits; None: for ever.
        as_content: answer with bytes in `tensor_content` rather than with
            typed values.
        check_method_name: refuse signatures of an unknown method name.
        record_runtime: told the seconds that TensorFlow took.

    Raises:
        tf.errors.OpError: the subclass is the status code, the message
            the text of TensorFlow Serving.
    """
    deadline = _deadline(timeout_seconds)
    key, signature = _find_signature(servable, request.model_spec)
    if signature is None:
        raise tf.errors.FailedPreconditionError(
            None, None, f'Serving signature key "{key}" not found.'
        )
    if check_method_name and signature.method_name not in _METHOD_NAMES:
        raise tf.errors.InternalError(
            None,
            None,
            "Expected prediction signature method_name to be one of {"
            f"{', '.join(_METHOD_NAMES)}}}. Was: {signature.method_name}",
        )
    _check_num_inputs(signature, request)
    feeds = _parse_inputs(signature, request)
    aliases = _output_aliases(signature, request)
    infos = [signature.outputs[alias] for alias in aliases]

    values = _run(
        servable, feeds, [info.name for info in infos], deadline, record_runtime
    )

    response = predict_pb2.PredictResponse()
    _fill_model_spec(response.model_spec, servable, request.model_spec, key)
    for alias, info, value in zip(aliases, infos, values, strict=True):
        # In place: a message in a map is copied when it is assigned.
        tensors.fill_tensor(
            response.outputs[alias], info.dtype, value, as_content=as_content
        )
    return response


def classify(
    servable: servable_lib.Servable,
    request: classification_pb2.ClassificationRequest,
    timeout_seconds: float | None = None,
    *,
    check_method_name: bool = False,
    record_runtime: RecordRuntime | None = None,
) -> classification_pb2.ClassificationResponse:
    """Classes and scores of tf.Examples; arguments as in `predict`."""
    deadline = _deadline(timeout_seconds)
    key, signature = _example_signature(
        servable,
        request.model_spec,
        example_signatures.CLASSIFY,
        check_method_name,
    )
    feed, fetches = example_signatures.classify_tensors(
        signature, check_method_name
    )
    examples = example_signatures.serialize_examples(request.input)
    values = _run(servable, {feed: examples}, fetches, deadline, record_runtime)
    response = classification_pb2.ClassificationResponse()
    _fill_model_spec(response.model_spec, servable, request.model_spec, key)
    example_signatures.fill_classes(
        response.result,
        signature,
        len(examples),
        dict(zip(fetches, values, strict=True)),
    )
    return response


def regress(
    servable: servable_lib.Servable,
    request: regression_pb2.RegressionRequest,
    timeout_seconds: float | None = None,
    *,
    check_method_name: bool = False,
    record_runtime: RecordRuntime | None = None,
) -> regression_pb2.RegressionResponse:
    """A number for each tf.Example; arguments as in `predict`."""
    deadline = _deadline(timeout_seconds)
    key, signature = _example_signature(
        servable,
        request.model_spec,
        example_signatures.REGRESS,
        check_method_name,
    )
    feed, fetches = example_signatures.regress_tensors(
        signature, check_method_name
    )
    examples = example_signatures.serialize_examples(request.input)
    values = _run(servable, {feed: examples}, fetches, deadline, record_runtime)
    response = regression_pb2.RegressionResponse()
    _fill_model_spec(response.model_spec, servable, request.model_spec, key)
    example_signatures.fill_regressions(
        response.result,
        signature,
        len(examples),
        dict(zip(fetches, values, strict=True)),
    )
    return response


def multi_inference(
    servable: servable_lib.Servable,
    request: inference_pb2.MultiInferenceRequest,
    timeout_seconds: float | None = None,
    *,
    check_method_name: bool = False,
    record_runtime: RecordRuntime | None = None,
) -> inference_pb2.MultiInferenceResponse:
    """Several signatures on the same tf.Examples in one run of the graph.

    The examples go to the input tensor of each of them: TensorFlow 2 saves
    every signature with a tensor of its own. Arguments as in `predict`.
    """
    deadline = _deadline(timeout_seconds)
    feeds = set()
    fetches = set()
    signatures = {}
    for task in request.tasks:
        key, signature = _find_signature(servable, task.model_spec)
        _check_task(task, request.tasks[0], key, signatures)
        if signature is None:
            raise tf.errors.InvalidArgumentError(
                None,
                None,
                f"Requested signature not found in model graph: {key}",
            )
        if task.method_name == example_signatures.CLASSIFY:
            name, outputs = example_signatures.classify_tensors(
                signature, check_method_name
            )
        elif task.method_name == example_signatures.REGRESS:
            name, outputs = example_signatures.regress_tensors(
                signature, check_method_name
            )
        else:
            raise tf.errors.UnimplementedError(
                None,
                None,
                f"Unsupported signature method_name: {task.method_name}",
            )
        feeds.add(name)
        fetches |= set(outputs)
        signatures[key] = signature

    examples = example_signatures.serialize_examples(request.input)
    names = sorted(fetches)
    values = _run(
        servable,
        dict.fromkeys(sorted(feeds), examples),
        names,
        deadline,
        record_runtime,
    )
    outputs = dict(zip(names, values, strict=True))
    response = inference_pb2.MultiInferenceResponse()
    for task, (key, signature) in zip(
        request.tasks, signatures.items(), strict=True
    ):
        result = response.results.add()
        _fill_model_spec(result.model_spec, servable, task.model_spec, key)
        if task.method_name == example_signatures.CLASSIFY:
            example_signatures.fill_classes(
                result.classification_result, signature, len(examples), outputs
            )
        else:
            example_signatures.fill_regressions(
                result.regression_result, signature, len(examples), outputs
            )
    return response


def _deadline(timeout_seconds: float | None) -> float | None:
    """As a time of `time.monotonic`: reading the request counts too."""
    if timeout_seconds is None:
        return None
    return time.monotonic() + timeout_seconds


def _run(
    servable: servable_lib.Servable,
    feeds: dict[str, np.ndarray],
    fetches: Sequence[str],
    deadline: float | None,
    record_runtime: RecordRuntime | None,
) -> list[np.ndarray]:
    """Runs the graph until the deadline and reports the time it took."""
    start = time.monotonic()
    timeout_seconds = None if deadline is None else deadline - start
    values = servable.run(feeds, fetches, timeout_seconds)
    if record_runtime is not None:
        record_runtime(time.monotonic() - start)
    return values


def _find_signature(
    servable: servable_lib.Servable, model_spec: model_pb2.ModelSpec
) -> tuple[str, meta_graph_pb2.SignatureDef | None]:
    """Name of the signature a request means; None if nobody may call it."""
    key = (
        model_spec.signature_name
        or tf.saved_model.DEFAULT_SERVING_SIGNATURE_DEF_KEY
    )
    if key == servable_lib.INIT_SIGNATURE:
        return key, None
    return key, servable.signatures.get(key)


def _fill_model_spec(
    filled: model_pb2.ModelSpec,
    servable: servable_lib.Servable,
    requested: model_pb2.ModelSpec,
    key: str,
) -> None:
    """Tells what answered; a label is not repeated."""
    filled.name = requested.name
    filled.signature_name = key
    filled.version.value = servable.version


def _check_num_inputs(
    signature: meta_graph_pb2.SignatureDef, request: predict_pb2.PredictRequest
) -> None:
    """Raises if there are too many inputs, or too few without defaults."""
    num_expected = len(signature.inputs)
    num_received = len(request.inputs)
    if num_received == num_expected or (
        num_received < num_expected and signature.defaults
    ):
        return
    expected = set(signature.inputs)
    received = set(request.inputs)
    raise tf.errors.InvalidArgumentError(
        None,
        None,
        f"input size does not match signature: {num_received}!={num_expected} "
        f"len({{{_join(received)}}}) != len({{{_join(expected)}}}). "
        f"Sent extra: {{{_join(received - expected)}}}. "
        f"Missing but required: {{{_join(expected - received)}}}.",
    )


def _parse_inputs(
    signature: meta_graph_pb2.SignatureDef, request: predict_pb2.PredictRequest
) -> dict[str, np.ndarray]:
    """Arrays by feed name, from the request or from the defaults."""
    feeds = {}
    used = []
    for alias in sorted(signature.inputs):
        name = signature.inputs[alias].name
        if alias in request.inputs:
            proto = request.inputs[alias]
            used.append(alias)
        elif alias in signature.defaults:
            proto = signature.defaults[alias]
        else:
            raise tf.errors.InvalidArgumentError(
                None,
                None,
                f"Signature input alias: {alias}(feed name: {name}) not found "
                "in request and no default value provided. Inputs expected to "
                f"be in the request {{{_join(request.inputs)}}}, or default "
                f"input alias set: {_join(signature.defaults)}",
            )
        feeds[name] = tensors.parse_tensor(alias, proto)
    if len(used) != len(request.inputs):
        raise tf.errors.InvalidArgumentError(
            None,
            None,
            "Inputs contains invalid name. Used request inputs: "
            f"{_join(used)}, request input: {_join(request.inputs)}",
        )
    return feeds


def _output_aliases(
    signature: meta_graph_pb2.SignatureDef, request: predict_pb2.PredictRequest
) -> list[str]:
    """Names of the wanted outputs; without a filter all of them."""
    aliases = []
    for alias in request.output_filter:
        if alias not in signature.outputs:
            raise tf.errors.InvalidArgumentError(
                None,
                None,
                f"output tensor alias not found in signature: {alias} Outputs "
                f"expected to be in the set {{{_join(signature.outputs)}}}.",
            )
        if alias in aliases:
            raise tf.errors.InvalidArgumentError(
                None, None, f"duplicate output tensor alias: {alias}"
            )
        aliases.append(alias)
    return aliases or sorted(signature.outputs)


def _join(names: Iterable[str]) -> str:
    return ",".join(sorted(names))


def _example_signature(
    servable: servable_lib.Servable,
    model_spec: model_pb2.ModelSpec,
    method_name: str,
    check_method_name: bool,
) -> tuple[str, meta_graph_pb2.SignatureDef]:
    """Key and signature of a call that takes tf.Examples."""
    key, signature = _find_signature(servable, model_spec)
    if signature is None:
        raise tf.errors.InvalidArgumentError(
            None, None, f"No signature was found with the name: {key}"
        )
    if check_method_name:
        example_signatures.check_method(signature, method_name)
    return key, signature


def _check_task(
    task: inference_pb2.InferenceTask,
    first: inference_pb2.InferenceTask,
    key: str,
    signatures: dict[str, meta_graph_pb2.SignatureDef],
) -> None:
    """Raises if a task of a MultiInferenceRequest contradicts the others."""
    if not task.model_spec.name:
        text = "Found ModelSpec with an empty model name."
    elif task.model_spec.name != first.model_spec.name:
        text = (
            "All ModelSpecs in a MultiInferenceRequest must access the same "
            "model name."
        )
    elif key in signatures:
        text = f"Duplicate evaluation of signature: {key}"
    else:
        return
    raise tf.errors.InvalidArgumentError(None, None, text)
