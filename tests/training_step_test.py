"""Schedule, entropy, and one training step against a hand-made one."""

import dataclasses

import numpy as np
import tensorflow as tf

from sicot_tf import config
from sicot_tf.model import sicot
from sicot_tf.model import training_step

_MODEL = dataclasses.replace(
    config.ModelConfig(),
    backbone="SmallCNN",
    backbone_weights="none",
    image_size=16,
    max_words=3,
)


def _batch(seed, size=6):
    rng = np.random.default_rng(seed)
    return {
        "image": tf.constant(
            rng.uniform(0, 255, size=(size, 16, 16, 3)), tf.float32
        ),
        "title_ids": tf.constant(rng.integers(0, 8, (size, 3)), tf.int32),
        "label": tf.constant(rng.integers(0, 5, size), tf.int64),
        # The last row only pads the batch.
        "weight": tf.constant([1.0] * (size - 1) + [0.0]),
    }


class _Training:
    """Model, optimizer and step on the default strategy."""

    def __init__(self, streams="cotrain", **settings):
        self.config = dataclasses.replace(
            config.TrainConfig(), learning_rate=0.05, **settings
        )
        self.streams = sicot.build_streams(
            dataclasses.replace(_MODEL, streams=streams),
            vocabulary_size=7,
            word_vector_dim=4,
        )
        self.classifier = sicot.build_classifier(5, 128)
        self.optimizer = training_step.make_optimizer(self.config, 10)
        self.optimizer.build(
            self.streams.trainable_variables
            + self.classifier.trainable_variables
        )
        self.step = training_step.make_training_step(
            tf.distribute.get_strategy(),
            self.streams,
            self.classifier,
            self.optimizer,
            self.config,
            tf.constant([1.0, 1.0, 0.0, 0.0, 0.0]),
        )

    def run(self, num_steps):
        for seed in range(num_steps):
            batch = _batch(seed)
            batch = {name: batch[name] for name in batch}
            sums = self.step(batch, tf.reduce_sum(batch["weight"]))
        return sums

    def visual_weights(self):
        visual = sicot.visual_stream(self.streams)
        return {
            each.path: each.numpy()
            for each in visual.weights + self.classifier.weights
        }


class TrainingStepTest(tf.test.TestCase):
    def test_schedule_of_the_paper(self):
        """Breaks if "step 1, gamma 0.8" is not a decay once an epoch.

        0.1 * 0.8 ** e: 0.1, 0.08, 0.064; epoch 10: 0.0107, 20: 0.00115.
        """
        schedule = training_step.StepDecay(0.1, 0.8, decay_steps=100)
        for step, expected in (
            (0, 0.1),
            (99, 0.1),
            (100, 0.08),
            (250, 0.064),
            (1000, 0.010737),
            (2000, 0.0011529),
        ):
            self.assertAllClose(schedule(step), expected, rtol=1e-4)
        # Steps behind the reach of float32 are still told apart.
        exact = training_step.StepDecay(1.0, 0.5, decay_steps=2.0**24 + 1)
        self.assertAllClose(exact(2**24), 1.0)
        self.assertAllClose(exact(2**24 + 1), 0.5)

    def test_warmup(self):
        """Breaks if warm-up is not linear, or shifts no decay."""
        # In a graph, as the optimizer calls it.
        schedule = tf.function(
            training_step.StepDecay(1.0, 0.5, decay_steps=10, warmup_steps=4)
        )
        found = [
            float(schedule(tf.constant(step))) for step in (0, 1, 3, 4, 13, 14)
        ]
        self.assertAllClose(found, [0.25, 0.5, 1.0, 1.0, 1.0, 0.5])

    def test_one_step_equals_sgd_by_hand(self):
        """Breaks if loss, weights, L2, or the update leave Eq. 1 and SGD."""
        training = _Training(mixed_loss_weight=0.5, weight_decay=0.01)
        batch = _batch(0)
        variables = (
            training.streams.trainable_variables
            + training.classifier.trainable_variables
        )
        with tf.GradientTape() as tape:
            outputs = training.streams(
                {name: batch[name] for name in ("image", "title_ids")}
            )
            losses = []
            for stream in ("x_v", "x_m"):
                log_probability = tf.nn.log_softmax(
                    training.classifier(outputs[stream])
                )
                # Mean over the five rows of weight 1.
                losses.append(
                    -tf.reduce_mean(
                        tf.gather(
                            log_probability, batch["label"], batch_dims=1
                        )[:5]
                    )
                )
            loss = losses[0] + 0.5 * losses[1]
        gradients = tape.gradient(loss, variables)
        expected = {}
        for variable, gradient in zip(variables, gradients):
            gradient = tf.convert_to_tensor(gradient)
            decayed = "kernel" in variable.path
            expected[variable.path] = variable.numpy() - 0.05 * (
                gradient + (0.01 * variable.value if decayed else 0.0)
            )
        sums = training.step(batch, tf.constant(5.0))
        self.assertAllClose(sums["loss"], loss, rtol=1e-5)
        self.assertAllClose(sums["loss_visual"], losses[0], rtol=1e-5)
        self.assertAllClose(sums["loss_mixed"], losses[1], rtol=1e-5)
        labels = batch["label"].numpy()[:5]
        self.assertAllClose(sums["num_head"], np.sum(labels < 2))
        self.assertAllClose(sums["num_tail"], np.sum(labels >= 2))
        for variable in variables:
            self.assertAllClose(
                variable, expected[variable.path], atol=1e-6, rtol=1e-5
            )

    def test_lambda_zero_is_the_baseline(self):
        """Breaks if titles reach the visual stream by any way but lambda.

        Same initial weights bit for bit; within 1e-6 after 20 steps.
        """
        baseline = _Training(streams="visual")
        cotrain = _Training(mixed_loss_weight=0.0)
        for path, value in baseline.visual_weights().items():
            self.assertAllEqual(value, cotrain.visual_weights()[path])
        before = baseline.visual_weights()
        baseline.run(20)
        cotrain.run(20)
        moved = 0.0
        for path, value in baseline.visual_weights().items():
            self.assertAllClose(
                value, cotrain.visual_weights()[path], atol=1e-6, rtol=0
            )
            moved = max(moved, np.abs(value - before[path]).max())
        self.assertGreater(moved, 0.01)
        # And with lambda 1 it does reach it.
        other = _Training(mixed_loss_weight=1.0)
        other.run(20)
        self.assertNotAllClose(
            other.visual_weights()["classifier/kernel"],
            baseline.visual_weights()["classifier/kernel"],
            atol=1e-3,
        )

    def test_slower_backbone(self):
        """Breaks if the factor does not scale the backbone alone."""
        start = _Training(weight_decay=0.0)
        whole = _Training(weight_decay=0.0)
        slow = _Training(weight_decay=0.0, backbone_learning_rate_factor=0.25)
        whole.run(1)
        slow.run(1)
        for path, value in start.visual_weights().items():
            factor = 1.0 if path.startswith("classifier") else 0.25
            self.assertAllClose(
                slow.visual_weights()[path] - value,
                factor * (whole.visual_weights()[path] - value),
                atol=1e-6,
            )

    def test_attention_entropy(self):
        """Breaks if 1 no longer means mean pooling.

        Title 1: even weights over 2 words: 1. Title 2: one word of three
        takes all: 0. Title 3 has one word, title 4 only pads: not counted.
        """
        entropy, count = training_step.attention_entropy(
            tf.constant(
                [[0.5, 0.5, 0.0], [1.0, 0, 0], [1.0, 0, 0], [0.5, 0.5, 0]]
            ),
            tf.constant([[1, 2, 0], [1, 2, 3], [1, 0, 0], [1, 2, 0]]),
            tf.constant([1.0, 1.0, 1.0, 0.0]),
        )
        self.assertAllClose(entropy, 1.0)
        self.assertAllClose(count, 2.0)


if __name__ == "__main__":
    tf.test.main()
