"""Dropout on x_v and soft targets, against NumPy and between workers."""

import dataclasses

import keras
import numpy as np
import tensorflow as tf

from sicot_tf import config
from sicot_tf.model import sicot
from sicot_tf.model.classifier import row_optimizers
from sicot_tf.model.classifier.class_sharded_dense import ClassShardedDense
from sicot_tf.model.classifier.classifier_trainer import ClassifierTrainer
from sicot_tf.training import regularization
from sicot_tf.training.regularization import FeatureDropout
from sicot_tf.workers.collectives import Collectives
from tests.helpers import dense_softmax

_MODEL = dataclasses.replace(
    config.ModelConfig(),
    backbone="SmallCNN",
    backbone_weights="none",
    image_size=16,
    max_words=3,
)
_INPUTS = {
    "image": np.random.default_rng(0).uniform(0, 255, (4, 16, 16, 3)),
    "title_ids": [[1, 2, 0], [3, 0, 0], [0, 0, 0], [1, 1, 2]],
}


def _streams(streams="cotrain"):
    return sicot.build_streams(
        dataclasses.replace(_MODEL, streams=streams),
        vocabulary_size=4,
        word_vector_dim=6,
    )


def _inputs(*names):
    types = {"image": tf.float32, "title_ids": tf.int32}
    return {name: tf.constant(_INPUTS[name], types[name]) for name in names}


def _dropout(rate=0.5, seed=0, streams=None, **workers):
    return FeatureDropout(
        streams or _streams("visual"), rate, seed, Collectives(**workers)
    )


def _step(number):
    return tf.constant(number, tf.int64)


class FeatureDropoutTest(tf.test.TestCase):
    def test_factors(self):
        """Breaks if features vanish more often than asked for, or their
        expected value changes."""
        factors = _dropout(rate=0.2).factors((50, 200), _step(3)).numpy()
        self.assertAllClose(np.unique(factors), [0.0, 1.25])
        # Standard error of 10,000 draws: 0.004 of the zeros' share.
        self.assertAllClose(np.mean(factors == 0), 0.2, atol=0.02)
        self.assertAllClose(np.mean(factors), 1.0, atol=0.025)

    def test_a_function_of_seed_and_step(self):
        """Breaks if a resumed run sees other noise, or the same each step."""
        first, same, later, other = (
            _dropout(seed=seed).factors((4, 32), _step(step))
            for seed, step in ((0, 5), (0, 5), (0, 6), (1, 5))
        )
        self.assertAllEqual(first, same)
        self.assertNotAllEqual(first, later)
        self.assertNotAllEqual(first, other)

    def test_workers_share_the_noise_of_a_batch(self):
        """Breaks if the noise depends on how many workers there are.

        Eight examples: worker w of M has w::M; of three one pads.
        """
        whole = _dropout().factors((8, 33), _step(2)).numpy()
        for workers in (2, 3):
            parts = [
                _dropout(num_workers=workers, worker_index=worker).factors(
                    (-(-8 // workers), 33), _step(2)
                )
                for worker in range(workers)
            ]
            rows = np.stack(parts, axis=1).reshape(-1, 33)
            self.assertAllEqual(rows[:8], whole)

    def test_classifier_and_mixed_stream_see_what_is_left(self):
        """Breaks if one of the two losses sees all features, or validation
        and export see fewer."""
        streams = _streams()
        inputs = _inputs("image", "title_ids")
        plain = streams(inputs)
        dropout = _dropout(streams=streams, rate=0.5)
        found = dropout.outputs(inputs, _step(1))
        factors = dropout.factors(plain["x_v"].shape, _step(1)).numpy()
        self.assertAllClose(found["x_v"], plain["x_v"] * factors)
        title = keras.Model(
            streams.inputs, streams.get_layer("title_projection").output
        )
        x_s = title([inputs["image"], inputs["title_ids"]]).numpy()
        expected = np.maximum(found["x_v"], x_s)
        # A picture without title is mixed with nothing.
        expected[2] = found["x_v"][2]
        self.assertAllClose(found["x_m"], expected)
        self.assertNotAllClose(found["x_m"], plain["x_m"])
        self.assertAllClose(found["attention"], plain["attention"])
        self.assertAllEqual(
            sicot.visual_stream(streams)(_inputs("image")), plain["x_v"]
        )

    def test_without_titles(self):
        """Breaks if the baseline can't have dropout."""
        streams = _streams("visual")
        found = _dropout(streams=streams).outputs(_inputs("image"), _step(0))
        self.assertEqual(set(found), {"x_v"})
        self.assertGreater(np.mean(found["x_v"] == 0), 0.4)

    def test_mixed_precision(self):
        """Breaks if dropout turns bfloat16 features into float32."""
        streams = sicot.build_streams(
            dataclasses.replace(
                _MODEL, streams="visual", dtype_policy="mixed_bfloat16"
            )
        )
        found = _dropout(streams=streams).outputs(_inputs("image"), _step(0))
        self.assertEqual(found["x_v"].dtype, tf.bfloat16)


class SoftTargetsTest(tf.test.TestCase):
    def _trainer(self, **settings):
        layer = ClassShardedDense(5, block_size=3)
        layer.build((None, 2))
        kernel, bias = dense_softmax.weights(0, 5, 2)
        for (first, last), block in zip(layer.block_ranges(), layer.blocks):
            block.kernel.assign(kernel[first:last])
            block.bias.assign(bias[first:last])
        return ClassifierTrainer(layer, row_optimizers.RowSGD(0.9), **settings)

    def _classify(self, trainer, batch, features, labels, weights):
        @tf.function
        def classify():
            found = regularization.classify(
                trainer,
                {name: tf.constant(each) for name, each in batch.items()},
                tf.constant(features, tf.float32),
                tf.constant(labels),
                tf.constant(weights, tf.float32),
                learning_rate=tf.constant(1.0),
                step=_step(0),
            )
            if found.finish is not None:
                found.finish(tf.constant(1.0), found.row_gradients)
            return found._replace(finish=None)

        return classify()

    def test_equals_numpy(self):
        """Breaks if the loss of a mixed picture, its gradients, or what
        counts as right leave the soft target.

        Two records in two streams, five classes in two blocks; at once,
        clipped, and with classes drawn, of which all are.
        """
        features = np.array([[1, 2], [-1, 0.5], [0.3, 0], [2, -1]])
        own, partner = np.array([0, 4]), np.array([3, 4])
        share = np.array([0.7, 0.5], np.float32)
        weights = np.array([1, 2, 3, 4])
        kernel, bias = dense_softmax.weights(0, 5, 2)
        batch = {"label": own, "partner_label": partner, "own_share": share}
        shares = np.tile(share, 2)
        parts = [
            dense_softmax.cross_entropy(
                features, kernel, bias, np.tile(labels, 2), each * weights
            )
            for labels, each in ((own, shares), (partner, 1 - shares))
        ]
        losses = shares * parts[0].losses + (1 - shares) * parts[1].losses
        best = np.argmax(features @ kernel.T + bias, axis=1)
        for settings in ({}, {"clip": True}, {"sample_rate": 0.9999}):
            trainer = self._trainer(**settings)
            found = self._classify(
                trainer, batch, features, np.tile(own, 2), weights
            )
            self.assertAllClose(found.losses, losses)
            self.assertAllClose(
                found.features_gradient, sum(p.by_features for p in parts)
            )
            self.assertAllEqual(found.is_best, best == np.tile(own, 2))
            moved = np.concatenate(
                [each.kernel for each in trainer.layer.blocks]
            )
            by_kernel = sum(p.by_kernel for p in parts)
            by_bias = sum(p.by_bias for p in parts)
            self.assertAllClose(moved - kernel, -by_kernel, 1e-5)
            if "clip" in settings:
                norm = np.sum(by_kernel**2) + np.sum(by_bias**2)
                self.assertAllClose(found.squared_norm, norm)
        # The records differ in what is told apart above.
        self.assertNotAllClose(losses, parts[0].losses, 1e-2)


if __name__ == "__main__":
    tf.test.main()
