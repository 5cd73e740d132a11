"""The vocabulary of the training titles and its word2vec vectors."""

import dataclasses
import fractions
import zlib
from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence

import numpy as np
from gensim.models import word2vec

from sicot_tf.data import records

# All words of a title are context of each other (paper, 3.2: the order of
# words in a title is noise). Pairs are the square of the words, so a longer
# title is taken in pieces of what the model reads (`max_words`).
_CONTEXT_WORDS = 32


def select_vocabulary(
    word_counts: Mapping[str, int],
    *,
    drop_frequent_percent: float = 0.0,
    drop_rare_percent: float = 0.0,
    drop_by: str = "types",
    min_word_count: int = 1,
) -> tuple[list[str], dict[str, int | float]]:
    """Orders the words by count and drops both ends.

    The paper drops "5 percent of very frequent and very infrequent words"
    and leaves open what the share counts. `types` drops
    floor(percent * number of distinct words / 100) words at each end;
    `token_mass` drops the longest run at each end whose occurrences stay
    within the share. `min_word_count` acts on what is left.

    Args:
        word_counts: occurrences of each word in the training titles.

    Returns:
        The words, most frequent first, equal counts in the order of code
        points: word i has id i + 1. And statistics of what was dropped.

    Raises:
        ValueError: if the shares are negative, or leave no word by rule.
    """
    # Written so that NaN is refused as well.
    if not (
        min(drop_frequent_percent, drop_rare_percent) >= 0
        and drop_frequent_percent + drop_rare_percent < 100
    ):
        raise ValueError(
            "Expected drop_frequent_percent and drop_rare_percent >= 0 and "
            f"below 100 together, received {drop_frequent_percent} and "
            f"{drop_rare_percent}."
        )
    ranked = sorted(word_counts, key=lambda word: (-word_counts[word], word))
    counts = [word_counts[word] for word in ranked]
    num_frequent = _num_dropped(counts, drop_frequent_percent, drop_by)
    num_rare = _num_dropped(counts[::-1], drop_rare_percent, drop_by)
    middle = ranked[num_frequent : len(ranked) - num_rare]
    vocabulary = [
        word for word in middle if word_counts[word] >= min_word_count
    ]
    num_tokens = sum(counts)
    num_tokens_kept = sum(word_counts[word] for word in vocabulary)
    return vocabulary, {
        "distinct_words": len(ranked),
        "dropped_frequent": num_frequent,
        "dropped_rare": num_rare,
        "dropped_below_min_word_count": len(middle) - len(vocabulary),
        "vocabulary_size": len(vocabulary),
        "occurrences": num_tokens,
        "occurrences_kept": num_tokens_kept,
        "share_of_occurrences_kept": round(
            num_tokens_kept / max(num_tokens, 1), 6
        ),
    }


def _num_dropped(counts: Sequence[int], percent: float, drop_by: str) -> int:
    """How many words to drop from the start of `counts`."""
    # 0.1 percent is meant as written, not as its binary neighbour.
    share = fractions.Fraction(str(percent)) / 100
    if drop_by == "types":
        return int(len(counts) * share)
    if drop_by != "token_mass":
        raise ValueError(
            f"Expected drop_by types or token_mass, received {drop_by!r}."
        )
    limit = sum(counts) * share
    mass = 0
    for num_words, count in enumerate(counts):
        mass += count
        if mass > limit:
            return num_words
    return len(counts)


def train_word2vec(
    titles: Iterable[Sequence[str]],
    vocabulary: Sequence[str],
    word_counts: Mapping[str, int],
    *,
    dim: int,
    epochs: int,
    seed: int,
) -> np.ndarray:
    """Trains skip-gram vectors with 5 negative samples on the titles.

    One worker and a fixed seed: equal titles in equal order give equal bytes
    on the same machine type, whatever PYTHONHASHSEED is.

    Args:
        titles: words of each title, iterated once an epoch (so a list or an
            object with `__iter__`, no generator). Words outside the
            vocabulary are passed over; of the others each 32 are context of
            each other.
        vocabulary: the words in the order of their ids.
        word_counts: occurrences of at least these words.

    Returns:
        `[len(vocabulary) + 1, dim]` float32. Row i is the word with id i; row
        0, padding and unknown words, is zero.
    """
    vectors = np.zeros((len(vocabulary) + 1, dim), np.float32)
    pieces = _Pieces(titles, vocabulary)
    num_pieces = sum(1 for _ in pieces)
    if not num_pieces:
        return vectors
    model = word2vec.Word2Vec(
        vector_size=dim,
        sg=1,
        negative=5,
        window=_CONTEXT_WORDS,
        shrink_windows=False,
        min_count=1,
        workers=1,
        seed=seed,
        # gensim's default is Python's own hash, which differs by process.
        hashfxn=lambda text: zlib.crc32(text.encode("utf-8")),
    )
    model.build_vocab_from_freq(
        {word: word_counts[word] for word in vocabulary},
        corpus_count=num_pieces,
    )
    model.train(pieces, total_examples=num_pieces, epochs=epochs)
    first = records.PADDING_ID + 1
    for word_id, word in enumerate(vocabulary, start=first):
        vectors[word_id] = model.wv[word]
    return vectors


@dataclasses.dataclass(frozen=True)
class _Pieces:
    """The known words of titles, at most `_CONTEXT_WORDS` at a time."""

    titles: Iterable[Sequence[str]]
    vocabulary: Sequence[str]

    def __iter__(self) -> Iterator[list[str]]:
        known = frozenset(self.vocabulary)
        for title in self.titles:
            words = [word for word in title if word in known]
            for first in range(0, len(words), _CONTEXT_WORDS):
                yield words[first : first + _CONTEXT_WORDS]
