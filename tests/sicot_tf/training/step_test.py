"""Entropy, and one training step against a hand-made one."""

import dataclasses

import keras
import numpy as np
import tensorflow as tf

from sicot_tf import config
from sicot_tf.model import sicot
from sicot_tf.model.backbones.batch_normalization import BatchNormalization
from sicot_tf.model.classifier.classifier_trainer import ClassifierTrainer
from sicot_tf.training.losses import FeatureLoss
from sicot_tf.training.losses import make_losses
from sicot_tf.training.meters import attention_entropy
from sicot_tf.training.optimizers import StreamsOptimizer
from sicot_tf.training.optimizers import make_row_optimizer
from sicot_tf.training.regularization import FeatureDropout
from sicot_tf.training.step import TrainingStep
from sicot_tf.training.step import make_repeatable
from sicot_tf.workers.collectives import Collectives
from tests.helpers import traced_graph

_MODEL = dataclasses.replace(
    config.ModelConfig(),
    backbone="SmallCNN",
    backbone_weights="none",
    image_size=16,
    max_words=3,
)


def _batch(seed, size=6, image_size=16):
    rng = np.random.default_rng(seed)
    return {
        "image": tf.constant(
            rng.uniform(0, 255, size=(size, image_size, image_size, 3)),
            tf.float32,
        ),
        "title_ids": tf.constant(rng.integers(0, 8, (size, 3)), tf.int32),
        "label": tf.constant(rng.integers(0, 5, size), tf.int64),
        # The last row only pads the batch.
        "weight": tf.constant([1.0] * (size - 1) + [0.0]),
    }


class _Training:
    """Model, optimizer and step on the default strategy."""

    def __init__(
        self,
        streams="cotrain",
        model_config=_MODEL,
        on_features=(),
        word_columns=None,
        **settings,
    ):
        self.config = dataclasses.replace(
            config.TrainConfig(), **{"learning_rate": 0.05, **settings}
        )
        self.streams = sicot.build_streams(
            dataclasses.replace(model_config, streams=streams),
            vocabulary_size=7,
            word_vector_dim=4,
            num_predicted_words=(
                0 if word_columns is None else 1 + max(word_columns)
            ),
            word_rows_scale=self.config.word_rows_scale,
        )
        wide, dim = (
            each.shape[-1]
            for each in (
                sicot.classified(self.streams.output, "x_v"),
                self.streams.output["x_v"],
            )
        )
        self.classifier = sicot.build_classifier(
            5, wide, fixed_dim=wide - dim, block_size=3
        )
        for number, fixed in enumerate(self.classifier.fixed):
            values = np.random.default_rng(number).normal(size=fixed.shape)
            fixed.assign(values)
        self.losses = make_losses(
            self.config, np.array([9, 6, 3, 2, 1]), word_columns
        )
        if on_features:
            self.losses = dataclasses.replace(
                self.losses, on_features=on_features
            )
        self.trainer = ClassifierTrainer(
            self.classifier,
            make_row_optimizer(self.config),
            loss=self.losses.of_logits,
            logit_offset=self.losses.logit_offset,
            weight_decay=self.config.weight_decay,
            clip=self.config.clip_norm > 0,
            sample_rate=self.config.sample_rate,
        )
        optimizer = StreamsOptimizer(self.streams, self.config, 10)
        self.optimizer = optimizer.keras_optimizer
        self.training_step = TrainingStep(
            self.streams,
            self.trainer,
            optimizer,
            self.losses,
            tf.constant([1.0, 1.0, 0.0, 0.0, 0.0]),
            clip_norm=self.config.clip_norm,
            feature_dropout=(
                FeatureDropout(
                    self.streams, self.config.dropout, 0, Collectives()
                )
                if self.config.dropout
                else None
            ),
        ).compiled(tf.distribute.get_strategy())

    def step(self, batch, total_weight, step=0):
        return self.training_step(
            batch,
            total_weight,
            tf.constant(step, tf.int64),
            tf.constant(0.0),
        )

    def run(self, num_steps, **more):
        for step in range(num_steps):
            batch = _batch(step) | more
            sums = self.step(batch, tf.reduce_sum(batch["weight"]), step)
        return sums

    def weights(self):
        found = {each.path: each.numpy() for each in self.streams.weights}
        return found | {each.path: each.numpy() for each in self.rows()}

    def rows(self):
        return self.classifier.weights

    def visual_weights(self):
        visual = sicot.visual_stream(self.streams)
        return {
            each.path: each.numpy()
            for each in visual.weights + self.classifier.weights
        }


class TrainingStepTest(tf.test.TestCase):
    def test_one_step_equals_sgd_by_hand(self):
        """Breaks if loss, weights, L2, or the update leave Eq. 1 and SGD."""
        self.check_one_step()

    def test_one_step_with_rows_from_words(self):
        """Breaks if the words' projection misses a stream, L2 or clipping.

        Logits are `x W^T + b + 0.3 (x P) T^T`, and T stays.
        """
        self.check_one_step(word_rows_scale=0.3)
        self.check_one_step(word_rows_scale=0.3, clip_norm=0.1)

    def check_one_step(self, **settings):
        training = _Training(
            mixed_loss_weight=0.5, weight_decay=0.01, **settings
        )
        rows_before = [each.numpy() for each in training.classifier.fixed]
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
                logits = training.classifier(sicot.classified(outputs, stream))
                if rows_before:
                    kernel, bias = (
                        tf.concat([each.value for each in parts], axis=0)
                        for parts in (
                            training.classifier.kernels,
                            training.classifier.biases,
                        )
                    )
                    projection = training.streams.get_layer("word_rows").kernel
                    words = outputs[stream] @ projection.value
                    logits = outputs[stream] @ tf.transpose(kernel) + bias
                    logits += 0.3 * words @ np.concatenate(rows_before).T
                log_probability = tf.nn.log_softmax(logits)
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
        gradients = [tf.convert_to_tensor(each) for each in gradients]
        if "clip_norm" in settings:
            gradients, norm = tf.clip_by_global_norm(
                gradients, settings["clip_norm"]
            )
            self.assertGreater(norm, 2 * settings["clip_norm"])
        expected = {}
        for variable, gradient in zip(variables, gradients):
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
        for before, fixed in zip(rows_before, training.classifier.fixed):
            self.assertAllEqual(before, fixed)

    def test_losses_on_features(self):
        """Breaks if a loss on features is left out, or weighed wrongly.

        Of each record, the mean over the five of weight 1; a scalar as it is.
        """

        def distance(batch, outputs):
            return tf.reduce_sum(
                tf.square(outputs["x_v"] - outputs["x_m"]), axis=1
            )

        def peak(batch, outputs):
            return tf.reduce_max(outputs["attention"])

        plain = {"weight_decay": 0.0, "momentum": 0.0}
        start = _Training(**plain)
        without = _Training(**plain)
        training = _Training(
            on_features=(
                FeatureLoss("distance", 1.0, distance),
                FeatureLoss("peak", 0.3, peak),
            ),
            **plain,
        )
        batch = _batch(0)
        variables = start.streams.trainable_variables
        with tf.GradientTape() as tape:
            outputs = start.streams(
                {name: batch[name] for name in ("image", "title_ids")}
            )
            mean_distance = tf.reduce_mean(distance(batch, outputs)[:5])
            loss = mean_distance + 0.3 * peak(batch, outputs)
        gradients = tape.gradient(loss, variables)
        sums = [
            each.step(batch, tf.constant(5.0)) for each in (without, training)
        ]
        self.assertGreater(loss, 0.01)
        self.assertAllClose(sums[1]["loss"] - sums[0]["loss"], loss, 1e-4)
        self.assertAllClose(sums[1]["loss_visual"], sums[0]["loss_visual"])
        # Each is reported without its weight.
        self.assertAllClose(sums[1]["loss_distance"], mean_distance, 1e-4)
        self.assertAllClose(sums[1]["loss_peak"], peak(batch, outputs), 1e-4)
        for variable, gradient in zip(variables, gradients):
            self.assertAllClose(
                training.weights()[variable.path],
                without.weights()[variable.path]
                - 0.05 * tf.convert_to_tensor(gradient),
                atol=1e-5,
                msg=variable.path,
            )

    def test_predicted_words(self):
        """Breaks if words do not train the picture's features, or titles
        without predicted words do.

        Of words 1 to 7, 3, 5 and 6 are predicted. After a step the kernel is
        no longer zero, so the second one reaches the backbone.
        """
        settings = {"streams": "visual", "momentum": 0.0, "weight_decay": 0.0}
        columns = [-1, -1, -1, 2, -1, 0, 1, -1]
        training = _Training(
            word_columns=columns, word_loss_weight=0.3, **settings
        )
        training.step(_batch(0), tf.constant(5.0))
        variables = [
            *training.streams.trainable_variables,
            *training.classifier.trainable_variables,
        ]
        before = [each.numpy() for each in variables]
        for title_ids in (_batch(1)["title_ids"], tf.fill([6, 3], 4)):
            for variable, value in zip(variables, before):
                variable.assign(value)
            batch = _batch(1) | {"title_ids": title_ids}
            with tf.GradientTape() as tape:
                outputs = training.streams({"image": batch["image"]})
                loss = tf.reduce_sum(
                    training.classifier.loss(
                        outputs["x_v"], batch["label"], batch["weight"] / 5
                    )
                )
                words = 0.0
                for title, logits in zip(
                    title_ids[:5].numpy(), tf.unstack(outputs["word_logits"])
                ):
                    targets = [float(word in title) for word in (5, 6, 3)]
                    words += max(targets) * tf.reduce_sum(
                        tf.nn.softplus(logits) - targets * logits
                    )
                loss += 0.3 * words / 5
            gradients = tape.gradient(loss, variables)
            sums = training.step(batch, tf.constant(5.0))
            self.assertAllClose(sums["loss_words"], words / 5, 1e-5)
            self.assertAllClose(sums["loss"], loss, 1e-5)
            for variable, value, gradient in zip(variables, before, gradients):
                self.assertAllClose(
                    variable,
                    value - 0.05 * gradient,
                    atol=1e-6,
                    msg=variable.path,
                )
        self.assertEqual(sums["loss_words"], 0.0)

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
            other.visual_weights()["classifier/kernel_0"],
            baseline.visual_weights()["classifier/kernel_0"],
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

    def test_adamw_equals_keras(self):
        """Breaks if the rule of AdamW or what it decays is another one.

        Three steps against `keras.optimizers.AdamW`, which is told to leave
        biases, norms and word vectors undecayed. Adam divides by the root of
        squared gradients: where those are tiny, rounding shows.
        """
        settings = {"weight_decay": 0.1, "learning_rate": 0.001}
        training = _Training(optimizer="adamw", **settings)
        reference = _Training(optimizer="adamw", **settings)
        variables = [
            *reference.streams.trainable_variables,
            *reference.classifier.trainable_variables,
        ]
        optimizer = keras.optimizers.AdamW(0.001, weight_decay=0.1)
        optimizer.exclude_from_weight_decay(
            [each for each in variables if "kernel" not in each.path]
        )
        optimizer.build(variables)
        for seed in range(3):
            batch = _batch(seed)
            training.step(batch, tf.constant(5.0))
            with tf.GradientTape() as tape:
                outputs = reference.streams(
                    {name: batch[name] for name in ("image", "title_ids")}
                )
                loss = 0.0
                for name in ("x_v", "x_m"):
                    loss += tf.reduce_sum(
                        reference.classifier.loss(
                            outputs[name], batch["label"], batch["weight"] / 5
                        )
                    )
            gradients = tape.gradient(loss, variables)
            optimizer.apply(
                [tf.convert_to_tensor(each) for each in gradients], variables
            )
        for path, expected in reference.weights().items():
            self.assertAllClose(
                training.weights()[path], expected, atol=2e-5, msg=path
            )

    def test_clipping_by_the_global_norm(self):
        """Breaks if clipping scales by anything but the whole norm.

        Plain SGD without decay: a step moves all weights together by the
        learning rate times the norm of the gradient, 0.05 * 0.1 once it is
        clipped to 0.1.
        """
        plain = {"weight_decay": 0.0, "momentum": 0.0}
        free = _Training(clip_norm=1e9, **plain)
        clipped = _Training(clip_norm=0.1, **plain)
        unclipped = _Training(**plain)
        start = free.weights()
        moves = []
        for training in (free, clipped, unclipped):
            results = training.step(_batch(0), tf.constant(5.0))
            moved = [
                np.sum(np.square(value - start[path]))
                for path, value in training.weights().items()
            ]
            moves.append(np.sqrt(np.sum(moved)))
            if training is free:
                norm = float(results["gradient_norm"])
        self.assertGreater(norm, 0.2)
        self.assertAllClose(moves, [0.05 * norm, 0.005, 0.05 * norm], 1e-4)

    def test_a_step_that_is_not_finite_changes_nothing(self):
        """Breaks if one bad picture reaches weights or slots.

        A pixel of 1e38 overflows the features. A pixel that is no number is
        swallowed by ReLU and shows in the backbone's gradient alone: with
        clipping that is known before the classifier's rows change, without
        it they have changed.
        """
        for clip_norm, pixel in ((0.0, 1e38), (1.0, 1e38), (1.0, np.nan)):
            training = _Training(clip_norm=clip_norm)
            training.run(2)
            before = training.weights()
            slots = [each.numpy() for each in training.optimizer.variables]
            batch = _batch(7)
            image = batch["image"].numpy()
            image[1, :, :, 0] = pixel
            results = training.step(
                batch | {"image": tf.constant(image)}, tf.constant(5.0)
            )
            self.assertFalse(results["is_finite"])
            for path, value in training.weights().items():
                self.assertAllEqual(value, before[path], msg=path)
            for old, new in zip(slots, training.optimizer.variables):
                self.assertAllEqual(old, new.numpy())
            self.assertTrue(training.run(1)["is_finite"])

    def test_frozen_backbone_without_titles(self):
        """Breaks if `make demo QUICK=1` fails: only the classifier learns."""
        training = _Training(
            streams="visual",
            model_config=dataclasses.replace(_MODEL, freeze_backbone=True),
        )
        self.assertEmpty(training.streams.trainable_variables)
        before = [each.numpy() for each in training.rows()]
        sums = training.run(2)
        self.assertTrue(sums["is_finite"])
        for old, variable in zip(before, training.rows(), strict=True):
            self.assertNotAllEqual(old, variable)

    def test_streams_see_the_words_that_are_left(self):
        """Breaks if word dropout does not reach the streams, or takes words
        away from losses that predict them."""

        def of_titles(batch, outputs):
            return tf.reduce_sum(batch["title_ids"], axis=1)

        batch = _batch(0)
        seen = batch["title_ids"].numpy()
        seen[:, 1:] = 0
        plain, dropped = (
            _Training(on_features=(FeatureLoss("titles", 1.0, of_titles),))
            for _ in range(2)
        )
        expected = plain.step(
            batch | {"title_ids": tf.constant(seen)}, tf.constant(5.0)
        )
        found = dropped.step(
            batch | {"seen_title_ids": tf.constant(seen)}, tf.constant(5.0)
        )
        for name in ("loss_visual", "loss_mixed", "entropy", "correct_tail"):
            self.assertAllEqual(found[name], expected[name], msg=name)
        # Of one word each.
        self.assertEqual(found["num_titles"], 0)
        for sums, title in ((expected, seen), (found, batch["title_ids"])):
            self.assertAllClose(
                sums["loss"] - sums["loss_visual"] - sums["loss_mixed"],
                np.sum(title[:5]) / 5,
            )
        for path, value in plain.weights().items():
            self.assertAllEqual(dropped.weights()[path], value, msg=path)

    def test_regularised_baseline(self):
        """Breaks if the baseline can't be regularised, on a frozen backbone,
        with classes drawn; or if a record counts twice."""
        soft = {
            "partner_label": tf.constant([4, 3, 2, 1, 0, 0], tf.int64),
            "own_share": tf.constant([0.5, 0.6, 0.7, 0.8, 0.9, 1.0]),
        }
        training = _Training(
            streams="visual",
            model_config=dataclasses.replace(_MODEL, freeze_backbone=True),
            dropout=0.3,
            sample_rate=0.5,
        )
        before = [each.numpy() for each in training.rows()]
        sums = training.run(2, **soft)
        self.assertTrue(sums["is_finite"])
        self.assertEqual(sums["num_head"] + sums["num_tail"], 5)
        for old, variable in zip(before, training.rows(), strict=True):
            self.assertNotAllEqual(old, variable)

    def test_fixed_streams(self):
        """Breaks if a second stage changes more than the classifier.

        Batch normalization has moving averages that training would change,
        and normalises by them in inference alone, so the loss tells.
        """
        backbone = keras.Sequential(
            [
                keras.layers.Conv2D(4, 3, activation="relu"),
                BatchNormalization(name="norm"),
                keras.layers.GlobalAveragePooling2D(),
            ],
            name="backbone",
        )
        image = keras.Input((16, 16, 3), name="image")
        streams = keras.Model({"image": image}, {"x_v": backbone(image)})
        streams.trainable = False
        classifier = sicot.build_classifier(5, 4)
        train_config = config.TrainConfig(second_stage="crt")
        losses = make_losses(train_config, np.ones(5, int))
        trainer = ClassifierTrainer(
            classifier,
            make_row_optimizer(train_config),
            loss=losses.of_logits,
        )
        step = TrainingStep(
            *(streams, trainer, StreamsOptimizer(streams, train_config, 10)),
            *(losses, tf.ones([5])),
            is_fixed=True,
        ).compiled(tf.distribute.get_strategy())
        before = [each.numpy() for each in streams.variables]
        rows = [each.numpy() for each in classifier.weights]
        batch = _batch(0)
        features = streams({"image": batch["image"]}, training=False)["x_v"]
        expected = classifier.loss(features, batch["label"])
        results = step(
            batch, tf.constant(5.0), tf.constant(0, tf.int64), tf.constant(0.0)
        )
        # The last row pads.
        self.assertAllClose(results["loss"], tf.reduce_mean(expected[:5]))
        for old, variable in zip(before, streams.variables, strict=True):
            self.assertAllEqual(old, variable, msg=variable.path)
        for old, variable in zip(rows, classifier.weights, strict=True):
            self.assertNotAllEqual(old, variable)

    def test_attention_entropy(self):
        """Breaks if 1 no longer means mean pooling.

        Title 1: even weights over 2 words: 1. Title 2: one word of three
        takes all: 0. Title 3 has one word, title 4 only pads: not counted.
        """
        entropy, count = attention_entropy(
            tf.constant(
                [[0.5, 0.5, 0.0], [1.0, 0, 0], [1.0, 0, 0], [0.5, 0.5, 0]]
            ),
            tf.constant([[1, 2, 0], [1, 2, 3], [1, 0, 0], [1, 2, 0]]),
            tf.constant([1.0, 1.0, 1.0, 0.0]),
        )
        self.assertAllClose(entropy, 1.0)
        self.assertAllClose(count, 2.0)

    def test_sums_have_one_order(self):
        """Breaks if equal seeds no longer train the same bit for bit.

        An AddN of three terms adds in the order in which they happen to be
        ready; EfficientNet-Lite0's gradient differed in 17 of 24 repeats.
        """
        training = _Training()
        traced = training.training_step.get_concrete_function(
            _batch(0),
            tf.constant(5.0),
            tf.constant(0, tf.int64),
            tf.constant(0.0),
        )
        sums = [
            node.attr["N"].i
            for node in traced_graph.ops(traced)
            if node.op == "AddN" and "gradients" in node.name
        ]
        self.assertNotEmpty(sums)
        self.assertAllEqual(sums, [2] * len(sums))
        # And that no pass of TensorFlow joins them again.
        before = tf.config.optimizer.get_experimental_options()
        self.addCleanup(
            tf.config.optimizer.set_experimental_options,
            {"arithmetic_optimization": True, **before},
        )
        make_repeatable(0)
        self.assertFalse(
            tf.config.optimizer.get_experimental_options()[
                "arithmetic_optimization"
            ]
        )


if __name__ == "__main__":
    tf.test.main()
