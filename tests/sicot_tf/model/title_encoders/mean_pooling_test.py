"""MeanPooling by hand, and what it must not depend on."""

import keras
import numpy as np
import tensorflow as tf

from sicot_tf.model.title_encoders.mean_pooling import MeanPooling

_WORDS = np.array([[[2.0, 0], [0, 4], [7, 7]]] * 3, np.float32)
_MASK = np.array([[True, True, True], [True, True, False], [False] * 3])


class MeanPoolingTest(tf.test.TestCase):
    def test_by_hand(self):
        """Breaks if padding counts as a word, or no words give NaN.

        (2 + 0 + 7) / 3 = 3 and (0 + 4 + 7) / 3 = 11 / 3; of two words 1 and
        2; of none 0.
        """
        embedding, weights = MeanPooling()(_WORDS, _MASK)
        self.assertAllClose(embedding, [[3, 11 / 3], [1, 2], [0, 0]])
        third = 1 / 3
        self.assertAllClose(weights, [[third] * 3, [0.5, 0.5, 0], [0, 0, 0]])

    def test_order_of_words(self):
        """Breaks if the order of the words reaches the embedding."""
        layer = MeanPooling()
        order = [2, 0, 1]
        self.assertAllClose(
            layer(_WORDS, _MASK)[0],
            layer(_WORDS[:, order], _MASK[:, order])[0],
        )

    def test_padding_has_no_gradient(self):
        """Breaks if padding learns, or a title without words does."""
        words = tf.constant(_WORDS)
        with tf.GradientTape() as tape:
            tape.watch(words)
            loss = tf.reduce_sum(MeanPooling()(words, _MASK)[0])
        gradient = tape.gradient(loss, words)
        self.assertAllClose(gradient[1], [[0.5, 0.5], [0.5, 0.5], [0, 0]])
        self.assertAllEqual(gradient[2], np.zeros([3, 2]))

    def test_mixed_precision(self):
        """Breaks if 300 words are counted in bfloat16, whose next number
        above 256 is 258."""
        words = np.ones([1, 257, 2], np.float32)
        layer = MeanPooling(dtype="mixed_bfloat16")
        embedding, weights = layer(words, np.ones([1, 257], bool))
        self.assertEqual(embedding.dtype, tf.bfloat16)
        self.assertAllEqual(
            weights, tf.cast(tf.fill([1, 257], 1 / 257), tf.bfloat16)
        )
        self.assertAllClose(tf.cast(embedding, tf.float32), [[1, 1]], 0.02)

    def test_round_trip(self):
        """Breaks if a model with it can't be saved."""
        layer = MeanPooling(name="pooling")
        again = keras.saving.deserialize_keras_object(
            keras.saving.serialize_keras_object(layer)
        )
        self.assertIsInstance(again, MeanPooling)
        self.assertEqual(again.name, "pooling")


if __name__ == "__main__":
    tf.test.main()
