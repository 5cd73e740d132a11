import numpy as np
import tensorflow as tf

from benchmarks.search import ranks


class RanksTest(tf.test.TestCase):
    def test_a_product_is_as_near_as_its_nearest_picture(self):
        """Breaks if products with several pictures fill the first places.

        Similarities: a 0.6, 1.0; b 0.8; c 0.0. Of the second query a 0.8, 0;
        b 0.6; c 1.0.
        """
        found = ranks.of_products(
            np.array([[1, 0], [0, 1], [1, 0]]),
            np.array([[0.6, 0.8], [1, 0], [0.8, 0.6], [0, 1]]),
            np.array(["a", "a", "b", "c"]),
            np.array(["b", "b", "a"]),
        )
        self.assertAllEqual(found, [2, 3, 1])

    def test_measures(self):
        """Breaks if a rank is worth more than it is: ranks 1, 2, 40."""
        row = ranks.measures(np.array([1, 2, 40]), np.array(["x", "y", "z"]))
        self.assertAllClose(
            [row[each][0] for each in ("recall@1", "recall@20", "map")],
            [100 / 3, 200 / 3, 100 * (1 + 1 / 2 + 1 / 40) / 3],
        )

    def test_overlap(self):
        """Halves of a unit square that share a quarter: 0.25 / 0.75."""
        self.assertAllClose(
            ranks.overlap(
                np.array([[0, 0, 0.5, 1]]), np.array([[0.25, 0, 0.75, 1]])
            ),
            [0.25 / 0.75],
        )
