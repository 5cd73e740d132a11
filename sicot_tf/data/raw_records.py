"""Raw records: files to rows, rows to checked records.

`read_rows` turns a JSON Lines, CSV or Parquet file into plain dicts;
`parse_record` holds a dict to the contract of `records.py`. Neither opens a
file, so both run the same on a local disk, in Beam and in tests.
"""

import csv
import gzip
import hashlib
import io
import json
import math
import posixpath
from collections.abc import Iterator
from collections.abc import Mapping
from typing import Any
from typing import BinaryIO

import pyarrow.parquet as pq

from sicot_tf.data import records
from sicot_tf.data import titles

FORMATS = (".jsonl", ".jsonl.gz", ".csv", ".csv.gz", ".parquet")

# Every reason a record can be rejected for.
REJECT_REASONS = {
    "bad_json": "the line is not a JSON object in UTF-8",
    "missing_field": "a required field is absent or empty",
    "bad_field": "a field has the wrong type, or a CSV row the wrong length",
    "unknown_field": "a field outside the contract (only with --strict)",
    "unknown_split": "split is none of train, val, validation, test",
    "bad_box": "box is not 0 <= min < max inside the image",
    "duplicate_id": "an earlier record has the same record_id",
    "duplicate_image": "another record of the class has the same picture",
    "image_in_test": "a training picture that also is in val or test, or "
    "nearly",
    "missing_image": "the image file can't be read",
    "empty_file": "the image file has no bytes",
    "not_an_image": "the file is none of the image formats we read",
    "decode_error": "the image file is truncated or damaged",
    "too_small": "the shorter side is below min_image_side",
    "too_many_pixels": "more pixels than max_image_pixels",
    "too_long": "more than 65,500 pixels on the longer side, when stored",
    "no_words": "a training record without words (only with --require_words)",
    "class_not_in_train": "a val or test record of a class never trained",
    "unexpected_error": "an error nobody foresaw; the message names it",
}


def read_rows(
    file: BinaryIO, name: str
) -> Iterator[tuple[int, dict[str, Any] | records.RecordError, str]]:
    """Reads the rows of a record file, one at a time.

    Args:
        file: the open file, as stored (gzip is undone here).
        name: its name; the ending tells the format.

    Yields:
        The line (the row, from 1, in Parquet), its fields or what is wrong
        with it, and its content as JSON text. Blank lines are passed over.

    Raises:
        ValueError: if the ending is none of `FORMATS`.
    """
    check_format(name)
    if name.endswith(".parquet"):
        rows = _read_parquet(file)
    else:
        if name.endswith(".gz"):
            file = gzip.GzipFile(fileobj=file)
        is_csv = name.removesuffix(".gz").endswith(".csv")
        rows = _read_csv(file) if is_csv else _read_json_lines(file)
    for line, row, content in rows:
        yield line, row, to_json(content)


def check_format(name: str) -> None:
    """Raises ValueError if a file's ending is none of `FORMATS`."""
    if not name.endswith(FORMATS):
        raise ValueError(
            f"Expected a record file ending in one of {', '.join(FORMATS)}, "
            f"received {name!r}."
        )


def to_json(value: Any) -> str:
    """JSON that any file can hold: lone surrogates stay escaped."""
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def _read_json_lines(file: BinaryIO) -> Iterator[tuple[int, Any, Any]]:
    for line, data in enumerate(file, start=1):
        if line == 1:
            data = data.removeprefix(b"\xef\xbb\xbf")
        data = data.strip()
        if not data:
            continue
        try:
            row = json.loads(data)
            if not isinstance(row, dict):
                raise ValueError(f"expected an object, received {row!r:.100}")
            yield line, row, row
        # Text nested thousands deep raises RecursionError.
        except (ValueError, RecursionError) as error:
            text = data[:1000].decode("utf-8", "backslashreplace")
            yield line, records.RecordError("bad_json", str(error)), text


def _read_csv(file: BinaryIO) -> Iterator[tuple[int, Any, Any]]:
    # Surrogates keep a stray byte of another encoding inside its own row.
    with io.TextIOWrapper(
        file, "utf-8-sig", "surrogateescape", newline=""
    ) as text:
        reader = csv.reader(text)
        header = next(reader, [])
        while True:
            line = reader.line_num + 1
            try:
                cells = next(reader)
            except StopIteration:
                return
            except csv.Error as error:
                message = f"CSV: {error}"
                yield line, records.RecordError("bad_field", message), None
                continue
            if len(cells) == len(header):
                row = dict(zip(header, cells, strict=True))
                yield line, row, row
            elif cells:
                message = f"{len(cells)} cells under {len(header)} headings."
                yield line, records.RecordError("bad_field", message), cells


def _read_parquet(file: BinaryIO) -> Iterator[tuple[int, Any, Any]]:
    line = 0
    for batch in pq.ParquetFile(file).iter_batches(batch_size=1024):
        for row in batch.to_pylist():
            line += 1
            yield line, row, row


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

    Numbers are taken as text where text is expected (`123` and `123.0` are
    the class `"123"`); null, NaN and, in optional fields, "" are absent.

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
        name: _required_text(row, name)
        for name in ("record_id", "image", "sku_id")
    }
    if title_field not in row:
        raise records.RecordError(
            "missing_field", f"{title_field} is absent (it may be empty)."
        )
    title = _text(row, title_field, allow_surrogates=True)
    record["title"] = titles.clean_text(title or "")
    for name in records.OPTIONAL_FIELDS:
        if name not in ("tags", "box", "split"):
            record[name] = _text(row, name)
    record["tags"] = _tags(row)
    record["box"] = _box(row)
    split = _text(row, "split")
    split = "val" if split == "validation" else split
    if split is not None and split not in records.SPLITS:
        raise records.RecordError(
            "unknown_split", f"Expected train, val or test, received {split!r}."
        )
    record["split"] = split
    return record


def _is_absent(value: Any) -> bool:
    if isinstance(value, float) and math.isnan(value):
        return True
    return value is None or value == ""


def _text(
    row: Mapping[str, Any], name: str, allow_surrogates: bool = False
) -> str | None:
    """A field as text, None where it is absent."""
    value = row.get(name)
    if _is_absent(value):
        return None
    if isinstance(value, float) and value.is_integer():
        value = int(value)  # Parquet and pandas make 123.0 of 123 and nulls.
    if isinstance(value, int) and not isinstance(value, bool):
        value = str(value)
    if not isinstance(value, str):
        raise records.RecordError(
            "bad_field",
            f"{name}: expected text, received {type(value).__name__} "
            f"{value!r:.100}.",
        )
    if not allow_surrogates and titles.clean_text(value) != value:
        raise records.RecordError(
            "bad_field", f"{name}: {value!r:.100} is not valid UTF-8."
        )
    return value


def _required_text(row: Mapping[str, Any], name: str) -> str:
    value = _text(row, name)
    if value is None or not value.strip():
        raise records.RecordError(
            "missing_field",
            f"{name} is {'empty' if name in row else 'absent'}.",
        )
    if "\n" in value or "\r" in value:
        # SKU ids become lines of the served label table.
        raise records.RecordError(
            "bad_field", f"{name}: {value!r:.100} holds a line break."
        )
    return value


def _tags(row: Mapping[str, Any]) -> list[str]:
    tags = row.get("tags")
    if not isinstance(tags, list):
        tags = (_text(row, "tags") or "").split("|")
    tags = [_text({"tags": tag}, "tags") for tag in tags]
    return [tag for tag in tags if tag]


def _box(row: Mapping[str, Any]) -> list[float] | None:
    box = row.get("box")
    if _is_absent(box):
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
        # Not true for NaN either.
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
    return image if "://" in image else posixpath.join(folder, image)


def stable_hash(seed: int, purpose: str, text: str) -> int:
    """64 bits that only seed, purpose and text decide."""
    digest = hashlib.blake2b(
        f"{seed}|{purpose}|{text}".encode(), digest_size=8
    ).digest()
    return int.from_bytes(digest, "big")
