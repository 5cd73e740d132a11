"""Labels and words of all training records, read once without their pictures.

What losses on words, rows made of words and sampling by class need to know of
the whole training set before the first step.
"""

import dataclasses

import numpy as np
import tensorflow as tf

from sicot_tf import progress
from sicot_tf.data import dataset
from sicot_tf.data import records

_BATCH_SIZE = 4096
_FEATURES = {
    name: records.TRAINING_FEATURES[name] for name in ("label", "word_ids")
}


@dataclasses.dataclass(frozen=True, eq=False)
class Annotations:
    """Of n records, in stored order.

    Attributes:
        labels: `[n]` int64.
        word_ids: `[num_words]` int32, the titles one after the other; words
            without an id are left out.
        starts: `[n + 1]` int64; record i has words `starts[i]` up to, not
            with, `starts[i + 1]`.
    """

    labels: np.ndarray
    word_ids: np.ndarray
    starts: np.ndarray

    @property
    def records_of_words(self) -> np.ndarray:
        """`[num_words]` int64, the number of the record of each word."""
        return np.repeat(np.arange(len(self.labels)), np.diff(self.starts))


def read(files: dataset.RecordFiles) -> Annotations:
    """One pass over the records of a worker's files.

    Raises:
        ValueError: if a record is damaged.
    """
    labels, word_ids, lengths = [], [], []
    batches = range(0, len(files), _BATCH_SIZE)
    for first in progress.bar(batches, "labels and words", "batches"):
        numbers = np.arange(first, min(first + _BATCH_SIZE, len(files)))
        parsed = tf.io.parse_example(files.read_many(numbers), _FEATURES)
        words = parsed["word_ids"]
        words = tf.ragged.boolean_mask(words, words != records.PADDING_ID)
        labels.append(parsed["label"].numpy())
        word_ids.append(words.flat_values.numpy().astype(np.int32))
        lengths.append(words.row_lengths().numpy())
    return Annotations(
        np.concatenate(labels or [np.zeros(0, np.int64)]),
        np.concatenate(word_ids or [np.zeros(0, np.int32)]),
        np.cumsum([0, *np.concatenate(lengths or [np.zeros(0, np.int64)])]),
    )


def shuffled(annotations: Annotations, seed: int) -> Annotations:
    """The same records with the titles that `--shuffle_titles` gives them."""
    owners = dataset.exchanged_titles(len(annotations.labels), seed)
    lengths = np.diff(annotations.starts)[owners]
    starts = np.cumsum([0, *lengths])
    # Word j of a record is word j of the title's owner.
    places = np.arange(starts[-1]) - np.repeat(starts[:-1], lengths)
    places += np.repeat(annotations.starts[:-1][owners], lengths)
    return Annotations(annotations.labels, annotations.word_ids[places], starts)
