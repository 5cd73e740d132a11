"""Tests of sicot_tf.serving.rest_api.json_tensors."""

import json

import numpy as np
import tensorflow as tf
from tensorflow.core.framework import types_pb2
from tensorflow_serving.apis import predict_pb2

from sicot_tf.serving.rest_api import json_tensors
from sicot_tf.serving.rest_api import json_values

_ONE = {"x": types_pb2.DT_FLOAT}
_TWO = {"b": types_pb2.DT_STRING, "a": types_pb2.DT_INT64}


class JsonTensorsTest(tf.test.TestCase):
    """Both forms of a Predict request, and what is wrong with others."""

    def fill(self, document, types=None):
        request = predict_pb2.PredictRequest()
        if not isinstance(document, bytes):
            document = json.dumps(document).encode()
        in_rows = json_tensors.fill_predict_request(
            json_values.parse(document),
            request,
            lambda key: _ONE if types is None else types,
        )
        arrays = {
            name: tf.make_ndarray(proto)
            for name, proto in request.inputs.items()
        }
        return in_rows, arrays

    def read(self, value, datatype=types_pb2.DT_FLOAT):
        """The array of the only input, given in columns."""
        _, arrays = self.fill({"inputs": value}, {"x": datatype})
        return arrays["x"]

    def assert_array(self, array, dtype, values):
        self.assertEqual(array.dtype, dtype)
        self.assertEqual(array.tolist(), values)

    def assert_error(self, document, text, types=None):
        with self.assertRaises(tf.errors.InvalidArgumentError) as caught:
            self.fill(document, types)
        self.assertIn(text, caught.exception.message)

    def test_rows_of_one_input(self):
        """Plain values, lists, objects: with and without the input's name."""
        for rows, expected in (
            ([1, 2.5], [1, 2.5]),
            ([[1, 2], [3, 4]], [[1, 2], [3, 4]]),
            ([{"x": [1]}, {"x": [2]}], [[1], [2]]),
            ([[], []], [[], []]),
        ):
            in_rows, arrays = self.fill({"instances": rows})
            self.assertTrue(in_rows)
            self.assert_array(arrays["x"], np.float32, expected)

    def test_rows_of_several_inputs(self):
        rows = [{"a": [1], "b": "é"}, {"b": {"b64": "/w=="}, "a": [2**40]}]
        _, arrays = self.fill({"instances": rows}, _TWO)
        self.assert_array(arrays["a"], np.int64, [[1], [2**40]])
        self.assert_array(arrays["b"], object, ["é".encode(), b"\xff"])
        # A plain row may be base64.
        rows = [{"b64": "YQ=="}, "b"]
        _, arrays = self.fill({"instances": rows}, {"s": types_pb2.DT_STRING})
        self.assert_array(arrays["s"], object, [b"a", b"b"])

    def test_columns(self):
        for columns, expected in (
            (3, 3),
            ([[1, 2]], [[1, 2]]),
            ([], []),
            ({"x": [1], "other": "not looked at"}, [1]),
        ):
            in_rows, arrays = self.fill({"inputs": columns})
            self.assertFalse(in_rows)
            self.assert_array(arrays["x"], np.float32, expected)
        _, arrays = self.fill({"inputs": {"a": 1, "b": [[]]}}, _TWO)
        self.assert_array(arrays["a"], np.int64, 1)
        self.assertEqual(arrays["b"].shape, (1, 0))
        value = self.read({"b64": "YQ=="}, types_pb2.DT_STRING)
        self.assert_array(value, object, b"a")

    def test_types(self):
        """Each type that TensorFlow Serving reads, at its limits; of integers
        that are too long for a narrow type the low bits count."""
        for datatype, dtype, values in (
            (types_pb2.DT_FLOAT, np.float32, [0.1, -3e38, 2**24 - 1]),
            (types_pb2.DT_DOUBLE, np.float64, [0.1, -1e308, 2**53 - 1]),
            (types_pb2.DT_INT32, np.int32, [-(2**31), 2**31 - 1]),
            (types_pb2.DT_INT16, np.int16, [-(2**15), 2**15 - 1]),
            (types_pb2.DT_INT8, np.int8, [-128, 127]),
            (types_pb2.DT_UINT8, np.uint8, [0, 255]),
            (types_pb2.DT_INT64, np.int64, [-(2**63), 2**63 - 1]),
            (types_pb2.DT_UINT32, np.uint32, [0, 2**32 - 1]),
            (types_pb2.DT_UINT64, np.uint64, [0, 2**64 - 1]),
            (types_pb2.DT_BOOL, np.bool_, [True, False]),
        ):
            array = self.read(values, datatype)
            self.assertEqual(array.dtype, dtype)
            self.assertAllEqual(array, np.array(values, dtype))
        self.assertAllEqual(self.read([256, -1], types_pb2.DT_UINT8), [0, 255])

    def test_wrong_types(self):
        """Breaks if true is 1, 1.0 an integer, "1" a number, null anything."""
        for datatype, value, text in (
            (types_pb2.DT_FLOAT, "x", '"x"'),
            (types_pb2.DT_FLOAT, True, "true"),
            (types_pb2.DT_DOUBLE, None, "null"),
            (types_pb2.DT_INT32, 1.0, "1.0"),
            (types_pb2.DT_INT8, 2**31, "2147483648"),
            (types_pb2.DT_INT64, 2**63, "9223372036854775808"),
            (types_pb2.DT_UINT32, -1, "-1"),
            (types_pb2.DT_UINT64, False, "false"),
            (types_pb2.DT_BOOL, 1, "1"),
            (types_pb2.DT_STRING, 1, "1"),
            (types_pb2.DT_INT32, {"b64": ""}, '{"b64": ""}'),
        ):
            name = tf.as_dtype(datatype).name
            text = f"JSON Value: {text} is not of expected type: {name}"
            for key in ("inputs", "instances"):
                self.assert_error({key: [value]}, text, {"x": datatype})

    def test_large_numbers_are_rounded(self):
        """An id, a time or a price in a float feature is no mistake.

        json_tensor.cc reads each number as a double and casts it: float32 has
        24 bits, so 16777217 = 2**24 + 1 becomes 2**24 and 2**53 + 2**29 + 1
        (first 2**53 + 2**29 as a double) 2**53; 3.4028235e+38 is the largest
        float32, 1e39 is infinite; float64 has 53 bits.
        """
        for datatype, number, expected in (
            (types_pb2.DT_FLOAT, b"16777216", 2.0**24),
            (types_pb2.DT_FLOAT, b"16777217", 2.0**24),
            (types_pb2.DT_FLOAT, b"-16777219", -(2.0**24) - 4),
            (types_pb2.DT_FLOAT, b"9007199791611905", 2.0**53),
            (types_pb2.DT_FLOAT, b"18446744073709551615", 2.0**64),
            (types_pb2.DT_FLOAT, b"1" + b"0" * 30, np.float32(1e30)),
            (types_pb2.DT_FLOAT, b"3.4028235e+38", np.finfo(np.float32).max),
            (types_pb2.DT_FLOAT, b"1e39", np.inf),
            (types_pb2.DT_FLOAT, b"-1" + b"0" * 300, -np.inf),
            (types_pb2.DT_FLOAT, b"-Infinity", -np.inf),
            (types_pb2.DT_FLOAT, b"1e-60", 0.0),
            (types_pb2.DT_DOUBLE, b"9007199254740993", 2.0**53),
            (types_pb2.DT_DOUBLE, b"-1" + b"0" * 300, -1e300),
        ):
            for others in (b"1.5", b"3", b"NaN"):
                body = b'{"instances": [' + number + b", " + others + b"]}"
                with self.subTest(body=body):
                    _, arrays = self.fill(body, {"x": datatype})
                    self.assertEqual(arrays["x"][0], expected)
        zeros = self.read([-0.0, 0])
        self.assertAllEqual(np.signbit(zeros), [True, False])

    def test_types_that_no_json_stands_for(self):
        """Breaks if the code is not TensorFlow Serving's, another in rows."""
        text = "Conversion of JSON Value to type: float16"
        with self.assertRaisesRegex(tf.errors.UnimplementedError, text):
            self.read([1], types_pb2.DT_HALF)
        self.assert_error(
            {"instances": [1]},
            f"Failed to process 'x': {text}",
            {"x": types_pb2.DT_HALF},
        )

    def test_base64_errors(self):
        """Breaks if what is no base64 reaches a model."""
        types = {"s": types_pb2.DT_STRING}
        self.assert_error(
            {"inputs": ["a", {"b64": "?"}]}, "Unable to base64 decode", types
        )
        self.assert_error(
            {"inputs": ["a", {"b46": ""}]}, '{"b46": ""} not formatted', types
        )

    def test_lists_of_different_sizes(self):
        """Breaks if a ragged tensor is taken, or the error tells no place."""
        for value, wrong, size, level in (
            ([[1, 2, 3], [1, 2]], "[1, 2]", 3, 1),
            ([[1], 2], "2", 1, 1),
            ([[[1, 2]], [[1], [2]]], "[[1], [2]]", 1, 1),
        ):
            for key in ("inputs", "instances"):
                self.assert_error(
                    {key: value},
                    f"JSON Value: {wrong} Expecting a list of {size} at level "
                    f"{level}",
                )
        self.assert_error({"inputs": [1, [2]]}, "[2] is not of expected type")

    def test_names_of_rows(self):
        """Breaks if a row without an input, or with another, is taken."""
        row = {"a": 1, "b": "c"}
        for rows, text in (
            ([1], "expecting list of objects with the keys a,b"),
            ([row, 1], "1 is item 1 of 'instances': expecting an object with"),
            ([row, {"a": 1}], "item 1 of 'instances': expecting an object"),
            ([row, row | {"z": 1}], "expecting an object with the keys a,b"),
            ([row, row | {"a": "x"}], "'a': JSON Value: \"x\" is not of expec"),
        ):
            self.assert_error({"instances": rows}, text, _TWO)
        self.assert_error(
            {"instances": [1, {"x": 1}]}, "item 1 of 'instances': expecting a v"
        )

    def test_names_of_columns(self):
        """Breaks if an input is missing and the model is asked all the same."""
        self.assert_error(
            {"inputs": [1]}, "expecting an object with the keys a,b", _TWO
        )
        self.assert_error(
            {"inputs": {"a": 1}},
            "Missing named input: b in 'inputs' object.",
            _TWO,
        )

    def test_keys_of_the_document(self):
        """Breaks if a document with none or both forms is taken."""
        for document, text in (
            ({}, "Expecting one of the keys 'inputs' and 'instances'"),
            ({"inputs": 1, "instances": 2}, "Expecting one of the keys"),
            ({"instances": 2}, "2 is no list with values"),
            ({"instances": []}, "[] is no list with values"),
            ({"signature_name": 1}, "'signature_name' key must be a string"),
        ):
            self.assert_error(document, text)
        for document, name in (
            ({"inputs": 1}, "DEFAULT"),
            ({"inputs": 1, "signature_name": "s"}, "s"),
        ):
            self.assert_error(
                document,
                f"Failed to get input map for signature: {name}",
                {},
            )


if __name__ == "__main__":
    tf.test.main()
