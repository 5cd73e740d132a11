"""The words that a run learned to see in pictures, for its export."""

import dataclasses

import keras

from sicot_tf.checkpoints import checkpoints
from sicot_tf.data import annotations
from sicot_tf.data import dataset
from sicot_tf.data import generation_cache
from sicot_tf.training import runs
from sicot_tf.training.title_words import shared_words


@dataclasses.dataclass(frozen=True, eq=False)
class RestoredWords:
    """The layer behind `x_v`, and what its logits stand for.

    Attributes:
        layer: from `[batch, dim]` to logits `[batch, words]` float32.
        words: in the order of the logits.
    """

    layer: keras.layers.Dense
    words: list[str]


def restore(run: runs.Run, features_dim: int) -> RestoredWords:
    """The predicted words of a run's last checkpoint.

    The checkpoint knows a hash of the words, so they are chosen again from
    the training records, as the training chose them.

    Args:
        features_dim: size of `x_v`.

    Raises:
        ValueError: if the run was trained without them, its dataset is gone,
            or its words come out different.
    """
    if not run.train.word_loss_weight:
        raise ValueError(
            f"{run.path} was trained without --word_loss_weight and predicts "
            "no words: export it without --words."
        )
    try:
        generation = generation_cache.local_generation(
            run.dataset_location, dataset.wanted(train=(1, 0))
        )
    except ValueError as error:
        raise ValueError(
            f"Expected the dataset of {run.path} in {run.dataset_location}, "
            "whose titles say which words were predicted. Put it back, or "
            f"export without --words. {error}"
        ) from error
    records = annotations.read(dataset.RecordFiles(generation, "train"))
    if run.train.shuffle_titles:
        records = annotations.shuffled(records, run.train.seed)
    chosen = shared_words.choose_predicted(
        shared_words.count_words(
            records,
            run.dataset["vocabulary_size"],
            max_words=run.model.max_words,
        ),
        run.train.max_predicted_words,
    )
    words = [run.row_names["words"][each] for each in chosen.ids]
    layer = keras.layers.Dense(
        len(words), dtype="float32", name="predicted_words"
    )
    layer.build([None, features_dim])
    checkpoints.restore_variables(
        run.path / "checkpoints",
        layer.weights,
        row_names={"predicted_words": words},
    )
    return RestoredWords(layer, words)
