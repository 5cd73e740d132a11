"""First pipeline of `build_product_index`: catalogue files to checked rows.

One worker takes one file at a time. What it can use goes into a Parquet file,
row group by row group; the Parquet file appears last and marks the catalogue
file as finished, so that a killed job need not read it again.
"""

import csv
import datetime
import json
import math
import os
import pathlib
import re
import uuid
import zlib
from collections.abc import Iterator
from collections.abc import Mapping
from typing import Any
from typing import TextIO

import apache_beam as beam
import pyarrow as pa
import pyarrow.parquet as pq
from apache_beam.metrics import Metrics

from beam_jobs import record_files
from beam_jobs import runners
from sicot_tf.data import raw_records
from sicot_tf.data import records
from sicot_tf.data import titles

# Index of a catalogue file, its path, its name in outputs.
CatalogueFile = tuple[int, str, str]

REJECTS = "rejects.jsonl"

REJECT_REASONS = {
    "bad_json": "the line is not a JSON object in UTF-8",
    "missing_field": "a required field is absent or empty",
    "bad_field": "a field has the wrong type, or a CSV row the wrong length",
    "unexpected_error": "an error nobody foresaw; the message names it",
    "missing_image": "the picture can't be read (only with --saved_model)",
    "not_an_image": "the file is not a picture",
    "too_many_pixels": "the picture is too large to decode",
    "decode_error": "the picture is damaged, or of a format the model can't "
    "read",
}
_OWN_FIELDS = {
    "product_id",
    "sku_id",
    "title",
    "image",
    "images",
    "tags",
    "category",
    "updated_at",
    "deleted",
}

# `images`, `tags` and `attributes` are JSON. A tombstone has only the first
# five fields.
PRODUCT_SCHEMA = pa.schema(
    {
        "product_id": pa.string(),
        "updated_at": pa.float64(),
        "deleted": pa.bool_(),
        # Place of the record: the file among the sorted files, and the line.
        "file": pa.int32(),
        "line": pa.int64(),
        "sku_id": pa.string(),
        "title": pa.string(),
        "images": pa.string(),
        "tags": pa.string(),
        "category": pa.string(),
        "attributes": pa.string(),
    }
)
# Rows a worker holds at once: about 30 MB of Python objects.
ROWS_AT_ONCE = 16_384

_ENCODER = json.JSONEncoder(
    ensure_ascii=False, allow_nan=False, separators=(",", ":"), default=str
)

# The year 9999; milliseconds of any day after 1978 are beyond it.
_MAX_SECONDS = 253_402_300_800


def part_files(folder: pathlib.Path, index: int) -> dict[str, pathlib.Path]:
    """The files of a finished catalogue file: `products` and `rejects`."""
    return {
        "products": folder / f"{index:05d}.parquet",
        "rejects": folder / f"{index:05d}.rejects.jsonl",
    }


def parse_product(row: Mapping[str, Any]) -> dict[str, Any]:
    """Holds one row to the contract of catalogue records.

    Numbers are taken as text where text is expected; null, NaN and "" are
    absent. A line of `rejects.jsonl` stands for the record inside it.

    Returns:
        The fields of `PRODUCT_SCHEMA` without `file` and `line`.

    Raises:
        records.RecordError: with the reason.
    """
    if "product_id" not in row and {"reason", "record"} <= row.keys():
        row = row["record"]
        if not isinstance(row, dict):
            raise records.RecordError("bad_json", f"No object: {row!r:.100}")
    product = {
        "product_id": _required_id(row, "product_id"),
        "updated_at": _seconds(row.get("updated_at")),
        "deleted": _is_true(row, "deleted"),
    }
    if product["deleted"]:
        return product
    if "title" not in row:
        raise records.RecordError(
            "missing_field", "title is absent (it may be empty)."
        )
    images = [_text(row, "image"), *_texts(row, "images")]
    attributes = {
        str(name): value
        for name, value in row.items()
        if name not in _OWN_FIELDS and not _is_absent(value)
    }
    return {
        **product,
        "sku_id": _required_id(row, "sku_id"),
        "title": titles.clean_text(_text(row, "title", any_code=True) or ""),
        "images": _to_json(list(dict.fromkeys(filter(None, images)))),
        "tags": _to_json(_texts(row, "tags")),
        "category": _text(row, "category"),
        "attributes": _to_json(attributes),
    }


def _is_absent(value: Any) -> bool:
    if isinstance(value, float) and math.isnan(value):
        return True
    return value is None or value == ""


def _bad_field(name: str, expected: str, value: Any) -> records.RecordError:
    return records.RecordError(
        "bad_field",
        f"{name}: expected {expected}, received {type(value).__name__} "
        f"{value!r:.100}.",
    )


def _text(
    row: Mapping[str, Any], name: str, any_code: bool = False
) -> str | None:
    """A field as text, None where it is absent."""
    value = row.get(name)
    if _is_absent(value):
        return None
    if isinstance(value, float) and value.is_integer():
        value = int(value)  # Parquet makes 123.0 of 123 beside nulls.
    if isinstance(value, int) and not isinstance(value, bool):
        value = str(value)
    if not isinstance(value, str):
        raise _bad_field(name, "text", value)
    if not any_code:
        try:
            value.encode("utf-8")
        except UnicodeEncodeError as error:
            raise _bad_field(name, "valid UTF-8", value) from error
    return value


def _texts(row: Mapping[str, Any], name: str) -> list[str]:
    """A list of texts; one text is split at `|`."""
    values = row.get(name)
    if not isinstance(values, list):
        values = (_text(row, name) or "").split("|")
    values = [_text({name: value}, name) for value in values]
    return [value for value in values if value]


def _required_id(row: Mapping[str, Any], name: str) -> str:
    value = _text(row, name)
    if value is None or not value.strip():
        state = "empty" if name in row else "absent"
        raise records.RecordError("missing_field", f"{name} is {state}.")
    # SKU ids are lines of label lists; NUL ends text in SQL functions.
    if re.search(r"[\n\r\0]", value):
        raise _bad_field(name, "no line break and no NUL", value)
    return value


def _is_true(row: Mapping[str, Any], name: str) -> bool:
    value = row.get(name)
    if _is_absent(value):
        return False
    known = {"true": True, "1": True, "false": False, "0": False}
    if isinstance(value, bool | int | str) and str(value).lower() in known:
        return known[str(value).lower()]
    raise _bad_field(name, "true or false", value)


def _seconds(value: Any) -> float | None:
    """A time as seconds since 1970, None where it is absent."""
    if _is_absent(value):
        return None
    try:
        if isinstance(value, str):
            # Eight digits are a day; other numbers are seconds.
            number = re.fullmatch(r"[+-]?\d+(\.\d*)?", value)
            if number and len(value) != 8:
                value = float(value)
            else:
                value = datetime.datetime.fromisoformat(value)
        elif type(value) is datetime.date:
            value = datetime.datetime(value.year, value.month, value.day)
        if isinstance(value, datetime.datetime):
            if value.tzinfo is None:
                value = value.replace(tzinfo=datetime.UTC)
            value = value.timestamp()
        if isinstance(value, int | float) and not isinstance(value, bool):
            if abs(value) <= _MAX_SECONDS:
                return float(value)
    except (ValueError, OverflowError):
        pass
    raise _bad_field(
        "updated_at", "ISO 8601 or seconds (not milliseconds) since 1970", value
    )


def _to_json(value: Any) -> str:
    """Compact JSON that SQLite can hold and any reader can parse."""
    try:
        text = _ENCODER.encode(value)
    except (ValueError, RecursionError) as error:
        raise records.RecordError("bad_field", f"No JSON: {error}") from error
    # Lone surrogates stay escaped.
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


class ParseFileFn(beam.DoFn):
    """A catalogue file to its `part_files`; yields nothing.

    The metadata of the Parquet file tell how many records were `read` and
    `rejected`.
    """

    def __init__(self, folder: str):
        self._folder = pathlib.Path(folder)
        self._num_read = Metrics.counter(
            runners.METRICS_NAMESPACE, "records_read"
        )

    def process(self, file: CatalogueFile) -> Iterator[None]:
        index, path, name = file
        final = part_files(self._folder, index)
        if final["products"].exists():
            return
        # A runner may work on one element twice at the same time.
        working = {
            kind: each.with_name(f".{uuid.uuid4().hex}")
            for kind, each in final.items()
        }
        counts = {"read": 0, "rejected": 0}
        with (
            pq.ParquetWriter(working["products"], PRODUCT_SCHEMA) as products,
            working["rejects"].open("w", encoding="utf-8") as rejects,
        ):
            _parse_rows(file, products, rejects, counts)
            products.add_key_value_metadata(
                {key: str(count) for key, count in counts.items()}
            )
        for kind in ("rejects", "products"):
            os.replace(working[kind], final[kind])
        self._num_read.inc(counts["read"])
        yield from ()


def _read_rows(path: str, name: str) -> Iterator[tuple[int, Any, str]]:
    try:
        with record_files.open_file(path) as stream:
            yield from raw_records.read_rows(stream, name)
    except (OSError, EOFError, ValueError, zlib.error, csv.Error) as error:
        raise ValueError(
            f"The catalogue file {path} can't be read: {error}"
        ) from error


def _parse_rows(
    file: CatalogueFile,
    products: pq.ParquetWriter,
    rejects: TextIO,
    counts: dict[str, int],
) -> None:
    index, path, name = file
    parsed = []
    for line, row, content in _read_rows(path, name):
        counts["read"] += 1
        try:
            if isinstance(row, records.RecordError):
                raise row
            parsed.append({**parse_product(row), "file": index, "line": line})
        except Exception as error:  # One record must not end the job.
            counts["rejected"] += 1
            rejects.write(_reject_line(error, name, line, content) + "\n")
        if len(parsed) == ROWS_AT_ONCE:
            products.write_batch(_to_batch(parsed))
            parsed = []
    if parsed:
        products.write_batch(_to_batch(parsed))


def _to_batch(parsed: list[dict[str, Any]]) -> pa.RecordBatch:
    return pa.RecordBatch.from_pylist(parsed, schema=PRODUCT_SCHEMA)


def _reject_line(error: Exception, file: str, line: int, content: str) -> str:
    reason, message = "unexpected_error", f"{type(error).__name__}: {error}"
    if isinstance(error, records.RecordError):
        reason, message = error.reason, str(error)
    return raw_records.to_json(
        {
            "reason": reason,
            "message": message,
            "file": file,
            "line": line,
            "record": json.loads(content),
        }
    )


@beam.typehints.with_input_types(CatalogueFile)
@beam.typehints.with_output_types(None)
class ParseCatalogue(beam.PTransform):
    """Catalogue files to `part_files` in `folder`; finished ones stay."""

    def __init__(self, folder: str):
        super().__init__()
        self._folder = folder

    def expand(self, files: beam.PCollection) -> beam.PCollection:
        return files | "ParseFile" >> beam.ParDo(ParseFileFn(self._folder))
