"""First pipeline of `build_dataset`: record files to rows of equal form.

A range of a file is read by one worker. Its rows go into files of a few
thousand, from which the next pipeline takes them; of the pictures no more than
size and time is looked at.
"""

import collections
import concurrent.futures
import hashlib
import itertools
import json
import os
from collections.abc import Iterable
from collections.abc import Iterator
from typing import Any
from typing import Literal

import apache_beam as beam
import pyarrow as pa
import pyarrow.parquet as pq
from apache_beam import pvalue

from beam_jobs.dataset.steps import parts
from beam_jobs.pipelines import sums
from beam_jobs.records import file_ranges
from beam_jobs.records import raw_records
from beam_jobs.records import record_files
from beam_jobs.records import text_lines
from sicot_tf.data import records
from sicot_tf.stores import locations
from sicot_tf.stores import opening

# Characters of a table: titles may be short, descriptions long.
_MAX_CHARACTERS = 1 << 24
# Remote file systems answer in tens of milliseconds.
_NUM_THREADS = 16
_COUNTS = "counts"
_TaggedCounts = pvalue.TaggedOutput[Literal["counts"], dict]


class ReadRangeFn(beam.DoFn):
    """A range of a record file to tables of its rows (`parts.ROWS_SCHEMA`).

    `row` counts from 0 in each table, `line` from 1 in the range. The output
    `counts` has `lines` of the range and `unknown_fields`.

    Args:
        table_rows: rows of a table, fewer where they are long.
    """

    def __init__(self, title_field: str, encoding: str, table_rows: int):
        self._fields = raw_records.known_fields(title_field)
        self._encoding = encoding
        self._table_rows = table_rows

    def process(
        self, file_range: file_ranges.FileRange
    ) -> Iterator[pa.Table | _TaggedCounts]:
        reader = file_ranges.RowReader(
            file_range, encoding=self._encoding, fields=self._fields
        )
        folder = os.path.dirname(file_range.file.path)
        rows, num_characters, number = [], 0, 0
        for line, row, content in reader:
            rows.append(
                {
                    "row": len(rows),
                    "file": file_range.file.name,
                    "folder": os.fsencode(folder),
                    "line": line,
                    "content": content,
                    **_image_or_reason(row),
                }
            )
            num_characters += len(content)
            if (
                len(rows) == self._table_rows
                or num_characters > _MAX_CHARACTERS
            ):
                yield _to_table(rows, file_range.number, number)
                rows, num_characters, number = [], 0, number + 1
        if rows:
            yield _to_table(rows, file_range.number, number)
        unknown = collections.Counter()
        for name, count in reader.unknown_fields.items():
            unknown[text_lines.printable(name)] += count
        yield pvalue.TaggedOutput(
            _COUNTS,
            {
                "lines": {f"{file_range.number:06d}": reader.num_lines},
                "unknown_fields": dict(unknown),
            },
        )


def _image_or_reason(row: Any) -> dict[str, Any]:
    if isinstance(row, records.RecordError):
        return {"reason": row.reason, "message": str(row)}
    image = row.get("image")
    try:
        return {"image": os.fsencode(image)}
    except (TypeError, ValueError):  # The check will tell.
        return {}


def _to_table(
    rows: list[dict[str, Any]], range_number: int, number: int
) -> pa.Table:
    table = pa.Table.from_pylist(rows, parts.ROWS_SCHEMA)
    key = f"rows-{range_number:06d}-{number:06d}.parquet"
    return table.replace_schema_metadata({"key": key})


class HashFileFn(beam.DoFn):
    """The first range of a record file to the file's SHA-256."""

    def process(self, file_range: file_ranges.FileRange) -> Iterator[sums.Sums]:
        file = file_range.file
        if file_range.start == 0:
            with record_files.naming(file.path):
                yield {"files": {file.name: record_files.sha256(file.path)}}


class LookAtPicturesFn(beam.DoFn):
    """A table of rows to one number for the state of their pictures.

    `images`: the sum of a hash for each path with size and time of change; it
    changes whenever a picture may have.
    """

    def setup(self) -> None:
        self._pool = concurrent.futures.ThreadPoolExecutor(_NUM_THREADS)

    def teardown(self) -> None:
        self._pool.shutdown()

    def process(self, table: pa.Table) -> Iterator[sums.Sums]:
        pairs = zip(
            table["folder"].to_pylist(), table["image"].to_pylist(), strict=True
        )
        paths = [
            raw_records.resolve_image(os.fsdecode(folder), os.fsdecode(image))
            for folder, image in pairs
            if image is not None
        ]
        states = self._pool.map(record_files.state, paths)
        total = sum(
            int.from_bytes(
                hashlib.sha256(json.dumps(pair).encode()).digest(), "big"
            )
            for pair in zip(paths, states, strict=True)
        )
        yield {"images": total}


class WriteRowsFn(beam.DoFn):
    """A table of rows to a file of them; its name with the number of rows."""

    def __init__(self, rows: locations.Location):
        self._folder = opening.open_folder(rows)

    def process(self, table: pa.Table) -> Iterator[sums.Sums]:
        key = table.schema.metadata[b"key"].decode()
        output = pa.BufferOutputStream()
        pq.write_table(table, output, compression="zstd")
        self._folder.put(key, output.getvalue().to_pybytes())
        yield {"chunks": {key: table.num_rows}}


@beam.typehints.with_input_types(file_ranges.FileRange)
class SurveyRecords(beam.PTransform):
    """Ranges of record files to files of rows; gives counts of all kinds.

    Args:
        rows: the folder of the files of rows.
    """

    def __init__(
        self,
        rows: locations.Location,
        title_field: str,
        encoding: str,
        table_rows: int,
    ):
        super().__init__()
        self._read_range = ReadRangeFn(title_field, encoding, table_rows)
        self._write_rows = WriteRowsFn(rows)

    def expand(self, ranges: beam.PCollection) -> beam.PCollection:
        """Ranges to dicts."""
        read = ranges | "ReadRange" >> beam.ParDo(
            self._read_range
        ).with_outputs(_COUNTS, main="rows")
        return (
            ranges | "HashFile" >> beam.ParDo(HashFileFn()),
            read[_COUNTS],
            read["rows"] | "LookAtPictures" >> beam.ParDo(LookAtPicturesFn()),
            read["rows"] | "WriteRows" >> beam.ParDo(self._write_rows),
        ) | "AllCounts" >> beam.Flatten()


def plan_chunks(
    ranges: Iterable[file_ranges.FileRange], counts: sums.Sums
) -> list[parts.Chunk]:
    """The files of rows, with what comes before each of them.

    Args:
        counts: the sum of what `SurveyRecords` gives.
    """
    keys = {
        number: list(group)
        for number, group in itertools.groupby(
            sorted(counts.get("chunks", {})), key=lambda key: int(key[5:11])
        )
    }
    chunks, num_rows, num_lines = [], 0, 0
    for each in ranges:
        if each.start == 0:
            num_lines = 0
        for key in keys.get(each.number, ()):
            count = counts["chunks"][key]
            chunks.append(parts.Chunk(key, count, num_rows, num_lines))
            num_rows += count
        num_lines += counts["lines"][f"{each.number:06d}"]
    return chunks
