"""Initial weights as a function of seed and path alone."""

import hashlib
from collections.abc import Iterator
from collections.abc import Sequence

import keras
import numpy as np


def seed_initial_weights(
    layers: keras.Layer | Sequence[keras.Layer], seed: int
) -> None:
    """Draws every random weight anew from `(seed, variable path)`.

    Two models with the same paths and the same seed start equal, whatever
    else was built before, in whatever order, in this process or another. So
    a visual baseline and a co-trained model start with the same backbone.

    Each weight keeps the distribution of its layer's initializer, found as
    the attribute `<weight name>_initializer`. Initializers without a seed
    (zeros, ones, constants) stay as they are. Random layers (dropout) get
    their seed the same way. Call this before pretrained weights are loaded:
    it overwrites them.

    Args:
        layers: a built layer, a model, or several; nested ones are included.
            Give layers a `name`: automatic numbers depend on what was built
            before.
        seed: any integer.

    Raises:
        ValueError: if a layer isn't built, two weights share a path, or a
            weight was drawn at random by an initializer that isn't an
            attribute of its layer.
    """
    if isinstance(layers, keras.Layer):
        layers = [layers]
    for layer in layers:
        if not layer.built:
            raise ValueError(
                f"Expected built layers, received {layer.name!r} without "
                "weights. Build or call it first."
            )
    paths = set()
    for layer in _flatten(layers):
        for weight in _own_weights(layer):
            if weight.path in paths:
                raise ValueError(
                    f"Two weights share the path {weight.path!r} and would "
                    "start equal. Give their layers different names."
                )
            paths.add(weight.path)
            initializer = _find_initializer(layer, weight)
            if initializer is not None:
                config = initializer.get_config()
                config["seed"] = _derive_seed(seed, weight.path)
                initializer = initializer.from_config(config)
                weight.assign(initializer(weight.shape, dtype=weight.dtype))
        generator = getattr(layer, "seed_generator", None)
        if isinstance(generator, keras.random.SeedGenerator):
            path = f"{layer.path or layer.name}/seed_generator"
            state = np.array([_derive_seed(seed, path), 0])
            generator.state.assign(state.astype(generator.state.dtype))


def _flatten(layers: Sequence[keras.Layer]) -> Iterator[keras.Layer]:
    """The layers and everything nested in them, each once."""
    seen = set()
    for layer in layers:
        # Keras has no public way to reach the layers inside a layer.
        for nested in layer._flatten_layers():
            if id(nested) not in seen:
                seen.add(id(nested))
                yield nested


def _own_weights(layer: keras.Layer) -> list[keras.Variable]:
    """The weights of the layer itself, not of the layers inside."""
    inner = {
        id(weight)
        for nested in layer._flatten_layers(include_self=False)
        for weight in nested.weights
    }
    return [weight for weight in layer.weights if id(weight) not in inner]


def _find_initializer(
    layer: keras.Layer, weight: keras.Variable
) -> keras.initializers.Initializer | None:
    """The initializer that drew the weight; None if it wasn't random."""
    name = weight.name
    attributes = [f"{name}_initializer"]
    if name.endswith("_kernel"):
        # recurrent_kernel has a recurrent_initializer.
        attributes.append(f"{name.removesuffix('_kernel')}_initializer")
    if name.endswith("kernel"):
        # Several kernels may share one initializer; the kernel of a depthwise
        # convolution is named by its kind.
        attributes += ["kernel_initializer", "depthwise_initializer"]
    for attribute in attributes:
        initializer = getattr(layer, attribute, None)
        if isinstance(initializer, keras.initializers.Initializer):
            return initializer if "seed" in initializer.get_config() else None
    if np.ptp(weight.numpy()) > 0:
        raise ValueError(
            f"Weight {weight.path!r} differs from value to value, but its "
            f"layer ({type(layer).__name__}) has no initializer among the "
            f"attributes {attributes}, so that it can't be seeded. Store the "
            "initializer on the layer, and seed before weights are loaded."
        )
    return None


def _derive_seed(seed: int, path: str) -> int:
    """A 32-bit seed, the same on every machine.

    Not `files.stable_hash`: it would give the runs of old seeds other weights.
    """
    digest = hashlib.blake2b(f"{seed}|{path}".encode(), digest_size=4)
    return int.from_bytes(digest.digest(), "little")
