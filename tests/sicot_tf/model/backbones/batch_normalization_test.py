"""The fused batch normalization against Keras's own."""

import keras
import numpy as np
import tensorflow as tf

from sicot_tf.model.backbones import batch_normalization


def _layers():
    """Keras's layer and ours with equal weights."""
    rng = np.random.default_rng(3)
    values = [
        rng.uniform(0.5, 2.0, 4),
        rng.normal(size=4),
        rng.normal(size=4),
        rng.uniform(0.5, 2.0, 4),
    ]
    found = []
    for layer_class in (
        keras.layers.BatchNormalization,
        batch_normalization.BatchNormalization,
    ):
        layer = layer_class(momentum=0.9, epsilon=1e-3)
        layer.build((None, 5, 6, 4))
        layer.set_weights(values)
        found.append(layer)
    return found


def _train(layer, images, upstream):
    """Output, gradients of images, gamma and beta, and moving statistics."""
    with tf.GradientTape() as tape:
        tape.watch(images)
        outputs = layer(images, training=True)
    gradients = tape.gradient(
        outputs,
        [images, layer.gamma.value, layer.beta.value],
        output_gradients=upstream,
    )
    return [outputs, *gradients, *layer.get_weights()]


class BatchNormalizationTest(tf.test.TestCase):
    def setUp(self):
        super().setUp()
        rng = np.random.default_rng(0)
        self.images = tf.constant(
            rng.normal(2.0, 3.0, size=(3, 5, 6, 4)), tf.float32
        )
        self.upstream = tf.constant(rng.normal(size=(3, 5, 6, 4)), tf.float32)

    def test_trains_like_keras(self):
        """Breaks if a statistic is the sample's or a gradient is lost."""
        expected, found = (
            _train(layer, self.images, self.upstream) for layer in _layers()
        )
        self.assertLen(found, 8)
        for one, other in zip(expected, found):
            self.assertAllClose(one, other, rtol=1e-5, atol=1e-5)

    def test_serves_like_keras(self):
        """Breaks if serving would normalize by the batch."""
        expected, found = (layer(self.images) for layer in _layers())
        self.assertAllEqual(expected, found)

    def test_frozen_layer_keeps_its_statistics(self):
        """Breaks if a frozen backbone drifts."""
        _, layer = _layers()
        layer.trainable = False
        before = layer.get_weights()
        outputs = layer(self.images, training=True)
        self.assertAllEqual(outputs, layer(self.images))
        for one, other in zip(before, layer.get_weights()):
            self.assertAllEqual(one, other)

    def test_rows_of_features(self):
        """Breaks for what the fused operation doesn't take."""
        layer = batch_normalization.BatchNormalization()
        features = tf.constant([[1.0, 2.0], [3.0, 6.0]])
        # Mean 2 and 4, variance 1 and 4; epsilon 0.001.
        self.assertAllClose(
            layer(features, training=True),
            [[-1.0, -1.0], [1.0, 1.0]],
            atol=1e-3,
        )

    def test_bfloat16(self):
        """Breaks if statistics are computed with 8 bits."""
        _, exact = _layers()
        layer = batch_normalization.BatchNormalization(
            momentum=0.9, epsilon=1e-3, dtype="mixed_bfloat16"
        )
        layer.build((None, 5, 6, 4))
        layer.set_weights(exact.get_weights())
        images = tf.cast(self.images, tf.bfloat16)
        outputs = layer(images, training=True)
        self.assertEqual(outputs.dtype, tf.bfloat16)
        exact(tf.cast(images, tf.float32), training=True)
        for one, other in zip(exact.get_weights(), layer.get_weights()):
            self.assertAllClose(one, other, rtol=1e-6, atol=1e-6)
