"""BilinearWordAttention against NumPy, and what it must not depend on."""

import keras
import numpy as np
import tensorflow as tf
from absl.testing import parameterized

from sicot_tf.model.title_encoders import word_attention


def _reference(words, mask, kernel, gain):
    """The default reading of section 3.2 for one title, in float64."""
    mask = mask.astype(np.float64)
    context = (words * mask[:, None]).sum(0) / max(mask.sum(), 1)
    feature_map = (words @ kernel) * context
    scores = np.where(mask > 0, gain * feature_map.mean(-1), -1e9)
    attention = np.exp(scores - scores.max()) * mask
    attention /= max(attention.sum(), 1e-12)
    return attention @ words, attention


def _words(batch=3, num_words=5, dim=4, seed=0):
    return (
        np.random.default_rng(seed)
        .normal(size=(batch, num_words, dim))
        .astype(np.float32)
    )


_MASK = np.array(
    [
        [True, True, True, True, True],
        [True, True, False, False, False],
        [False, False, False, False, False],
    ]
)


class BilinearWordAttentionTest(tf.test.TestCase, parameterized.TestCase):
    def test_equals_the_reference(self):
        """Breaks if any step of the formula in the docstring changes."""
        layer = word_attention.BilinearWordAttention()
        words = _words()
        embedding, attention = layer(words, _MASK)
        for row in range(3):
            expected_embedding, expected_attention = _reference(
                words[row].astype(np.float64),
                _MASK[row],
                layer.kernel.numpy(),
                gain=2.0,  # sqrt of 4 features
            )
            self.assertAllClose(embedding[row], expected_embedding, atol=1e-6)
            self.assertAllClose(attention[row], expected_attention, atol=1e-6)

    def test_hand_computed(self):
        """Breaks if pooling, gain or softmax move.

        W is the identity, e = (2, 0), (0, 2), so g = (1, 1); F = (2, 0),
        (0, 2) times g; both means are 1, so both weights are 1/2. With a
        third word (2, 0): g = (4/3, 2/3), means 4/3, 2/3, 4/3; gain 3 gives
        scores 4, 2, 4: weights e^2 : 1 : e^2.
        """
        layer = word_attention.BilinearWordAttention(
            gain=3.0, kernel_initializer="identity"
        )
        _, attention = layer(
            np.array([[[2.0, 0], [0, 2], [2, 0]]], np.float32),
            np.array([[True, True, True]]),
        )
        e2 = np.exp(2.0)
        total = 2 * e2 + 1
        self.assertAllClose(attention, [[e2 / total, 1 / total, e2 / total]])
        _, attention = layer(
            np.array([[[2.0, 0], [0, 2], [2, 0]]], np.float32),
            np.array([[True, True, False]]),
        )
        self.assertAllClose(attention, [[0.5, 0.5, 0.0]])

    @parameterized.parameters("softmax", "sigmoid", "sigmoid_norm")
    def test_permutation_and_padding(self, activation):
        """Breaks if word order or padding reaches the embedding."""
        layer = word_attention.BilinearWordAttention(activation=activation)
        words = _words(batch=1)
        mask = np.ones([1, 5], bool)
        embedding, attention = layer(words, mask)
        order = [3, 0, 4, 1, 2]
        shuffled, shuffled_attention = layer(words[:, order], mask)
        self.assertAllClose(embedding, shuffled, atol=1e-6)
        self.assertAllClose(
            attention.numpy()[:, order], shuffled_attention, atol=1e-6
        )
        # Padding holds large numbers: masked means ignored, not small.
        padded = np.concatenate([words, np.full([1, 2, 4], 1e3, "f")], 1)
        padded_mask = np.array([[True] * 5 + [False] * 2])
        with_padding, padded_attention = layer(padded, padded_mask)
        self.assertAllClose(embedding, with_padding, atol=1e-5)
        self.assertAllEqual(padded_attention[:, 5:], [[0.0, 0.0]])

    @parameterized.parameters("softmax", "sigmoid_norm")
    def test_weights_sum_to_one(self, activation):
        """Breaks if the size of x_s came to depend on the title's length."""
        layer = word_attention.BilinearWordAttention(activation=activation)
        _, attention = layer(_words(), _MASK)
        self.assertAllClose(
            tf.reduce_sum(attention, axis=1), [1.0, 1.0, 0.0], atol=1e-6
        )

    def test_duplicate_words_weigh_the_same(self):
        """Breaks if position leaks into the scores."""
        words = _words(batch=1)
        words[0, 3] = words[0, 1]
        layer = word_attention.BilinearWordAttention()
        _, attention = layer(words, np.ones([1, 5], bool))
        self.assertAllClose(attention[0, 1], attention[0, 3])

    @parameterized.parameters("softmax", "sigmoid", "sigmoid_norm")
    def test_empty_title_gives_zeros_and_finite_gradients(self, activation):
        """Breaks if a title without words gives NaN anywhere."""
        layer = word_attention.BilinearWordAttention(activation=activation)
        words = tf.constant(_words())
        mask = np.zeros([3, 5], bool)
        layer.build(words.shape)
        with tf.GradientTape() as tape:
            tape.watch(words)
            embedding, attention = layer(words, mask)
            loss = tf.reduce_sum(embedding)
        self.assertAllEqual(embedding, np.zeros([3, 4]))
        self.assertAllEqual(attention, np.zeros([3, 5]))
        gradients = tape.gradient(loss, [words] + layer.trainable_weights)
        for gradient in gradients:
            if gradient is not None:
                self.assertAllEqual(gradient, tf.zeros_like(gradient))

    def test_low_rank_equals_full_rank(self):
        """Breaks if the two forms are no longer one family, W = U V^T."""
        full = word_attention.BilinearWordAttention()
        low = word_attention.BilinearWordAttention(rank=2)
        words = _words()
        low_embedding, low_attention = low(words, _MASK)
        full.build(words.shape)
        # e_i U (g V)^T = e_i (U V^T) g.
        full.kernel.assign(low.kernel @ tf.transpose(low.context_kernel))
        # The full form pools (e_i W) * g with the same W.
        embedding, attention = full(words, _MASK)
        self.assertAllClose(embedding, low_embedding, atol=1e-5)
        self.assertAllClose(attention, low_attention, atol=1e-5)
        self.assertLen(low.trainable_weights, 3)
        self.assertNotAllClose(low.kernel, low.context_kernel)
        self.assertLen(full.trainable_weights, 2)

    def test_learns_to_ignore_noise_words(self):
        """Breaks if the gain can't take the weights away from uniform.

        Titles of 6 words: 2 say the class, 4 are noise shared by all. After
        training the mean weight of a noise word is below 0.5 / 6.
        """
        keras.utils.set_random_seed(0)
        rng = np.random.default_rng(0)
        num_classes, num_noise = 20, 30
        ids = np.concatenate(
            [
                np.repeat(np.arange(num_classes)[:, None], 2, 1)
                + [0, num_classes],
                2 * num_classes
                + rng.integers(num_noise, size=(num_classes, 4)),
            ],
            axis=1,
        )
        ids = np.tile(ids, [8, 1])
        ids[:, 2:] = 2 * num_classes + rng.integers(
            num_noise, size=(len(ids), 4)
        )
        labels = np.tile(np.arange(num_classes), 8)
        title = keras.Input([6], dtype="int32")
        words = keras.layers.Embedding(2 * num_classes + num_noise, 16)(title)
        embedding, attention = word_attention.BilinearWordAttention()(
            words, keras.ops.greater_equal(title, 0)
        )
        logits = keras.layers.Dense(num_classes)(embedding)
        model = keras.Model(title, logits)
        model.compile(
            keras.optimizers.Adam(0.02),
            keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        )
        model.fit(ids, labels, epochs=30, verbose=0)
        weights = keras.Model(title, attention).predict(ids, verbose=0)
        self.assertLess(weights[:, 2:].mean(), 0.5 / 6)

    def test_round_trip_and_mixed_precision(self):
        """Breaks if the layer can't be saved, or bfloat16 overflows it."""
        layer = word_attention.BilinearWordAttention(
            rank=3, activation="sigmoid_norm", gain=1.5, dtype="mixed_bfloat16"
        )
        again = word_attention.BilinearWordAttention.from_config(
            layer.get_config()
        )
        self.assertEqual(again.get_config(), layer.get_config())
        embedding, attention = layer(_words(), _MASK)
        self.assertEqual(embedding.dtype, tf.bfloat16)
        self.assertEqual(attention.dtype, tf.bfloat16)
        self.assertAllClose(
            tf.reduce_sum(tf.cast(attention, tf.float32), 1),
            [1.0, 1.0, 0.0],
            atol=0.01,
        )

    def test_wrong_arguments(self):
        """Breaks if a wrong setting is found out only in training."""
        with self.assertRaisesRegex(ValueError, "received 'tanh'"):
            word_attention.BilinearWordAttention(activation="tanh")
        with self.assertRaisesRegex(ValueError, "received -1"):
            word_attention.BilinearWordAttention(rank=-1)


if __name__ == "__main__":
    tf.test.main()
