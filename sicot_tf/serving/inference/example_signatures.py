"""Signatures on tf.Examples: what Classify, Regress and MultiInference read.

Codes and texts of errors are those of TensorFlow Serving's classifier.cc,
regressor.cc and util.cc.
"""

from collections.abc import Mapping

import numpy as np
import tensorflow as tf
from tensorflow.core.framework import types_pb2
from tensorflow.core.protobuf import meta_graph_pb2
from tensorflow_serving.apis import classification_pb2
from tensorflow_serving.apis import input_pb2
from tensorflow_serving.apis import regression_pb2

CLASSIFY = tf.saved_model.CLASSIFY_METHOD_NAME
REGRESS = tf.saved_model.REGRESS_METHOD_NAME


def check_method(
    signature: meta_graph_pb2.SignatureDef, method_name: str
) -> None:
    """Raises if a signature was exported for another kind of call."""
    if signature.method_name != method_name:
        kind = "classification" if method_name == CLASSIFY else "regression"
        raise tf.errors.InvalidArgumentError(
            None,
            None,
            f"Expected {kind} signature method_name to be {method_name}. "
            f"Was: {signature.method_name}",
        )


def classify_tensors(
    signature: meta_graph_pb2.SignatureDef, check_method_name: bool
) -> tuple[str, list[str]]:
    """Names of the tensor of tf.Examples and of classes, scores or both."""
    if check_method_name:
        check_method(signature, CLASSIFY)
    if len(signature.inputs) != 1:
        raise tf.errors.InvalidArgumentError(
            None, None, "Expected one input Tensor."
        )
    if len(signature.outputs) not in (1, 2):
        raise tf.errors.InvalidArgumentError(
            None,
            None,
            "Expected one or two output Tensors, found "
            f"{len(signature.outputs)}",
        )
    if "inputs" not in signature.inputs:
        raise tf.errors.FailedPreconditionError(
            None,
            None,
            f"No classification inputs found in SignatureDef: {signature}",
        )
    fetches = [
        signature.outputs[alias].name
        for alias in ("classes", "scores")
        if alias in signature.outputs
    ]
    if not fetches:
        raise tf.errors.FailedPreconditionError(
            None,
            None,
            "Expected classification signature outputs to contain at least "
            f'one of "classes" or "scores". Signature was: {signature}',
        )
    return signature.inputs["inputs"].name, fetches


def regress_tensors(
    signature: meta_graph_pb2.SignatureDef, check_method_name: bool
) -> tuple[str, list[str]]:
    """Names of the tensor of tf.Examples and of the numbers."""
    if check_method_name:
        check_method(signature, REGRESS)
    for infos, kind in (
        (signature.inputs, "input"),
        (signature.outputs, "output"),
    ):
        if len(infos) != 1:
            raise tf.errors.InvalidArgumentError(
                None, None, f"Expected one {kind} Tensor."
            )
    for infos, alias in (
        (signature.inputs, "inputs"),
        (signature.outputs, "outputs"),
    ):
        if alias not in infos:
            raise tf.errors.FailedPreconditionError(
                None,
                None,
                f"No regression {alias} found in SignatureDef: {signature}",
            )
    return signature.inputs["inputs"].name, [signature.outputs["outputs"].name]


def serialize_examples(examples: input_pb2.Input) -> np.ndarray:
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
        raise tf.errors.InvalidArgumentError(None, None, "Input is empty.")
    serialized = np.empty(len(protos), object)
    serialized[:] = [context + proto.SerializeToString() for proto in protos]
    return serialized


def fill_classes(
    result: classification_pb2.ClassificationResult,
    signature: meta_graph_pb2.SignatureDef,
    num_examples: int,
    outputs: Mapping[str, np.ndarray],
) -> None:
    """Writes the class names and scores of each example."""
    found = {
        alias: np.asarray(outputs[signature.outputs[alias].name])
        for alias in ("classes", "scores")
        if alias in signature.outputs
    }
    for alias, array in found.items():
        wanted = (
            types_pb2.DT_STRING if alias == "classes" else types_pb2.DT_FLOAT
        )
        if array.ndim != 2:
            text = (
                "Expected Tensor shape: [batch_size num_classes] but got "
                f"{_debug_string(array)}"
            )
        elif _datatype(array) != wanted:
            text = (
                f"Expected {alias} Tensor of {types_pb2.DataType.Name(wanted)}"
                f". Got: {types_pb2.DataType.Name(_datatype(array))}"
            )
        elif len(array) != num_examples:
            text = (
                f"Expected {alias} output batch size of {num_examples}. "
                f"Got: {len(array)}"
            )
        else:
            continue
        raise tf.errors.InvalidArgumentError(None, None, text)
    widths = [array.shape[1] for array in found.values()]
    if len(set(widths)) > 1:
        raise tf.errors.InvalidArgumentError(
            None,
            None,
            "Tensors class and score should match in dim_size(1). Got "
            f"{widths[0]} vs. {widths[1]}",
        )
    labels = found["classes"].tolist() if "classes" in found else None
    scores = found["scores"].tolist() if "scores" in found else None
    for row in range(num_examples):
        classes = result.classifications.add().classes
        for column in range(widths[0]):
            item = classes.add()
            if labels is not None:
                item.label = _to_text(labels[row][column])
            if scores is not None:
                item.score = scores[row][column]


def fill_regressions(
    result: regression_pb2.RegressionResult,
    signature: meta_graph_pb2.SignatureDef,
    num_examples: int,
    outputs: Mapping[str, np.ndarray],
) -> None:
    """Writes the number of each example."""
    array = np.asarray(outputs[signature.outputs["outputs"].name])
    if array.ndim != 1 and not (array.ndim == 2 and array.shape[1] == 1):
        text = (
            "Expected output Tensor shape to be either [batch_size] or "
            f"[batch_size, 1] but got {_debug_string(array)}"
        )
    elif len(array) != num_examples:
        text = (
            "Input batch size did not match output batch size: "
            f"{num_examples} vs. {len(array)}"
        )
    elif _datatype(array) != types_pb2.DT_FLOAT:
        text = (
            "Expected output Tensor of DT_FLOAT.  Got: "
            f"{types_pb2.DataType.Name(_datatype(array))}"
        )
    else:
        for value in array.ravel().tolist():
            result.regressions.add(value=value)
        return
    raise tf.errors.InvalidArgumentError(None, None, text)


def _datatype(array: np.ndarray) -> int:
    return tf.as_dtype(array.dtype).as_datatype_enum


def _debug_string(array: np.ndarray) -> str:
    """A shape as TensorFlow prints it."""
    return f"[{','.join(str(size) for size in array.shape)}]"


def _to_text(label: bytes) -> str:
    """A label field takes only UTF-8; other bytes would fail the answer."""
    return label.decode("utf-8", "replace")
