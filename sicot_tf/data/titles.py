"""Titles to words: normalise, split, segment Chinese.

The Beam job calls `tokenize` once for a data set and stores the words; the
`explain` command calls the same function, so both see the same words.
"""

import html
from collections.abc import Sequence

import rjieba
import tensorflow as tf
import tensorflow_text as tf_text

# Marks runs of Chinese between the two passes. Control characters of the
# titles themselves are gone by then.
_HAN_MARK = "\x01"

# (pattern, replacement) in RE2 syntax, applied in this order.
_REWRITES = (
    (r"[\t\n\v\f\r\x{1C}-\x{1F}\x{85}]", " "),
    # Zero-width joiners, soft hyphens, direction marks, byte order marks;
    # then variation selectors and the key-cap frame of emoji.
    (r"[\p{Cc}\p{Cf}\x{FE00}-\x{FE0F}\x{E0100}-\x{E01EF}\p{Me}]", ""),
    # The last range is the emoji blocks: some are younger than RE2's tables.
    (r"[\p{P}\p{S}\p{Z}\p{Co}\x{1F000}-\x{1FAFF}]+", " "),
    # A number keeps its unit and Latin keeps its digits; Chinese stands alone.
    (r"(\p{Han}+)", rf" {_HAN_MARK}\1 "),
)


def clean_text(text: str) -> str:
    """Replaces lone surrogates, which no UTF-8 file can hold, by U+FFFD."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def tokenize(titles: Sequence[str]) -> list[list[str]]:
    """Splits titles into normalised words, in the order of the title.

    HTML entities are resolved, full-width forms folded (NFKC), case folded,
    punctuation, symbols and emoji taken for spaces. Runs of Chinese are
    segmented by rjieba; other scripts split at spaces only. A title without
    letters or digits has no words.

    Call it with hundreds of titles at once: the cost is in the number of
    calls (one title at a time is about 20 times slower).

    Args:
        titles: any strings, also empty ones.

    Returns:
        One list of words for each title. No word is empty or holds a space.
    """
    if not titles:
        return []
    texts = tf.constant([clean_text(html.unescape(title)) for title in titles])
    texts = tf_text.case_fold_utf8(tf_text.normalize_utf8(texts, "NFKC"))
    for pattern, replacement in _REWRITES:
        texts = tf.strings.regex_replace(texts, pattern, replacement)
    return [_segment(text.decode("utf-8").split()) for text in texts.numpy()]


def _segment(pieces: list[str]) -> list[str]:
    """Cuts the marked pieces into Chinese words."""
    words = []
    for piece in pieces:
        if piece.startswith(_HAN_MARK):
            words.extend(rjieba.cut(piece.removeprefix(_HAN_MARK)))
        else:
            words.append(piece)
    return words
