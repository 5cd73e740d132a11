"""BilinearWordAttention: one semantic embedding out of a noisy title."""

from typing import Any

import keras
from keras import ops


@keras.saving.register_keras_serializable(package="sicot_tf")
class BilinearWordAttention(keras.layers.Layer):
    """Weighs the words of a title by a bilinear form with its mean word.

    The paper (section 3.2, Fig. 5) names the steps and leaves their form
    open. For words `e_i` with masked mean `g`:

    1. second-order feature map, one row for each word: `F_i = (e_i W) * g`;
    2. average pooling over the features: `s_i = mean(F_i)`;
    3. nonlinear transformation: `a = softmax(gain * s)` over the real words;
    4. semantic embedding: `sum_i a_i e_i`.

    Pooling divides by the number of features, so that without a gain every
    weight stays within 3 % of uniform (300 features, 10 words) and the
    module is mean pooling in disguise. The gain is learned and starts at the
    square root of the number of features.

    The result depends neither on the order of the words nor on padding. A
    title without words gives zeros.

    Args:
        rank: rank of the bilinear form; 0: one full matrix
            `[word_dim, word_dim]`, else `W = U V^T` with two matrices
            `[word_dim, rank]`, for large word vectors.
        activation: `softmax`; `sigmoid`, each word by itself; or
            `sigmoid_norm`, sigmoids divided by their sum.
        gain: initial gain of the scores; 0: `sqrt(word_dim)`.
        kernel_initializer: initializer of the bilinear form.

    Call arguments:
        words: `[batch, num_words, word_dim]` float, the word vectors.
        word_mask: `[batch, num_words]` boolean, True for a real word.

    Returns:
        `[batch, word_dim]` float, the semantic embedding before its
        projection, and `[batch, num_words]` float, the weight of each word,
        0 for padding.
    """

    def __init__(
        self,
        rank: int = 0,
        activation: str = "softmax",
        gain: float = 0.0,
        kernel_initializer: Any = "glorot_uniform",
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        if rank < 0:
            raise ValueError(f"rank must be 0 or more, received {rank}.")
        if activation not in ("softmax", "sigmoid", "sigmoid_norm"):
            raise ValueError(
                "activation must be 'softmax', 'sigmoid' or 'sigmoid_norm', "
                f"received {activation!r}."
            )
        self.rank = rank
        self.activation = activation
        self.gain = gain
        self.kernel_initializer = keras.initializers.get(kernel_initializer)

    def build(
        self, words_shape: tuple, word_mask_shape: tuple | None = None
    ) -> None:
        word_dim = words_shape[-1]
        self.kernel = self.add_weight(
            name="kernel",
            shape=(word_dim, self.rank or word_dim),
            initializer=self.kernel_initializer,
        )
        self.context_kernel = None
        if self.rank:
            self.context_kernel = self.add_weight(
                name="context_kernel",
                shape=(word_dim, self.rank),
                # One unseeded instance would draw both kernels alike.
                initializer=self.kernel_initializer.clone(),
            )
        self.score_gain = self.add_weight(
            name="score_gain",
            shape=(),
            initializer=keras.initializers.Constant(
                self.gain or float(word_dim) ** 0.5
            ),
        )

    def call(self, words: Any, word_mask: Any) -> tuple[Any, Any]:
        real = ops.expand_dims(ops.cast(word_mask, words.dtype), -1)
        context = self._global_context(words, real)
        scores = self._score(words, context)
        attention = self._normalize(scores, ops.cast(word_mask, "float32"))
        attention = ops.cast(attention, words.dtype)
        embedding = ops.einsum("bn,bnd->bd", attention, words)
        return embedding, attention

    def _global_context(self, words: Any, real: Any) -> Any:
        """Mean of the real words: `[batch, 1, word_dim]`."""
        num_words = ops.maximum(ops.sum(real, axis=1, keepdims=True), 1)
        return ops.sum(words * real, axis=1, keepdims=True) / num_words

    def _score(self, words: Any, context: Any) -> Any:
        """Pooled second-order feature map times gain: `[batch, num_words]`."""
        if self.context_kernel is not None:
            context = ops.matmul(context, self.context_kernel)
        feature_map = ops.matmul(words, self.kernel) * context
        # The divisor is the word size for any rank: full and low rank agree
        # when W = U V^T.
        pooled = ops.sum(feature_map, axis=-1) / words.shape[-1]
        return self.score_gain * pooled

    def _normalize(self, scores: Any, real: Any) -> Any:
        """Word weights `[batch, num_words]`; float32 under any policy."""
        scores = ops.cast(scores, "float32")
        if self.activation == "softmax":
            return masked_softmax(scores, real)
        weights = ops.sigmoid(scores) * real
        return weights if self.activation == "sigmoid" else _shares(weights)

    def compute_output_shape(
        self, words_shape: tuple, word_mask_shape: tuple | None = None
    ) -> tuple[tuple, tuple]:
        return (words_shape[0], words_shape[2]), words_shape[:2]

    def compute_output_spec(self, words: Any, word_mask: Any) -> tuple:
        embedding, attention = self.compute_output_shape(words.shape)
        return (
            keras.KerasTensor(embedding, dtype=self.compute_dtype),
            keras.KerasTensor(attention, dtype=self.compute_dtype),
        )

    def get_config(self) -> dict[str, Any]:
        config = {
            "rank": self.rank,
            "activation": self.activation,
            "gain": self.gain,
            "kernel_initializer": keras.initializers.serialize(
                self.kernel_initializer
            ),
        }
        return {**super().get_config(), **config}


def masked_softmax(scores: Any, word_mask: Any) -> Any:
    """`[batch, num_words]` float32 that sum to 1 over the real words.

    Args:
        scores: `[batch, num_words]` float.
        word_mask: of the same shape, True or 1 for a real word; without any
            the result is 0.
    """
    scores = ops.cast(scores, "float32")
    real = ops.cast(word_mask, "float32")
    scores = ops.where(real > 0, scores, -1e9)
    highest = ops.max(scores, axis=-1, keepdims=True)
    return _shares(ops.exp(scores - ops.stop_gradient(highest)) * real)


def _shares(weights: Any) -> Any:
    """Weights over their sum."""
    # Only a title without words has the sum 0; its weights stay 0.
    total = ops.sum(weights, axis=-1, keepdims=True)
    return weights / ops.where(total > 0, total, 1.0)
