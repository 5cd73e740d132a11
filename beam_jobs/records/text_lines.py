"""Text of record files: physical lines, whatever bytes they are made of.

A byte that is no text in the encoding becomes one lone surrogate, so that it
spoils its own record alone and `is_sound` tells it from text.
"""

import codecs
import collections
import io
import json
import re
from collections.abc import Collection
from typing import BinaryIO

import charset_normalizer

# Longer physical lines are cut and become rejects.
MAX_LINE = 1 << 27

# What people name instead of saying `--encoding`. The library would also
# guess among the code pages of DOS and of old Macs.
_USUAL_ENCODINGS = (
    *("gb18030", "big5", "shift_jis", "euc_jp", "cp949"),
    *("cp1252", "cp1250", "cp1251", "cp1253", "cp1254", "cp1255", "cp1256"),
    *("cp874", "koi8_r"),
)
_MARK_STRAY_BYTES = "sicot_tf.mark_stray_bytes"


def _mark_stray_bytes(error: UnicodeError) -> tuple[str, int]:
    # Unlike `surrogateescape` also for bytes below 128, as UTF-16 has them.
    stray = error.object[error.start : error.end]
    return "".join(chr(0xDC00 + byte) for byte in stray), error.end


codecs.register_error(_MARK_STRAY_BYTES, _mark_stray_bytes)


class TextLines:
    """Physical lines, one at a time; some may be put back.

    Args:
        file: the bytes.
        encoding: any that Python knows. A byte order mark is dropped.
        line_ends: the characters that end a line, "\\n" or "\\r\\n" for both
            and either.

    Attributes:
        number: of the line that `read` returned last, from 1.
    """

    def __init__(self, file: BinaryIO, encoding: str, line_ends: str):
        self.number = 0
        self._again = collections.deque()
        self._text = io.TextIOWrapper(
            file,
            encoding,
            _MARK_STRAY_BYTES,
            newline="\n" if line_ends == "\n" else "",
        )
        # Bound once: it is called for every line.
        self._readline = self._text.readline

    def read(self) -> str:
        """The next line with its end; "" behind the last one."""
        if self._again:
            line = self._again.popleft()
        else:
            line = self._readline(MAX_LINE)
            if not line:
                return line
            if len(line) == MAX_LINE:
                rest = line
                while rest and rest[-1] not in "\r\n":
                    rest = self._readline(1 << 20)
            if not self.number:
                line = line.removeprefix("\ufeff")
        self.number += 1
        return line

    def close(self) -> None:
        """Closes the file."""
        self._text.close()

    def put_back(self, lines: Collection[str]) -> None:
        """Takes back the lines that were read last, in their order."""
        self._again.extendleft(reversed(lines))
        self.number -= len(lines)


def is_sound(text: str) -> bool:
    """Whether a text can be written: it holds no lone surrogate."""
    if text.isascii():
        return True
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def printable(text: str) -> str:
    """A text that any file can hold: lone surrogates become escapes."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def wide_encoding(head: bytes) -> str | None:
    """UTF-16 or UTF-32 if the first bytes of a text say so."""
    found = json.detect_encoding(head)
    return None if found.startswith("utf-8") else found


def guess_encodings(head: bytes) -> list[str]:
    """The likeliest encodings of a text that is not UTF-8, at most two."""
    if wide := wide_encoding(head):
        return [wide]
    # A few words are told apart better without the ASCII around them.
    cells = [
        cell for cell in re.split(rb'[,"\r\n]', head) if not cell.isascii()
    ]
    matches = charset_normalizer.from_bytes(
        b"\n".join(cells), cp_isolation=list(_USUAL_ENCODINGS)
    )
    return [match.encoding for match in matches][:2]
