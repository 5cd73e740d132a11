"""Softmax by blocks of classes: statistics, gradients, norms, updates."""

import numpy as np
import tensorflow as tf
from absl.testing import parameterized

from sicot_tf.model.classifier import block_softmax
from sicot_tf.model.classifier import row_optimizers
from tests.helpers import dense_softmax

# 11 classes in blocks of 4, 4 and 3.
_BORDERS = ((0, 4), (4, 8), (8, 11))
# First and last of blocks, one twice.
_LABELS = np.array([0, 3, 4, 8, 10, 4])
_UPSTREAM = np.array([0.5, 2.0, 0.0, -1.0, 100.0, 1.0], np.float32)


class BlockSoftmaxTest(parameterized.TestCase, tf.test.TestCase):
    def setUp(self):
        super().setUp()
        self.kernel, self.bias = dense_softmax.weights(3, 11, 5)
        random = np.random.default_rng(0)
        self.features = random.normal(size=[6, 5]).astype(np.float32)
        self.offset = random.normal(size=[11]).astype(np.float32)
        self.dim = 5

    def views(self):
        return [
            block_softmax.View(
                block_softmax.Block(
                    tf.constant(self.kernel[first:last, : self.dim]),
                    tf.constant(self.bias[first:last]),
                ),
                tf.constant(_LABELS - first),
                tf.constant(self.offset[first:last]),
                self.fixed_rows(first, last),
            )
            for first, last in _BORDERS
        ]

    def fixed_rows(self, first, last):
        """What is behind the trained columns."""
        if self.dim == 5:
            return None
        return tf.constant(self.kernel[first:last, self.dim :])

    def forward(self, keep):
        """Statistics of all blocks, and what each leaves for its way back."""
        parts, blocks = zip(
            *(
                block_softmax.forward(self.features, view, keep)
                for view in self.views()
            )
        )
        stacked = [tf.stack(each) for each in zip(*parts)]
        return block_softmax.merge(block_softmax.Statistics(*stacked)), blocks

    def expected(self, label_smoothing=0.0):
        return dense_softmax.cross_entropy(
            self.features,
            self.kernel,
            self.bias,
            _LABELS,
            _UPSTREAM,
            label_smoothing=label_smoothing,
            offset=self.offset,
        )

    def test_statistics(self):
        """Breaks if a label counts in two blocks, or in none."""
        merged, blocks = self.forward(keep=True)
        logits = self.features @ self.kernel.T + self.bias + self.offset
        highest = logits.max(axis=1)
        for actual, expected in (
            (merged.maximum, highest),
            (merged.exponentials, np.exp(logits - highest[:, None]).sum(1)),
            (merged.target, logits[np.arange(6), _LABELS]),
            (merged.total, logits.sum(axis=1)),
        ):
            self.assertAllClose(actual, expected, rtol=1e-6, atol=1e-6)
        for (first, last), passed in zip(_BORDERS, blocks):
            block = logits[:, first:last]
            self.assertAllClose(passed.maximum, block.max(axis=1))
            self.assertAllClose(
                passed.exponentials,
                np.exp(block - block.max(axis=1, keepdims=True)),
            )
        for passed in self.forward(keep=False)[1]:
            self.assertIsNone(passed.exponentials)

    def of_loss(self, merged, smoothing=0.2):
        """Of the smoothed cross-entropy, as `sharded_softmax` derives it."""
        return block_softmax.LossGradient(
            merged.maximum,
            by_exponential=_UPSTREAM / merged.exponentials,
            by_target=tf.constant((smoothing - 1) * _UPSTREAM),
            by_any=tf.constant(-smoothing / 11 * _UPSTREAM),
        )

    @parameterized.parameters(False, True)
    def test_gradients(self, keep):
        """Breaks if what was kept differs from what is computed again."""
        merged, blocks = self.forward(keep)
        parts = [
            block_softmax.gradients(self.features, each, self.of_loss(merged))
            for each in blocks
        ]
        expected = self.expected(0.2)
        for actual, wanted in (
            (sum(part for part, _ in parts), expected.by_features),
            (
                tf.concat([b.kernel for _, b in parts], 0),
                expected.by_kernel[:, : self.dim],
            ),
            (tf.concat([b.bias for _, b in parts], 0), expected.by_bias),
        ):
            self.assertLessEqual(
                dense_softmax.relative_error(actual, wanted), 1e-6
            )

    @parameterized.parameters(False, True)
    def test_norm(self, keep):
        """Breaks if clipping sees another norm than the gradient has."""
        merged, blocks = self.forward(keep)
        by_features, grams, by_logits = zip(
            *(
                block_softmax.norm_gradients(
                    self.features, each, self.of_loss(merged)
                )
                for each in blocks
            )
        )
        expected = self.expected(0.2)
        norm = (expected.by_kernel[:, : self.dim] ** 2).sum()
        norm += (expected.by_bias**2).sum()
        trained = tf.constant(self.features[:, : self.dim])
        self.assertAllClose(
            block_softmax.squared_norm(trained, sum(grams)),
            norm,
            rtol=1e-6,
        )
        self.assertLessEqual(
            dense_softmax.relative_error(
                sum(by_features), expected.by_features
            ),
            1e-6,
        )
        # Kept for the update that follows, or computed again.
        for each in by_logits:
            self.assertEqual(each is not None, keep)

    def test_update(self):
        """Breaks if biases decay, or clipping scales more than gradients.

        Scale 0.5: kernel gradient 0.5 * 4 + 0.1 * 10 = 3, bias 0.5 * 2 = 1;
        velocity 0.9 * 1 - 0.1 * gradient.
        """
        (kernel, bias), ((kernel_slot, bias_slot),) = (
            block_softmax.updated_block(
                block_softmax.Block(tf.constant([[4.0]]), tf.constant([2.0])),
                block_softmax.Block(tf.constant([[10.0]]), tf.constant([20.0])),
                (block_softmax.Block(tf.ones([1, 1]), tf.ones([1])),),
                block_softmax.Update(
                    tf.constant(0.1),
                    tf.constant(0, tf.int64),
                    tf.constant(0.5),
                ),
                row_optimizers.RowSGD(0.9),
                weight_decay=0.1,
            )
        )
        self.assertAllClose(kernel_slot, [[0.6]])
        self.assertAllClose(bias_slot, [0.8])
        self.assertAllClose(kernel, [[10.6]])
        self.assertAllClose(bias, [20.8])

    def test_bfloat16(self):
        """Breaks if softmax or gradients lose digits beyond the products."""
        self.features = tf.cast(self.features, tf.bfloat16)
        merged, blocks = self.forward(keep=True)
        by_features, block = block_softmax.gradients(
            self.features, blocks[0], self.of_loss(merged)
        )
        for each in (*merged, blocks[0].exponentials, by_features, *block):
            self.assertEqual(each.dtype, tf.float32)


class FixedColumnsTest(BlockSoftmaxTest):
    """All of the above where two of five columns are not trained.

    Breaks if they miss in logits or in the features' gradient, or are trained.
    """

    def setUp(self):
        super().setUp()
        self.dim = 3


if __name__ == "__main__":
    tf.test.main()
