"""The search network: where the object is, and what it is.

    image -+- backbone up to a middle layer --- box branch --- box
           |                                                    |
           +----------------------- view (mask, zoom) ----------+
                                     |
                                     backbone --- embedding

Trained by clicks alone: the loss moves the box through the view (KDD 2018).
"""

from typing import Any

import keras
from keras import ops

from sicot_tf import config
from sicot_tf.model import sicot
from sicot_tf.model.backbones import backbones
from sicot_tf.model.backbones import initial_weights
from sicot_tf.model.search import box_branch
from sicot_tf.model.search import view


def whole_size(image_size: int) -> int:
    """Side in pixels of the square that a whole picture is looked at in.

    Twice the side of what is embedded, so that an object that fills half of
    the picture is seen at full size. Odd, see `BoxBranch`.
    """
    return 2 * image_size + 1


def build(
    model_config: config.ModelConfig,
    *,
    embedding_dim: int,
    view_kind: str,
    steepness: float,
    with_box: bool,
    seed: int = 0,
) -> keras.Model:
    """The functional model `search`; its backbone is that of a recogniser.

    Inputs are `image` `[batch, whole_size, whole_size, 3]` float32 0 to 255
    and `extents` `[batch, 2]` as `images.decode_whole` makes them. Outputs are
    `embedding` `[batch, embedding_dim]` float32 of length 1, and `box`
    `[batch, 4]` float32: x_min, y_min, x_max, y_max in shares of the picture,
    0 to 1; with a box also `glimpse`, an embedding as the first, of the
    features under the box branch's weights, for training alone.

    BatchNormalization keeps the recogniser's statistics: those of a batch
    would tell a product from its negatives, and differ with the workers.

    Args:
        model_config: of the recogniser; what it freezes stays frozen.
        view_kind: one of `view.KINDS`.
        steepness: see `View`.
        with_box: False: the box is the whole picture, and nothing is masked.
        seed: decides the initial value of every new weight.
    """
    with sicot.dtype_policy(model_config.dtype_policy):
        frozen, trained = sicot.split_backbone(model_config, seed)
    parts = [part for part in (frozen, trained) if part is not None]
    size = whole_size(model_config.image_size)
    image = keras.Input((size, size, 3), dtype="float32", name="image")
    extents = keras.Input((2,), dtype="float32", name="extents")
    new_layers: list[keras.layers.Layer] = []
    outputs: dict[str, Any] = {}

    # === Box ===
    if with_box:
        trunk = backbones.before_pooling(parts[0], size)
        branch = box_branch.BoxBranch(name="box_branch")
        box, glimpse = branch(trunk(image, training=False), extents)
        embed_glimpse = keras.layers.Dense(
            embedding_dim, dtype="float32", name="glimpse"
        )
        outputs["glimpse"] = _unit(embed_glimpse(glimpse))
        new_layers += [branch, embed_glimpse]
    else:
        view_kind = "zoom"
        corner = ops.zeros_like(extents)
        box = ops.concatenate([corner, extents[:, ::-1]], axis=-1)

    # === Embedding ===
    look = view.View(view_kind, model_config.image_size, steepness, name="view")
    features: Any = look(image, extents, box)
    for part in parts:
        features = part(features, training=False)
    # float32: neighbours differ in the last bits.
    embed = keras.layers.Dense(embedding_dim, dtype="float32", name="embedding")
    outputs["embedding"] = _unit(embed(features))
    new_layers.append(embed)

    initial_weights.seed_initial_weights(new_layers, seed)
    shares = ops.concatenate([extents[:, ::-1], extents[:, ::-1]], axis=-1)
    outputs["box"] = ops.clip(box / shares, 0.0, 1.0)
    return keras.Model(
        {"image": image, "extents": extents}, outputs, name="search"
    )


def served(search: keras.Model) -> keras.Model:
    """The network without what only training needs."""
    return keras.Model(
        search.input,
        {name: search.output[name] for name in ("embedding", "box")},
        name="search",
    )


def _unit(rows: Any) -> Any:
    """Divided by their lengths."""
    return rows / ops.sqrt(
        ops.sum(ops.square(rows), axis=-1, keepdims=True) + 1e-12
    )


def backbone_variables(search: keras.Model) -> list[Any]:
    """What it has of the recogniser, by the recogniser's own paths."""
    own = {
        id(variable)
        for name in ("box_branch", "glimpse", "embedding")
        for layer in search.layers
        if layer.name == name
        for variable in layer.variables
    }
    return [each for each in search.variables if id(each) not in own]
