"""Titles to words: normalise, split, segment Chinese.

The Beam job calls `tokenize` once for a data set and stores the words; the
`explain` command calls the same function, so both see the same words.
"""

import html
import re
from collections.abc import Sequence

import rjieba
import tensorflow as tf
import tensorflow_text as tf_text

# Marks runs of Chinese between the two passes. Control characters of the
# titles themselves are gone by then.
_HAN_MARK = "\x01"

_ENTITY = re.compile(r"&[#A-Za-z]")
# An ampersand that is escaped again and again, in one step.
_ESCAPED_AMPERSAND = re.compile(r"&(?:amp;|#0*38;|#[xX]0*26;)+", re.ASCII)
# Longer numbers name no character, and int() would refuse them.
_LONG_NUMBER = re.compile(r"&#[0-9]{1000,};?")
# Titles that are escaped more often than two or three times are made to keep
# us busy, and longer ones may be.
_MAX_UNESCAPES = 8
_LONG = 1000

# What HTML shows is told from what it hides by the names of its elements: in
# "I <love> you", "<3" and "a < b > c" nothing is a tag.
_ELEMENTS = (
    "a abbr acronym address article aside audio b base basefont bdi bdo big "
    "blockquote body br button canvas caption center cite code col colgroup "
    "data datalist dd del details dfn dialog dir div dl dt em embed fieldset "
    "figcaption figure font footer form frame frameset h[1-6] head header "
    "hgroup hr html i iframe img input ins kbd label legend li link main map "
    "mark marquee menu meta meter nav nobr noscript object ol optgroup option "
    "output p param picture pre progress q ruby rp rt s samp script search "
    "section select small source span strike strong style summary svg table "
    "tbody td template textarea tfoot th thead time title tr track tt u ul "
    "var video wbr"
).replace(" ", "|")
_ATTRIBUTES = r"""(?:[\s/](?:[^<>"']|"[^"]*"|'[^']*')*)?"""

# (pattern, replacement) in RE2 syntax, applied in this order. RE2 takes
# linear time, also for a million of "<!--".
_MARKUP = (
    (r"(?is)<!--.*?-->|<!doctype[^>]*>|<!\[CDATA\[|\]\]>", " "),
    (r"(?is)<script\b[^>]*>.*?</script\s*>|<style\b[^>]*>.*?</style\s*>", " "),
    # H<sub>2</sub>O and m<sup>2</sup> are one word, as H₂O and m² are.
    (rf"(?i)</?su[bp]{_ATTRIBUTES}>", ""),
    (rf"(?i)</?(?:{_ELEMENTS}){_ATTRIBUTES}>", " "),
    # U+200B ends words in Khmer and Thai; normalisation would drop it.
    (r"\x{200B}", " "),
    # Case folding would make two characters of the Turkish dotted capital I.
    (r"\x{0130}|[Ii]\x{0307}", "i"),
    # Escape sequences that colour a terminal.
    (r"\x1B\[[0-9;]*[A-Za-z]", " "),
    # Normalisation sorts the marks of a letter in quadratic time. No language
    # has more than 30 (Unicode Standard Annex 15, Stream-Safe Text Format).
    (r"(\p{M}{30})\p{M}+", r"\1"),
)
# A title without these characters is changed by none of the patterns above,
# unless it is long.
_SIGNS = "<]\x1b\u200b\u0130\u0307"

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


def visible_texts(titles: Sequence[str]) -> tf.Tensor:
    """`[n]` titles as a page of HTML shows them: `[n]` strings in UTF-8.

    Entities are resolved, however often they were escaped; tags, comments,
    scripts, styles and zero-width spaces become spaces.
    """
    texts = [clean_text(_unescape(title)) for title in titles]
    together = "".join(texts)
    signs = [sign for sign in _SIGNS if sign in together]
    # Most titles contain no markup, and looking for it costs as much as all
    # the rest.
    marked = [
        row
        for row, text in enumerate(texts)
        if len(text) > _LONG or any(sign in text for sign in signs)
    ]
    if marked:
        rewritten = _rewrite([texts[row] for row in marked], _MARKUP)
        for row, text in zip(marked, rewritten.numpy(), strict=True):
            texts[row] = text
    return tf.constant(texts)


def _rewrite(
    texts: Sequence[str] | tf.Tensor, rewrites: Sequence[tuple[str, str]]
) -> tf.Tensor:
    for pattern, replacement in rewrites:
        texts = tf.strings.regex_replace(texts, pattern, replacement)
    return texts


def _unescape(text: str) -> str:
    """Resolves entities until none is left, within bounds."""
    for _ in range(_MAX_UNESCAPES):
        if "&" not in text or not _ENTITY.search(text):
            break
        before = text
        text = html.unescape(_LONG_NUMBER.sub("\ufffd", text))
        text = _ESCAPED_AMPERSAND.sub("&", text)
        if text == before:
            break
    return text


def tokenize(titles: Sequence[str]) -> list[list[str]]:
    """Splits titles into normalised words, in the order of the title.

    HTML entities are resolved and tags taken off, full-width forms folded
    (NFKC), case folded, punctuation, symbols, emoji and zero-width spaces
    taken for spaces. Runs of Chinese are
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
    texts = tf_text.normalize_utf8(visible_texts(titles), "NFKC")
    texts = _rewrite(tf_text.case_fold_utf8(texts), _REWRITES)
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
