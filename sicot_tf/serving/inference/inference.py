"""TensorFlow Serving's inference calls on one loaded version of a model.

Requests and answers are TensorFlow Serving's own messages, codes of errors
those of its predict_util.cc, classifier.cc, regressor.cc and
multi_inference.cc. Nothing here knows of gRPC or HTTP.
"""

import functools
import time
from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Sequence
from typing import Any
from typing import NamedTuple

import numpy as np
import tensorflow as tf
from tensorflow.core.protobuf import meta_graph_pb2
from tensorflow_serving.apis import classification_pb2
from tensorflow_serving.apis import inference_pb2
from tensorflow_serving.apis import input_pb2
from tensorflow_serving.apis import model_pb2
from tensorflow_serving.apis import predict_pb2
from tensorflow_serving.apis import regression_pb2

from sicot_tf.serving import errors
from sicot_tf.serving.inference import example_signatures
from sicot_tf.serving.inference import tensors
from sicot_tf.serving.inference.servable import Servable

# Told the seconds that TensorFlow itself took for a request.
RecordRuntime = Callable[[float], None]

_METHOD_NAMES = (
    tf.saved_model.PREDICT_METHOD_NAME,
    example_signatures.CLASSIFY,
    example_signatures.REGRESS,
)


def predict(
    servable: Servable,
    request: predict_pb2.PredictRequest,
    deadline: float | None = None,
    *,
    as_content: bool = False,
    check_method_name: bool = False,
    record_runtime: RecordRuntime | None = None,
) -> predict_pb2.PredictResponse:
    """Runs one signature on named tensors.

    Args:
        servable: the loaded version.
        request: its model_spec chooses nothing but the signature.
        deadline: by `time.monotonic`; None: the caller waits for ever.
        as_content: answer with bytes in `tensor_content` rather than with
            typed values.
        check_method_name: refuse signatures of an unknown method name.
        record_runtime: told the seconds that TensorFlow took.

    Raises:
        tf.errors.OpError: the subclass is the status code.
    """
    key, signature = servable.signature(request.model_spec.signature_name)
    if signature is None:
        raise errors.failed_precondition(
            f'Serving signature key "{key}" not found.'
        )
    if check_method_name and signature.method_name not in _METHOD_NAMES:
        raise errors.internal(
            f"Expected a signature with a method_name of {_METHOD_NAMES}, "
            f"received {signature.method_name}"
        )
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


def _run_one_task(
    method_name: str,
    response_class: Callable[[], Any],
    servable: Servable,
    request: Any,
    deadline: float | None = None,
    **options: object,
) -> Any:
    """Answers on tf.Examples; arguments as in `predict`."""
    response = response_class()
    task = _Task(
        request.model_spec, method_name, response.model_spec, response.result
    )
    _run_tasks(servable, [task], request.input, deadline, **options)
    return response


# Classes and scores of tf.Examples.
classify = functools.partial(
    _run_one_task,
    example_signatures.CLASSIFY,
    classification_pb2.ClassificationResponse,
)
# A number for each tf.Example.
regress = functools.partial(
    _run_one_task,
    example_signatures.REGRESS,
    regression_pb2.RegressionResponse,
)


def multi_inference(
    servable: Servable,
    request: inference_pb2.MultiInferenceRequest,
    deadline: float | None = None,
    **options: object,
) -> inference_pb2.MultiInferenceResponse:
    """Several signatures on the same tf.Examples in one run of the graph.

    The examples go to the input tensor of each of them: TensorFlow 2 saves
    every signature with a tensor of its own. Arguments as in `predict`.
    """
    names = {task.model_spec.name for task in request.tasks}
    if len(names) != 1 or "" in names:
        raise errors.invalid(
            "Expected one or more tasks, all with the same model name, "
            f"received {len(request.tasks)} with {sorted(names)}"
        )
    response = inference_pb2.MultiInferenceResponse()
    tasks = []
    for task in request.tasks:
        result = response.results.add()
        filled = result.classification_result
        if task.method_name == example_signatures.REGRESS:
            filled = result.regression_result
        tasks.append(
            _Task(task.model_spec, task.method_name, result.model_spec, filled)
        )
    _run_tasks(servable, tasks, request.input, deadline, **options)
    return response


class _Task(NamedTuple):
    """One signature to run on tf.Examples, and what its answer fills."""

    model_spec: model_pb2.ModelSpec
    method_name: str
    answered: model_pb2.ModelSpec
    result: example_signatures.Result


def _run_tasks(
    servable: Servable,
    tasks: Sequence[_Task],
    examples: input_pb2.Input,
    deadline: float | None,
    *,
    check_method_name: bool = False,
    record_runtime: RecordRuntime | None = None,
) -> None:
    """Fills all answers from one run."""
    signatures = {}
    feeds = set()
    fetches = set()
    for task in tasks:
        key, signature = servable.signature(task.model_spec.signature_name)
        if signature is None:
            raise errors.invalid(f"No signature was found with the name: {key}")
        if key in signatures:
            raise errors.invalid(f"Duplicate evaluation of signature: {key}")
        if check_method_name and signature.method_name != task.method_name:
            raise errors.invalid(
                f"Expected a signature with method_name {task.method_name}, "
                f"received {signature.method_name}"
            )
        feed, outputs = example_signatures.tensor_names(
            signature, task.method_name
        )
        signatures[key] = signature
        feeds.add(feed)
        fetches.update(outputs)

    serialized = example_signatures.serialize(examples)
    names = sorted(fetches)
    values = _run(
        servable,
        dict.fromkeys(sorted(feeds), serialized),
        names,
        deadline,
        record_runtime,
    )

    by_name = dict(zip(names, values, strict=True))
    for task, key in zip(tasks, signatures, strict=True):
        _fill_model_spec(task.answered, servable, task.model_spec, key)
        example_signatures.fill_result(
            task.result,
            signatures[key],
            task.method_name,
            len(serialized),
            by_name,
        )


def _run(
    servable: Servable,
    feeds: dict[str, np.ndarray],
    fetches: Sequence[str],
    deadline: float | None,
    record_runtime: RecordRuntime | None,
) -> list[np.ndarray]:
    """Runs the graph until the deadline and reports the time it took."""
    start = time.monotonic()
    values = servable.run(feeds, fetches, deadline)
    if record_runtime is not None:
        record_runtime(time.monotonic() - start)
    return values


def _fill_model_spec(
    filled: model_pb2.ModelSpec,
    servable: Servable,
    requested: model_pb2.ModelSpec,
    key: str,
) -> None:
    """Tells what answered; a label is not repeated."""
    filled.name = requested.name
    filled.signature_name = key
    filled.version.value = servable.version


def _parse_inputs(
    signature: meta_graph_pb2.SignatureDef, request: predict_pb2.PredictRequest
) -> dict[str, np.ndarray]:
    """Arrays by feed name, from the request or from the defaults."""
    expected = set(signature.inputs)
    received = set(request.inputs)
    missing = expected - received - set(signature.defaults)
    extra = received - expected
    if missing or extra:
        raise errors.invalid(
            f"Expected the inputs {_join(expected)}, received "
            f"{_join(received)}. Missing but required: {_join(missing)}. "
            f"Sent extra: {_join(extra)}."
        )
    feeds = {}
    for alias in sorted(expected):
        source = request.inputs if alias in received else signature.defaults
        feeds[signature.inputs[alias].name] = tensors.parse_tensor(
            alias, source[alias]
        )
    return feeds


def _output_aliases(
    signature: meta_graph_pb2.SignatureDef, request: predict_pb2.PredictRequest
) -> list[str]:
    """Names of the wanted outputs; without a filter all of them."""
    aliases = list(request.output_filter)
    unknown = set(aliases) - set(signature.outputs)
    if unknown or len(set(aliases)) != len(aliases):
        raise errors.invalid(
            "Expected an output_filter of different names out of "
            f"{_join(signature.outputs)}, received {aliases}"
        )
    return aliases or sorted(signature.outputs)


def _join(names: Iterable[str]) -> str:
    """For a message: `{a,b}`."""
    return f"{{{','.join(sorted(names))}}}"
