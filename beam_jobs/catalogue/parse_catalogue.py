"""First pipeline of `build_product_index`: catalogue files to checked rows.

One worker takes one file at a time. What it can use goes into a Parquet file,
row group by row group; the Parquet file appears last and marks the catalogue
file as finished, so that a killed job need not read it again.
"""

import datetime
import json
import os
import pathlib
import re
from collections.abc import Iterator
from collections.abc import Mapping
from typing import Any
from typing import TextIO

import apache_beam as beam
import pyarrow as pa
import pyarrow.parquet as pq
from apache_beam.metrics import Metrics

from beam_jobs.pipelines import runners
from beam_jobs.records import field_values
from beam_jobs.records import raw_records
from beam_jobs.records import record_files
from sicot_tf import files
from sicot_tf.data import records
from sicot_tf.data import titles

# Index of a catalogue file, its path (which need not be UTF-8), its name in
# outputs.
CatalogueFile = tuple[int, bytes, str]

REJECTS = "rejects.jsonl"

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
# Characters of attributes it holds at once.
_MAX_CHARACTERS = 1 << 24

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

    Numbers are taken as text where text is expected, see `field_values`; null,
    NaN and "" are absent. A line of `rejects.jsonl` stands for the record
    inside it.

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
        "updated_at": seconds(row.get("updated_at")),
        "deleted": _is_true(row, "deleted"),
    }
    if product["deleted"]:
        return product
    if "title" not in row:
        raise records.RecordError(
            "missing_field", "title is absent (it may be empty)."
        )
    images = [
        field_values.text(row, "image"),
        *field_values.texts(row, "images"),
    ]
    attributes = {
        str(name): value
        for name, value in row.items()
        if name not in _OWN_FIELDS and not field_values.is_absent(value)
    }
    title = field_values.text(row, "title", allow_surrogates=True)
    return {
        **product,
        "sku_id": _required_id(row, "sku_id"),
        "title": titles.clean_text(title or ""),
        "images": _to_json(list(dict.fromkeys(filter(None, images)))),
        "tags": _to_json(field_values.texts(row, "tags")),
        "category": field_values.text(row, "category"),
        "attributes": _to_json(attributes),
    }


def _required_id(row: Mapping[str, Any], name: str) -> str:
    value = field_values.identifier(row, name)
    return field_values.required(row, name, value)


def _is_true(row: Mapping[str, Any], name: str) -> bool:
    value = row.get(name)
    if field_values.is_absent(value):
        return False
    # pandas turns booleans beside nulls into floats.
    known = {"true": True, "1": True, "1.0": True}
    known |= {"false": False, "0": False, "0.0": False}
    if isinstance(value, bool | int | float | str):
        if str(value).lower() in known:
            return known[str(value).lower()]
    raise field_values.bad_field(name, "true or false", value)


def seconds(value: Any) -> float | None:
    """A time as seconds since 1970, None where it is absent."""
    if field_values.is_absent(value):
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
    raise field_values.bad_field(
        "updated_at", "ISO 8601 or seconds (not milliseconds) since 1970", value
    )


def _to_json(value: Any) -> str:
    """Compact JSON that SQLite can hold and any reader can parse."""
    try:
        text = _ENCODER.encode(value)
    except (ValueError, RecursionError) as error:
        raise records.RecordError("bad_field", f"No JSON: {error}") from error
    return titles.clean_text(text)


class ParseFileFn(beam.DoFn):
    """A catalogue file to its `part_files`; yields nothing.

    The metadata of the Parquet file tell how many records were `read` and
    `rejected`.
    """

    def __init__(self, folder: str, encoding: str = "utf-8"):
        self._folder = pathlib.Path(folder)
        self._encoding = encoding
        self._num_read = Metrics.counter(
            runners.METRICS_NAMESPACE, "records_read"
        )

    def process(self, file: CatalogueFile) -> Iterator[None]:
        index, path, name = file
        final = part_files(self._folder, index)
        if final["products"].exists():
            return
        counts = {"read": 0, "rejected": 0}
        # Products are renamed last: they mark the file as finished.
        with (
            files.replacing(final["products"]) as products_path,
            pq.ParquetWriter(products_path, PRODUCT_SCHEMA) as products,
            files.replacing(final["rejects"]) as rejects_path,
            rejects_path.open("w", encoding="utf-8") as rejects,
        ):
            self._parse_rows(file, products, rejects, counts)
            products.add_key_value_metadata(
                {key: str(count) for key, count in counts.items()}
            )
        self._num_read.inc(counts["read"])
        yield from ()

    def _parse_rows(
        self,
        file: CatalogueFile,
        products: pq.ParquetWriter,
        rejects: TextIO,
        counts: dict[str, int],
    ) -> None:
        index, path, name = file
        path = os.fsdecode(path)
        parsed, num_characters = [], 0
        with (
            record_files.naming(path, "catalogue file"),
            record_files.open_file(path) as stream,
        ):
            for line, row, content in raw_records.read_rows(
                stream, name, encoding=self._encoding, needed=["product_id"]
            ):
                counts["read"] += 1
                try:
                    if isinstance(row, records.RecordError):
                        raise row
                    product = parse_product(row)
                except Exception as error:  # One record must not end the job.
                    counts["rejected"] += 1
                    line_text = _reject_line(error, name, line, content)
                    rejects.write(line_text + "\n")
                    continue
                parsed.append({**product, "file": index, "line": line})
                num_characters += len(product.get("attributes", ""))
                if (
                    len(parsed) == ROWS_AT_ONCE
                    or num_characters > _MAX_CHARACTERS
                ):
                    products.write_batch(_to_batch(parsed))
                    parsed, num_characters = [], 0
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

    def __init__(self, folder: str, encoding: str = "utf-8"):
        super().__init__()
        self._parse_file = ParseFileFn(folder, encoding)

    def expand(self, files: beam.PCollection) -> beam.PCollection:
        return files | "ParseFile" >> beam.ParDo(self._parse_file)
