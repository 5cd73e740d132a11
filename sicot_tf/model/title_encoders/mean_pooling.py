"""MeanPooling: the mean word of a title."""

from typing import Any

import keras
from keras import ops


@keras.saving.register_keras_serializable(package="sicot_tf")
class MeanPooling(keras.layers.Layer):
    """Weighs all words of a title alike (paper, Table 3).

    The result depends neither on the order of the words nor on padding. A
    title without words gives zeros.

    Call arguments:
        words: `[batch, num_words, word_dim]` float, the word vectors.
        word_mask: `[batch, num_words]` boolean, True for a real word.

    Returns:
        `[batch, word_dim]` float, the semantic embedding before its
        projection, and `[batch, num_words]` float, the weight of each word:
        1 over the number of real words, 0 for padding.
    """

    def call(self, words: Any, word_mask: Any) -> tuple[Any, Any]:
        real = ops.cast(word_mask, "float32")
        num_words = ops.sum(real, axis=-1, keepdims=True)
        weights = ops.cast(real / ops.maximum(num_words, 1), words.dtype)
        return ops.einsum("bn,bnd->bd", weights, words), weights
