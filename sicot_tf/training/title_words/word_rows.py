"""The words' part of class rows: where a run gets it, and how it goes.

Class rows are `W + scale * T P^T`: W is trained for each class by itself, P is
trained for all of them, and T, a vector made of the class's title words, stays
as it is (`model.word_rows`). T lies beside W in the checkpoint.
"""

import pathlib

import numpy as np
import tensorflow as tf

from sicot_tf import config
from sicot_tf import files
from sicot_tf.checkpoints import row_slices
from sicot_tf.data import dataset
from sicot_tf.model.classifier.class_sharded_dense import ClassShardedDense
from sicot_tf.training import runs
from sicot_tf.training.batches import Batches
from sicot_tf.training.title_words import class_word_vectors
from sicot_tf.training.title_words import shared_words
from sicot_tf.workers.collectives import Collectives

_VECTORS = "word_vectors.npy"
# Class rows that are folded at once.
_ROWS = 16_384


def start(
    init_from: pathlib.Path | None,
    *,
    run_dir: pathlib.Path,
    batches: Batches,
    layer: ClassShardedDense,
    row_names: dict[str, list[str]],
    collectives: Collectives,
) -> None:
    """Makes T of a new run; that of classes from another run is restored.

    The word vectors are put into the run's folder, for the next run that
    starts from it: P knows only these.

    Raises:
        ValueError: if the titles share no words.
    """
    if not layer.fixed_dim:
        return
    word_vectors = np.load(batches.generation / _VECTORS)
    is_restored = np.zeros(layer.num_classes, bool)
    if init_from:
        old_names = runs.read_row_names(init_from)
        old_rows = {
            axis: row_slices.find_rows(axis, old_names[axis], names)
            for axis, names in row_names.items()
        }
        word_vectors = class_word_vectors.align(
            word_vectors, _read_vectors(init_from), old_rows["words"]
        )
        is_restored = old_rows["classes"] >= 0
    # Files opened for one worker hold its records alone.
    has_all = batches.files.num_workers == 1
    max_words = batches.model_config.max_words
    counts = shared_words.count_words(
        batches.annotations,
        dataset.read_manifest(batches.generation)["vocabulary_size"],
        max_words=max_words,
        collectives=None if has_all else collectives,
    )
    vectors = class_word_vectors.make(
        batches.annotations,
        counts,
        word_vectors,
        (layer.first_class, layer.last_class),
        num_classes=layer.num_classes,
        max_words=max_words,
        sum_over_workers=None if has_all else collectives.sum_now,
    )
    for (first, last), variable in zip(
        layer.block_ranges(), layer.fixed_blocks
    ):
        made = vectors[first - layer.first_class : last - layer.first_class]
        kept = is_restored[first:last, None]
        variable.assign(np.where(kept, variable.numpy(), made))
    if collectives.is_chief:
        with files.replacing(run_dir / _VECTORS) as temporary:
            with open(temporary, "wb") as file:
                np.save(file, word_vectors)


def _read_vectors(run_dir: pathlib.Path) -> np.ndarray:
    path = run_dir / _VECTORS
    if not path.is_file():
        raise ValueError(
            f"Expected the word vectors that {run_dir} was trained with in "
            f"{path}. Copy them again, from its data set if there is no other "
            "copy."
        )
    return np.load(path)


def check_same_kind(other: runs.Run, train_config: config.TrainConfig) -> None:
    """Raises ValueError if the rows of one run alone end in words."""
    old, new = other.train.word_rows_scale, train_config.word_rows_scale
    if bool(old) != bool(new):
        raise ValueError(
            f"{other.path} was trained with a --word_rows_scale of {old}, this "
            f"run has {new}: rows with and without a part from words are "
            "different models. Give both a scale above 0, or neither."
        )


def fold(
    kernel: tf.Variable, words: tf.Variable, projection: tf.Tensor
) -> None:
    """Makes plain rows of `[C, dim]` W: `W + words @ projection^T`.

    Args:
        words: `[C, word_dim]`, T. projection: `[dim, word_dim]`, scale * P.
    """
    for first in range(0, kernel.shape[0], _ROWS):
        rows = slice(first, first + _ROWS)
        kernel[rows].assign(
            kernel[rows] + tf.matmul(words[rows], projection, transpose_b=True)
        )
