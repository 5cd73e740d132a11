"""Losses of logit statistics, and their gradients by the logits."""

import numpy as np
import tensorflow as tf
from absl.testing import parameterized

from sicot_tf.model.classifier import block_softmax
from sicot_tf.model.classifier import sharded_softmax
from sicot_tf.workers.collectives import Collectives
from tests.helpers import dense_softmax

# 11 classes in blocks of 4, 4 and 3; labels first and last of them.
_BORDERS = ((0, 4), (4, 8), (8, 11))
_LABELS = np.array([0, 3, 4, 8, 10, 4])
_WEIGHTS = np.array([0.5, 2.0, 0.0, 1.0, 100.0, 1.0], np.float32)


def _squared_normalizer(statistics, labels):
    """Of the true log of the denominator: depends on every logit's height."""
    return tf.square(statistics.maximum + statistics.log_normalizer)


def _focal(statistics, labels):
    """`(1 - p)^2 * -log(p)`."""
    log_probability = statistics.target - statistics.log_normalizer
    return -tf.square(1 - tf.exp(log_probability)) * log_probability


def _of_everything(statistics, labels):
    """The label, the mean and the normalizer, more than once each."""
    weights = tf.constant(np.linspace(0.5, 1.5, 11), tf.float32)
    margin = statistics.target - statistics.mean
    return tf.gather(weights, labels) * (
        tf.nn.softplus(-margin)
        + tf.square(statistics.log_normalizer - statistics.mean)
        + sharded_softmax.cross_entropy(statistics, 0.3)
    )


class LossesTest(parameterized.TestCase, tf.test.TestCase):
    def setUp(self):
        super().setUp()
        self.kernel, self.bias = dense_softmax.weights(3, 11, 5)
        random = np.random.default_rng(0)
        self.features = random.normal(size=[6, 5]).astype(np.float32)

    def statistics(self, logits):
        """By the definition, of whole rows of logits in their own type."""
        maximum = tf.stop_gradient(tf.reduce_max(logits, axis=1))
        relative = logits - maximum[:, None]
        return sharded_softmax.LogitStatistics(
            maximum,
            tf.reduce_logsumexp(relative, axis=1),
            tf.gather(relative, _LABELS, axis=1, batch_dims=1),
            tf.reduce_mean(relative, axis=1),
        )

    @tf.function
    def by_blocks(self, loss, logit_memory):
        """Losses, and gradients by features, kernel and bias."""
        views = [
            block_softmax.View(
                block_softmax.Block(
                    tf.constant(self.kernel[first:last]),
                    tf.constant(self.bias[first:last]),
                ),
                tf.constant(_LABELS - first),
                None,
            )
            for first, last in _BORDERS
        ]
        examples = sharded_softmax.gather_examples(
            Collectives(),
            tf.constant(self.features),
            tf.constant(_LABELS),
            tf.constant(_WEIGHTS),
            num_classes=11,
        )
        found = sharded_softmax.forward(
            Collectives(),
            examples.features,
            views,
            num_classes=11,
            logit_memory=logit_memory,
        )
        losses, of_loss = sharded_softmax.differentiate(
            loss, found, examples, 11
        )
        parts = [
            block_softmax.gradients(examples.features, each, of_loss)
            for each in found.blocks
        ]
        return (
            losses,
            sum(part for part, _ in parts),
            tf.concat([block.kernel for _, block in parts], axis=0),
            tf.concat([block.bias for _, block in parts], axis=0),
        )

    @parameterized.product(
        loss=(_squared_normalizer, _focal, _of_everything),
        logit_memory=(0, 2**20),
    )
    def test_equals_autodiff_of_all_logits(self, loss, logit_memory):
        """Breaks if a loss written of statistics gets another gradient.

        Against a tape over the whole rows of logits.
        """
        sources = [
            tf.constant(each)
            for each in (self.features, self.kernel, self.bias)
        ]
        with tf.GradientTape() as tape:
            tape.watch(sources)
            features, kernel, bias = sources
            logits = tf.matmul(features, kernel, transpose_b=True) + bias
            if loss is _squared_normalizer:
                wanted = tf.square(tf.reduce_logsumexp(logits, axis=1))
            else:
                wanted = loss(self.statistics(logits), tf.constant(_LABELS))
            total = tf.reduce_sum(_WEIGHTS * wanted)
        expected = [wanted, *tape.gradient(total, sources)]
        for actual, each in zip(
            self.by_blocks(loss, logit_memory), expected, strict=True
        ):
            self.assertLessEqual(
                dense_softmax.relative_error(actual, each.numpy()), 2e-6
            )

    def test_cross_entropy_of_large_logits(self):
        """Breaks if maximum and logarithm are added first.

        log(e^0 + e^-0.5) = 0.474077; near 10,000, neighbours in float32 are
        0.001 apart.
        """
        found = block_softmax.Statistics(
            *(
                tf.constant([each], tf.float32)
                for each in (1e4, 1 + np.exp(-0.5), 1e4, 2e4)
            )
        )
        statistics = sharded_softmax.relative_statistics(found, 2)
        self.assertAllClose(
            sharded_softmax.cross_entropy(statistics), [0.474077], atol=1e-6
        )

    @parameterized.parameters(0.0, 0.2)
    def test_cross_entropy(self, smoothing):
        """Breaks if smoothing takes the mean over a block.

        One smoothing for all, or one for each example.
        """
        for each in (smoothing, tf.fill([6], smoothing)):
            losses, *_ = self.by_blocks(
                lambda statistics, _: sharded_softmax.cross_entropy(
                    statistics, each
                ),
                0,
            )
            expected = dense_softmax.cross_entropy(
                self.features,
                self.kernel,
                self.bias,
                _LABELS,
                _WEIGHTS,
                label_smoothing=smoothing,
            )
            self.assertAllClose(losses, expected.losses, rtol=1e-6)

    def test_which_losses_read_the_mean(self):
        """Breaks if sampled classes are refused for nothing, or not at all."""
        self.assertTrue(sharded_softmax.reads_mean(_of_everything))
        for loss in (_focal, _squared_normalizer):
            self.assertFalse(sharded_softmax.reads_mean(loss))

    def test_a_loss_that_is_no_loss_of_each_example(self):
        """Breaks if a mean is silently taken for one loss an example."""
        with self.assertRaisesRegex(ValueError, r"\(6,\) examples.*shape \(\)"):
            self.by_blocks(
                lambda statistics, _: tf.reduce_mean(statistics.target), 0
            )


if __name__ == "__main__":
    tf.test.main()
