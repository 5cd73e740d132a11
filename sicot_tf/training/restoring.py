"""What a run starts from, what its checkpoints hold, and what is read back."""

import dataclasses
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from sicot_tf import class_balance
from sicot_tf import config
from sicot_tf.checkpoints import checkpoints
from sicot_tf.checkpoints import row_slices
from sicot_tf.model import sicot
from sicot_tf.model.classifier import post_hoc
from sicot_tf.model.classifier.block_softmax import Block
from sicot_tf.model.classifier.class_sharded_dense import ClassShardedDense
from sicot_tf.model.classifier.classifier_trainer import ClassifierTrainer
from sicot_tf.training import runs
from sicot_tf.training.title_words import word_rows


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
    # Row 0 is padding. Without words, or if all vectors are zero, there is
    # nothing to scale.
    scale = float(np.sqrt(total / max(1, word_vectors[1:].size)))
    layer.embeddings.assign(word_vectors / (scale or 1.0))


def checkpoint_contents(
    streams: keras.Model,
    trainer: ClassifierTrainer,
    optimizer: keras.optimizers.Optimizer,
) -> tuple[list[Any], list[row_slices.RowSlice]]:
    """What a checkpoint of a training run holds.

    Returns:
        Variables that are the same on every worker, and rows: of classifier
        and word vectors with the optimizers' slots, which belong to a class
        or a word each and move with it when there are more of them.
    """
    variables, slices = [], trainer.slices()
    # Not `variables`: among them is the seed of an LSTM, which draws nothing
    # and is named by what was built before.
    for variable in streams.weights + optimizer.variables:
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


def kept_by_second_stage(
    variables: list[Any],
    slices: list[row_slices.RowSlice],
    trainer: ClassifierTrainer,
    optimizer: keras.optimizers.Optimizer,
    second_stage: str,
) -> tuple[list[Any], list[row_slices.RowSlice]]:
    """What of `checkpoint_contents` comes from the first stage.

    Optimizers start anew, and for `crt` the class rows do, too.
    """
    anew = {each.path for each in optimizer.variables}
    anew |= {each.name for each in trainer.slices()}
    anew -= {each.name for each in trainer.layer.slices()}
    if second_stage == "crt":
        anew |= {f"{trainer.layer.name}/{each}" for each in Block._fields}
    return (
        [each for each in variables if each.path not in anew],
        [each for each in slices if each.name not in anew],
    )


def restore_visual(
    run: runs.Run,
    changes: config.PostHocConfig = config.PostHocConfig(),
) -> tuple[keras.Model, ClassShardedDense, int]:
    """The visual stream and the classifier of a run's last checkpoint.

    The other streams are not even built; rows that end in words become plain
    ones.

    Args:
        changes: of the classifier; by default it is as it was trained.

    Returns:
        A model from `image` to `x_v`, the classifier, and the step.

    Raises:
        ValueError: if the run has no checkpoint, or its training makes up for
            rare classes as the changes do.
    """
    class_balance.check_post_hoc(changes, run.train)
    model_config = dataclasses.replace(
        run.model, streams="visual", backbone_weights="none"
    )
    word_dim, scale = run.dataset["word_vector_dim"], run.train.word_rows_scale
    streams = sicot.build_streams(
        model_config, word_vector_dim=word_dim, word_rows_scale=scale
    )
    stream = sicot.visual_stream(streams)
    # One block, so that a served graph has one product for all classes.
    num_classes = run.dataset["num_classes"]
    classifier = sicot.build_classifier(
        num_classes,
        stream.output.shape[-1],
        seed=None,
        block_size=num_classes,
    )
    slices = classifier.slices()
    if scale:
        words = tf.Variable(tf.zeros([num_classes, word_dim]))
        slices.append(classifier.row_slice("fixed", words, 0))
    step = checkpoints.restore_variables(
        run.path / "checkpoints",
        streams.variables,
        slices,
        row_names={"classes": run.sku_ids},
    )
    if scale:
        (kernel,) = classifier.kernels
        projection = streams.get_layer("word_rows").kernel
        word_rows.fold(kernel.value, words, scale * projection.value)
    if changes.given():
        post_hoc.apply(classifier, changes, run.train_counts)
    return stream, classifier, step


def restore_attention(run: runs.Run) -> keras.Model:
    """The semantic stream of a run's last checkpoint: ids to word weights.

    Raises:
        ValueError: if the run has no semantic stream or no checkpoint.
    """
    model_config = dataclasses.replace(run.model, backbone_weights="none")
    stream = sicot.semantic_stream(
        sicot.build_streams(
            model_config,
            vocabulary_size=run.dataset["vocabulary_size"],
            word_vector_dim=run.dataset["word_vector_dim"],
        )
    )
    checkpoints.restore_variables(
        run.path / "checkpoints",
        stream.weights,
        row_names={"words": run.row_names["words"]},
    )
    return stream
