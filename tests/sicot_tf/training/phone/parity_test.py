"""What is lost on the way to a phone, counted by hand."""

import numpy as np
import tensorflow as tf

from sicot_tf.training.phone import parity


class _Fixed:
    """Answers by the first pixel of a picture."""

    def __init__(self, table):
        self._table = table

    def scores(self, picture):
        return np.array(self._table[int(picture[0, 0, 0])], np.float32)


_KERAS = [[0.9, 0.1], [0.2, 0.8], [0.6, 0.4], [0.5, 0.5]]
# The third picture's best class changes.
_INT8 = [[0.8, 0.2], [0.2, 0.8], [0.3, 0.7], [0.5, 0.5]]


def _batches(sku_ids):
    image = np.arange(4, dtype=np.float32)[:, None, None, None] + 0.2
    return tf.data.Dataset.from_tensors(
        {"image": image, "sku_id": np.array(sku_ids, object)}
    )


def _scores(image):
    number = tf.cast(tf.round(tf.cast(image, tf.float32)), tf.int32)
    return {"score": tf.gather(tf.constant(_KERAS), number[:, 0, 0, 0])}


class ParityTest(tf.test.TestCase):
    def test_measure(self):
        """Breaks if a record of an unknown class counts, or a share is of
        the wrong thing."""
        measured = parity.measure(
            _scores,
            {"int8": _Fixed(_INT8)},
            _batches(["a", "b", "a", "unknown"]),
            ["a", "b"],
            threshold=0.75,
        )
        self.assertEqual(measured["records"], 3)
        # Right: all three. Scores 0.9, 0.8, 0.6: two reach the threshold.
        self.assertAllClose(
            measured["keras"], {"top1": 1.0, "recognised": 2 / 3}
        )
        # Best a, b, b of a, b, a; differences 0.1, 0, 0.3.
        self.assertAllClose(
            measured["int8"],
            {
                "top1": 2 / 3,
                "recognised": 2 / 3,
                "same_top1": 2 / 3,
                "max_difference": 0.3,
            },
        )

    def test_findings(self):
        """Breaks if a loss has the wrong sign."""
        description = {
            "files": {"a.tflite": {"bytes": 2_500_000}},
            "measured": {
                "split": "val",
                "records": 3,
                "keras": {"top1": 1.0, "recognised": 0.5},
                "int8": {
                    "top1": 0.75,
                    "recognised": 0.25,
                    "same_top1": 0.5,
                    "max_difference": 0.3,
                },
            },
        }
        *_, row = parity.findings(description, {"int8": "a.tflite"}).split("\n")
        self.assertEqual(
            row.split(),
            ["int8", "2.50", "75.00%", "25.00%", "25.00%"] + ["50.00%", "0.3"],
        )

    def test_only_unknown_classes(self):
        """Breaks if a wrong --dataset ends in a division by zero."""
        with self.assertRaisesRegex(ValueError, "knows none of the classes"):
            parity.measure(
                _scores, {}, _batches(list("wxyz")), ["a"], threshold=0.0
            )


if __name__ == "__main__":
    tf.test.main()
