"""The formats of word vector files: which one it is, and its rows.

word2vec text and fastText `.vec` (`N dim` first, then a word and its numbers
on each line), GloVe text (no header), word2vec binary (the header, then word,
space, float32 numbers); plain, `.gz` or `.bz2`.
"""

import bz2
import collections
import dataclasses
import gzip
import itertools
import pathlib
import zlib
from collections.abc import Iterable
from collections.abc import Iterator
from typing import BinaryIO

import numpy as np

TEXT_WITH_HEADER = "text with header (word2vec, fastText)"
TEXT_WITHOUT_HEADER = "text without header (GloVe)"
BINARY = "word2vec binary"

# Rows that decide whether a file holds word vectors at all.
_NUM_PROBED = 100
_CHUNK_BYTES = 1 << 20
# Control characters but tab and line ends. No text has them; of the bytes of
# float32 numbers they are about 8 percent.
_CONTROL = bytes(set(range(32)) - set(b"\t\n\r"))
_LINE_END = b" \r\n"


@dataclasses.dataclass
class Facts:
    """What reading a file tells of it; `read_rows` and `parse` fill it."""

    format: str = ""
    dim: int = 0
    # Number of words by the header; a file that was cut holds fewer.
    num_promised: int | None = None
    num_vectors: int = 0
    num_malformed: int = 0


def read_rows(path: pathlib.Path, facts: Facts) -> Iterator[tuple[str, bytes]]:
    """Words and their numbers as they stand in the file; fills `facts`."""
    try:
        with _open(path) as file:
            rows = _find_rows(file, facts)
            probe = list(itertools.islice(rows, _NUM_PROBED))
            probed = dataclasses.replace(facts, num_vectors=len(probe))
            for _, numbers in probe:
                parse(numbers, probed)
            _check_is_mostly_good(path, probed)
            for row in itertools.chain(probe, rows):
                facts.num_vectors += 1
                yield row
            _check_is_mostly_good(path, facts)
    # A cut .gz or .bz2 is an EOFError.
    except (OSError, EOFError, zlib.error) as error:
        raise ValueError(
            f"The word vectors {path} can't be read to their end: {error}. "
            "Check the path; if the file is there, copy it again."
        ) from error


def _open(path: pathlib.Path) -> BinaryIO:
    if path.suffix == ".gz":
        return gzip.open(path)
    return bz2.open(path) if path.suffix == ".bz2" else path.open("rb")


def _find_rows(file: BinaryIO, facts: Facts) -> Iterator[tuple[str, bytes]]:
    """Tells the format, then the rows that have its shape."""
    first = file.readline(_CHUNK_BYTES).removeprefix(b"\xef\xbb\xbf")
    header = first.split()
    if len(header) == 2 and all(field.isdigit() for field in header):
        facts.num_promised, facts.dim = map(int, header)
        content = file.peek(_CHUNK_BYTES)
        num_control = len(content) - len(content.translate(None, _CONTROL))
        if num_control > 0.01 * len(content):
            facts.format = BINARY
            rows = _binary_rows(file, facts)
        else:
            facts.format = TEXT_WITH_HEADER
            rows = _text_rows(file, facts)
    else:
        facts.format = TEXT_WITHOUT_HEADER
        lines = [first, *itertools.islice(file, _NUM_PROBED)]
        # Most words have no space, so the usual number of spaces is that of
        # the numbers; the first line may be one that is odd.
        num_spaces = collections.Counter(
            line.rstrip(_LINE_END).count(b" ") for line in lines
        )
        ((facts.dim, _),) = num_spaces.most_common(1)
        rows = _text_rows(itertools.chain(lines, file), facts)
    for word, numbers in rows if facts.dim else ():
        try:
            yield word.decode("utf-8"), numbers
        except UnicodeDecodeError:
            facts.num_malformed += 1


def _text_rows(
    lines: Iterable[bytes], facts: Facts
) -> Iterator[tuple[bytes, bytes]]:
    """Lines to words and numbers, split at plain spaces from the right.

    Words hold spaces ("New York") and other Unicode spaces, which are not
    separators.
    """
    for line in lines:
        line = line.rstrip(_LINE_END)
        word, _, numbers = line.partition(b" ")
        num_numbers = numbers.count(b" ") + 1
        if num_numbers > facts.dim:
            word = line.rsplit(b" ", facts.dim)[0]
            numbers = line[len(word) + 1 :]
        if word and num_numbers >= facts.dim:
            yield word, numbers
        elif line:
            facts.num_malformed += 1


def _binary_rows(file: BinaryIO, facts: Facts) -> Iterator[tuple[bytes, bytes]]:
    """Words and numbers of the binary format, after its header."""
    num_bytes = 4 * facts.dim
    chunk, start = b"", 0
    while True:
        space = chunk.find(b" ", start)
        end = space + 1 + num_bytes
        if space >= 0 and end <= len(chunk):
            # word2vec.c ends each vector with a line feed, gensim does not.
            yield chunk[start:space].lstrip(b"\n"), chunk[space + 1 : end]
            start = end
            continue
        more = file.read(_CHUNK_BYTES)
        chunk, start = chunk[start:] + more, 0
        if not more or len(chunk) > 2 * (_CHUNK_BYTES + num_bytes):
            # The file is cut, or a megabyte holds no end of a word.
            facts.num_malformed += bool(chunk.strip(b"\n"))
            return


def parse(numbers: bytes, facts: Facts) -> np.ndarray | None:
    """`[dim]` float32, or None, counted, if it is no finite vector."""
    try:
        if facts.format == BINARY:
            vector = np.frombuffer(numbers, "<f4")
        else:
            # What float32 can't hold becomes infinite.
            with np.errstate(over="ignore"):
                vector = np.array(numbers.split(b" "), np.float32)
        if np.isfinite(vector).all():
            return vector
    except ValueError:
        pass
    facts.num_vectors -= 1
    facts.num_malformed += 1
    return None


def _check_is_mostly_good(path: pathlib.Path, facts: Facts) -> None:
    if facts.num_vectors <= facts.num_malformed:
        raise ValueError(
            "Expected word vectors: text with a word and its numbers on each "
            "line, separated by spaces, with or without a header (word2vec, "
            "fastText .vec, GloVe), or word2vec binary. "
            f"Received {path}: read as {facts.format} with {facts.dim} "
            f"numbers a word, {facts.num_malformed} of its first "
            f"{facts.num_vectors + facts.num_malformed} rows are malformed. "
            "Is it the right file, whole and unpacked (except .gz and .bz2)?"
        )
