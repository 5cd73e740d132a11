"""Words left out and shares of mixup, by the seed of a record."""

import numpy as np
import tensorflow as tf

from sicot_tf.data import noise


def _seeds(number):
    return tf.stack([tf.range(number), tf.ones([number], tf.int64)], axis=1)


def _draw(function, number=2000):
    """`[number, ...]`, one draw for each seed."""
    draw = tf.function(lambda seeds: tf.map_fn(
        function, seeds, fn_output_signature=function(seeds[0]).dtype
    ))  # fmt: skip
    return draw(_seeds(tf.constant(number, tf.int64))).numpy()


class NoiseTest(tf.test.TestCase):
    def test_drop_words(self):
        """Breaks if words leave more or less often than asked for, more for
        their place, or padding becomes a word.

        Of four words each stays with 0.4, or as the last one: with 0.6^4
        none would, and one of four does. 0.4 + 0.6^4 / 4 = 0.4324.
        """
        title = tf.constant([5, 6, 7, 8, 0], tf.int32)
        found = _draw(lambda seed: noise.drop_words(title, 0.6, seed))
        stays = found != 0
        # Standard error of 2000 draws: 0.011.
        self.assertAllClose(stays[:, :4].mean(axis=0), [0.4324] * 4, atol=0.05)
        self.assertAllEqual(found[:, 4], np.zeros(2000))
        self.assertAllEqual(np.unique(found[:, 1]), [0, 6])
        self.assertEqual(stays.any(axis=1).mean(), 1.0)

    def test_borders_of_drop_words(self):
        """Breaks if the last word leaves, or a title without words gets one."""
        seed = tf.constant([3, 4], tf.int64)
        for title, expected in (
            ([0, 0, 0], [0, 0, 0]),
            ([9, 0, 0], [9, 0, 0]),
        ):
            found = noise.drop_words(tf.constant(title), 1.0, seed)
            self.assertAllEqual(found, expected)
        found = noise.drop_words(tf.constant([1, 2, 3]), 1.0, seed)
        self.assertEqual(np.count_nonzero(found), 1)

    def test_share_of_mixup(self):
        """Breaks if shares are not Beta(alpha, alpha), the greater half.

        Beta(1, 1) is uniform, so the shares are uniform from 0.5 to 1. Of
        Beta(0.2, 0.2) the moments are NumPy's.
        """
        found = _draw(lambda seed: noise.draw_own_share(1.0, seed))
        self.assertAllClose(
            np.quantile(found, [0.1, 0.5, 0.9]), [0.55, 0.75, 0.95], atol=0.02
        )
        found = _draw(lambda seed: noise.draw_own_share(0.2, seed))
        expected = np.random.default_rng(0).beta(0.2, 0.2, 100_000)
        expected = np.maximum(expected, 1 - expected)
        self.assertAllClose(found.mean(), expected.mean(), atol=0.02)
        self.assertAllClose(
            np.mean(found > 0.99), np.mean(expected > 0.99), atol=0.05
        )
        self.assertBetween(found.min(), 0.5, 0.6)

    def test_tiny_alpha(self):
        """Breaks if two Gamma variables that round to 0 are taken for equal:
        the smaller alpha, the more pictures stay their own."""
        found = _draw(lambda seed: noise.draw_own_share(1e-6, seed), 100)
        self.assertAllEqual(found, np.ones(100))

    def test_a_function_of_the_seed(self):
        """Breaks if a resumed run, or another worker, draws anew; or if the
        draws of a record depend on each other."""
        title = tf.range(1, 9)
        seeds = [tf.constant(each, tf.int64) for each in ((1, 2), (1, 3))]
        for draw in (
            lambda seed: noise.drop_words(title, 0.5, seed),
            lambda seed: noise.draw_own_share(0.4, seed),
        ):
            self.assertAllEqual(draw(seeds[0]), draw(seeds[0]))
            self.assertNotAllEqual(draw(seeds[0]), draw(seeds[1]))
        shares = _draw(lambda seed: noise.draw_own_share(1.0, seed))
        words = _draw(lambda seed: noise.drop_words(title, 0.5, seed))
        counts = np.count_nonzero(words, axis=1)
        self.assertAllClose(np.corrcoef(shares, counts)[0, 1], 0.0, atol=0.08)


if __name__ == "__main__":
    tf.test.main()
