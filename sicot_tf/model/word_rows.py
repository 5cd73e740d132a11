"""WordRows: the features that a class's words are compared with."""

from typing import Any

import keras
from keras import ops


@keras.saving.register_keras_serializable(package="sicot_tf")
class WordRows(keras.layers.Layer):
    """Widens features x to `[x, scale * x P]`, for rows that end in words.

    A classifier whose rows are `[W, T]`, with T the fixed word vectors of the
    classes, then gives `x W^T + (x P) (scale * T)^T`: what one class teaches P
    of a word, all classes with this word know. Its rows are as well
    `W + scale * T P^T` alone.

    Args:
        word_dim: size of the word vectors.
        scale: of the part that is made of words.
        kernel_initializer: of P, `[dim, word_dim]`.

    Call arguments:
        features: `[batch, dim]` float.

    Returns:
        `[batch, dim + word_dim]` float.
    """

    def __init__(
        self,
        word_dim: int,
        scale: float,
        kernel_initializer: Any = "glorot_uniform",
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self.word_dim = word_dim
        self.scale = scale
        self.kernel_initializer = keras.initializers.get(kernel_initializer)

    def build(self, features_shape: tuple) -> None:
        self.kernel = self.add_weight(
            name="kernel",
            shape=(features_shape[-1], self.word_dim),
            initializer=self.kernel_initializer,
        )

    def call(self, features: Any) -> Any:
        words = self.scale * ops.matmul(features, self.kernel)
        return ops.concatenate([features, words], axis=-1)

    def compute_output_shape(self, features_shape: tuple) -> tuple:
        return (*features_shape[:-1], features_shape[-1] + self.word_dim)

    def get_config(self) -> dict[str, Any]:
        config = {
            "word_dim": self.word_dim,
            "scale": self.scale,
            "kernel_initializer": keras.initializers.serialize(
                self.kernel_initializer
            ),
        }
        return {**super().get_config(), **config}
