"""tf.Examples of a Classify or Regress request out of JSON.

`{"context": {..}, "examples": [{"age": 3, "name": ["a", "b"]}, ..]}`: an
integer or bool makes an int64 feature, a number with a point a float one, a
string or base64 a bytes one. Texts of errors: json_tensor.cc of TensorFlow
Serving.
"""

from typing import Any

import tensorflow as tf
from tensorflow_serving.apis import classification_pb2
from tensorflow_serving.apis import regression_pb2

from sicot_tf.serving.rest_api import json_values


def fill_examples(
    document: dict[str, Any],
    request: (
        classification_pb2.ClassificationRequest
        | regression_pb2.RegressionRequest
    ),
) -> None:
    """Fills in signature, tf.Examples and the context of all of them.

    Raises:
        tf.errors.InvalidArgumentError: if the document is of another form.
    """
    json_values.fill_signature_name(document, request)
    examples = request.input.example_list.examples
    if "context" in document:
        with_context = request.input.example_list_with_context
        with_context.context.SetInParent()
        _fill_example(document["context"], with_context.context)
        examples = with_context.examples
    if "examples" not in document:
        raise json_values.format_error(
            document,
            "When method is classify, key 'examples' is expected and was not "
            "found",
        )
    values = document["examples"]
    if type(values) is not list:
        raise json_values.format_error(
            document, "Expecting 'examples' value to be an list/array"
        )
    if not values:
        raise json_values.format_error(
            document, "'examples' value is an empty array"
        )
    for value in values:
        _fill_example(value, examples.add())


def _fill_example(value: Any, example: tf.train.Example) -> None:
    """Features of an object whose values are scalars or flat lists."""
    if type(value) is not dict:
        raise json_values.invalid(
            "Example must be JSON object but got JSON "
            f"{json_values.type_text(value)}"
        )
    for name, content in value.items():
        feature = example.features.feature[name]
        for element in content if type(content) is list else [content]:
            _add_value(element, name, feature)


def _add_value(value: Any, name: str, feature: tf.train.Feature) -> None:
    """Adds one value to a feature, whose first value decides its type."""
    kind = type(value)
    # What 64 bits do not hold is a decimal, whatever it looks like.
    if kind is bool or (kind is int and -(2**63) <= value < 2**64):
        values = _values(feature, "int64_list", name)
        if value >= 2**63:
            raise json_values.invalid(
                f"Feature: {name} has uint64 element. Only int64 is supported."
            )
        values.append(int(value))
    elif kind in (int, float):
        # As in a float tensor: rounded, 1e39 is infinite.
        _values(feature, "float_list", name).append(value)
    elif kind is str or json_values.is_base64(value):
        values = _values(feature, "bytes_list", name)
        try:
            values.append(json_values.to_bytes(value))
        except json_values.DoesNotFit:
            raise json_values.invalid("Unable to base64 decode") from None
    else:
        raise json_values.invalid(
            f"Feature: {name} has element with unexpected JSON type: "
            f"{json_values.type_text(value)}"
        )


def _values(feature: tf.train.Feature, kind: str, name: str) -> Any:
    """The list of a kind in `feature`, unless it has one of another kind."""
    present = feature.WhichOneof("kind")
    if present not in (None, kind):
        raise json_values.invalid(
            f"Unexpected element type in feature: {name} expecting type: "
            f"{present.removesuffix('_list')}"
        )
    return getattr(feature, kind).value
