"""The contract of catalogue records: what a row of a catalogue file tells."""

import datetime
import json
import re
from collections.abc import Mapping
from typing import Any

import pyarrow as pa

from beam_jobs.records import field_values
from sicot_tf.data import records
from sicot_tf.data import titles

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

_ENCODER = json.JSONEncoder(
    ensure_ascii=False, allow_nan=False, separators=(",", ":"), default=str
)

# The year 9999; milliseconds of any day after 1978 are beyond it.
_MAX_SECONDS = 253_402_300_800


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
