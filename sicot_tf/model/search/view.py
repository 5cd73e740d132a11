"""View: what the second branch sees of a picture, given a box.

Through a soft mask (KDD 2018), zoomed in to the box, or both. Every way is
differentiable by the box, which is all that teaches the box.
"""

from typing import Any

import keras
from keras import ops

KINDS = ("mask", "zoom", "mask_and_zoom")
# The value that the networks take for nothing, the middle of the pixels'.
_GREY = 127.5
# What stays visible on each side of the box, a share of its longer side.
_MARGIN = 0.1


def soft_mask(places: Any, low: Any, high: Any, steepness: float) -> Any:
    """h(x - low) - h(x - high) with h(x) = sigmoid(steepness x), 0 to 1.

    Args:
        places: `[batch, n]` float32.
        low, high: `[batch]` float32.

    Returns:
        `[batch, n]`: near 1 between low and high, near 0 elsewhere.
    """
    return ops.sigmoid(steepness * (places - low[:, None])) - ops.sigmoid(
        steepness * (places - high[:, None])
    )


def resampling(places: Any, pixels: int, spacing: Any) -> Any:
    """Weights of an antialiased bilinear resize along one axis.

    `tf.image.crop_and_resize` skips pixels where it makes a picture smaller;
    here a place sees as many of them as lie between it and the next.

    Args:
        places: `[batch, n]` float32, in pixels; 0 is the first one's middle.
        pixels: of the picture.
        spacing: `[batch]` float32, pixels from one place to the next.

    Returns:
        `[batch, n, pixels]` float32, sum 1 over the pixels.
    """
    reach = ops.maximum(spacing, 1.0)[:, None, None]
    distance = places[:, :, None] - ops.arange(pixels, dtype="float32")
    weights = ops.relu(1 - ops.abs(distance) / reach)
    return weights / ops.sum(weights, axis=-1, keepdims=True)


@keras.saving.register_keras_serializable(package="sicot_tf")
class View(keras.layers.Layer):
    """The square that the embedding branch sees.

    Args:
        kind: `mask`, the whole picture, grey outside of the box; `zoom`, the
            smallest square around the box and a margin, beyond the picture
            its border repeated; or `mask_and_zoom`.
        size: side of the square in pixels.
        steepness: of the mask's borders, over the picture's longer side.

    Call arguments:
        image: `[batch, whole, whole, 3]` float32, 0 to 255, and `extents`
            `[batch, 2]`, as `images.decode_whole` makes them.
        box: `[batch, 4]` as `BoxBranch` gives it.

    Returns:
        `[batch, size, size, 3]` float32, 0 to 255.
    """

    def __init__(
        self,
        kind: str = "zoom",
        size: int = 64,
        steepness: float = 40.0,
        **kwargs: Any,
    ):
        super().__init__(**{"dtype": "float32", **kwargs})
        if kind not in KINDS:
            raise ValueError(
                f"Expected a view of {', '.join(KINDS)}, received {kind!r}."
            )
        self.kind = kind
        self.size = size
        self.steepness = steepness

    def call(self, image: Any, extents: Any, box: Any) -> Any:
        low, high = box[:, :2], box[:, 2:]
        # x before y in a box, the other way round in extents.
        extents = extents[:, ::-1]
        longest = ops.max(extents, axis=-1)
        if self.kind == "mask":
            middle, side = extents / 2, longest
        else:
            middle = (low + high) / 2
            side = ops.max(high - low, axis=-1) * (1 + 2 * _MARGIN)
            side = ops.minimum(side, longest)
        steps = (ops.arange(self.size, dtype="float32") + 0.5) / self.size - 0.5
        pixels = image.shape[1]
        spacing = side * pixels / self.size
        weights, masks = [], []
        for axis in (0, 1):
            places = middle[:, axis, None] + side[:, None] * steps
            masks.append(
                soft_mask(places, low[:, axis], high[:, axis], self.steepness)
            )
            last = extents[:, axis, None] * pixels - 1
            inside = ops.clip(places * pixels - 0.5, 0.0, last)
            weights.append(resampling(inside, pixels, spacing))
        seen = ops.einsum("bih,bhwc->biwc", weights[1], image)
        seen = ops.einsum("bjw,biwc->bijc", weights[0], seen)
        if self.kind == "zoom":
            return seen
        mask = (masks[1][:, :, None] * masks[0][:, None, :])[..., None]
        return _GREY + mask * (seen - _GREY)

    def compute_output_shape(
        self, image_shape: tuple, extents_shape: tuple, box_shape: tuple
    ) -> tuple:
        return (image_shape[0], self.size, self.size, 3)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "kind": self.kind,
            "size": self.size,
            "steepness": self.steepness,
        }
