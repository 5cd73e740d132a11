"""The SICoT model: visual, semantic and mixed stream, one shared classifier.

    image ---- backbone (- neck) ------------------- x_v --+
                                        |                  +-- classifier
    title_ids - word_vectors            +- maximum - x_m --+
                    - word_attention - projection -- x_s

Only the upper branch is served (paper, section 3.3 and Fig. 1).
"""

import dataclasses
from typing import Any

import keras
import numpy as np
from keras import ops

from sicot_tf import config
from sicot_tf.checkpoints import checkpoints
from sicot_tf.checkpoints import row_slices
from sicot_tf.data import records
from sicot_tf.model import mixed_stream
from sicot_tf.model.backbones import backbones
from sicot_tf.model.backbones import initial_weights
from sicot_tf.model.classifier import class_sharded_dense
from sicot_tf.model.classifier import shard_trainer
from sicot_tf.model.title_encoders import word_attention
from sicot_tf.training import runs


def build_streams(
    model_config: config.ModelConfig,
    *,
    vocabulary_size: int = 0,
    word_vector_dim: int = 0,
    seed: int = 0,
) -> keras.Model:
    """The functional model of the streams; the classifier stands behind it.

    Inputs are `image` `[batch, image_size, image_size, 3]` float32 0 to 255
    and, for co-training, `title_ids` `[batch, max_words]` int32 with 0 for
    padding and unknown words. Outputs are `x_v` and, for co-training, `x_m`,
    each `[batch, embedding_dim]`, and `attention` `[batch, max_words]`, the
    word weights for inspection.

    Args:
        vocabulary_size: number of words; their ids are 1 to this number.
        word_vector_dim: size of the word vectors.
        seed: with its path, decides the initial value of every weight.
    """
    previous_policy = keras.config.dtype_policy()
    keras.config.set_dtype_policy(model_config.dtype_policy)
    try:
        return _build_streams(
            model_config, vocabulary_size, word_vector_dim, seed
        )
    finally:
        keras.config.set_dtype_policy(previous_policy)


def _build_streams(
    model_config: config.ModelConfig,
    vocabulary_size: int,
    word_vector_dim: int,
    seed: int,
) -> keras.Model:
    """`build_streams` under the dtype policy of the model."""
    # === Visual stream ===
    backbone = backbones.build_backbone(
        model_config.backbone,
        image_size=model_config.image_size,
        weights=model_config.backbone_weights,
        seed=seed,
    )
    backbone.trainable = not model_config.freeze_backbone
    new_layers = []

    size = model_config.image_size
    image = keras.Input((size, size, 3), dtype="float32", name="image")
    inputs = {"image": image}
    x_v = backbone(image)
    if model_config.neck_dim:
        neck = keras.layers.Dense(
            model_config.neck_dim, activation="relu", name="neck"
        )
        new_layers.append(neck)
        x_v = neck(x_v)
    outputs = {"x_v": x_v}

    if model_config.streams == "cotrain":
        # === Semantic stream ===
        embeddings = keras.layers.Embedding(
            vocabulary_size + 1,
            word_vector_dim,
            trainable=model_config.train_word_vectors,
            name="word_vectors",
        )
        attention_layer = word_attention.BilinearWordAttention(
            rank=model_config.attention_rank,
            activation=model_config.attention_activation,
            gain=model_config.attention_gain,
            name="word_attention",
        )
        projection = keras.layers.Dense(
            x_v.shape[-1], activation="relu", name="title_projection"
        )
        new_layers += [embeddings, attention_layer, projection]

        title_ids = keras.Input(
            (model_config.max_words,), dtype="int32", name="title_ids"
        )
        inputs["title_ids"] = title_ids
        word_mask = ops.not_equal(title_ids, records.PADDING_ID)
        semantic, attention = attention_layer(embeddings(title_ids), word_mask)
        x_s = projection(semantic)

        # === Mixed stream ===
        has_title = ops.any(word_mask, axis=-1)
        x_m = mixed_stream.MixedStream(name="mixed_stream")(x_v, x_s, has_title)
        outputs |= {"x_m": x_m, "attention": attention}

    initial_weights.seed_initial_weights(new_layers, seed)
    return keras.Model(inputs, outputs, name="streams")


def build_classifier(
    num_classes: int, embedding_dim: int, **settings: Any
) -> class_sharded_dense.ClassShardedDense:
    """The classifier that both streams share: softmax regression with bias.

    Args:
        settings: of `ClassShardedDense`; without `collectives` it holds all
            classes, and maps `[batch, embedding_dim]` to logits
            `[batch, num_classes]` float32.
    """
    classifier = class_sharded_dense.ClassShardedDense(
        num_classes, name="classifier", **settings
    )
    classifier.build((None, embedding_dim))
    return classifier


def visual_stream(streams: keras.Model) -> keras.Model:
    """The part that is evaluated and served: `image` to `x_v`."""
    return keras.Model(
        {"image": streams.input["image"]},
        streams.output["x_v"],
        name="visual_stream",
    )


def semantic_stream(streams: keras.Model) -> keras.Model:
    """The part that is explained: `title_ids` to word weights."""
    if "attention" not in streams.output:
        raise ValueError(
            "This run was trained with --streams visual: it has no title "
            "attention. Use a run trained with --streams cotrain."
        )
    return keras.Model(
        {"title_ids": streams.input["title_ids"]},
        streams.output["attention"],
        name="semantic_stream",
    )


def load_word_vectors(streams: keras.Model, word_vectors: np.ndarray) -> None:
    """Starts the word vectors from word2vec, scaled to a mean square of 1.

    word2vec leaves entries near 0.1 at this size. Scores are quadratic in
    them, so unscaled vectors would start, and in a short run stay, at equal
    weights for all words.

    Args:
        word_vectors: `[vocabulary_size + 1, word_vector_dim]` float32; row 0
            belongs to padding.

    Raises:
        ValueError: if the shape is not the model's.
    """
    layer = streams.get_layer("word_vectors")
    expected = tuple(layer.embeddings.shape)
    if word_vectors.shape != expected:
        raise ValueError(
            f"Expected word vectors of shape {expected}, received "
            f"{word_vectors.shape}; they belong to another vocabulary."
        )
    # Summed in float64 by one thread: the same bits on any machine.
    total = np.einsum("ij,ij->", word_vectors, word_vectors, dtype=np.float64)
    # Row 0 is padding; without words, or with zeros only, nothing is scaled.
    scale = float(np.sqrt(total / max(1, word_vectors[1:].size)))
    layer.embeddings.assign(word_vectors / (scale or 1.0))


def checkpoint_contents(
    streams: keras.Model,
    trainer: shard_trainer.ShardTrainer,
    optimizer: keras.optimizers.Optimizer,
) -> tuple[list[Any], list[row_slices.RowSlice]]:
    """What a checkpoint of a training run holds.

    Returns:
        Variables that are the same on every worker, and rows: of classifier
        and word vectors with the optimizers' slots, which belong to a class
        or a word each and move with it when there are more of them.
    """
    variables, slices = [], trainer.slices()
    for variable in streams.variables + optimizer.variables:
        # The optimizer calls a slot "<optimizer>/word_vectors_embeddings_...".
        if "word_vectors" in variable.path:
            slices.append(
                row_slices.RowSlice(
                    name=variable.path,
                    variable=variable.value,
                    first_row=0,
                    total_rows=variable.shape[0],
                    row_axis="words",
                )
            )
        else:
            variables.append(variable)
    return variables, slices


def restore_visual(
    run: runs.Run,
) -> tuple[keras.Model, class_sharded_dense.ClassShardedDense, int]:
    """The visual stream and the classifier of a run's last checkpoint.

    The other streams are not even built.

    Returns:
        A model from `image` to `x_v`, the classifier, and the step.

    Raises:
        ValueError: if the run has no checkpoint.
    """
    model_config = dataclasses.replace(
        run.model, streams="visual", backbone_weights="none"
    )
    stream = visual_stream(build_streams(model_config))
    # In one block: a served graph has one product for all classes.
    num_classes = run.dataset["num_classes"]
    classifier = build_classifier(
        num_classes,
        stream.output.shape[-1],
        seed=None,
        block_size=num_classes,
    )
    step = checkpoints.restore_variables(
        run.path / "checkpoints",
        stream.variables,
        classifier.slices(),
        row_names={"classes": run.sku_ids},
    )
    return stream, classifier, step


def restore_attention(run: runs.Run) -> keras.Model:
    """The semantic stream of a run's last checkpoint: ids to word weights.

    Raises:
        ValueError: if the run has no semantic stream or no checkpoint.
    """
    model_config = dataclasses.replace(run.model, backbone_weights="none")
    stream = semantic_stream(
        build_streams(
            model_config,
            vocabulary_size=run.dataset["vocabulary_size"],
            word_vector_dim=run.dataset["word_vector_dim"],
        )
    )
    checkpoints.restore_variables(
        run.path / "checkpoints",
        stream.variables,
        row_names={"words": run.row_names["words"]},
    )
    return stream
