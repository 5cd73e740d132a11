"""Tests of chance that only a seed and a purpose decide."""

import unittest

import numpy as np

from beam_jobs.shop import chance


class PermutationTest(unittest.TestCase):
    def test_is_a_permutation(self):
        """Breaks if two SKUs are one combination, or one rank has two."""
        for size in (1, 2, 3, 7, 100, 1000, 4096, 4097):
            with self.subTest(size=size):
                order = chance.Permutation(size, 0, "test")
                places = [order(index) for index in range(size)]
                self.assertEqual(sorted(places), list(range(size)))
                self.assertEqual(
                    [order.inverse(place) for place in places],
                    list(range(size)),
                )

    def test_follows_seed_and_purpose(self):
        """Breaks if all shops, or brands and types, come in one order."""
        orders = {
            tuple(map(chance.Permutation(50, seed, purpose), range(50)))
            for seed in range(10)
            for purpose in ("a", "b")
        }
        self.assertEqual(len(orders), 20)

    def test_many_at_once(self):
        """Breaks if an array is undone in another way than its numbers."""
        order = chance.Permutation(1234, 3, "test")
        places = np.arange(1234)
        self.assertEqual(
            order.inverse_of(places).tolist(),
            [order.inverse(place) for place in range(1234)],
        )

    def test_is_spread_evenly(self):
        """Breaks if the first SKUs are all of one type.

        Of 288,000 places the first 1,200 go to each twelfth of the range
        1,200 / 12 = 100 times, give or take 4.5 standard deviations of
        sqrt(1200 / 12 * 11 / 12) = 9.6.
        """
        order = chance.Permutation(288_000, 0, "combinations")
        counts = [0] * 12
        for index in range(1200):
            counts[order(index) // 24_000] += 1
        self.assertGreater(min(counts), 100 - 43)
        self.assertLess(max(counts), 100 + 43)

    def test_says_what_is_out_of_range(self):
        """Breaks if a rank that is not there gets an SKU."""
        with self.assertRaisesRegex(ValueError, "from 0 to 9, received 10"):
            chance.Permutation(10, 0, "test")(10)


class GeneratorTest(unittest.TestCase):
    def test_the_same_for_ever(self):
        """Breaks if an old seed gives another shop without a new version."""
        rng = chance.generator(0, "picture", 12, "train", 3)
        self.assertEqual(
            rng.integers(1000, size=4).tolist(), [906, 308, 441, 421]
        )
        self.assertEqual(
            chance.number(0, "type", "1F34C"), 14989871547405057133
        )

    def test_purposes_are_apart(self):
        """Breaks if SKU 1, picture 12 is drawn as SKU 11, picture 2."""
        drawn = {
            chance.generator(seed, *purpose).random()
            for seed in (0, 1)
            for purpose in (("p", 1, 12), ("p", 11, 2), ("q", 1, 12))
        }
        self.assertEqual(len(drawn), 6)


if __name__ == "__main__":
    unittest.main()
