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
_ROW = "Failed to process element: {} of 'instances' list. Error: "
_PLAIN_ROWS = (
    "instances is a plain list, but expecting list of objects as multiple "
    "input tensors required as per tensorinfo_map"
)


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
        self.assertEqual(caught.exception.message, text)

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

    def test_rows_of_base64(self):
        """A plain row may be base64; of all inputs it is the only one."""
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
        """Each type that TensorFlow Serving reads, at its limits."""
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

    def test_narrow_integers_keep_their_low_bits(self):
        """As TensorFlow Serving reads them: any int32, then cut."""
        self.assertAllEqual(self.read([256, -1], types_pb2.DT_UINT8), [0, 255])

    def test_nan(self):
        _, arrays = self.fill(b'{"instances": [NaN, 1, -Infinity]}')
        self.assertAllEqual(arrays["x"], np.float32([np.nan, 1, -np.inf]))
        number = b"1" + 30 * b"0"
        _, arrays = self.fill(b'{"instances": [NaN, ' + number + b"]}")
        self.assertAllEqual(arrays["x"], np.float32([np.nan, 1e30]))

    def test_wrong_types(self):
        """true is no 1, 1.0 no integer, 1 no string, null nothing at all."""
        for datatype, value, text in (
            (types_pb2.DT_FLOAT, "x", '"x" Type: String is not of expected ty'),
            (types_pb2.DT_FLOAT, True, "true Type: True is not of expected t"),
            (types_pb2.DT_DOUBLE, None, "null Type: Null is not of expected"),
            (types_pb2.DT_INT32, 1.0, "1.0 Type: Number is not of expected"),
            (types_pb2.DT_INT8, 2**31, "2147483648 Type: Number is not of ex"),
            (types_pb2.DT_INT64, 2**63, "9223372036854775808 Type: Number is"),
            (types_pb2.DT_UINT32, -1, "-1 Type: Number is not of expected ty"),
            (types_pb2.DT_UINT64, False, "false Type: False is not of expec"),
            (types_pb2.DT_BOOL, 1, "1 Type: Number is not of expected type: b"),
            (types_pb2.DT_STRING, 1, "1 Type: Number is not of expected type"),
            (types_pb2.DT_INT32, {"b64": ""}, '{\n    "b64": ""\n} Type: Obj'),
        ):
            name = json_values.datatype_name(datatype)
            with self.assertRaises(tf.errors.InvalidArgumentError) as caught:
                self.fill({"inputs": [value]}, {"x": datatype})
            message = caught.exception.message
            self.assertStartsWith(message, f"JSON Value: {text}")
            self.assertEndsWith(message, f" is not of expected type: {name}")

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
        with self.assertRaises(tf.errors.UnimplementedError) as caught:
            self.read([1], types_pb2.DT_HALF)
        self.assertEqual(
            caught.exception.message,
            "Conversion of JSON Value: 1 to type: half",
        )
        self.assert_error(
            {"instances": [1]},
            _ROW.format(0)
            + "UNIMPLEMENTED: Conversion of JSON Value: 1 to type: uint16",
            {"x": types_pb2.DT_UINT16},
        )

    def test_base64_errors(self):
        types = {"s": types_pb2.DT_STRING}
        self.assert_error(
            {"inputs": ["a", {"b64": "?"}]}, "Unable to base64 decode", types
        )
        self.assert_error(
            {"inputs": ["a", {"b46": ""}]},
            'JSON Value: {\n    "b46": ""\n} not formatted correctly for '
            "base64 data",
            types,
        )

    def test_ragged_lists(self):
        for value, text in (
            (
                [[1, 2, 3], [1, 2]],
                "Encountered list at unexpected size: 2 at level: 1 expected "
                "size: 3",
            ),
            (
                [1, [2]],
                "Encountered list at unexpected level: 1 expected < 1",
            ),
            (
                [[1], 2],
                "JSON Value: 2 found at incorrect level: 2 in the JSON DOM. "
                "Expected at level: 2",
            ),
        ):
            self.assert_error({"inputs": value}, text)

    def test_rows_that_differ(self):
        error = _ROW.format(1) + "INVALID_ARGUMENT: "
        for rows, text in (
            ([[1, 2, 3], [1, 2]], "Expecting tensor size: 3 but got: 2"),
            (
                [[[1, 2]], [[1], [2]]],
                "Expecting shape [1,2] but got: [2,1]",
            ),
            ([1, [1]], "Expecting shape [] but got: [1]"),
            (
                [1, "x"],
                'JSON Value: "x" Type: String is not of expected type: float',
            ),
        ):
            self.assert_error({"instances": rows}, error + text)

    def test_names_of_rows(self):
        row = {"a": 1, "b": "c"}
        for rows, text in (
            ([1], _PLAIN_ROWS),
            ([row, 1], "Expecting object but got list at item 1 of input list"),
            (
                [row, {"a": 1}],
                "Failed to process element: 1 of 'instances' list. JSON "
                'object: {\n    "a": 1\n} keys must be equal to: a,b',
            ),
            (
                [row, row | {"z": 1}],
                "Failed to process element: 1 key: z of 'instances' list. "
                "Error: INVALID_ARGUMENT: JSON object: does not have named "
                "input: z",
            ),
            (
                [row, row | {"a": "x"}],
                "Failed to process element: 1 key: a of 'instances' list. "
                'Error: INVALID_ARGUMENT: JSON Value: "x" Type: String is not '
                "of expected type: int64",
            ),
        ):
            self.assert_error({"instances": rows}, text, _TWO)
        self.assert_error(
            {"instances": [1, {"x": 1}]},
            "Expecting value/list but got object at item 1 of input list",
        )

    def test_names_of_columns(self):
        self.assert_error(
            {"inputs": [1]},
            "inputs is a plain value/list, but expecting an object as "
            "multiple input tensors required as per tensorinfo_map",
            _TWO,
        )
        self.assert_error(
            {"inputs": {"a": 1}},
            "Missing named input: b in 'inputs' object.",
            _TWO,
        )

    def test_keys_of_the_document(self):
        for document, text in (
            ({}, "Missing 'inputs' or 'instances' key"),
            (
                {"inputs": 1, "instances": 2},
                'JSON Value: {\n    "inputs": 1,\n    "instances": 2\n} Not '
                "formatted correctly expecting only one of 'inputs' or "
                "'instances' keys to exist ",
            ),
            (
                {"instances": 2},
                "JSON Value: {\n    \"instances\": 2\n} Excepting 'instances' "
                "to be an list/array",
            ),
            (
                {"instances": []},
                'JSON Value: {\n    "instances": []\n} No values in '
                "'instances' array",
            ),
            (
                {"signature_name": 1},
                'JSON Value: {\n    "signature_name": 1\n} not formatted '
                "correctly. 'signature_name' key must be a string value.",
            ),
        ):
            self.assert_error(document, text)

    def test_signature_without_inputs(self):
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
