"""Tests of sicot_tf.serving.rest_api.json_responses."""

import json
import math

import numpy as np
import tensorflow as tf
from tensorflow_serving.apis import classification_pb2
from tensorflow_serving.apis import regression_pb2

from sicot_tf.serving.rest_api import json_responses


def to_protos(**arrays):
    return {name: tf.make_tensor_proto(a) for name, a in arrays.items()}


def rows(**arrays):
    return json_responses.predictions_in_rows(to_protos(**arrays)).decode()


def columns(**arrays):
    return json_responses.outputs_in_columns(to_protos(**arrays)).decode()


class JsonResponsesTest(tf.test.TestCase):
    """The text that TensorFlow Serving's PrettyWriter writes."""

    def assert_error(self, function, arrays, text):
        with self.assertRaises(tf.errors.InvalidArgumentError) as caught:
            function(**arrays)
        self.assertEqual(caught.exception.message, text)

    def test_rows_of_one_output(self):
        """To the last space what the guide of TensorFlow Serving shows."""
        self.assertEqual(
            rows(y=np.float32([2.5, 3, 4.5])),
            '{\n    "predictions": [2.5, 3.0, 4.5\n    ]\n}',
        )
        self.assertEqual(
            rows(y=[[[1, 2], [3, 4]], [[5, 6], [7, 8]]]),
            '{\n    "predictions": [[[1, 2], [3, 4]], [[5, 6], [7, 8]]\n'
            "    ]\n}",
        )

    def test_rows_of_several_outputs(self):
        self.assertEqual(
            rows(b=[True, False], a=[[1], [2]]),
            """{
    "predictions": [
        {
            "a": [1],
            "b": true
        },
        {
            "a": [2],
            "b": false
        }
    ]
}""",
        )

    def test_columns(self):
        self.assertEqual(columns(y=3), '{\n    "outputs": 3\n}')
        self.assertEqual(
            columns(y=[[1, 2]]),
            """{
    "outputs": [
        [
            1,
            2
        ]
    ]
}""",
        )
        self.assertEqual(
            columns(b=[1], a=True),
            """{
    "outputs": {
        "a": true,
        "b": [
            1
        ]
    }
}""",
        )

    def test_empty_outputs(self):
        """No row, or rows of nothing, are still JSON of the right shape."""
        for shape in ((0,), (0, 3), (2, 0), (2, 3, 0), (2, 0, 3)):
            array = np.zeros(shape, np.float32)
            for function, key in ((rows, "predictions"), (columns, "outputs")):
                value = json.loads(function(y=array))[key]
                self.assertEqual(value, array.tolist())
                value = json.loads(function(y=array, z=array))[key]
                self.assertEqual(
                    value,
                    [{"y": row, "z": row} for row in array.tolist()]
                    if function == rows
                    else {"y": array.tolist(), "z": array.tolist()},
                )

    def test_decimals(self):
        """Six digits if they are enough, else all; never a bare integer."""
        for value, text in (
            (1, "1.0"),
            (-0.0, "-0.0"),
            (0.2, "0.2"),
            (1 / 3, "0.333333343"),
            (123456, "123456.0"),
            (1234567, "1234567.0"),
            (16777216, "16777216.0"),
            (9e6, "9e+06"),
            (3e-5, "3e-05"),
            (1e-45, "1.4013e-45"),
            (3.4028235e38, "3.40282347e+38"),
            (math.nan, "NaN"),
            (math.inf, "Infinity"),
            (-math.inf, "-Infinity"),
        ):
            self.assertEqual(
                columns(y=np.float32(value)), f'{{\n    "outputs": {text}\n}}'
            )
        self.assertIn(
            "[0.33333333333333331, 0.5", rows(y=np.array([1 / 3, 0.5]))
        )

    def test_decimals_are_read_again_as_the_same_numbers(self):
        bits = np.random.default_rng(0).integers(0, 2**32, 5000, np.uint32)
        values = bits.view(np.float32)
        read = json.loads(rows(y=values))["predictions"]
        np.testing.assert_array_equal(np.float32(read), values)

    def test_strings(self):
        """Text as it is; bytes, told by the tensor's name, as base64."""
        values = np.array(['é"\n', b"\x1f\xff"], object)
        out = json_responses.predictions_in_rows(to_protos(y=values))
        self.assertEqual(
            out,
            b'{\n    "predictions": ["\xc3\xa9\\"\\n", "\\u001F\xff"\n    ]\n}',
        )
        self.assertEqual(
            rows(y_bytes=values[1:]),
            """{
    "predictions": [{
            "b64": "H/8="
        }
    ]
}""",
        )
        self.assertEqual(
            columns(y_bytes=values[1:], n=1),
            """{
    "outputs": {
        "n": 1,
        "y_bytes": [
            {
                "b64": "H/8="
            }
        ]
    }
}""",
        )

    def test_outputs_without_rows(self):
        self.assert_error(
            rows, {"y": 1.0}, "Tensor name: y has no shape information "
        )
        self.assert_error(
            rows,
            {"a": [1, 2], "b": [1]},
            "Tensor name: b has inconsistent batch size: 1 expecting: 2",
        )

    def test_types_that_no_json_stands_for(self):
        for function in (rows, columns):
            self.assert_error(
                function,
                {"y": np.float16([1])},
                "Failed to write JSON value for tensor type: half",
            )

    def test_no_outputs(self):
        for function in (rows, columns):
            self.assert_error(
                function, {}, "Cannot convert empty tensor map to JSON"
            )

    def test_classification(self):
        result = classification_pb2.ClassificationResult()
        result.classifications.add().classes.add(label="é", score=0.2)
        classes = result.classifications.add().classes
        classes.add(label="a", score=1)
        classes.add(score=math.nan)
        self.assertEqual(
            json_responses.classification(result).decode(),
            '{\n    "results": [[["é", 0.2]], [["a", 1.0], ["", NaN]]\n'
            "    ]\n}",
        )
        with self.assertRaisesRegex(
            tf.errors.InvalidArgumentError,
            "^Cannot convert empty ClassificationResults to JSON$",
        ):
            json_responses.classification(
                classification_pb2.ClassificationResult()
            )

    def test_regression(self):
        result = regression_pb2.RegressionResult()
        result.regressions.add(value=3)
        result.regressions.add(value=-0.1)
        self.assertEqual(
            json_responses.regression(result),
            b'{\n    "results": [3.0, -0.1]\n}',
        )
        with self.assertRaisesRegex(
            tf.errors.InvalidArgumentError,
            "^Cannot convert empty RegressionResults to JSON$",
        ):
            json_responses.regression(regression_pb2.RegressionResult())

    def test_error(self):
        self.assertEqual(
            json_responses.error('no "可乐"\n').decode(),
            '{\n    "error": "no \\"可乐\\"\\n"\n}',
        )


if __name__ == "__main__":
    tf.test.main()
