"""Signatures on tf.Examples: what Classify, Regress and MultiInference read.

Codes of errors are those of TensorFlow Serving's classifier.cc, regressor.cc
and util.cc.
"""

from collections.abc import Mapping

import numpy as np
import tensorflow as tf
from tensorflow.core.protobuf import meta_graph_pb2
from tensorflow_serving.apis import classification_pb2
from tensorflow_serving.apis import input_pb2
from tensorflow_serving.apis import regression_pb2

from sicot_tf.serving import errors

CLASSIFY = tf.saved_model.CLASSIFY_METHOD_NAME
REGRESS = tf.saved_model.REGRESS_METHOD_NAME

Result = (
    classification_pb2.ClassificationResult | regression_pb2.RegressionResult
)

# What a signature gives, by its method. NumPy holds strings as objects.
_OUTPUTS = {
    CLASSIFY: {"classes": np.dtype(object), "scores": np.dtype(np.float32)},
    REGRESS: {"outputs": np.dtype(np.float32)},
}


def tensor_names(
    signature: meta_graph_pb2.SignatureDef, method_name: str
) -> tuple[str, list[str]]:
    """Names of the tensor of tf.Examples and of what comes out.

    Raises tf.errors.OpError if the signature doesn't fit the method.
    """
    if method_name not in _OUTPUTS:
        raise errors.unimplemented(
            f"Unsupported signature method_name: {method_name}"
        )
    known = _OUTPUTS[method_name]
    found = [alias for alias in known if alias in signature.outputs]
    fits = len(signature.inputs) == 1 <= len(signature.outputs) <= len(known)
    if not fits or "inputs" not in signature.inputs or not found:
        raise (errors.failed_precondition if fits else errors.invalid)(
            "Expected a signature with the one input 'inputs' and outputs of "
            f"{list(known)}, received inputs {sorted(signature.inputs)} and "
            f"outputs {sorted(signature.outputs)}"
        )
    return (
        signature.inputs["inputs"].name,
        [signature.outputs[alias].name for alias in found],
    )


def serialize(examples: input_pb2.Input) -> np.ndarray:
    """`[batch]` serialized tf.Examples; a context precedes each of them."""
    context = b""
    if examples.HasField("example_list_with_context"):
        with_context = examples.example_list_with_context
        # One message after another is their merge.
        context = with_context.context.SerializeToString()
        protos = with_context.examples
    else:
        protos = examples.example_list.examples
    if not protos:
        raise errors.invalid("Input is empty.")
    serialized = np.empty(len(protos), object)
    serialized[:] = [context + proto.SerializeToString() for proto in protos]
    return serialized


def fill_result(
    result: Result,
    signature: meta_graph_pb2.SignatureDef,
    method_name: str,
    num_examples: int,
    values: Mapping[str, np.ndarray],
) -> None:
    """Writes classes and scores, or a number, of each example.

    `values`, by tensor name, are of a signature that `tensor_names` has
    checked; raises tf.errors.InvalidArgumentError if they don't fit.
    """
    found = {}
    rank = 2 if method_name == CLASSIFY else 1
    for alias, dtype in _OUTPUTS[method_name].items():
        if alias not in signature.outputs:
            continue
        array = np.asarray(values[signature.outputs[alias].name])
        if method_name == REGRESS and array.shape == (num_examples, 1):
            array = array[:, 0]
        fits = array.ndim == rank and len(array) == num_examples
        if not fits or array.dtype != dtype:
            raise errors.invalid(
                f"Expected {alias} of the model as {tf.as_dtype(dtype).name} "
                f"of rank {rank}, {num_examples} examples, received "
                f"{tf.as_dtype(array.dtype).name} of {list(array.shape)}"
            )
        found[alias] = array.tolist()
    if method_name == CLASSIFY:
        _fill_classes(result, **found)
    else:
        for value in found["outputs"]:
            result.regressions.add(value=value)


def _fill_classes(
    result: classification_pb2.ClassificationResult,
    classes: list[list[bytes]] | None = None,
    scores: list[list[float]] | None = None,
) -> None:
    """Writes the class names, the scores or both, of each example."""
    if classes and scores and len(classes[0]) != len(scores[0]):
        raise errors.invalid(
            f"Expected as many classes as scores, received {len(classes[0])} "
            f"and {len(scores[0])}"
        )
    for row, any_row in enumerate(classes or scores):
        items = result.classifications.add().classes
        for column in range(len(any_row)):
            item = items.add()
            if classes:
                # The field takes only UTF-8.
                item.label = classes[row][column].decode("utf-8", "replace")
            if scores:
                item.score = scores[row][column]
