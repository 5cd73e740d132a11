"""Eq. 1 against numbers derived by hand."""

import numpy as np
import tensorflow as tf

from sicot_tf.model import losses


class LossesTest(tf.test.TestCase):
    def test_cross_entropy(self):
        """Breaks if the loss is no longer -log of the softmax.

        Logits (0, log 3): probabilities 1/4 and 3/4.
        """
        found = losses.softmax_cross_entropy(
            tf.constant([0, 1]), tf.constant([[0.0, np.log(3.0)]] * 2)
        )
        self.assertAllClose(found, [np.log(4.0), np.log(4.0 / 3.0)])

    def test_equation_one(self):
        """Breaks if lambda, the weights or 1/N are applied elsewhere.

        Rows (1, 10), (2, 20), (3, 30) with weights 1, 1, 0 and N = 2:
        lambda 0.5 gives ((1 + 5) + (2 + 10)) / 2 = 9, lambda 0 gives 1.5.
        """
        for mixed_loss_weight, expected in ((0.5, 9.0), (0.0, 1.5)):
            found = losses.cotraining_loss(
                tf.constant([1.0, 2.0, 3.0]),
                tf.constant([10.0, 20.0, 30.0]),
                tf.constant([1.0, 1.0, 0.0]),
                mixed_loss_weight=mixed_loss_weight,
                total_weight=tf.constant(2.0),
            )
            self.assertAllClose(found, expected)

    def test_bfloat16_logits_are_summed_in_float32(self):
        """Breaks if mixed precision reaches the loss."""
        found = losses.softmax_cross_entropy(
            tf.constant([0]), tf.zeros([1, 1000], tf.bfloat16)
        )
        self.assertEqual(found.dtype, tf.float32)
        self.assertAllClose(found, [np.log(1000.0)])


if __name__ == "__main__":
    tf.test.main()
