import numpy as np
import tensorflow as tf

from sicot_tf.search_training import validation


class ValidationTest(tf.test.TestCase):
    def test_recall_at_1(self):
        """Breaks if a query with two clicks counts twice, or only one of its
        products is right.

        Query a clicked x and y and is nearest to y: right. Query b clicked z
        and is nearest to x: wrong.
        """
        recall = validation.recall_at_1(
            np.array([[0, 1], [0, 1], [1, 0]]),
            np.array([[1, 0], [0, 1], [0.5, 0.5]]),
            np.array([b"a", b"a", b"b"]),
            np.array([b"x", b"y", b"z"]),
        )
        self.assertEqual(recall, 0.5)
