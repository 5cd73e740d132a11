"""Where in a photo the evidence for a SKU lies, by the network that names it.

A class activation map (Zhou et al. 2016, arXiv 1512.04150) weighs the last
feature map, before it is averaged over its positions, with the class's row of
the classifier. A small square has few positions, so the same weights run over
the whole photo at a larger size.
"""

from collections.abc import Callable

import keras
import tensorflow as tf

_LEAST_SIZE = 384


def default_size(image_size: int) -> int:
    """Side of the square, in pixels, that a whole photo is looked at in."""
    return max(_LEAST_SIZE, 2 * image_size)


class HeatMaps:
    """The layers of a visual stream, before and after its pooling.

    Args:
        image_features: functional model from `{"image": [batch, side, side,
            3]}` float32 to `[batch, dim]`, with a `GlobalAveragePooling2D`;
            what stands behind the last one sees no positions any more.
        classifier: from `[batch, dim]` to logits `[batch, classes]`.

    Raises:
        ValueError: if the features are no average over positions, or the
            layers before can't run at another size.
    """

    def __init__(
        self,
        image_features: keras.Model,
        classifier: Callable[[tf.Tensor], tf.Tensor],
    ):
        self._before, self._after = _split_at_pooling(image_features)
        self._classifier = classifier

    def recognise(
        self, image: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        """The best class, its score, and how much each channel is for it.

        The channels' weights are the gradient of the class's logit, less the
        mean logit, in the pooled features (Selvaraju et al., arXiv 1610.02391).
        Where only the classifier stands behind the pooling, this is the
        class's row, less the mean row, and the map is that of Zhou et al. A
        neck of ReLUs is linear around each picture, so it is exact there, too.

        Args:
            image: `[batch, height, width, 3]` float32, 0 to 255.

        Returns:
            `[batch]` int64, `[batch]` float32, `[batch, channels]` float32.
        """
        pooled = tf.reduce_mean(self.features(image), axis=[1, 2])
        with tf.GradientTape() as tape:
            tape.watch(pooled)
            features = self._after(tf.cast(pooled, self._after.input.dtype))
            logits = tf.cast(self._classifier(features), tf.float32)
            label = tf.argmax(logits, axis=1)
            best = tf.gather(logits, label, batch_dims=1)
            # All rows may share a part, which says nothing for any of them.
            advantage = best - tf.reduce_mean(logits, axis=1)
        weights = tape.gradient(advantage, pooled)
        scores = tf.nn.softmax(logits)
        return label, tf.gather(scores, label, batch_dims=1), weights

    def features(self, image: tf.Tensor) -> tf.Tensor:
        """`[batch, rows, columns, channels]` float32 of any picture size."""
        features = self._before({"image": image}, training=False)
        return tf.cast(features, tf.float32)


def heat(features: tf.Tensor, weights: tf.Tensor) -> tf.Tensor:
    """`[batch, rows, columns]`, what speaks for the class; else 0.

    Args:
        features: `[batch, rows, columns, channels]`.
        weights: `[batch, channels]`.
    """
    return tf.nn.relu(tf.einsum("bhwc,bc->bhw", features, weights))


def cut_padding(heat_map: tf.Tensor, extents: tf.Tensor) -> tf.Tensor:
    """The part that covers the photo, in as many cells as the whole had.

    Args:
        heat_map: `[batch, rows, columns]` float32 of a square.
        extents: `[batch, 2]` float32, the share of the square's height and
            width that the photo fills, from the corner at the top left.
    """
    rows = _resampling(extents[:, 0], heat_map.shape[1])
    columns = _resampling(extents[:, 1], heat_map.shape[2])
    return tf.einsum("bih,bhw,bjw->bij", rows, heat_map, columns)


def _resampling(extent: tf.Tensor, size: int) -> tf.Tensor:
    """`[batch, size, size]`, from cells to linearly interpolated ones."""
    middles = tf.range(size, dtype=tf.float32) + 0.5
    places = extent[:, tf.newaxis] * middles - 0.5
    places = tf.clip_by_value(places, 0.0, size - 1.0)
    distance = places[:, :, tf.newaxis] - tf.range(size, dtype=tf.float32)
    return tf.nn.relu(1 - tf.abs(distance))


def _split_at_pooling(
    image_features: keras.Model,
) -> tuple[keras.Model, keras.Model]:
    """The same layers, at any size: up to the last pooling, and behind it."""
    poolings, outputs = [], []

    def call(layer: keras.Layer, *args: object, **kwargs: object) -> object:
        # A model has a fixed input size, its layers have none.
        if isinstance(layer, keras.Model):
            _copy(layer, args[0], call)
            # The copy's own output hangs on an input of its own.
            return outputs[-1]
        outputs.append(layer(*args, **kwargs))
        if isinstance(layer, keras.layers.GlobalAveragePooling2D):
            poolings.append((args[0], outputs[-1]))
        return outputs[-1]

    image = {"image": keras.Input([None, None, 3], name="image")}
    try:
        _copy(image_features, image, call)
    except ValueError as error:
        raise ValueError(
            "Expected a backbone whose layers run at any picture size, which "
            f"heat maps need; at another size it fails: {error}"
        ) from error
    if not poolings:
        raise ValueError(
            "Expected image_features with a GlobalAveragePooling2D, whose "
            "input is the feature map that heat maps are made of; received "
            f"layers {[each.name for each in image_features.layers]}."
        )
    feature_map, pooled = poolings[-1]
    # Nothing may stand behind the pooling, and a model needs a layer.
    end = keras.layers.Identity()(outputs[-1])
    return (
        keras.Model(image, feature_map, name="before_pooling"),
        keras.Model(pooled, end, name="after_pooling"),
    )


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
