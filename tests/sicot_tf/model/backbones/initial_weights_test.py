"""Tests of seeding by path: what a fair comparison of two runs rests on."""

import hashlib

import keras
import numpy as np
import tensorflow as tf

from sicot_tf.model.backbones import initial_weights


def _dense(name, units=3, **kwargs):
    layer = keras.layers.Dense(units, name=name, **kwargs)
    layer.build((None, 4))
    return layer


class TwoKernels(keras.layers.Layer):
    """Two kernels from one initializer, and a constant without any."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.kernel_initializer = keras.initializers.RandomNormal(stddev=2.0)

    def build(self, shape):
        self.first_kernel = self.add_weight(
            name="first_kernel",
            shape=(shape[-1], 200),
            initializer=self.kernel_initializer,
        )
        self.second_kernel = self.add_weight(
            name="second_kernel",
            shape=(shape[-1], 200),
            initializer=self.kernel_initializer,
        )
        self.gain = self.add_weight(
            name="gain", shape=(), initializer=keras.initializers.Constant(7.0)
        )


class HiddenInitializer(keras.layers.Layer):
    """Draws a weight with an initializer that it doesn't keep."""

    def build(self, shape):
        self.table = self.add_weight(
            name="table", shape=(2, 2), initializer="random_normal"
        )


class SeedInitialWeightsTest(tf.test.TestCase):
    def test_value_is_the_initializer_seeded_by_the_path(self):
        """Fails if runs of an older version can't be repeated any more."""
        layer = _dense("classifier")
        initial_weights.seed_initial_weights(layer, 5)
        digest = hashlib.blake2b(b"5|classifier/kernel", digest_size=4)
        initializer = keras.initializers.GlorotUniform(
            seed=int.from_bytes(digest.digest(), "little")
        )
        self.assertAllEqual(layer.kernel, initializer((4, 3)))

    def test_what_was_built_before_does_not_matter(self):
        """Fails if baseline and co-trained model start from other weights."""
        first = _dense("classifier")
        initial_weights.seed_initial_weights([first], 1)
        others = [_dense("a"), _dense("b")]
        second = _dense("classifier")
        initial_weights.seed_initial_weights([*others, second], 1)
        self.assertAllEqual(first.kernel, second.kernel)

    def test_other_path_or_seed_gives_other_values(self):
        """Fails if layers start equal, or the seed does nothing."""
        layers = [_dense("a"), _dense("b"), _dense("c")]
        initial_weights.seed_initial_weights(layers[:2], 1)
        initial_weights.seed_initial_weights(layers[2], 2)
        a, b, c = (layer.kernel.numpy() for layer in layers)
        same_path = _dense("a")
        initial_weights.seed_initial_weights(same_path, 2)
        self.assertNotAllEqual(a, b)
        self.assertNotAllEqual(a, c)
        self.assertNotAllEqual(a, same_path.kernel)

    def test_every_kind_of_weight_is_found(self):
        """Fails if some random weight keeps its unseeded value."""

        def build():
            image = keras.Input((8, 8, 3))
            x = keras.layers.DepthwiseConv2D(3, name="depthwise")(image)
            x = keras.layers.SeparableConv2D(4, 3, name="separable")(x)
            x = keras.layers.BatchNormalization(name="norm")(x)
            x = keras.layers.Reshape((16, 4), name="reshape")(x)
            x = keras.layers.MultiHeadAttention(2, 3, name="heads")(x, x)
            inner_input = keras.Input((16, 4))
            inner = keras.Model(
                inner_input,
                keras.layers.Bidirectional(
                    keras.layers.LSTM(5, name="lstm"), name="both_ways"
                )(inner_input),
                name="inner",
            )
            x = keras.layers.Dropout(0.5, name="dropout")(inner(x))
            model = keras.Model(image, x)
            initial_weights.seed_initial_weights(model, 3)
            return model

        # Unseeded, the second differs in every kernel.
        first, second = build(), build()
        self.assertEqual(
            [weight.path for weight in first.weights],
            [weight.path for weight in second.weights],
        )
        for one, other in zip(first.weights, second.weights, strict=True):
            self.assertAllEqual(one, other, one.path)
        # The masks of dropout, too, are a function of the seed.
        image = np.ones((2, 8, 8, 3), np.float32)
        self.assertAllEqual(
            first(image, training=True), second(image, training=True)
        )

    def test_several_kernels_of_one_initializer_differ(self):
        """Fails if two kernels of a layer start as copies."""
        layer = TwoKernels(name="two")
        layer.build((None, 50))
        initial_weights.seed_initial_weights(layer, 0)
        first, second = layer.first_kernel.numpy(), layer.second_kernel.numpy()
        self.assertNotAllEqual(first, second)
        # Distribution kept: 10,000 values, standard error 0.014.
        self.assertAllClose(first.std(), 2.0, atol=0.1)
        self.assertAllClose(layer.gain, 7.0)

    def test_weights_that_are_not_random_stay(self):
        """Fails if seeding breaks the forget bias or a constant."""
        lstm = keras.layers.LSTM(2, name="lstm")
        lstm.build((None, 3, 4))
        initial_weights.seed_initial_weights(lstm, 0)
        # Keras starts the forget gate, the second of four, at one.
        self.assertAllEqual(lstm.cell.bias, [0, 0, 1, 1, 0, 0, 0, 0])
        layer = _dense("ones", kernel_initializer="ones")
        initial_weights.seed_initial_weights(layer, 0)
        self.assertAllEqual(layer.kernel, np.ones((4, 3)))

    def test_random_weight_without_initializer_is_an_error(self):
        """Fails if a weight silently keeps a value no seed decides."""
        layer = HiddenInitializer(name="hidden")
        layer.build((None, 4))
        with self.assertRaisesRegex(ValueError, "hidden/table.*HiddenInit"):
            initial_weights.seed_initial_weights(layer, 0)

    def test_unbuilt_layer_is_an_error(self):
        """Fails if seeding before the build does nothing, silently."""
        with self.assertRaisesRegex(ValueError, "'late' without weights"):
            initial_weights.seed_initial_weights(
                keras.layers.Dense(2, name="late"), 0
            )

    def test_two_weights_of_one_path_are_an_error(self):
        """Fails if two layers of one name start as copies."""
        with self.assertRaisesRegex(ValueError, "share the path 'a/kernel'"):
            initial_weights.seed_initial_weights([_dense("a"), _dense("a")], 0)


if __name__ == "__main__":
    tf.test.main()
