"""LSTMs in float64 NumPy, for titles of which only real words are given."""

import keras
import numpy as np


def states(words: np.ndarray, cell: keras.layers.LSTMCell) -> np.ndarray:
    """`[num_words, word_dim]` to the states `[num_words, units]`.

    Hochreiter and Schmidhuber with a forget gate; gates in Keras's order:
    input, forget, new memory, output.
    """
    kernel, recurrent, bias = (
        np.float64(each)
        for each in (cell.kernel, cell.recurrent_kernel, cell.bias)
    )
    state = memory = np.zeros(recurrent.shape[0])
    found = []
    for word in np.float64(words):
        gates = word @ kernel + state @ recurrent + bias
        enters, stays, new, leaves = np.split(gates, 4)
        memory = _sigmoid(stays) * memory + _sigmoid(enters) * np.tanh(new)
        state = _sigmoid(leaves) * np.tanh(memory)
        found.append(state)
    return np.array(found).reshape(len(words), -1)


def both_directions(
    words: np.ndarray, layer: keras.layers.Bidirectional
) -> np.ndarray:
    """`[num_words, 2 * units]`, of each word the forward state first."""
    forward = states(words, layer.forward_layer.cell)
    backward = states(words[::-1], layer.backward_layer.cell)[::-1]
    return np.concatenate([forward, backward], axis=1)


def _sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))
