"""The SICoT model: visual, semantic and mixed stream, one shared classifier.

    image ---- backbone (- neck) ------------------- x_v --+
                                        |                  +-- classifier
    title_ids - word_vectors            +- maximum - x_m --+
                    - title encoder - projection --- x_s

Only the upper branch is served (paper, section 3.3 and Fig. 1).
"""

import contextlib
from collections.abc import Iterator
from typing import Any

import keras
from keras import ops

from sicot_tf import config
from sicot_tf.data import records
from sicot_tf.model import mixed_stream
from sicot_tf.model import word_rows
from sicot_tf.model.backbones import backbones
from sicot_tf.model.backbones import initial_weights
from sicot_tf.model.classifier.class_sharded_dense import ClassShardedDense
from sicot_tf.model.title_encoders.bilstm import BiLSTM
from sicot_tf.model.title_encoders.bilstm import BiLSTMAttention
from sicot_tf.model.title_encoders.mean_pooling import MeanPooling
from sicot_tf.model.title_encoders.word_attention import BilinearWordAttention


def build_streams(
    model_config: config.ModelConfig,
    *,
    vocabulary_size: int = 0,
    word_vector_dim: int = 0,
    num_predicted_words: int = 0,
    word_rows_scale: float = 0.0,
    seed: int = 0,
    from_features: bool = False,
) -> keras.Model:
    """The functional model of the streams; the classifier stands behind it.

    Inputs are `image` `[batch, image_size, image_size, 3]` float32 0 to 255
    and, for co-training, `title_ids` `[batch, max_words]` int32 with 0 for
    padding and unknown words. Outputs are `x_v` and, for co-training, `x_m`,
    each `[batch, embedding_dim]`, and `attention` `[batch, max_words]`, the
    word weights for inspection, of which `bilstm` has none. With predicted
    words there is `word_logits` `[batch, num_predicted_words]` float32, too;
    with word rows what `classified` gives.

    Args:
        vocabulary_size: number of words; their ids are 1 to this number.
        word_vector_dim: size of the word vectors.
        num_predicted_words: words that `x_v` is trained to predict.
        word_rows_scale: of the words' part of class rows; 0: none.
        seed: with its path, decides the initial value of every weight.
        from_features: `image` is what `build_frozen_layers` makes of one, and
            the model has no frozen layers.
    """
    with dtype_policy(model_config.dtype_policy):
        return _build_streams(
            *(model_config, vocabulary_size, word_vector_dim),
            *(num_predicted_words, word_rows_scale, seed, from_features),
        )


def build_frozen_layers(
    model_config: config.ModelConfig, seed: int = 0
) -> keras.Model:
    """The layers of the backbone that are never trained, from `image` on.

    Raises:
        ValueError: if all layers are trained.
    """
    with dtype_policy(model_config.dtype_policy):
        frozen, _ = split_backbone(model_config, seed)
    if frozen is None:
        raise ValueError(
            "Expected frozen layers, whose output can be kept: give "
            "--cached_views together with --freeze_backbone or --frozen_until."
        )
    return frozen


@contextlib.contextmanager
def dtype_policy(name: str) -> Iterator[None]:
    """Keras's global dtype policy, for a while."""
    previous = keras.config.dtype_policy()
    keras.config.set_dtype_policy(name)
    try:
        yield
    finally:
        keras.config.set_dtype_policy(previous)


def split_backbone(
    model_config: config.ModelConfig, seed: int
) -> tuple[keras.Model | None, keras.Model | None]:
    """The backbone in frozen layers and the others; None for no such layer."""
    backbone = backbones.build_backbone(
        model_config.backbone,
        image_size=model_config.image_size,
        weights=model_config.backbone_weights,
        seed=seed,
    )
    if model_config.freeze_backbone:
        frozen, trained = backbone, None
    elif model_config.frozen_until:
        frozen, trained = backbones.split(backbone, model_config.frozen_until)
    else:
        return None, backbone
    frozen.trainable = False
    return frozen, trained


def _build_streams(
    model_config: config.ModelConfig,
    vocabulary_size: int,
    word_vector_dim: int,
    num_predicted_words: int,
    word_rows_scale: float,
    seed: int,
    from_features: bool,
) -> keras.Model:
    """`build_streams` under the dtype policy of the model."""
    # === Visual stream ===
    frozen, backbone = split_backbone(model_config, seed)
    shape = (model_config.image_size, model_config.image_size, 3)
    if from_features:
        shape = frozen.output.shape[1:]
        frozen = keras.layers.Identity(name="frozen_layers")
    image = keras.Input(shape, dtype="float32", name="image")
    inputs = {"image": image}
    x_v = image
    for part in (frozen, backbone):
        if part is not None:
            x_v = part(x_v)
    new_layers = []
    if model_config.neck_dim:
        neck = keras.layers.Dense(
            model_config.neck_dim, activation="relu", name="neck"
        )
        new_layers.append(neck)
        x_v = neck(x_v)
    outputs = {"x_v": x_v}

    if model_config.streams == "cotrain":
        inputs["title_ids"], title_outputs, title_layers = _title_streams(
            model_config, x_v, vocabulary_size, word_vector_dim
        )
        outputs |= title_outputs
        new_layers += title_layers

    # === Predicted words ===
    if num_predicted_words:
        # From zero the first gradient of x_v is zero, not a random one of
        # thousands of words.
        predicted_words = keras.layers.Dense(
            num_predicted_words,
            kernel_initializer="zeros",
            dtype="float32",
            name="predicted_words",
        )
        outputs["word_logits"] = predicted_words(x_v)
        new_layers.append(predicted_words)

    # === Rows from words ===
    if word_rows_scale:
        widen = word_rows.WordRows(
            word_vector_dim, word_rows_scale, name="word_rows"
        )
        for name in ("x_v", "x_m"):
            if name in outputs:
                outputs[f"classified_{name}"] = widen(outputs[name])
        new_layers.append(widen)

    initial_weights.seed_initial_weights(new_layers, seed)
    return keras.Model(inputs, outputs, name="streams")


def _title_streams(
    model_config: config.ModelConfig,
    x_v: Any,
    vocabulary_size: int,
    word_vector_dim: int,
) -> tuple[Any, dict[str, Any], list[keras.layers.Layer]]:
    """What co-training adds: `title_ids`, the outputs, the new layers."""
    # === Semantic stream ===
    embeddings = keras.layers.Embedding(
        vocabulary_size + 1,
        word_vector_dim,
        trainable=model_config.train_word_vectors,
        name="word_vectors",
    )
    encoder = _title_encoder(model_config)
    projection = keras.layers.Dense(
        x_v.shape[-1], activation="relu", name="title_projection"
    )

    title_ids = keras.Input(
        (model_config.max_words,), dtype="int32", name="title_ids"
    )
    word_mask = ops.not_equal(title_ids, records.PADDING_ID)
    encoded = encoder(embeddings(title_ids), word_mask)
    outputs = {}
    if model_config.title_encoder != "bilstm":
        encoded, outputs["attention"] = encoded
    x_s = projection(encoded)

    # === Mixed stream ===
    has_title = ops.any(word_mask, axis=-1)
    x_m = mixed_stream.MixedStream(name="mixed_stream")(x_v, x_s, has_title)
    outputs = {"x_m": x_m} | outputs
    return title_ids, outputs, [embeddings, encoder, projection]


def _title_encoder(model_config: config.ModelConfig) -> keras.layers.Layer:
    """One of the paper's Table 3: word vectors to an embedding and weights."""
    match model_config.title_encoder:
        case "mean":
            return MeanPooling(name="mean_pooling")
        case "bilstm":
            return BiLSTM(name="bilstm")
        case "bilstm_attention":
            return BiLSTMAttention(name="bilstm_attention")
    return BilinearWordAttention(
        rank=model_config.attention_rank,
        activation=model_config.attention_activation,
        gain=model_config.attention_gain,
        name="word_attention",
    )


def build_classifier(
    num_classes: int, features_dim: int, **settings: Any
) -> ClassShardedDense:
    """The classifier that both streams share: softmax regression with bias.

    Args:
        settings: of `ClassShardedDense`; without `collectives` it holds all
            classes, and maps `[batch, features_dim]` to logits
            `[batch, num_classes]` float32.
    """
    classifier = ClassShardedDense(num_classes, name="classifier", **settings)
    classifier.build((None, features_dim))
    return classifier


def classified(outputs: dict[str, Any], stream: str) -> Any:
    """What the classifier gets of `x_v` or `x_m`; wider with word rows."""
    return outputs.get(f"classified_{stream}", outputs[stream])


def visual_stream(streams: keras.Model) -> keras.Model:
    """The part that is evaluated and served: `image` to `x_v`."""
    return keras.Model(
        {"image": streams.input["image"]},
        streams.output["x_v"],
        name="visual_stream",
    )


def classified_visual_stream(streams: keras.Model) -> keras.Model:
    """`image` to what the classifier of the training gets of `x_v`."""
    return keras.Model(
        {"image": streams.input["image"]},
        classified(streams.output, "x_v"),
        name="classified_visual_stream",
    )


def after_visual_stream(streams: keras.Model) -> keras.Model | None:
    """What the streams make of `x_v`; None if nothing.

    From a list of `x_v` and the inputs but `image`, in the order of the
    streams', to the outputs but `x_v`; of the same layers.
    """
    outputs = {k: v for k, v in streams.output.items() if k != "x_v"}
    if not outputs:
        return None
    inputs = {k: v for k, v in streams.input.items() if k != "image"}
    return keras.Model(
        # Keras wants a dictionary's names to be those of its tensors.
        [streams.output["x_v"], *inputs.values()],
        outputs,
        name="after_visual_stream",
    )


def semantic_stream(streams: keras.Model) -> keras.Model:
    """The part that is explained: `title_ids` to word weights."""
    if "x_m" not in streams.output:
        raise ValueError(
            "This run was trained with --streams visual: it has no title "
            "attention. Use a run trained with --streams cotrain."
        )
    if "attention" not in streams.output:
        raise ValueError(
            "This run was trained with --title_encoder bilstm, which reads a "
            "title as a whole and gives its words no weights. Use a run with "
            "another title encoder, such as bilstm_attention."
        )
    return keras.Model(
        {"title_ids": streams.input["title_ids"]},
        streams.output["attention"],
        name="semantic_stream",
    )
