"""Thresholds on scores whose counts are plain, bounds against binomials."""

import math

import numpy as np
import tensorflow as tf

from sicot_tf.evaluation.calibration import threshold


def _tail(num_right, num_records, precision):
    """Probability of so many right ones or more, as a plain sum."""
    return sum(
        math.comb(num_records, each)
        * precision**each
        * (1 - precision) ** (num_records - each)
        for each in range(num_right, num_records + 1)
    )


class ThresholdTest(tf.test.TestCase):
    def test_bounds_are_those_of_the_binomial_distribution(self):
        """Breaks if a few lucky records pass as a proof.

        n right ones of n have the bound 0.05 ** (1 / n); otherwise the chance
        at the bound is 5 %.
        """
        found = threshold.lower_bound(
            np.array([10, 8, 1, 0]), np.array([10, 10, 3, 3]), 0.95
        )
        self.assertAllClose(found[0], 0.05**0.1, atol=1e-9)
        self.assertAllClose(_tail(8, 10, found[1]), 0.05, atol=1e-9)
        # 1 - (1 - p) ** 3 = 0.05.
        self.assertAllClose(found[2], 1 - 0.95 ** (1 / 3), atol=1e-9)
        self.assertAllClose(found[3], 0.0, atol=1e-9)
        # 0.95 ** 59 is the first power below 0.05.
        self.assertEqual(threshold.fewest_records(0.95), 59)

    def test_choice_by_hand(self):
        """Breaks if the threshold is not the lowest that is good enough.

        Wanted: 50 %. Of the best 5 all are right: bound 0.05 ** (1 / 5) =
        0.549. With the sixth, wrong: P(5 or more of 6 | 0.5) = 7 / 64 = 0.11,
        too likely by chance. With a seventh and an eighth, right: P(7 or more
        of 8 | 0.5) = 9 / 256 = 0.035, good. The ninth and tenth are wrong:
        P(7 or more of 9) = 46 / 512 = 0.09. So 0.3 is the last score that
        passes, and the next one is 0.2.
        """
        scores = np.array([0.9, 0.8, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1])
        right = np.array([1, 1, 1, 1, 1, 0, 1, 1, 0, 0], bool)
        shuffled = np.random.default_rng(0).permutation(10)
        choice = threshold.choose(scores[shuffled], right[shuffled], 0.5)
        self.assertAllClose(choice.threshold, 0.25)
        self.assertEqual(choice[1:], (8, 7))
        self.assertIsNone(threshold.choose(scores, right, 0.7))

    def test_how_often_the_promise_is_broken(self):
        """Breaks if lucky records decide: a choice by the share alone, without
        its bound, breaks the promise half of the time.

        Of 400 validation sets with calibrated scores. The true precision is
        the mean of all scores above the threshold.
        """
        rng = np.random.default_rng(0)
        everyone = np.sort(rng.beta(4, 1.2, 100_000))
        broken = 0
        for _ in range(400):
            scores = rng.beta(4, 1.2, 2000)
            right = rng.uniform(size=2000) < scores
            choice = threshold.choose(scores, right, 0.9)
            start = np.searchsorted(everyone, choice.threshold)
            broken += everyone[start:].mean() < 0.9
        # 20 expected; three standard deviations are 13.
        self.assertBetween(broken, 7, 33)

    def test_equal_scores_are_accepted_together(self):
        """Breaks if a threshold is said to divide what it can't: 5 right ones
        and 5 wrong ones have the same score."""
        scores, right = np.full(10, 0.5), np.arange(10) < 5
        self.assertIsNone(threshold.choose(scores, right, 0.5))
        # Where all pass, the next score is 0.
        choice = threshold.choose(scores[:5], right[:5], 0.5)
        self.assertEqual(choice, (0.25, 5, 5))

    def test_curve(self):
        """Breaks if coverage and precision are taken of other records.

        At 0.9: 1 of 1; at 0.5: 2 of 3; at 0.1: 2 of 4, of 4 records.
        """
        found = threshold.curve(
            np.array([0.5, 0.9, 0.1, 0.5]), np.array([True, True, False, False])
        )
        self.assertEqual(found["threshold"], [0.9, 0.5, 0.1])
        self.assertEqual(found["coverage"], [0.25, 0.75, 1.0])
        self.assertAllClose(found["precision"]["value"], [1, 2 / 3, 0.5])
        # Both ends at 97.5 %: 0.025 below, and by symmetry above.
        low, high = (found["precision"][end][2] for end in ("low", "high"))
        self.assertAllClose(_tail(2, 4, low), 0.025, atol=1e-9)
        self.assertAllClose(low, 1 - high)
        scores = np.linspace(0, 1, 5000)
        long = threshold.curve(scores, scores > 0.5)
        self.assertLen(long["coverage"], 300)
        self.assertEqual(long["coverage"][-1], 1.0)

    def test_shares_of_nothing(self):
        """Breaks if an empty group has a precision."""
        self.assertEqual(
            threshold.share(0, 0), {"value": None, "low": None, "high": None}
        )
        self.assertEqual(threshold.share(3, 4)["value"], 0.75)


if __name__ == "__main__":
    tf.test.main()
