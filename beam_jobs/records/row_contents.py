"""What is kept of a row: its content as JSON that any file can hold."""

import collections
import json
from collections.abc import Collection
from collections.abc import Iterator
from typing import Any

from beam_jobs.records import text_lines
from sicot_tf.data import records

# Characters of one record that stay of all fields nobody uses.
MAX_UNUSED = 1000

# A row's line, its fields or what is wrong with it, its text or content.
Row = tuple[int, dict[str, Any] | records.RecordError, str]

_ENCODER = json.JSONEncoder(ensure_ascii=False, default=str)


def to_json(value: Any) -> str:
    """JSON that any file can hold: lone surrogates stay escaped."""
    text = _ENCODER.encode(value)
    return text if text_lines.is_sound(text) else text_lines.printable(text)


def settle(
    rows: Iterator[Row],
    encoding: str,
    fields: Collection[str] | None,
    unknown: collections.Counter[str] | None,
) -> Iterator[Row]:
    """Looks for stray bytes; shortens what nobody uses; makes the content."""
    for line, row, text in rows:
        sound = text_lines.is_sound(text)
        if isinstance(row, records.RecordError):
            if not sound:
                row = _bad_encoding("The line", encoding)
            yield line, row, to_json(text[:MAX_UNUSED].rstrip("\r\n"))
            continue
        if unknown is not None:
            unknown.update(row.keys() - fields)
        if fields is not None and (not sound or len(text) > MAX_UNUSED):
            row = shorten(row, fields)
        content = _ENCODER.encode(row)
        # JSON can escape half a surrogate pair, and that is sound text.
        if not sound or "\\u" in text:
            content = text_lines.printable(content)
        if not sound:
            spoiled = [
                name
                for name, value in row.items()
                if (fields is None or name in fields)
                and not text_lines.is_sound(name + _ENCODER.encode(value))
            ]
            if spoiled:
                row = _bad_encoding(f"{spoiled[0]!r:.100}", encoding)
        yield line, row, content


def _bad_encoding(what: str, encoding: str) -> records.RecordError:
    return records.RecordError("bad_encoding", f"{what} is not {encoding}.")


def shorten(row: dict[str, Any], fields: Collection[str]) -> dict[str, Any]:
    """Used fields as they are, others up to `MAX_UNUSED` characters."""
    left = MAX_UNUSED
    shorter = {}
    for name, value in row.items():
        if name in fields:
            shorter[name] = value
        elif left > 0:
            text = value if isinstance(value, str) else _ENCODER.encode(value)
            if len(text) > left:
                value = f"{text[:left]}… ({len(text):,} characters)"
            left -= len(name) + len(text)
            shorter[name[:MAX_UNUSED]] = value
    return shorter
