"""Calibration errors and groups, by hand and by NumPy."""

import numpy as np
import tensorflow as tf

from sicot_tf.evaluation.calibration import reliability
from tests.helpers import calibrated


class ReliabilityTest(tf.test.TestCase):
    def test_error_by_hand(self):
        """Breaks if bins are not weighted by their records, or their edges
        belong to the wrong side.

        Two bins, (0, 0.5] and (0.5, 1]: scores 0.3 and 0.5, one right, give
        |0.4 - 0.5| = 0.1; 0.9, 0.9 and 0.6, all right, give |0.8 - 1| = 0.2.
        (2 * 0.1 + 3 * 0.2) / 5 = 0.16.
        """
        scores = np.array([0.3, 0.9, 0.5, 0.9, 0.6])
        right = np.array([True, True, False, True, True])
        labels = np.array([0, 0, 1, 1, 1])
        edges = np.array([0, 0.5, 1])
        found = reliability.expected_calibration_error(
            labels, scores, right, edges
        )
        self.assertAllClose(found["value"], 0.16)
        # A resample may hold class 0 twice, class 1 twice, or both. Class 0:
        # (|1 - 0.3| + |1 - 0.9|) / 2 = 0.4; class 1: (|0 - 0.5| + |2 - 1.5|)
        # / 3 = 0.333. Half of the resamples are the records themselves.
        self.assertAllClose(found["low"], 0.16)
        self.assertAllClose(found["high"], 0.4)
        self.assertAllClose(
            [
                (each["num_records"], each["score"], each["value"])
                for each in reliability.bins(scores, right, edges)
            ],
            [(2, 0.4, 0.5), (3, 0.8, 1.0)],
        )
        alone = reliability.expected_calibration_error(
            np.zeros(5, int), scores, right, edges
        )
        self.assertIsNone(alone["low"])

    def test_adaptive_bins_hold_equally_many(self):
        """Breaks if most bins are empty where scores crowd near 1."""
        scores = 1 - np.random.default_rng(0).uniform(0, 0.01, 150)
        labels = np.arange(150) % 2
        found = calibrated.measure(
            labels=labels, right=labels == 0, before=scores, after=scores
        )
        bins = found["bins"]["adaptive"]["before"]
        self.assertEqual([each["num_records"] for each in bins], [10] * 15)
        self.assertLen(found["bins"]["equal_width"]["before"], 1)

    def test_equal_scores(self):
        """Breaks if bins without width lose their records."""
        found = calibrated.measure(
            labels=np.array([0, 1]),
            right=np.array([True, False]),
            before=np.ones(2),
            after=np.ones(2),
        )
        for binning in reliability.BINNINGS:
            self.assertAllClose(found["errors"][binning]["after"]["value"], 0.5)

    def test_head_and_tail_at_the_threshold(self):
        """Breaks if groups are mixed up or the threshold itself is refused.

        Threshold 0.5. Head (classes 0 and 1): 0.9 right, 0.5 wrong, 0.4; tail:
        0.6 right, 0.1, 0.2, 0.3. Overall 3 of 7 pass, 2 of these right.
        """
        found = calibrated.measure(
            labels=np.array([0, 1, 1, 2, 2, 2, 3]),
            right=np.array([True, False, True, True, True, False, True]),
            before=np.full(7, 0.5),
            after=np.array([0.9, 0.5, 0.4, 0.6, 0.1, 0.2, 0.3]),
        )["groups"]
        self.assertEqual(
            {
                group: (
                    each["num_records"],
                    each["num_accepted"],
                    each["precision"]["value"],
                )
                for group, each in found.items()
            },
            {
                "overall": (7, 3, round(2 / 3, 12)),
                "head": (3, 2, 0.5),
                "tail": (4, 1, 1.0),
            },
        )
        self.assertAllClose(found["tail"]["coverage"]["value"], 0.25)


if __name__ == "__main__":
    tf.test.main()
