import math
import unittest

import numpy as np

from sicot_tf.recognition.tuning import candidates


class CandidatesTest(unittest.TestCase):
    def test_most_right(self):
        """Broken: of equal candidates not the simplest is taken."""
        right = np.array([[1, 0, 0], [1, 1, 0], [0, 1, 1]], bool)
        self.assertEqual(candidates.most_right(right, np.arange(3)), 1)

    def test_standard_error(self):
        """Broken: pictures of one SKU count as if they were independent."""
        differences = np.array([1.0, 1.0, 0.0, 0.0])
        # Each alone: deviations 1/2, sqrt(4 / 4) / 4.
        self.assertAlmostEqual(
            candidates.standard_error(differences, np.arange(4)), 1 / 4
        )
        # Two SKUs, sums of deviations 1 and -1: sqrt(2) / 4.
        self.assertAlmostEqual(
            candidates.standard_error(differences, np.array([0, 0, 1, 1])),
            math.sqrt(2) / 4,
        )

    def test_simplest(self):
        """Broken: a setting is switched on for a gain that is chance, or
        left off though the gain is real."""
        skus = np.arange(100)
        right = np.zeros((2, 100), bool)
        right[0, :50] = True
        right[1, 1:52] = True
        # One is lost and two are won: 0.01 at an error of about 0.017.
        self.assertEqual(candidates.simplest(right, skus), 0)
        right[1, :60] = True
        # Ten are won: 0.1 at an error of 0.03.
        self.assertEqual(candidates.simplest(right, skus), 1)
        # All ten of one SKU: 0.1 at an error of about 0.09; of a SKU that has
        # half of the pictures, too, the error is the larger one.
        skus[:50], skus[50:60] = 200, 201
        skus = np.unique(skus, return_inverse=True)[1]
        error = candidates.standard_error(
            right[1].astype(float) - right[0], skus
        )
        self.assertGreater(error, 0.1)
        self.assertEqual(candidates.simplest(right, skus), 0)

    def test_on_other_skus(self):
        """Broken: what is measured was chosen on the same pictures."""
        # Candidate 1 is right for SKU 0 only, candidate 0 for SKU 1 only.
        # Each SKU's pictures are judged by the candidate of the other one.
        right = np.array([[0, 0, 1, 1], [1, 1, 0, 0]], bool)
        found = candidates.on_other_skus(
            right, np.array([0, 0, 1, 1]), candidates.most_right
        )
        self.assertEqual(found.tolist(), [False, False, False, False])
        found = candidates.on_other_skus(
            right[:, :2], np.array([0, 0]), candidates.most_right
        )
        self.assertEqual(found.tolist(), [True, True])

    def test_accuracy(self):
        """Broken: the interval does not hold the value, or is that of
        independent pictures."""
        right = np.arange(400) < 300
        alone = candidates.accuracy(right, np.arange(400))
        self.assertEqual(alone["right"], 0.75)
        # 1.96 * sqrt(0.75 * 0.25 / 400) = 0.042.
        self.assertAlmostEqual(alone["low"], 0.75 - 0.042, delta=0.01)
        self.assertAlmostEqual(alone["high"], 0.75 + 0.042, delta=0.01)
        # Sixteen SKUs, whole right or whole wrong: 1.96 * sqrt(.1875 / 16).
        of_skus = candidates.accuracy(right, np.arange(400) // 25)
        self.assertAlmostEqual(of_skus["low"], 0.75 - 0.212, delta=0.06)


if __name__ == "__main__":
    unittest.main()
