"""A title read word by word, in both directions: BiLSTM, BiLSTMAttention."""

from typing import Any

import keras
from keras import ops

from sicot_tf.model.title_encoders.word_attention import masked_softmax


@keras.saving.register_keras_serializable(package="sicot_tf")
class BiLSTM(keras.layers.Layer):
    """The final states of two LSTMs, one for each direction (Table 3).

    The one direction ends at the last real word, the other at the first one:
    padding changes no state. Unlike pooling it depends on the order of the
    words. A title without words gives zeros. Words have no weights.

    Call arguments:
        words: `[batch, num_words, word_dim]` float, the word vectors.
        word_mask: `[batch, num_words]` boolean, True for a real word.

    Returns:
        `[batch, word_dim]` float, an odd `word_dim` rounded up: the semantic
        embedding before its projection.
    """

    def build(
        self, words_shape: tuple, word_mask_shape: tuple | None = None
    ) -> None:
        self.states = _bidirectional_lstm(
            words_shape[-1], return_sequences=False, dtype=self.dtype_policy
        )
        self.states.build(words_shape)

    def call(self, words: Any, word_mask: Any) -> Any:
        return self.states(words, mask=word_mask)


@keras.saving.register_keras_serializable(package="sicot_tf")
class BiLSTMAttention(keras.layers.Layer):
    """Self attention over the states of a bi-LSTM (Table 3).

    "A structured self-attentive sentence embedding" (Lin et al., 2017, arXiv
    1703.03130, equations 5 and 7) with one hop: with the states `H`
    `[num_words, state_dim]` of both directions, `a = softmax(w tanh(W H^T))`
    over the real words, and the embedding is `a H`. `W` has as many rows as a
    word vector has entries.

    It depends on the order of the words, not on padding. A title without
    words gives zeros.

    Call arguments:
        words: `[batch, num_words, word_dim]` float, the word vectors.
        word_mask: `[batch, num_words]` boolean, True for a real word.

    Returns:
        `[batch, word_dim]` float, an odd `word_dim` rounded up: the semantic
        embedding before its projection; and `[batch, num_words]` float, the
        weight of each word, 0 for padding.
    """

    def __init__(self, **kwargs: Any):
        super().__init__(**kwargs)
        # Where the seeding of initial weights looks for it.
        self.kernel_initializer = keras.initializers.GlorotUniform()

    def build(
        self, words_shape: tuple, word_mask_shape: tuple | None = None
    ) -> None:
        word_dim = words_shape[-1]
        self.states = _bidirectional_lstm(
            word_dim, return_sequences=True, dtype=self.dtype_policy
        )
        self.states.build(words_shape)
        state_dim = self.states.compute_output_shape(words_shape)[-1]
        self.kernel = self.add_weight(
            name="kernel",
            shape=(state_dim, word_dim),
            initializer=self.kernel_initializer,
        )
        self.score_kernel = self.add_weight(
            name="score_kernel",
            shape=(word_dim, 1),
            initializer=self.kernel_initializer.clone(),
        )

    def call(self, words: Any, word_mask: Any) -> tuple[Any, Any]:
        states = self.states(words, mask=word_mask)
        hidden = ops.tanh(ops.matmul(states, self.kernel))
        scores = ops.squeeze(ops.matmul(hidden, self.score_kernel), -1)
        weights = ops.cast(masked_softmax(scores, word_mask), states.dtype)
        return ops.einsum("bn,bnd->bd", weights, states), weights


def _bidirectional_lstm(
    word_dim: int, *, return_sequences: bool, dtype: Any
) -> keras.layers.Bidirectional:
    """Two LSTMs whose states together have the size of a word vector.

    Args:
        word_dim: an odd one is rounded up, so that both directions are equal.
        return_sequences: the states at all words, or the last ones only.
        dtype: policy of the layers.
    """
    return keras.layers.Bidirectional(
        keras.layers.LSTM(
            -(-word_dim // 2),
            # Orthogonal kernels, Keras's default, come from a decomposition
            # whose last bits depend on the machine.
            recurrent_initializer="glorot_uniform",
            return_sequences=return_sequences,
            # cuDNN refuses titles without words, which real batches hold.
            use_cudnn=False,
            name="lstm",
            dtype=dtype,
        ),
        name="bidirectional",
        dtype=dtype,
    )
