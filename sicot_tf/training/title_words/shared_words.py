"""Which words the titles of different classes share, and how often.

Only a shared word can carry anything from one class to another.
"""

import dataclasses

import numpy as np

from sicot_tf.data.annotations import Annotations
from sicot_tf.workers.collectives import Collectives

# Records whose words are made distinct at once; bounds the memory.
_BLOCK = 2**20


@dataclasses.dataclass(frozen=True, eq=False)
class WordCounts:
    """Of each word, by its id.

    Attributes:
        num_records: `[vocabulary_size + 1]` int64, training records with it,
            each counted once however often its title repeats the word.
        is_shared: `[vocabulary_size + 1]` bool, whether these are records of
            two classes or more. Row 0 belongs to padding.
        num_titles: training records with any word.
    """

    num_records: np.ndarray
    is_shared: np.ndarray
    num_titles: int


def count_words(
    annotations: Annotations,
    vocabulary_size: int,
    *,
    max_words: int,
    collectives: Collectives | None = None,
) -> WordCounts:
    """Counts the words of all training records.

    Args:
        max_words: longer titles are cut, as in training.
        collectives: of the workers, if each of them read records of its own;
            all of them call this.
    """
    num_records = np.zeros(vocabulary_size + 1, np.int64)
    lowest = np.full(vocabulary_size + 1, np.iinfo(np.int64).max)
    highest = np.full(vocabulary_size + 1, -1)
    num_titles = 0
    for first in range(0, len(annotations.labels), _BLOCK):
        record, word = _distinct_words(annotations, first, max_words)
        labels = annotations.labels[record]
        num_records += np.bincount(word, minlength=vocabulary_size + 1)
        np.minimum.at(lowest, word, labels)
        np.maximum.at(highest, word, labels)
        num_titles += len(np.unique(record))
    differ = lowest < highest
    if collectives is None or collectives.num_workers == 1:
        return WordCounts(num_records, differ, num_titles)

    # Workers can only add up. The lowest labels of those that have the word
    # are all the same if each is the mean of them.
    has_word = num_records > 0
    lowest[~has_word] = 0
    sums = collectives.sum_now(
        np.stack([num_records, has_word.astype(np.int64), lowest])
    )
    differ |= has_word & (lowest * sums[1] != sums[2])
    more = collectives.sum_now(
        np.append(differ.astype(np.int64), np.int64(num_titles))
    )
    return WordCounts(sums[0], more[:-1] > 0, int(more[-1]))


@dataclasses.dataclass(frozen=True, eq=False)
class PredictedWords:
    """The words that `x_v` is trained to predict.

    Attributes:
        ids: `[num_words]` int64, the most frequent first.
        columns: `[vocabulary_size + 1]` int32, by word id its place in `ids`,
            or -1.
        log_odds: `[num_words]` float32, that a title with words has the word.
    """

    ids: np.ndarray
    columns: np.ndarray
    log_odds: np.ndarray


def choose_predicted(counts: WordCounts, most: int) -> PredictedWords:
    """The shared words, of too many the most frequent.

    Raises:
        ValueError: if no word is shared.
    """
    ids = np.flatnonzero(counts.is_shared)
    if not len(ids):
        raise ValueError(
            "Expected words that the training titles of two classes or more "
            f"share, found none among {len(counts.is_shared) - 1} words: "
            "there is nothing to predict. Train without --word_loss_weight, "
            "or build the dataset with other titles (--title_field) or a "
            "smaller --drop_frequent_percent."
        )
    ids = ids[np.argsort(-counts.num_records[ids], kind="stable")][:most]
    columns = np.full(len(counts.is_shared), -1, np.int32)
    columns[ids] = np.arange(len(ids))
    # Half a title at least has a word, or lacks it: logarithms are finite.
    titles = np.clip(counts.num_records[ids], 0.5, counts.num_titles - 0.5)
    log_odds = np.log(titles / (counts.num_titles - titles))
    return PredictedWords(ids, columns, log_odds.astype(np.float32))


def _distinct_words(
    annotations: Annotations, first: int, max_words: int
) -> tuple[np.ndarray, np.ndarray]:
    """Records from `first` on and their words, each pair once; a block."""
    last = min(first + _BLOCK, len(annotations.labels))
    starts = annotations.starts[first : last + 1]
    record = np.repeat(np.arange(first, last), np.diff(starts))
    word = annotations.word_ids[starts[0] : starts[-1]].astype(np.int64)
    place = np.arange(starts[0], starts[-1]) - annotations.starts[record]
    is_kept = place < max_words
    record, word = record[is_kept], word[is_kept]
    most = word.max(initial=0) + 1
    pairs = np.unique(record * most + word)
    return pairs // most, pairs % most
