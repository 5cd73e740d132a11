import numpy as np
import tensorflow as tf

from sicot_tf.search_training import start


class ProjectionTest(tf.test.TestCase):
    def test_main_directions_without_the_mean(self):
        """Breaks if the mean of the features stays, or a weak direction is
        kept before a strong one.

        Around (5, 7, 9): deviations 4 and 1 along the first two axes, none
        along the third, so rows of +-4 / sqrt 4 and +-1 / sqrt 1; the third
        direction stays zero.
        """
        signs = np.array([[1, 1], [1, -1], [-1, 1], [-1, -1]])
        features = np.array([5.0, 7, 9]) + np.pad(
            signs * [4, 1], [[0, 0], [0, 1]]
        )
        kernel, bias = start.projection(features, 3)
        rows = features @ kernel + bias
        self.assertAllClose(np.abs(rows), [[2, 1, 0]] * 4, atol=1e-5)
        self.assertAllClose(
            np.abs(start.projection(features, 1)[0]),
            [[0.5], [0], [0]],
            atol=1e-6,
        )
