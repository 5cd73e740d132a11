"""BiLSTM: a title read word by word, in both directions."""

from typing import Any

import keras


def bidirectional_lstm(
    word_dim: int, *, return_sequences: bool, **kwargs: Any
) -> keras.layers.Bidirectional:
    """Two LSTMs whose states together have the size of a word vector.

    Args:
        word_dim: an odd one is rounded up, so that both directions are equal.
        return_sequences: the states at all words, or the last ones only.
        kwargs: of the layer.
    """
    return keras.layers.Bidirectional(
        keras.layers.LSTM(
            -(-word_dim // 2),
            # Orthogonal kernels, Keras's default, come from a decomposition
            # whose last bits depend on the machine.
            recurrent_initializer="glorot_uniform",
            return_sequences=return_sequences,
            # It refuses titles without words, which real batches hold.
            use_cudnn=False,
            name="lstm",
            dtype=kwargs.get("dtype"),
        ),
        name="bidirectional",
        **kwargs,
    )


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
        self.states = bidirectional_lstm(
            words_shape[-1], return_sequences=False, dtype=self.dtype_policy
        )
        self.states.build(words_shape)

    def call(self, words: Any, word_mask: Any) -> Any:
        return self.states(words, mask=word_mask)
