"""Word vectors from files that others trained, held to a vocabulary.

gensim's `load_word2vec_format` reads most of these files, but keeps every
vector (12 million of 200 numbers are 9.6 GB; its `limit` cuts the file, it
takes no list of words), has to be told which format it is, and stops at the
first odd line and at a word with a space:
https://github.com/piskvorky/gensim/issues/388 and /2795. Here the file
streams by, and only the words asked for stay.
"""

import itertools
import math
import pathlib
import unicodedata
from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any

import numpy as np

from beam_jobs.words import word_vector_formats
from sicot_tf import files
from sicot_tf import progress
from sicot_tf.data import records

MATCHES = ("exact", "folded")
UNKNOWN_WORDS = ("mean_of_characters", "random", "zero")

# Vectors that the spread of random ones is measured on.
_NUM_MEASURED = 10_000
# Longer pieces of a Chinese word are not looked for: nearly all words of
# Chinese dictionaries have at most four characters.
_LONGEST_PIECE = 4

# How a word came by its vector.
_MISSING, _FOLDED, _EXACT, _CHARACTERS, _RANDOM = range(5)


def read_word_vectors(
    path: pathlib.Path | str,
) -> Iterator[tuple[str, np.ndarray]]:
    """Streams a file's words and their vectors, in its order.

    The format is told from the content, the compression from the ending.
    Words are as they stand there: they may hold spaces, and may repeat.
    Malformed rows are passed over; `load_word_vectors` counts them.

    Yields:
        A word, and its vector, `[dim]` float32, finite.

    Raises:
        ValueError: if the file can't be read to its end, or at least half of
            its rows, or of its first 100, are malformed.
    """
    facts = word_vector_formats.Facts()
    for word, numbers in word_vector_formats.read_rows(
        pathlib.Path(path), facts
    ):
        vector = word_vector_formats.parse(numbers, facts)
        if vector is not None:
            yield word, vector


def load_word_vectors(
    path: pathlib.Path | str,
    vocabulary: Sequence[str],
    *,
    seed: int,
    match: str = "folded",
    unknown: str = "mean_of_characters",
    counts: Sequence[int] | None = None,
) -> tuple[np.ndarray, dict[str, Any]]:
    """The vectors of a vocabulary, and how each word came by its own.

    Memory is bounded by the vocabulary, not by the file. Of words that repeat
    in the file the first counts. Rows of words that nobody asked for are
    checked for their length only.

    Args:
        vocabulary: the words in the order of their ids; each once.
        seed: of the random vectors. Each is a function of the seed, its word
            and the file alone: other words of the vocabulary don't move it.
        match: `exact`, or `folded`: a word the file does not have as it is
            written takes the first one that is equal after NFKC and case
            folding.
        unknown: what a word gets that is not in the file.
            `mean_of_characters`: a word with Chinese characters the mean of
            the longest pieces of it that are in the file, from left to right
            (at most 4 characters each), any other a random one.
            `random`: components from N(0, s), s the standard deviation of the
            first 10,000 vectors of the file. `zero`: zeros.
        counts: occurrences of each word, for the report.

    Returns:
        `[len(vocabulary) + 1, dim]` float32: row i is the word with id i, row
        0, padding, is zero. And the report, ready for JSON.

    Raises:
        ValueError: as `read_word_vectors`, and for an unknown setting.
    """
    path = pathlib.Path(path)
    table = _Table(vocabulary, match, unknown)
    facts = word_vector_formats.Facts()
    rows = progress.bar(
        word_vector_formats.read_rows(path, facts),
        path.name,
        "vectors",
        leave=False,
    )
    for word, numbers in rows:
        table.take(word, numbers, facts)
    if unknown != "zero":
        table.fill(seed, _spread(path))
    return table.vectors, {
        **_describe_file(path, facts),
        "duplicate_lines": table.num_duplicates,
        "match": match,
        "unknown": unknown,
        **_describe_coverage(table.origin, counts),
    }


class _Table:
    """The vectors of a vocabulary, with how each word came by its own.

    Attributes:
        vectors: `[num_words + 1, dim]` float32.
        origin: `[num_words + 1]`, `_EXACT` and so on.
        num_duplicates: words that repeat in the file.
    """

    def __init__(self, vocabulary: Sequence[str], match: str, unknown: str):
        if match not in MATCHES or unknown not in UNKNOWN_WORDS:
            raise ValueError(
                f"Expected match of {MATCHES} and unknown of {UNKNOWN_WORDS}, "
                f"received {match!r} and {unknown!r}."
            )
        self._ids = {
            word: i for i, word in enumerate(vocabulary, records.PADDING_ID + 1)
        }
        self._spellings: dict[str, list[int]] = {}
        if match == "folded":
            for word, word_id in self._ids.items():
                self._spellings.setdefault(_fold(word), []).append(word_id)
        self._wanted_pieces: set[str] = set()
        if unknown == "mean_of_characters":
            self._wanted_pieces.update(*map(_pieces_of, vocabulary))
        self._pieces: dict[str, np.ndarray] = {}
        self.vectors = np.zeros((len(self._ids) + 1, 0), np.float32)
        self.origin = np.full(len(self._ids) + 1, _MISSING)
        self.num_duplicates = 0

    def take(
        self, word: str, numbers: Any, facts: word_vector_formats.Facts
    ) -> None:
        """Keeps the vector of a row of the file, if it is of use."""
        if not self.vectors.size:
            self.vectors = np.zeros((len(self._ids) + 1, facts.dim), np.float32)
        exact_id = self._ids.get(word)
        folded_ids = ()
        if self._spellings:
            folded_ids = self._spellings.get(_fold(word), ())
        is_piece = word in self._wanted_pieces
        if exact_id is None and not folded_ids and not is_piece:
            return
        vector = word_vector_formats.parse(numbers, facts)
        if vector is None:
            return
        if exact_id is not None and self.origin[exact_id] == _EXACT:
            self.num_duplicates += 1
            return
        if exact_id is not None:
            self._set(exact_id, vector, _EXACT)
        for word_id in folded_ids:
            if self.origin[word_id] == _MISSING:
                self._set(word_id, vector, _FOLDED)
        if is_piece:
            self._pieces.setdefault(word, vector)

    def fill(self, seed: int, spread: float) -> None:
        """Makes vectors of what the file does not have."""
        dim = self.vectors.shape[1]
        for word, word_id in self._ids.items():
            if self.origin[word_id] != _MISSING:
                continue
            if parts := _split(word, self._pieces):
                self._set(word_id, np.mean(parts, axis=0), _CHARACTERS)
            else:
                vector = spread * _standard_normal(word, seed, dim)
                self._set(word_id, vector, _RANDOM)

    def _set(self, word_id: int, vector: np.ndarray, origin: int) -> None:
        self.vectors[word_id], self.origin[word_id] = vector, origin


def _fold(word: str) -> str:
    """The spelling by which words are alike."""
    if word.isascii():
        return word.lower()
    return unicodedata.normalize("NFKC", word).casefold()


def _is_chinese(word: str) -> bool:
    return not word.isascii() and any(
        unicodedata.name(character, "").startswith("CJK UNIFIED")
        for character in word
    )


def _pieces_of(word: str) -> set[str]:
    """The characters and sub-words of a word with Chinese characters."""
    if not _is_chinese(word):
        return set()
    return {
        word[start : start + length]
        for length in range(1, min(_LONGEST_PIECE, len(word)) + 1)
        for start in range(len(word) - length + 1)
    } - {word}


def _split(word: str, pieces: Mapping[str, np.ndarray]) -> list[np.ndarray]:
    """Vectors of the longest pieces that are there, from left to right."""
    parts = []
    start = 0
    while start < len(word):
        for length in range(_LONGEST_PIECE, 0, -1):
            piece = word[start : start + length]
            if piece != word and piece in pieces:
                parts.append(pieces[piece])
                break
        # A character without a vector is passed over: length is 1 then.
        start += length
    return parts


def _spread(path: pathlib.Path) -> float:
    """Standard deviation of the components of the file's first vectors."""
    count, total, squares = 0, 0.0, 0.0
    first = itertools.islice(read_word_vectors(path), _NUM_MEASURED)
    for _, vector in first:
        count += vector.size
        total += vector.sum(dtype=np.float64)
        squares += np.square(vector, dtype=np.float64).sum()
    return math.sqrt(max(0.0, squares / count - (total / count) ** 2))


def _standard_normal(word: str, seed: int, dim: int) -> np.ndarray:
    generator = np.random.default_rng(files.stable_hash(seed, word))
    return generator.standard_normal(dim, np.float32)


def _describe_file(
    path: pathlib.Path, facts: word_vector_formats.Facts
) -> dict[str, Any]:
    return {
        "file": path.name,
        "sha256": files.sha256(path),
        "format": facts.format,
        "dim": facts.dim,
        "vectors_in_file": facts.num_vectors,
        "vectors_promised_by_header": facts.num_promised,
        "malformed_lines": facts.num_malformed,
    }


def _describe_coverage(
    origin: np.ndarray, counts: Sequence[int] | None
) -> dict[str, Any]:
    """How many words are found, and how; `origin` has the padding first."""
    origin = origin[records.PADDING_ID + 1 :]
    found = np.isin(origin, (_EXACT, _FOLDED))
    coverage: dict[str, Any] = {
        name: int(np.sum(origin == code))
        for name, code in (
            ("words_exact", _EXACT),
            ("words_folded", _FOLDED),
            ("words_mean_of_characters", _CHARACTERS),
            ("words_random", _RANDOM),
            ("words_zero", _MISSING),
        )
    }
    coverage["share_of_vocabulary_found"] = round(
        float(found.sum() / max(1, len(found))), 6
    )
    if counts is not None:
        share = np.sum(counts, where=found) / max(1, sum(counts))
        coverage["share_of_occurrences_found"] = round(float(share), 6)
    return coverage
