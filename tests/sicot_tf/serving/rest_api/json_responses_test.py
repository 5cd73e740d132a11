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
    def assert_error(self, function, arrays, text):
        with self.assertRaises(tf.errors.InvalidArgumentError) as caught:
            function(**arrays)
        self.assertIn(text, caught.exception.message)

    def test_rows(self):
        """Breaks if the only output has a name, or several have none."""
        self.assertEqual(
            rows(y=np.float32([2.5, 3, 4.5])), '{"predictions":[2.5,3.0,4.5]}'
        )
        self.assertEqual(
            rows(y=[[[1, 2], [3, 4]], [[5, 6], [7, 8]]]),
            '{"predictions":[[[1,2],[3,4]],[[5,6],[7,8]]]}',
        )
        self.assertEqual(
            rows(b=[True, False], a=[[1], [2]]),
            '{"predictions":[{"a":[1],"b":true},{"a":[2],"b":false}]}',
        )

    def test_columns(self):
        """Breaks if the only output has a name, or several have none."""
        self.assertEqual(columns(y=3), '{"outputs":3}')
        self.assertEqual(columns(y=[[1, 2]]), '{"outputs":[[1,2]]}')
        self.assertEqual(
            columns(b=[1], a=True), '{"outputs":{"a":true,"b":[1]}}'
        )

    def test_empty_outputs(self):
        """Breaks if no row, or a row of nothing, has another shape in JSON."""
        for shape in ((0,), (0, 3), (2, 0), (2, 3, 0), (2, 0, 3)):
            array = np.zeros(shape, np.float32)
            values = array.tolist()
            named = [{"y": row, "z": row} for row in values]
            for text, expected in (
                (rows(y=array), {"predictions": values}),
                (columns(y=array), {"outputs": values}),
                (rows(y=array, z=array), {"predictions": named}),
                (
                    columns(y=array, z=array),
                    {"outputs": {"y": values, "z": values}},
                ),
            ):
                self.assertEqual(json.loads(text), expected)

    def test_decimals(self):
        """Breaks if a float32 gets the digits of a double, or is an integer,
        or NaN is null."""
        for value, text in (
            (1, "1.0"),
            (-0.0, "-0.0"),
            (0.2, "0.2"),
            (1 / 3, "0.33333334"),
            (16777216, "16777216.0"),
            (math.nan, "NaN"),
            (math.inf, "Infinity"),
            (-math.inf, "-Infinity"),
        ):
            self.assertEqual(
                columns(y=np.float32(value)), f'{{"outputs":{text}}}'
            )
            self.assertEqual(
                rows(y=np.float32([[value, 0.2]])),
                f'{{"predictions":[[{text},0.2]]}}',
            )
        self.assertIn("[0.3333333333333333,0.5", rows(y=np.array([1 / 3, 0.5])))

    def test_numbers_are_read_again_as_the_same(self):
        """Breaks if an answer loses a digit of any type."""
        bits = np.random.default_rng(0).integers(0, 2**32, 5000, np.uint32)
        values = bits.view(np.float32)
        read = json.loads(rows(y=values))["predictions"]
        np.testing.assert_array_equal(np.float32(read), values)
        for dtype in "int8 int16 int32 int64 uint8 uint32 uint64".split():
            limits = np.iinfo(dtype)
            values = np.array([[limits.min, limits.max]], dtype)
            named = {"y": limits.max, "z": limits.max}
            self.assertEqual(
                json.loads(rows(y=values))["predictions"], values.tolist()
            )
            self.assertEqual(
                json.loads(rows(y=values[0, 1:], z=values[0, 1:])),
                {"predictions": [named]},
            )

    def test_strings(self):
        """Breaks if text is base64, bytes (told by the name) are none, or a
        text that is no UTF-8 makes an answer that nobody can read."""
        values = np.array(['é"\n', b"\x1f\xff"], object)
        self.assertEqual(
            rows(y=values), '{"predictions":["é\\"\\n","\\u001f\ufffd"]}'
        )
        self.assertEqual(
            rows(y_bytes=values[1:]), '{"predictions":[{"b64":"H/8="}]}'
        )
        self.assertEqual(
            columns(y_bytes=values[1:], n=1),
            '{"outputs":{"n":1,"y_bytes":[{"b64":"H/8="}]}}',
        )

    def test_what_no_json_stands_for(self):
        """Breaks if such an output is written as something."""
        self.assert_error(rows, {"y": 1.0}, "Output y is a scalar")
        self.assert_error(
            rows, {"a": [1, 2], "b": [1]}, "inconsistent batch sizes: [1, 2]"
        )
        for function in (rows, columns):
            for dtype, name in (("float16", "HALF"), ("uint16", "UINT16")):
                self.assert_error(
                    function,
                    {"y": np.ones(1, dtype)},
                    f"Failed to write JSON value for tensor type: DT_{name}",
                )
            self.assert_error(function, {}, "Cannot convert empty tensor map")

    def test_classification_and_regression(self):
        """Breaks if labels lose their scores, or no result is a result."""
        result = classification_pb2.ClassificationResult()
        result.classifications.add().classes.add(label="é", score=0.2)
        classes = result.classifications.add().classes
        classes.add(label="a", score=1)
        classes.add(score=math.nan)
        self.assertEqual(
            json_responses.classification(result).decode(),
            '{"results":[[["é",0.2]],[["a",1.0],["",NaN]]]}',
        )
        result = regression_pb2.RegressionResult()
        result.regressions.add(value=3)
        result.regressions.add(value=-0.1)
        self.assertEqual(
            json_responses.regression(result), b'{"results":[3.0,-0.1]}'
        )
        for function, empty in (
            (
                json_responses.classification,
                classification_pb2.ClassificationResult(),
            ),
            (json_responses.regression, regression_pb2.RegressionResult()),
        ):
            with self.assertRaisesRegex(
                tf.errors.InvalidArgumentError, "Cannot convert empty"
            ):
                function(empty)

    def test_error(self):
        """Breaks if a text of any kind makes an answer that is no JSON."""
        text = 'no "可乐"\n\ud800'
        self.assertEqual(
            json.loads(json_responses.error(text)), {"error": 'no "可乐"\n?'}
        )


if __name__ == "__main__":
    tf.test.main()
