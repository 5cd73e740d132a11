"""Class rows that are changed after training, against NumPy."""

import numpy as np
import tensorflow as tf

from sicot_tf import config
from sicot_tf.model.classifier import post_hoc
from sicot_tf.model.classifier.class_sharded_dense import ClassShardedDense

_COUNTS = np.array([6, 3, 1, 0])
_KERNEL = np.array([[3.0, 4.0], [0.6, 0.8], [0.0, 0.0], [0.0, 2.0]], np.float32)
_BIAS = np.array([0.5, 0.25, -1.0, 0.0], np.float32)


def _changed(**changes):
    """Kernel and bias of a layer of two blocks, changed."""
    layer = ClassShardedDense(4, seed=None, block_size=2)
    layer.build((None, 2))
    for number, block in enumerate(layer.blocks):
        block.kernel.assign(_KERNEL[2 * number : 2 * number + 2])
        block.bias.assign(_BIAS[2 * number : 2 * number + 2])
    post_hoc.apply(layer, config.PostHocConfig(**changes), _COUNTS)
    return (
        np.concatenate([block.kernel.numpy() for block in layer.blocks]),
        np.concatenate([block.bias.numpy() for block in layer.blocks]),
    )


class PostHocTest(tf.test.TestCase):
    def test_adjusted_logits(self):
        """Breaks if rare classes are not raised by tau * log(share).

        A class without records counts as one with one: shares of 11 are 6,
        3, 1, 1.
        """
        kernel, bias = _changed(logit_adjustment=1.5)
        self.assertAllEqual(kernel, _KERNEL)
        self.assertAllClose(
            bias, _BIAS - 1.5 * np.log([6 / 11, 3 / 11, 1 / 11, 1 / 11])
        )

    def test_normalized_rows(self):
        """Breaks if rows are not divided by their length ** tau.

        Lengths 5, 1, 0, 2; a row of zeros has no direction.
        """
        kernel, bias = _changed(weight_normalization=1.0)
        self.assertAllClose(kernel, [[0.6, 0.8], [0.6, 0.8], [0, 0], [0, 1]])
        self.assertAllEqual(bias, np.zeros(4))
        kernel, _ = _changed(weight_normalization=0.5)
        self.assertAllClose(
            np.linalg.norm(kernel, axis=1), np.sqrt([5, 1, 0, 2])
        )

    def test_unchanged(self):
        """Breaks if a plain evaluation is not, bit for bit, what it was."""
        kernel, bias = _changed()
        self.assertAllEqual(kernel, _KERNEL)
        self.assertAllEqual(bias, _BIAS)

    def test_adjusted_as_in_training(self):
        """Breaks if the two adjustments stand for different corrections.

        A classifier trained with the offset `log(share)` on its logits gives
        without it what a plain one gives less `log(share)`: both balanced.
        The plain optimum for constant features is bias = log(share).
        """
        shares = post_hoc.log_shares(_COUNTS)
        balanced = post_hoc.adjust_logits(shares.astype(np.float32), shares, 1)
        self.assertAllClose(balanced, np.zeros(4))


if __name__ == "__main__":
    tf.test.main()
