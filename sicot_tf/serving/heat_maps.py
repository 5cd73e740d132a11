"""Where in a photo the objects lie, by the network that names them.

The length of the last feature map's vectors, before they are averaged over
their positions, of what is above the photo's own mean: objects stand out from
what fills the photo. It asks for no class, so it finds every object of a
photo, and needs no more than the features, whatever stands behind the pooling.
The class activation map of the best SKU (Zhou et al. 2016, arXiv 1512.04150)
was tried and is worse where a photo has several objects: docs/localization.md.
A small square has few positions, so the same weights run over the whole photo
at a larger size.
"""

from collections.abc import Callable

import keras
import tensorflow as tf

_LEAST_SIZE = 385
# Rows and columns of a heat map.
_NUM_CELLS = 32


def default_size(image_size: int) -> int:
    """Side of the square, in pixels, that a whole photo is looked at in."""
    return max(_LEAST_SIZE, 2 * image_size // 32 * 32 + 1)


def before_pooling(image_features: keras.Model) -> keras.Model:
    """The layers of a visual stream up to its pooling, at any picture size.

    Args:
        image_features: functional model from `{"image": [batch, side, side,
            3]}` float32 to `[batch, dim]`, with a `GlobalAveragePooling2D`;
            the input of the last one is the feature map.

    Returns:
        From `{"image": [batch, height, width, 3]}` float32, 0 to 255, to
        `[batch, rows, columns, channels]`.

    Raises:
        ValueError: if the features are no average over positions, or the
            layers before can't run at another size.
    """
    feature_maps, outputs = [], []

    def call(layer: keras.Layer, *args: object, **kwargs: object) -> object:
        # A model has a fixed input size, its layers have none.
        if isinstance(layer, keras.Model):
            _copy(layer, args[0], call)
            # The copy's own output hangs on an input of its own.
            return outputs[-1]
        outputs.append(layer(*args, **kwargs))
        if isinstance(layer, keras.layers.GlobalAveragePooling2D):
            feature_maps.append(args[0])
        return outputs[-1]

    image = {"image": keras.Input([None, None, 3], name="image")}
    try:
        _copy(image_features, image, call)
    except ValueError as error:
        raise ValueError(
            "Expected a backbone whose layers run at any picture size, which "
            f"heat maps need; at another size it fails: {error}"
        ) from error
    if not feature_maps:
        raise ValueError(
            "Expected image_features with a GlobalAveragePooling2D, whose "
            "input is the feature map that heat maps are made of; received "
            f"layers {[each.name for each in image_features.layers]}."
        )
    return keras.Model(image, feature_maps[-1], name="before_pooling")


def heat(features: tf.Tensor, extents: tf.Tensor) -> tf.Tensor:
    """`[batch, rows, columns]`, how far features stand out; 0 or more.

    Args:
        features: `[batch, rows, columns, channels]`.
        extents: `[batch, 2]` float32, as for `cut_padding`; the mean is over
            the photo alone.
    """
    rows, columns = features.shape[1:3]
    is_photo = (tf.range(rows, dtype=tf.float32) < extents[:, :1] * rows)[
        :, :, None
    ] & (tf.range(columns, dtype=tf.float32) < extents[:, 1:] * columns)[
        :, None
    ]
    share = tf.cast(is_photo, tf.float32)[..., None]
    sums = tf.reduce_sum(features * share, axis=[1, 2], keepdims=True)
    mean = sums / tf.reduce_sum(share, axis=[1, 2], keepdims=True)
    return tf.norm(tf.nn.relu(features - mean), axis=-1)


def cut_padding(
    heat_map: tf.Tensor, extents: tf.Tensor, size: int
) -> tf.Tensor:
    """The part that covers the photo, `[batch, 32, 32]`.

    The first cell looks at the square's first pixel, the last at its last one:
    so it is where each stride pads both sides alike, as the backbones here do
    at a size of 32 k + 1 (at 32 k half of them see half a cell aside).

    Args:
        heat_map: `[batch, rows, columns]` float32 of a square.
        extents: `[batch, 2]` float32, the share of the square's height and
            width that the photo fills, from the corner at the top left.
        size: side of the square in pixels.
    """
    rows = _resampling(extents[:, 0], size, heat_map.shape[1])
    columns = _resampling(extents[:, 1], size, heat_map.shape[2])
    return tf.einsum("bih,bhw,bjw->bij", rows, heat_map, columns)


def _resampling(extent: tf.Tensor, size: int, cells: int) -> tf.Tensor:
    """`[batch, 32, cells]`, from cells to linearly interpolated ones."""
    middles = (tf.range(_NUM_CELLS, dtype=tf.float32) + 0.5) / _NUM_CELLS
    pixels = extent[:, tf.newaxis] * middles * size - 0.5
    places = tf.clip_by_value(pixels / (size - 1), 0.0, 1.0) * (cells - 1)
    distance = places[:, :, tf.newaxis] - tf.range(cells, dtype=tf.float32)
    return tf.nn.relu(1 - tf.abs(distance))


def _copy(
    model: keras.Model, inputs: object, call: Callable[..., object]
) -> keras.Model:
    """The model's own layers, called by `call`, on other inputs."""
    return keras.models.clone_model(
        model,
        input_tensors=inputs,
        clone_function=lambda layer: layer,
        call_function=call,
    )
