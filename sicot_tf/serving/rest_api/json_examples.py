"""tf.Examples of a Classify or Regress request out of JSON.

`{"context": {..}, "examples": [{"age": 3, "name": ["a", "b"]}, ..]}`: an
integer or bool makes an int64 feature, a number with a point a float one, a
string or base64 a bytes one.
"""

from typing import Any

import tensorflow as tf
from tensorflow_serving.apis import classification_pb2
from tensorflow_serving.apis import regression_pb2

from sicot_tf.serving import errors
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
    values = document.get("examples")
    if type(values) is not list or not values:
        raise json_values.about(
            document, "Expected key 'examples' with a list that is not empty"
        )
    for value in values:
        _fill_example(value, examples.add())


def _fill_example(value: Any, example: tf.train.Example) -> None:
    """Features of an object whose values are scalars or flat lists."""
    if type(value) is not dict:
        raise json_values.about(value, "is no JSON object, as an Example is")
    for name, content in value.items():
        feature = example.features.feature[name]
        for element in content if type(content) is list else [content]:
            _add_value(element, name, feature)


def _add_value(value: Any, name: str, feature: tf.train.Feature) -> None:
    """Adds one value to a feature, whose first value decides its type."""
    kind = type(value)
    if kind is bool or kind is int:
        if value >= 2**63:
            raise errors.invalid(
                f"Feature: {name} has uint64 element. Only int64 is supported."
            )
        field, value = "int64_list", int(value)
    elif kind is float:
        # As in a float tensor: rounded, 1e39 is infinite.
        field = "float_list"
    elif kind is str or json_values.is_base64(value):
        field, value = "bytes_list", json_values.to_bytes(value)
    else:
        raise json_values.about(value, f"can't be an element of feature {name}")
    present = feature.WhichOneof("kind")
    if present not in (None, field):
        raise errors.invalid(
            f"Unexpected element type in feature: {name} expecting type: "
            f"{present.removesuffix('_list')}"
        )
    getattr(feature, field).value.append(value)
