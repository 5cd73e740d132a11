"""Rows of Parquet files: only columns that are used, a few megabytes at once.

A value that Python can't take (text that is not UTF-8, a time beyond year
9999) spoils its own row, no other.
"""

import decimal
from collections.abc import Collection
from collections.abc import Iterator
from collections.abc import Sequence
from typing import Any
from typing import BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from sicot_tf.data import records

_BATCH_BYTES = 8 << 20
_MAX_BATCH_ROWS = 1024
# The integers that a float type of Parquet holds exactly.
_EXACT_INTEGERS = {pa.float16(): 1 << 11, pa.float32(): 1 << 24}


def open_file(file: BinaryIO) -> pq.ParquetFile:
    """Opens a file; column chunks are then read piece by piece."""
    return pq.ParquetFile(file, buffer_size=1 << 20, pre_buffer=False)


def read_rows(
    parquet: pq.ParquetFile,
    columns: Collection[str],
    exact: Collection[str],
    row_groups: Sequence[int] | None = None,
) -> Iterator[tuple[int, dict[str, Any] | records.RecordError, dict[str, Any]]]:
    """The rows, with nothing but some columns.

    Args:
        columns: their names; others are not even decoded.
        exact: columns of ids: no times, and no numbers that have lost digits
            when they became floats of 16 or 32 bits.
        row_groups: numbers of those to read; None: all.

    Yields:
        The row's number from 1 among those read, its values or what is wrong
        with it, and its values with what can't be read shortened to a text.
    """
    names = [n for n in parquet.schema_arrow.names if n in columns]
    line = 0
    if row_groups is None:
        row_groups = range(parquet.num_row_groups)
    for group in row_groups:
        if not names:
            batches = [{}]
        else:
            batches = parquet.iter_batches(
                batch_size=_rows_at_once(parquet, group, names),
                row_groups=[group],
                columns=names,
            )
        for batch in batches:
            if names:
                num_rows = batch.num_rows
                values = [
                    _values(batch.column(name), name in exact) for name in names
                ]
            else:
                num_rows = parquet.metadata.row_group(group).num_rows
                values = []
            for i in range(num_rows):
                line += 1
                row = {
                    name: column[i]
                    for name, column in zip(names, values, strict=True)
                }
                yield line, *_check(row)


def _rows_at_once(
    parquet: pq.ParquetFile, group: int, names: Collection[str]
) -> int:
    metadata = parquet.metadata.row_group(group)
    wanted = set(names)
    num_bytes = 0
    for i in range(metadata.num_columns):
        column = metadata.column(i)
        if column.path_in_schema.partition(".")[0] in wanted:
            num_bytes += column.total_uncompressed_size
    bytes_per_row = num_bytes // max(1, metadata.num_rows) + 1
    return max(1, min(_MAX_BATCH_ROWS, _BATCH_BYTES // bytes_per_row))


def _check(row: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
    for name, value in row.items():
        if isinstance(value, records.RecordError):
            shown = {
                key: None if isinstance(each, records.RecordError) else each
                for key, each in row.items()
            }
            message = f"{name}: {value}"
            return records.RecordError(value.reason, message), shown
    return row, row


def _values(column: pa.Array, exact: bool) -> list[Any]:
    """Python's values; what can't be one becomes an error in its place."""
    kind = column.type
    if pa.types.is_timestamp(kind) and kind.unit == "ns":
        # Python's own datetime; pandas would add nanoseconds if installed.
        column = column.cast(pa.timestamp("us", kind.tz), safe=False)
    try:
        values = column.to_pylist()
    except Exception:  # Of one value; each is tried below.
        values = [_value(each) for each in column]
    if _holds_bytes(kind):
        values = [_decode(value) for value in values]
    if pa.types.is_decimal(kind):
        values = [_number_or_text(value) for value in values]
    if exact and (kind in _EXACT_INTEGERS or pa.types.is_temporal(kind)):
        values = [_exact(value, kind) for value in values]
    return values


def _holds_bytes(kind: pa.DataType) -> bool:
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    return (
        pa.types.is_binary(kind)
        or pa.types.is_large_binary(kind)
        or pa.types.is_fixed_size_binary(kind)
        or pa.types.is_binary_view(kind)
    )


def _value(scalar: pa.Scalar) -> Any:
    try:
        return scalar.as_py()
    except UnicodeDecodeError as error:
        return _not_utf8(error.object)
    except Exception as error:  # One value must not end the job.
        return records.RecordError("bad_field", f"{error}")


def _decode(value: Any) -> Any:
    """Writers without the UTF-8 annotation call text BINARY."""
    if not isinstance(value, bytes):
        return value
    try:
        return value.decode()
    except UnicodeDecodeError:
        return _not_utf8(value)


def _not_utf8(value: bytes) -> records.RecordError:
    return records.RecordError(
        "bad_encoding",
        f"expected text in UTF-8, received the bytes {value[:40]!r}.",
    )


def _number_or_text(value: Any) -> Any:
    """A decimal as JSON holds it exactly: 12.00 as 12, 1.20 as "1.20"."""
    if isinstance(value, decimal.Decimal):
        return int(value) if int(value) == value else str(value)
    return value


def _exact(value: Any, kind: pa.DataType) -> Any:
    if value is not None and pa.types.is_temporal(kind):
        message = f"expected text or a whole number, received {kind} {value}."
        return records.RecordError("bad_field", message)
    if isinstance(value, float) and abs(value) > _EXACT_INTEGERS[kind]:
        return records.RecordError(
            "bad_field",
            f"digits are lost, {kind} holds integers up to "
            f"{_EXACT_INTEGERS[kind]:,} exactly; received {value!r}. Write "
            "ids as text or whole numbers.",
        )
    return value
