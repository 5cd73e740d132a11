"""Tests of sicot_tf.serving.rest_api.json_examples."""

import json

import numpy as np
import tensorflow as tf
from google.protobuf import text_format
from tensorflow_serving.apis import classification_pb2
from tensorflow_serving.apis import regression_pb2

from sicot_tf.serving.rest_api import json_examples
from sicot_tf.serving.rest_api import json_values


class JsonExamplesTest(tf.test.TestCase):
    """tf.Examples of Classify and Regress."""

    def fill(self, document, message=classification_pb2.ClassificationRequest):
        request = message()
        if not isinstance(document, bytes):
            document = json.dumps(document).encode()
        json_examples.fill_examples(json_values.parse(document), request)
        return request

    def assert_error(self, document, text):
        with self.assertRaises(tf.errors.InvalidArgumentError) as caught:
            self.fill(document)
        self.assertEqual(caught.exception.message, text)

    def assert_example_error(self, value, text):
        self.assert_error({"examples": [{"f": value}]}, text)

    def test_features(self):
        """The type of the first value is that of the feature."""
        request = self.fill(
            {
                "signature_name": "s",
                "examples": [
                    {"i": 3, "t": [True, False], "f": [0.5, 1.0], "e": []},
                    {"s": "é", "b": [{"b64": "/w=="}, "a"]},
                ],
            },
            regression_pb2.RegressionRequest,
        )
        self.assertEqual(request.model_spec.signature_name, "s")
        first, second = request.input.example_list.examples
        expected = text_format.Parse(
            """
            features {
              feature { key: "i" value { int64_list { value: 3 } } }
              feature { key: "t" value { int64_list { value: [1, 0] } } }
              feature { key: "f" value { float_list { value: [0.5, 1] } } }
              feature { key: "e" value {} }
            }""",
            tf.train.Example(),
        )
        self.assertEqual(first, expected)
        features = second.features.feature
        self.assertEqual(features["s"].bytes_list.value, ["é".encode()])
        self.assertEqual(features["b"].bytes_list.value, [b"\xff", b"a"])

    def test_context(self):
        """Features that all examples share are sent once."""
        request = self.fill({"context": {"c": 1}, "examples": [{"x": 2}, {}]})
        self.assertEqual(
            request.input.WhichOneof("kind"), "example_list_with_context"
        )
        value = request.input.example_list_with_context
        feature = value.context.features.feature["c"]
        self.assertEqual(feature.int64_list.value, [1])
        self.assertLen(value.examples, 2)

    def test_wrong_documents(self):
        for document, text in (
            (
                {},
                "JSON Value: {} When method is classify, key 'examples' is "
                "expected and was not found",
            ),
            (
                {"examples": 1},
                "JSON Value: {\n    \"examples\": 1\n} Expecting 'examples' "
                "value to be an list/array",
            ),
            (
                {"examples": []},
                "JSON Value: {\n    \"examples\": []\n} 'examples' value is an "
                "empty array",
            ),
            (
                {"examples": [[1]]},
                "Example must be JSON object but got JSON Array",
            ),
            (
                {"examples": [{}], "context": "c"},
                "Example must be JSON object but got JSON String",
            ),
            (
                {"examples": [{}], "signature_name": None},
                'JSON Value: {\n    "examples": [\n        {}\n    ],\n'
                '    "signature_name": null\n} not formatted correctly. '
                "'signature_name' key must be a string value.",
            ),
        ):
            self.assert_error(document, text)

    def test_wrong_values(self):
        for value, text in (
            (None, "Feature: f has element with unexpected JSON type: Null"),
            ([[1]], "Feature: f has element with unexpected JSON type: Array"),
            ({"a": 1}, "Feature: f has element with unexpected JSON type: Obj"),
            ([1, 1.5], "Unexpected element type in feature: f expecting type"),
            (2**63, "Feature: f has uint64 element. Only int64 is supported."),
            ({"b64": "?"}, "Unable to base64 decode"),
        ):
            with self.assertRaises(tf.errors.InvalidArgumentError) as caught:
                self.fill({"examples": [{"f": value}]})
            self.assertStartsWith(caught.exception.message, text)

    def test_large_numbers(self):
        """As in a float tensor; above 64 bits all are decimals."""
        for body, expected in (
            (b"[16777217.0, 1e39]", [2.0**24, np.inf]),
            (b"[1" + b"0" * 30 + b", -9223372036854775809]", [1e30, -(2**63)]),
            (b"[-1" + b"0" * 30 + b", Infinity]", [-1e30, np.inf]),
        ):
            document = json_values.parse(
                b'{"examples": [{"f": ' + body + b"}]}"
            )
            [example] = self.fill(document).input.example_list.examples
            self.assertAllEqual(
                example.features.feature["f"].float_list.value,
                np.float32(expected),
            )

    def test_mixed_values(self):
        """The text names the type that the feature has."""
        for value, kind in (
            ([1, "a"], "int64"),
            ([1.5, 1], "float"),
            (["a", True], "bytes"),
        ):
            self.assert_example_error(
                value,
                f"Unexpected element type in feature: f expecting type: {kind}",
            )


if __name__ == "__main__":
    tf.test.main()
