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
        self.assertIn(text, caught.exception.message)

    def test_features(self):
        """Breaks if a feature gets another type than its first value."""
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
        """Breaks if features that all examples share get lost."""
        request = self.fill({"context": {"c": 1}, "examples": [{"x": 2}, {}]})
        self.assertEqual(
            request.input.WhichOneof("kind"), "example_list_with_context"
        )
        value = request.input.example_list_with_context
        feature = value.context.features.feature["c"]
        self.assertEqual(feature.int64_list.value, [1])
        self.assertLen(value.examples, 2)

    def test_wrong_documents(self):
        """Breaks if a wrong form is taken, or ends as a fault of the server."""
        for document, text in (
            ({}, "JSON Value: {} Expected key 'examples'"),
            ({"examples": 1}, "a list that is not empty"),
            ({"examples": []}, "a list that is not empty"),
            ({"examples": [[1]]}, "[1] is no JSON object"),
            ({"examples": [{}], "context": "c"}, '"c" is no JSON object'),
            (
                {"examples": [{}], "signature_name": None},
                "'signature_name' key must be a string value.",
            ),
        ):
            self.assert_error(document, text)

    def test_wrong_values(self):
        """Breaks if a feature takes a value of another type, in silence."""
        for value, text in (
            (None, "null can't be an element of feature f"),
            ([[1]], "[1] can't be an element of feature f"),
            ({"a": 1}, "can't be an element of feature f"),
            ([1, 1.5], "feature: f expecting type: int64"),
            ([1, "a"], "feature: f expecting type: int64"),
            ([1.5, 1], "feature: f expecting type: float"),
            (["a", True], "feature: f expecting type: bytes"),
            (2**63, "Feature: f has uint64 element. Only int64 is supported."),
            ({"b64": "?"}, "Unable to base64 decode"),
        ):
            self.assert_error({"examples": [{"f": value}]}, text)

    def test_large_numbers(self):
        """Breaks if a number is not rounded as in a float tensor."""
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


if __name__ == "__main__":
    tf.test.main()
