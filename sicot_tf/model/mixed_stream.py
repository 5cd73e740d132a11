"""MixedStream: element-wise maximum of a picture and its title."""

from typing import Any

import keras
from keras import ops


@keras.saving.register_keras_serializable(package="sicot_tf")
class MixedStream(keras.layers.Layer):
    """`x_m = max(x_v, x_s)` per feature (paper, section 3.3).

    Both inputs should be ReLU outputs: a feature of the semantic embedding
    that can be negative would never win and never learn. Where a picture has
    no title, `x_m` is `x_v` itself: a bias of the title projection must not
    stand in for words that are not there.

    Call arguments:
        visual: `[batch, embedding_dim]` float, `x_v`.
        semantic: `[batch, embedding_dim]` float, `x_s`.
        has_title: `[batch]` boolean, True if the title has a known word.

    Returns:
        `[batch, embedding_dim]` float, `x_m`.

    Raises:
        ValueError: if the two streams differ in size.
    """

    def build(
        self,
        visual_shape: tuple,
        semantic_shape: tuple,
        has_title_shape: tuple | None = None,
    ) -> None:
        if visual_shape[-1] != semantic_shape[-1]:
            raise ValueError(
                "The visual and the semantic stream must have the same size "
                f"(paper, section 3.3), received {visual_shape[-1]} and "
                f"{semantic_shape[-1]}; project one of them."
            )

    def call(self, visual: Any, semantic: Any, has_title: Any) -> Any:
        mixed = ops.maximum(visual, semantic)
        return ops.where(ops.expand_dims(has_title, -1), mixed, visual)

    def compute_output_shape(
        self,
        visual_shape: tuple,
        semantic_shape: tuple,
        has_title_shape: tuple | None = None,
    ) -> tuple:
        return visual_shape
