"""BoxBranch: where in a picture the object lies, learned without boxes."""

from typing import Any

import keras
from keras import ops

# Width of the layer that weighs the positions.
_HIDDEN = 64


@keras.saving.register_keras_serializable(package="sicot_tf")
class BoxBranch(keras.layers.Layer):
    """The box whose mean and variance are those of weights over positions.

    Weights over the positions of a feature map, a softmax, are moved by any
    gradient that reaches the box; a box of equal weights inside has exactly
    its own borders. So a new branch starts from the heat of the features: what
    stands out from the picture's own mean draws the box (as
    `serving/heat_maps.py` finds objects), and training corrects it.

    Features are taken as they are: no gradient goes back into them.

    Call arguments:
        features: `[batch, rows, columns, channels]` float, of the square that
            `images.decode_whole` makes, of an odd size: its first and last
            cell look at its first and last pixel.
        extents: `[batch, 2]` float32, shares of the square's height and width
            that the picture fills, from the corner at the top left.

    Returns:
        The box, `[batch, 4]` float32: x_min, y_min, x_max, y_max in shares of
        the square, inside of the picture, with an area; and the glimpse,
        `[batch, channels]` float32, the features' mean under the weights. A
        loss on it reaches every position at once, one on what is seen through
        the box only its borders.
    """

    def __init__(self, **kwargs: Any):
        super().__init__(**{"dtype": "float32", **kwargs})
        self.normalization = keras.layers.LayerNormalization(
            name="normalization", dtype="float32"
        )
        self.local = keras.layers.Dense(_HIDDEN, name="local", dtype="float32")
        self.context = keras.layers.Dense(
            _HIDDEN, use_bias=False, name="context", dtype="float32"
        )
        # From zero: the heat alone draws the first boxes.
        self.scores = keras.layers.Conv2D(
            1,
            3,
            padding="same",
            # A softmax does not see one.
            use_bias=False,
            kernel_initializer="zeros",
            name="scores",
            dtype="float32",
        )

    def build(self, features_shape: tuple, extents_shape: tuple) -> None:
        channels = features_shape[-1]
        self.normalization.build(features_shape)
        self.local.build((*features_shape[:-1], channels + 2))
        self.context.build((features_shape[0], 1, 1, channels))
        self.scores.build((*features_shape[:-1], _HIDDEN))
        self.heat_gain = self.add_weight(
            name="heat_gain",
            shape=(),
            initializer=keras.initializers.Constant(8.0),
        )
        # Of half the sides, against those of the box with this variance.
        self.log_sides = self.add_weight(
            name="log_sides", shape=(2,), initializer="zeros"
        )
        self.built = True

    def call(self, features: Any, extents: Any) -> tuple[Any, Any]:
        features = ops.stop_gradient(ops.cast(features, "float32"))
        places = [self._places(size) for size in features.shape[1:3]]
        weights = self._weigh(features, places, extents)
        sides = []
        for axis in (0, 1):
            sides.append(
                self._side(
                    # Sum over the other axis.
                    ops.sum(weights, axis=2 - axis),
                    places[axis],
                    extents[:, axis],
                    self.log_sides[axis],
                )
            )
        (y_min, y_max), (x_min, x_max) = sides
        glimpse = ops.sum(features * weights[..., None], axis=(1, 2))
        return ops.stack([x_min, y_min, x_max, y_max], axis=-1), glimpse

    def _places(self, cells: int) -> Any:
        """`[cells]`, from 0 to 1."""
        return ops.arange(cells, dtype="float32") / max(cells - 1, 1)

    def _weigh(self, features: Any, places: list[Any], extents: Any) -> Any:
        """`[batch, rows, columns]`, sum 1, nothing outside of the picture."""
        inside = [
            ops.cast(place <= extent[:, None], "float32")
            for place, extent in zip(places, (extents[:, 0], extents[:, 1]))
        ]
        is_photo = inside[0][:, :, None] * inside[1][:, None, :]
        share = is_photo / ops.sum(is_photo, axis=(1, 2), keepdims=True)
        mean = ops.sum(features * share[..., None], axis=(1, 2), keepdims=True)
        heat = ops.sqrt(
            ops.sum(ops.square(ops.relu(features - mean)), axis=-1) + 1e-12
        )
        heat = heat * is_photo
        heat = heat / (ops.max(heat, axis=(1, 2), keepdims=True) + 1e-6)
        seen = self.normalization(features)
        seen_mean = ops.sum(seen * share[..., None], axis=(1, 2), keepdims=True)
        # Where it is in the picture, -1 to 1: what is meant is often central.
        relative = [
            place / extent[:, None] * 2 - 1
            for place, extent in zip(places, (extents[:, 0], extents[:, 1]))
        ]
        grid = ops.ones_like(heat)
        coordinates = ops.stack(
            [relative[0][:, :, None] * grid, relative[1][:, None, :] * grid],
            axis=-1,
        )
        hidden = self.local(ops.concatenate([seen, coordinates], axis=-1))
        hidden = ops.relu(hidden + self.context(seen_mean))
        scores = self.scores(hidden)[..., 0] + self.heat_gain * heat
        scores = scores - 1e9 * (1 - is_photo)
        flat = ops.reshape(scores, (-1, scores.shape[1] * scores.shape[2]))
        return ops.reshape(ops.softmax(flat, axis=-1), (-1, *scores.shape[1:3]))

    def _side(
        self, weights: Any, places: Any, extent: Any, log_side: Any
    ) -> tuple[Any, Any]:
        """Both ends of the box on an axis, `[batch]` each."""
        middle = ops.sum(weights * places, axis=-1)
        # A cell has a size, too: no box is smaller than one.
        cell = 1.0 / max(places.shape[0] - 1, 1)
        variance = cell**2 / 12 + ops.sum(
            weights * ops.square(places - middle[:, None]), axis=-1
        )
        # A side s has the variance s^2 / 12.
        half = ops.sqrt(3 * variance) * ops.exp(log_side)
        low = ops.maximum(middle - half, 0.0)
        return low, ops.minimum(middle + half, extent)

    def compute_output_shape(
        self, features_shape: tuple, extents_shape: tuple
    ) -> tuple:
        batch, *_, channels = features_shape
        return (batch, 4), (batch, channels)
