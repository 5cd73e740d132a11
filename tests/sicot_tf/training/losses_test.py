"""Weights of Eq. 1, logit offsets, and how losses are put together."""

import dataclasses

import numpy as np
import tensorflow as tf

from sicot_tf import config
from sicot_tf.model.classifier import row_optimizers
from sicot_tf.model.classifier.class_sharded_dense import ClassShardedDense
from sicot_tf.model.classifier.classifier_trainer import ClassifierTrainer
from sicot_tf.training import losses
from tests.helpers import dense_softmax


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


class LabelAwareSmoothingTest(tf.test.TestCase):
    def test_concave_form(self):
        """Breaks if frequent classes are not smoothed more than rare ones.

        Records 10, 4, 1: x is 1, 3 / 9 and 0; sin(pi / 2 / 3) is 1 / 2, so
        0.05 + (0.4 - 0.05) / 2 = 0.225 in the middle.
        """
        counts = np.array([10, 4, 1])
        self.assertAllClose(
            losses.label_aware_smoothing(
                counts, most_frequent=0.4, rarest=0.05
            ),
            [0.4, 0.225, 0.05],
        )
        # A set without a tail has the smoothing of rare classes.
        self.assertAllClose(
            losses.label_aware_smoothing(
                np.array([3, 3]), most_frequent=0.4, rarest=0.1
            ),
            [0.1, 0.1],
        )
        for most_frequent, rarest in ((0.1, 0.2), (1.0, 0.0), (-0.1, -0.2)):
            with self.assertRaisesRegex(ValueError, "from label_smoothing up"):
                losses.label_aware_smoothing(
                    counts, most_frequent=most_frequent, rarest=rarest
                )

    def test_trains(self):
        """Breaks if a step's loss or gradients leave the formula.

        Three classes in blocks of two and one, against the cross-entropy
        with wanted probabilities in NumPy.
        """
        made = losses.make_losses(
            dataclasses.replace(
                config.TrainConfig(),
                label_aware_smoothing=0.4,
                label_smoothing=0.05,
            ),
            np.array([10, 4, 1]),
        )
        layer = ClassShardedDense(3, block_size=2)
        layer.build((None, 2))
        kernel, bias = dense_softmax.weights(0, 3, 2)
        for (first, last), block in zip(layer.block_ranges(), layer.blocks):
            block.kernel.assign(kernel[first:last])
            block.bias.assign(bias[first:last])
        # Velocity of the first step at a rate of 1 is minus the gradient.
        trainer = ClassifierTrainer(
            layer, row_optimizers.RowSGD(0.9), loss=made.of_logits
        )
        features = np.array([[1, 2], [-1, 0.5], [0.3, 0]], np.float32)
        labels, weights = np.array([0, 1, 2]), np.array([1, 2, 3], np.float32)

        @tf.function
        def step():
            found = trainer.step(
                tf.constant(features),
                tf.constant(labels),
                tf.constant(weights),
                learning_rate=tf.constant(1.0),
                step=tf.constant(0, tf.int64),
            )
            return found.losses, found.features_gradient

        parts = [
            dense_softmax.cross_entropy(
                features[row : row + 1],
                kernel,
                bias,
                labels[row : row + 1],
                weights[row : row + 1],
                label_smoothing=smoothing,
            )
            for row, smoothing in enumerate((0.4, 0.225, 0.05))
        ]
        found, by_features = step()
        moved = np.concatenate([each.kernel for each in layer.blocks]) - kernel
        self.assertAllClose(found, np.concatenate([p.losses for p in parts]))
        self.assertAllClose(
            by_features, np.concatenate([p.by_features for p in parts])
        )
        self.assertAllClose(moved, -sum(p.by_kernel for p in parts), 1e-5)

    def test_sampled_classes_are_refused(self):
        """Breaks if the mean of drawn logits passes for the mean of all."""
        made = losses.make_losses(
            dataclasses.replace(
                config.TrainConfig(), label_aware_smoothing=0.4
            ),
            np.array([10, 4, 1]),
        )
        layer = ClassShardedDense(3)
        layer.build((None, 2))
        with self.assertRaisesRegex(ValueError, "without --sample_rate"):
            ClassifierTrainer(
                layer,
                row_optimizers.RowSGD(0.9),
                loss=made.of_logits,
                sample_rate=0.5,
            )


class DistillationTest(tf.test.TestCase):
    def test_distance_to_a_held_teacher(self):
        """Breaks if the loss is no mean over features, or teaches x_m.

        ((1 - 3)^2 + 0) / 2 = 2 and (0 + 2^2) / 2 = 2; by x_v
        2 * (x_v - x_m) / 2.
        """
        ((name, weight, loss),) = losses.make_losses(
            dataclasses.replace(config.TrainConfig(), distillation_weight=0.5),
            np.array([1]),
        ).on_features
        outputs = {
            "x_v": tf.constant([[1.0, 5.0], [4.0, 0.0]]),
            "x_m": tf.constant([[3.0, 5.0], [4.0, 2.0]]),
        }
        with tf.GradientTape() as tape:
            tape.watch(outputs)
            values = loss({}, outputs)
        self.assertEqual((name, weight), ("distillation", 0.5))
        self.assertAllClose(values, [2.0, 2.0])
        gradients = tape.gradient(values, outputs)
        self.assertAllClose(gradients["x_v"], [[-2.0, 0.0], [0.0, -2.0]])
        self.assertIsNone(gradients["x_m"])
        self.assertEmpty(
            losses.make_losses(config.TrainConfig(), np.ones(1)).on_features
        )


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


class PredictedWordsTest(tf.test.TestCase):
    # Words 4 and 2 are predicted, 1 and 3 are not.
    _COLUMNS = tf.constant([-1, -1, 1, -1, 0])

    def test_formula(self):
        """Breaks if targets or the sum over words are others.

        Titles: both words, one of them twice; one and another; none that is
        predicted; no words.
        """
        logits = np.array([[1, -2], [0.5, 3], [2, 2], [-1, 1]], np.float32)
        titles = tf.constant([[4, 2, 4], [2, 3, 0], [3, 1, 0], [0, 0, 0]])
        targets = np.array([[1, 1], [0, 1], [0, 0], [0, 0]])
        self.assertAllEqual(
            losses.word_targets(titles, self._COLUMNS, num_words=2), targets
        )
        logits = tf.Variable(logits)
        with tf.GradientTape() as tape:
            found = losses.predicted_words(
                {"title_ids": titles},
                {"word_logits": logits},
                word_columns=self._COLUMNS,
            )
        shares = 1 / (1 + np.exp(-logits.numpy()))
        expected = -np.sum(
            targets * np.log(shares) + (1 - targets) * np.log(1 - shares), 1
        )
        # Titles without predicted words say nothing about the picture.
        has_words = np.array([1, 1, 0, 0])
        self.assertAllClose(found, has_words * expected)
        self.assertAllClose(
            tape.gradient(found, logits),
            has_words[:, None] * (shares - targets),
        )


if __name__ == "__main__":
    tf.test.main()
