"""BiLSTM and its attention against NumPy; order, padding, seeds, saving."""

import keras
import numpy as np
import tensorflow as tf
from absl.testing import parameterized

from sicot_tf.model.backbones import initial_weights
from sicot_tf.model.title_encoders.bilstm import BiLSTM
from sicot_tf.model.title_encoders.bilstm import BiLSTMAttention
from tests.helpers import numpy_lstm
from tests.helpers import traced_graph

_LENGTHS = (5, 2, 0)
_MASK = np.arange(5) < np.array(_LENGTHS)[:, None]
_ENCODERS = (BiLSTM, BiLSTMAttention)


def _words(dim=4):
    rng = np.random.default_rng(0)
    return rng.normal(size=(3, 5, dim)).astype(np.float32)


def _embedding(layer, words, mask):
    found = layer(words, mask)
    return found[0] if isinstance(layer, BiLSTMAttention) else found


class BiLSTMTest(tf.test.TestCase, parameterized.TestCase):
    @parameterized.parameters(4, 3, 1)
    def test_final_states_equal_numpy(self, dim):
        """Breaks if a direction ends at padding, or sizes do not fit.

        An odd word size is rounded up.
        """
        layer, words = BiLSTM(), _words(dim)
        found = layer(words, _MASK)
        units = (dim + 1) // 2
        self.assertEqual(found.shape, (3, 2 * units))
        for row, length in enumerate(_LENGTHS[:2]):
            states = numpy_lstm.both_directions(
                words[row, :length], layer.states
            )
            # The backward direction ends at the first word.
            expected = np.concatenate([states[-1, :units], states[0, units:]])
            self.assertAllClose(found[row], expected, atol=1e-6)
        self.assertAllEqual(found[2], np.zeros(2 * units))

    @parameterized.parameters(4, 3)
    def test_attention_equals_numpy(self, dim):
        """Breaks if equations 5 and 7 of Lin et al. are left."""
        layer, words = BiLSTMAttention(), _words(dim)
        embedding, weights = layer(words, _MASK)
        kernel, score_kernel = (
            np.float64(each) for each in (layer.kernel, layer.score_kernel)
        )
        for row, length in enumerate(_LENGTHS[:2]):
            states = numpy_lstm.both_directions(
                words[row, :length], layer.states
            )
            scores = np.exp(np.tanh(states @ kernel) @ score_kernel)[:, 0]
            expected = scores / scores.sum()
            self.assertAllClose(weights[row, :length], expected, atol=1e-6)
            self.assertAllEqual(weights[row, length:], np.zeros(5 - length))
            self.assertAllClose(embedding[row], expected @ states, atol=1e-6)
        self.assertAllEqual(embedding[2], np.zeros(embedding.shape[1]))
        self.assertAllEqual(weights[2], np.zeros(5))

    @parameterized.parameters(*_ENCODERS)
    def test_order_counts_and_padding_does_not(self, encoder):
        """Breaks if an LSTM became a bag of words, or padding is read."""
        layer, words = encoder(), _words()
        found = _embedding(layer, words, _MASK)
        swapped = _embedding(layer, words[:, [1, 0, 2, 3, 4]], _MASK)
        difference = np.abs(found - swapped).max(axis=1)
        self.assertAllGreater(difference[:2], 1e-3)
        # Large, where no word is; and two words more of it.
        padded = np.where(_MASK[..., None], words, 1e3)
        padded = np.pad(padded, [(0, 0), (0, 2), (0, 0)], constant_values=1e3)
        mask = np.pad(_MASK, [(0, 0), (0, 2)])
        self.assertAllClose(
            found, _embedding(layer, np.float32(padded), mask), atol=1e-6
        )

    @parameterized.parameters(*_ENCODERS)
    def test_empty_titles_learn_nothing(self, encoder):
        """Breaks if a batch of titles without words gives NaN or moves."""
        layer, words = encoder(), tf.constant(_words())
        mask = np.zeros([3, 5], bool)
        layer.build(words.shape)
        with tf.GradientTape() as tape:
            tape.watch(words)
            loss = tf.reduce_sum(_embedding(layer, words, mask))
        self.assertAllEqual(loss, 0.0)
        for gradient in tape.gradient(loss, [words, *layer.trainable_weights]):
            if gradient is not None:
                self.assertAllEqual(gradient, tf.zeros_like(gradient))

    @parameterized.parameters(*_ENCODERS)
    def test_initial_weights_are_seeded(self, encoder):
        """Breaks if a weight starts from anything but seed and path."""
        weights = []
        for seed in (1, 1, 2):
            layer = encoder(name="encoder")
            layer.build((None, 5, 4))
            initial_weights.seed_initial_weights(layer, seed)
            weights.append({each.path: each.numpy() for each in layer.weights})
        first, same, other = weights
        self.assertLen(first, 6 if encoder is BiLSTM else 8)
        for path, value in first.items():
            self.assertAllEqual(value, same[path], msg=path)
            if "kernel" in path:
                self.assertNotAllEqual(value, other[path])
        kernels = [v for p, v in first.items() if p.endswith("cell/kernel")]
        self.assertNotAllEqual(*kernels)

    @parameterized.parameters(*_ENCODERS)
    def test_mixed_precision(self, encoder):
        """Breaks if bfloat16 does not reach the LSTMs, or ruins them."""
        layer = encoder(dtype="mixed_bfloat16", name="encoder")
        plain = encoder(name="encoder")
        found = _embedding(layer, _words(), _MASK)
        self.assertEqual(found.dtype, tf.bfloat16)
        plain.build((3, 5, 4))
        plain.set_weights(layer.get_weights())
        expected = _embedding(plain, _words(), _MASK)
        self.assertAllClose(tf.cast(found, tf.float32), expected, atol=0.02)
        self.assertEqual(layer.states.forward_layer.compute_dtype, "bfloat16")

    @parameterized.parameters(*_ENCODERS)
    def test_sums_of_the_gradient_have_one_order(self, encoder):
        """Breaks if equal seeds no longer train the same bit for bit.

        A sum of three terms or more begins anywhere; the loops over the
        words have gradients of their own.
        """
        layer = encoder()
        layer.build((3, 5, 4))

        @tf.function
        def gradients(words, mask):
            return tf.gradients(
                _embedding(layer, words, mask),
                [each.value for each in layer.trainable_weights],
                aggregation_method=tf.AggregationMethod.EXPERIMENTAL_TREE,
            )

        traced = gradients.get_concrete_function(
            tf.constant(_words()), tf.constant(_MASK)
        )
        names = {node.op for node in traced_graph.ops(traced)}
        self.assertIn("TensorListPushBack", names)
        for node in traced_graph.ops(traced):
            if node.op == "AddN":
                self.assertEqual(node.attr["N"].i, 2, msg=node.name)

    @parameterized.parameters(*_ENCODERS)
    def test_saving(self, encoder):
        """Breaks if a model with it can't be saved and loaded."""
        words, mask = keras.Input((5, 4)), keras.Input((5,), dtype="bool")
        model = keras.Model([words, mask], _embedding(encoder(), words, mask))
        path = f"{self.get_temp_dir()}/model.keras"
        model.save(path)
        again = keras.models.load_model(path)
        inputs = [_words(), _MASK]
        self.assertAllEqual(model(inputs), again(inputs))


if __name__ == "__main__":
    tf.test.main()
