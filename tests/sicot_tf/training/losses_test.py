"""Weights of Eq. 1, logit offsets, and how losses are put together."""

import numpy as np
import tensorflow as tf

from sicot_tf.training import losses


class ExampleWeightsTest(tf.test.TestCase):
    def test_equation_1(self):
        """Breaks if lambda, the mean, or padding leave Eq. 1.

        Two records of weight 1 and one that pads, lambda 0.5:
        (1 + 3) / 2 + 0.5 * (2 + 6) / 2 = 4.
        """
        weights = losses.example_weights(
            tf.constant([1.0, 1.0, 0.0]),
            mixed_loss_weight=0.5,
            total_weight=tf.constant(2.0),
        )
        self.assertAllClose(weights, [0.5, 0.5, 0.0, 0.25, 0.25, 0.0])
        cross_entropies = np.array([1.0, 3.0, 99.0, 2.0, 6.0, 99.0])
        self.assertAllClose(np.sum(weights * cross_entropies), 4.0)

    def test_without_mixed_stream(self):
        """Breaks if the baseline is not the mean cross-entropy."""
        weights = losses.example_weights(
            tf.constant([1.0, 1.0]),
            mixed_loss_weight=None,
            total_weight=tf.constant(2.0),
        )
        self.assertAllClose(weights, [0.5, 0.5])

    def test_workers_add_up(self):
        """Breaks if two workers' losses don't add up to one worker's."""
        whole = losses.example_weights(
            tf.ones([4]), mixed_loss_weight=2.0, total_weight=tf.constant(4.0)
        )
        half = losses.example_weights(
            tf.ones([2]), mixed_loss_weight=2.0, total_weight=tf.constant(4.0)
        )
        self.assertAllClose(tf.reduce_sum(whole), 2 * tf.reduce_sum(half))


class LogitOffsetTest(tf.test.TestCase):
    def test_logit_adjustment(self):
        """Breaks if offsets are not tau * log(prior).

        Counts 3, 1, 0 (counted as 1): shares 0.6, 0.2, 0.2.
        """
        self.assertIsNone(losses.make_logit_offset(0.0, np.ones(3)))
        self.assertAllClose(
            losses.make_logit_offset(2.0, np.array([3, 1, 0])),
            2 * np.log([0.6, 0.2, 0.2]),
        )


if __name__ == "__main__":
    tf.test.main()
