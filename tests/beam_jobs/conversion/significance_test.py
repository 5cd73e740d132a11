"""Tests of intervals and tests against numbers derived by hand."""

import math

import numpy as np
from absl.testing import absltest
from absl.testing import parameterized

from beam_jobs.conversion import significance

# The squared 97.5 % quantile of the normal, as tables have it.
_Z_SQUARED = 3.841459


class SignificanceTest(parameterized.TestCase):
    def test_wilson(self):
        """Breaks if the interval is another one (Wald's: 0.0365 to 0.0635).

        Its ends are the rates p with (0.05 - p)^2 = z^2 p (1 - p) / 1000.
        """
        interval = significance.wilson_interval(50, 1000)
        np.testing.assert_allclose(interval, [0.038130, 0.065314], atol=1e-6)
        for p in interval:
            self.assertAlmostEqual(
                (0.05 - p) ** 2, _Z_SQUARED * p * (1 - p) / 1000, places=9
            )

    def test_wilson_at_the_ends(self):
        """Breaks if no trade in 10 visits is told as exactly 0 %.

        With p = 0 an end is 0 and the other z^2 / (n + z^2) = 0.277534.
        """
        low, high = significance.wilson_interval(0, 10)
        self.assertEqual(low, 0.0)
        self.assertAlmostEqual(high, 0.277534, places=5)
        low, high = significance.wilson_interval(10, 10)
        self.assertEqual(high, 1.0)
        self.assertAlmostEqual(low, 1 - 0.277534, places=5)
        self.assertIsNone(significance.wilson_interval(0, 0))

    def test_relative_gain(self):
        """Breaks if the interval of a gain is wrong or upside down.

        Ratio 0.07 / 0.05 = 1.4; variance 1/50 - 1/1000 + 1/70 - 1/1000 =
        0.0322857, deviation 0.179682; exp(1.959964 x 0.179682) = 1.422150.
        """
        gain = significance.relative_gain((50, 1000), (70, 1000))
        expected = [0.4, 1.4 / 1.422150 - 1, 1.4 * 1.422150 - 1]
        np.testing.assert_allclose(gain, expected, atol=5e-6)

    def test_two_proportions(self):
        """Breaks if the test has one side, or does not pool.

        Pooled 0.06; deviation sqrt(0.06 x 0.94 x 2 / 1000) = 0.0106207; z =
        0.02 / 0.0106207 = 1.883108; erfc(z / sqrt 2) = 0.0597.
        """
        p = significance.two_proportion_p_value((50, 1000), (70, 1000))
        self.assertAlmostEqual(p, math.erfc(1.883108 / 2**0.5), places=6)
        again = significance.two_proportion_p_value((70, 1000), (50, 1000))
        self.assertAlmostEqual(p, again, places=12)

    def test_sample_ratio(self):
        """Breaks if visitors who were lost on one side are not noticed.

        510 and 490 of halves: 0.2 + 0.2 = 0.4, one degree of freedom,
        erfc(sqrt(0.2)). 300, 500, 200 of 1/4, 1/2, 1/4: 10 + 0 + 10, two
        degrees, exp(-10).
        """
        self.assertAlmostEqual(
            significance.sample_ratio_p_value([510, 490], [0.5, 0.5]),
            math.erfc(0.2**0.5),
        )
        self.assertAlmostEqual(
            significance.sample_ratio_p_value(
                [300, 500, 200], [0.25, 0.5, 0.25]
            ),
            math.exp(-10),
        )

    def test_sample_ratio_without_share(self):
        """Breaks if visitors of a variant that is switched off pass."""
        p = significance.sample_ratio_p_value([10, 10, 1], [0.5, 0.5, 0])
        self.assertEqual(p, 0)
        self.assertIsNone(significance.sample_ratio_p_value([10], [1.0]))
        self.assertIsNone(significance.sample_ratio_p_value([0, 0], [0.5, 0.5]))

    @parameterized.parameters(
        ((0, 10), (3, 10)), ((3, 10), (0, 10)), ((0, 0), (3, 10))
    )
    def test_no_gain_over_nothing(self, baseline, other):
        """Breaks if a variant without a trade ends in a division by zero."""
        self.assertIsNone(significance.relative_gain(baseline, other))

    @parameterized.parameters(
        ((0, 10), (0, 10)), ((10, 10), (5, 5)), ((0, 0), (3, 10))
    )
    def test_no_test_of_nothing(self, baseline, other):
        """Breaks if no or all trades end in a division by zero."""
        self.assertIsNone(significance.two_proportion_p_value(baseline, other))

    def test_same_variants(self):
        """Breaks if two equal variants differ more often, or less, than the
        level of the test says.

        200 tests at 5 %: 10 false alarms are expected; the binomial has 99.9 %
        of its mass from 2 to 22.
        """
        rng = np.random.default_rng(0)
        alarms = misses = 0
        for _ in range(200):
            # Visitors of a week who each trade or do not.
            pair = [
                (int((rng.random(2_000) < 0.05).sum()), 2_000) for _ in range(2)
            ]
            alarms += significance.two_proportion_p_value(*pair) < 0.05
            _, low, high = significance.relative_gain(*pair)
            misses += not low <= 0 <= high
        self.assertBetween(alarms, 2, 22)
        self.assertBetween(misses, 2, 22)


if __name__ == "__main__":
    absltest.main()
