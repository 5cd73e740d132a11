"""Raw records: files to rows, rows to checked records.

`read_rows` turns a JSON Lines, CSV or Parquet file into plain dicts;
`parse_record` holds a dict to the contract of `records.py`. Neither opens a
file, so both run the same on a local disk, in Beam and in tests.
"""

import codecs
import collections
import contextlib
import gzip
import io
import json
import math
import os
import posixpath
import re
import zlib
from collections.abc import Collection
from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any
from typing import BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from beam_jobs.records import csv_rows
from beam_jobs.records import field_values
from beam_jobs.records import json_rows
from beam_jobs.records import parquet_rows
from beam_jobs.records import row_contents
from beam_jobs.records import text_lines
from sicot_tf.data import records
from sicot_tf.data import titles

FORMATS = (".jsonl", ".jsonl.gz", ".csv", ".csv.gz", ".parquet")

# Columns without which no record of a file can be used.
NEEDED = ("record_id", "image", "sku_id")

# How much of a file is looked at before all of it is read.
_HEAD_BYTES = 1 << 16


def read_rows(
    file: BinaryIO,
    name: str,
    *,
    encoding: str = "utf-8",
    fields: Collection[str] | None = None,
    needed: Collection[str] = (),
    unknown: collections.Counter[str] | None = None,
    row_groups: Sequence[int] | None = None,
) -> Iterator[tuple[int, dict[str, Any] | records.RecordError, str]]:
    """Reads the rows of a record file, one at a time.

    Args:
        file: the open file, as stored (gzip is undone here).
        name: its name; the ending tells the format.
        encoding: of the text of JSON Lines and CSV.
        fields: those that are used; None: all. Of the others together
            `row_contents.MAX_UNUSED` characters are kept of a row, in Parquet
            only the names.
        needed: columns of which a CSV or Parquet file has at least one.
        unknown: counts the rows that have a field outside `fields`.
        row_groups: those of a Parquet file to read; None: all.

    Yields:
        The line (the row, from 1, in Parquet), its fields or what is wrong
        with it, and its content as JSON text. Blank lines are passed over. A
        CSV row is all its lines; every line is in one row.

    Raises:
        ValueError: if the ending is none of `FORMATS`, or the columns are not
            what they should be.
    """
    check_format(name)
    if name.endswith(".parquet"):
        parquet = parquet_rows.open_file(file)
        yield from _read_parquet(parquet, fields, needed, unknown, row_groups)
        return
    if name.endswith(".gz"):
        file = gzip.GzipFile(fileobj=file)
    is_csv = name.removesuffix(".gz").endswith(".csv")
    line_ends = "\r\n" if is_csv else "\n"
    with contextlib.closing(
        text_lines.TextLines(file, encoding, line_ends)
    ) as lines:
        if is_csv:
            rows = _read_csv(lines, encoding, fields, needed)
        else:
            rows = json_rows.read_rows(lines, fields)
        yield from row_contents.settle(rows, encoding, fields, unknown)


# What makes a whole file unreadable.
READ_ERRORS = (OSError, EOFError, ValueError, zlib.error, pa.ArrowException)


def check_format(name: str) -> None:
    """Raises ValueError if a file's ending is none of `FORMATS`."""
    if not name.endswith(FORMATS):
        raise ValueError(
            f"Expected a record file ending in one of {', '.join(FORMATS)}, "
            f"received {name!r}."
        )


def check_encoding(
    file: BinaryIO,
    name: str,
    *,
    encoding: str = "utf-8",
    fields: Collection[str] | None = None,
) -> None:
    """Looks at the beginning of a file before all of it is read.

    Raises:
        ValueError: if it is text of another encoding; the message guesses.
    """
    try:
        io.TextIOWrapper(io.BytesIO(), encoding).close()
    except LookupError as error:
        raise ValueError(
            f"Expected an encoding that Python knows, for example gb18030, "
            f"received {encoding!r}."
        ) from error
    check_format(name)
    if name.endswith(".parquet"):
        return
    if name.endswith(".gz"):
        file = gzip.GzipFile(fileobj=file)
    head = file.read(_HEAD_BYTES)
    is_utf8 = codecs.lookup(encoding).name.startswith("utf-8")
    if is_utf8 and text_lines.wide_encoding(head):
        raise _other_encoding(head, encoding)
    rows = read_rows(
        io.BytesIO(head),
        name.removesuffix(".gz"),
        encoding=encoding,
        fields=fields,
    )
    spoiled = sound = num_rows = 0
    try:
        for _, row, content in rows:
            num_rows += 1
            if isinstance(row, records.RecordError):
                spoiled += row.reason == "bad_encoding"
            else:
                sound += not content.isascii()
    except UnicodeError as error:
        raise _other_encoding(head, encoding) from error
    # Fewer rows may be damage, which is told row by row; the last may be cut.
    if spoiled > max(2, sound, num_rows // 3):
        raise _other_encoding(head, encoding)


def _other_encoding(head: bytes, encoding: str) -> ValueError:
    guesses = text_lines.guess_encodings(head)
    return ValueError(
        f"it is not text in {encoding}"
        + (f", it looks like {' or '.join(guesses)}" if guesses else "")
        + f". Say so with --encoding {guesses[0] if guesses else 'NAME'}, or "
        "save it as UTF-8"
    )


# JSON that any file can hold.
to_json = row_contents.to_json


def why_rejected(
    error: Exception,
    foreseen: tuple[type[Exception], ...] = (records.RecordError,),
) -> tuple[str, str]:
    """The reason and the message of what went wrong with a record.

    Args:
        foreseen: errors that have a `reason`.
    """
    if isinstance(error, foreseen):
        return error.reason, str(error)
    return "unexpected_error", f"{type(error).__name__}: {error}"


def _read_csv(
    lines: text_lines.TextLines,
    encoding: str,
    fields: Collection[str] | None,
    needed: Collection[str],
) -> Iterator[row_contents.Row]:
    heading = csv_rows.read_heading(lines)
    if not heading:
        return
    if not all(map(text_lines.is_sound, heading)) or "\0" in "".join(heading):
        raise UnicodeError(f"the heading is not text in {encoding}")
    _check_columns(heading, fields, needed)
    for line, cells, text in csv_rows.read_rows(lines, len(heading)):
        if isinstance(cells, list):
            yield line, dict(zip(heading, cells, strict=True)), text
        else:
            yield line, cells, text


def _check_columns(
    names: Sequence[str],
    fields: Collection[str] | None,
    needed: Collection[str],
) -> None:
    counts = collections.Counter(names)
    for name, count in counts.items():
        if count > 1 and (fields is None or name in fields):
            raise ValueError(f"the column {name!r} stands twice")
    if needed and counts.keys().isdisjoint(needed):
        raise ValueError(
            f"expected columns named {', '.join(needed)} (in CSV by the first "
            f"line, with commas between), received {', '.join(names)!r:.200}"
        )


def _read_parquet(
    parquet: pq.ParquetFile,
    fields: Collection[str] | None,
    needed: Collection[str],
    unknown: collections.Counter[str] | None,
    row_groups: Sequence[int] | None,
) -> Iterator[row_contents.Row]:
    if row_groups is None:
        row_groups = range(parquet.num_row_groups)
    names = parquet.schema_arrow.names
    _check_columns(names, fields, needed)
    columns = set(names if fields is None else fields)
    others = [name for name in dict.fromkeys(names) if name not in columns]
    if unknown is not None:
        num_rows = sum(
            parquet.metadata.row_group(group).num_rows for group in row_groups
        )
        for name in others:
            unknown[name] += num_rows
    # The names of unknown fields are needed by `strict`.
    unread = row_contents.shorten(dict.fromkeys(others), columns)
    exact = {"record_id", "sku_id", "product_id", "group"}
    for line, row, content in parquet_rows.read_rows(
        parquet, columns, exact, row_groups
    ):
        if not isinstance(row, records.RecordError):
            row = {**row, **unread}
        yield line, row, to_json({**content, **unread})


def known_fields(title_field: str) -> set[str]:
    """All field names of the contract, with the column taken as the title."""
    return {
        *records.REQUIRED_FIELDS,
        *records.OPTIONAL_FIELDS,
        title_field,
    }


def parse_record(
    row: Mapping[str, Any], *, title_field: str = "title", strict: bool = False
) -> dict[str, Any]:
    """Holds one row to the contract of raw records.

    Numbers are taken as text where text is expected, see `field_values`; null,
    NaN and, in optional fields, "" are absent.

    Returns:
        Every field of the contract: required ones as text (the title may be
        ""), `tags` a list of texts, `box` four floats or None, `split` train,
        val, test or None, other optional ones text or None.

    Raises:
        records.RecordError: with the reason.
    """
    if strict:
        unknown = sorted(row.keys() - known_fields(title_field), key=str)
        if unknown:
            raise records.RecordError(
                "unknown_field", f"Unknown fields: {unknown}."
            )
    record: dict[str, Any] = {
        "record_id": _required_id(row, "record_id"),
        "image": _path(row),
        "sku_id": _required_id(row, "sku_id"),
    }
    if title_field not in row:
        raise records.RecordError(
            "missing_field", f"{title_field} is absent (it may be empty)."
        )
    title = field_values.text(row, title_field, allow_surrogates=True)
    record["title"] = titles.clean_text(title or "")
    for name in records.OPTIONAL_FIELDS:
        if name not in ("tags", "box", "split", "group"):
            record[name] = field_values.text(row, name)
    record["group"] = field_values.identifier(row, "group")
    record["tags"] = field_values.texts(row, "tags")
    record["box"] = _box(row)
    split = field_values.text(row, "split")
    split = "val" if split == "validation" else split
    if split is not None and split not in records.SPLITS:
        raise records.RecordError(
            "unknown_split", f"Expected train, val or test, received {split!r}."
        )
    record["split"] = split
    return record


def _required_id(row: Mapping[str, Any], name: str) -> str:
    value = field_values.identifier(row, name)
    return field_values.required(row, name, value)


def _path(row: Mapping[str, Any]) -> str:
    """A picture's path; bytes that are no text as `os.fsdecode` has them."""
    value = field_values.text(row, "image", allow_surrogates=True)
    value = field_values.required(row, "image", value)
    try:
        os.fsencode(value)
    except UnicodeEncodeError as error:
        raise field_values.bad_field("image", "valid UTF-8", value) from error
    if re.search(r"[\n\r]", value):
        raise field_values.bad_field("image", "no line break", value)
    return value


def _box(row: Mapping[str, Any]) -> list[float] | None:
    box = row.get("box")
    if field_values.is_absent(box):
        return None
    try:
        if isinstance(box, str):
            box = json.loads(box)
        x_min, y_min, x_max, y_max = box
        numbers = [
            float(number)
            for number in box
            if isinstance(number, int | float) and not isinstance(number, bool)
        ]
        # Also refuses NaN, for which every comparison is false.
        if len(numbers) == 4 and 0 <= x_min < x_max and 0 <= y_min < y_max:
            if max(numbers) < math.inf:
                return numbers
    except (ValueError, TypeError, OverflowError, RecursionError):
        pass
    raise records.RecordError(
        "bad_box",
        "Expected [x_min, y_min, x_max, y_max] in pixels with 0 <= min < max, "
        f"received {row['box']!r:.100}.",
    )


def resolve_image(folder: str, image: str) -> str:
    """The path of an image: URIs and absolute paths stay as they are."""
    if "://" in image:
        return image
    path = posixpath.join(folder, image)
    scheme, separator, key = path.partition("://")
    if separator and "../" in image:
        # To an object store it would be a name like any other.
        return scheme + separator + posixpath.normpath(key)
    return path
