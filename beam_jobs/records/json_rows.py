"""JSON Lines: one object a line, whatever else stands there."""

import collections
import json
from collections.abc import Collection
from collections.abc import Iterator
from typing import Any

from beam_jobs.records import row_contents
from beam_jobs.records import text_lines
from sicot_tf.data import records

# Levels of nesting; Python reads about 900, less the deeper its own stack.
_MAX_DEPTH = 100


class _Doubled(dict):
    """A JSON object with a key that stands twice, of which the last counts."""

    names: set[str] = set()


def _to_object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    row = dict(pairs)
    if len(row) < len(pairs):
        row = _Doubled(row)
        counts = collections.Counter(name for name, _ in pairs)
        row.names = {name for name, count in counts.items() if count > 1}
    return row


_DECODER = json.JSONDecoder(object_pairs_hook=_to_object)


def read_rows(
    lines: text_lines.TextLines, fields: Collection[str] | None
) -> Iterator[row_contents.Row]:
    """The rows; blank lines are passed over.

    Args:
        fields: those that are used; None: all.

    Yields:
        The line, its object or what is wrong with it, and its text.
    """
    while text := lines.read():
        text = text.strip()
        if not text:
            continue
        try:
            if len(text) >= text_lines.MAX_LINE:
                raise ValueError(f"over {text_lines.MAX_LINE:,} characters")
            row = _DECODER.decode(text)
            if not isinstance(row, dict):
                raise ValueError(f"expected an object, received {row!r:.100}")
            if isinstance(row, _Doubled):
                for key in sorted(row.names):
                    if fields is None or key in fields:
                        raise ValueError(f"the key {key!r} stands twice")
            if text.count("[") + text.count("{") > _MAX_DEPTH:
                _check_depth(row)
        # Text nested thousands deep raises RecursionError.
        except (ValueError, RecursionError) as error:
            row = records.RecordError("bad_json", str(error))
        yield lines.number, row, text


def _check_depth(row: dict[str, Any]) -> None:
    """Raises ValueError for what a worker's deeper stack could not read."""
    level, depth = [row], 0
    while level:
        depth += 1
        if depth > _MAX_DEPTH:
            raise ValueError(f"more than {_MAX_DEPTH} levels of nesting")
        level = [
            inner
            for each in level
            for inner in (each.values() if isinstance(each, dict) else each)
            if isinstance(inner, list | dict)
        ]
