"""Mistakes are counted."""

import numpy as np
import tensorflow as tf

from sicot_tf.experiments import confusions

_LABELS = np.array([0, 0, 1, 2])
# Two seeds: 0 is taken for 1 three times of four, 2 for 0 twice of two.
_BEST = np.array([[1, 1, 1, 0], [1, 0, 2, 0]])


class ConfusionsTest(tf.test.TestCase):
    def test_top_pairs(self):
        """Breaks if what is right counts, or seeds are not added up."""
        pairs = confusions.top_pairs(_LABELS, _BEST, 10)
        self.assertEqual(pairs, [(0, 1), (2, 0), (1, 2)])
        self.assertEqual(confusions.top_pairs(_LABELS, _BEST, 1), [(0, 1)])
        right = np.stack([_LABELS, _LABELS])
        self.assertEmpty(confusions.top_pairs(_LABELS, right, 10))

    def test_share(self):
        """Breaks if a share is of other records than the class's."""
        shares = [
            confusions.share(_LABELS, _BEST, pair)
            for pair in ((0, 1), (2, 0), (1, 2), (1, 0))
        ]
        self.assertEqual(shares, [0.75, 1.0, 0.5, 0.0])


if __name__ == "__main__":
    tf.test.main()
