"""First pipeline of `mine_clicks`: click logs to checked rows.

One worker takes one file at a time. What it can use goes into a Parquet file,
which appears last and marks the log as read, so that a killed job need not
read it again.
"""

import json
import os
import pathlib
from collections.abc import Iterator
from collections.abc import Mapping
from typing import Any
from typing import TextIO

import apache_beam as beam
import pyarrow as pa
import pyarrow.parquet as pq
from apache_beam.metrics import Metrics

from beam_jobs.pipelines import runners
from beam_jobs.records import raw_records
from beam_jobs.records import record_files
from sicot_tf import files
from sicot_tf.data import clicks
from sicot_tf.data import records

# Index of a log, its path (which need not be UTF-8), its name in outputs.
ClickFile = tuple[int, bytes, str]

CLICK_SCHEMA = pa.schema(
    {
        # The file among the sorted files, times 2^36, plus the line.
        "place": pa.int64(),
        "query_id": pa.string(),
        "visitor": pa.string(),
        # Microseconds since 1970.
        "time": pa.int64(),
        "image": pa.string(),
        "shown": pa.list_(pa.string()),
        # Of the query and each of `shown`; null where the log has none.
        "similarities": pa.list_(pa.float64()),
        "clicked": pa.string(),
        "position": pa.int32(),
        "split": pa.string(),
        # The row as JSON, for the rejects.
        "content": pa.string(),
    }
)
NEEDED = ("query_id", "image", "shown", "clicked", "position")
_SAME = (
    "query_id",
    "visitor",
    "image",
    "shown",
    "similarities",
    "clicked",
    "position",
    "split",
)
# Rows a worker holds at once.
_ROWS_AT_ONCE = 8192


def part_files(folder: pathlib.Path, index: int) -> dict[str, pathlib.Path]:
    """The files of a log that is read: `clicks` and `rejects`."""
    return {
        "clicks": folder / f"clicks-{index:05d}.parquet",
        "rejects": folder / f"clicks-{index:05d}.rejects.jsonl",
    }


def num_read(folder: pathlib.Path, index: int) -> int:
    """Rows of a log that is read, good or not."""
    path = part_files(folder, index)["clicks"]
    return int(pq.read_metadata(path).metadata[b"read"])


def parse_click(row: Mapping[str, Any]) -> dict[str, Any]:
    """Holds one row to the contract of `sicot_tf.data.clicks`.

    Returns:
        The fields of `CLICK_SCHEMA` without `place` and `content`; a relative
        `image` stays so.

    Raises:
        clicks.ClickError: with the reason.
    """
    click = clicks.parse(row, "")
    values = {name: getattr(click, name) for name in _SAME}
    return {**values, "time": round(click.time * 1e6)}


def reject_line(
    reason: str,
    message: str,
    *,
    file: str,
    line: int,
    record: Any,
) -> str:
    """A line of `rejects.jsonl`, as `replay_rejects` reads it."""
    is_row = isinstance(record, dict)
    return raw_records.to_json(
        {
            "reason": reason,
            "message": message,
            "file": file,
            "line": line,
            "record_id": record.get("query_id") if is_row else None,
            "record": record,
        }
    )


class ParseFileFn(beam.DoFn):
    """A `ClickFile` to its `part_files`; yields nothing."""

    def __init__(self, folder: str, encoding: str = "utf-8"):
        self._folder = pathlib.Path(folder)
        self._encoding = encoding
        self._num_read = Metrics.counter(runners.METRICS_NAMESPACE, "rows_read")

    def process(self, file: ClickFile) -> Iterator[None]:
        final = part_files(self._folder, file[0])
        if final["clicks"].exists():
            return
        num_read = 0
        # Clicks are renamed last: they mark the log as read.
        with (
            files.replacing(final["clicks"]) as clicks_path,
            pq.ParquetWriter(clicks_path, CLICK_SCHEMA) as writer,
            files.replacing(final["rejects"]) as rejects_path,
            rejects_path.open("w", encoding="utf-8") as rejects,
        ):
            parsed = []
            for row in self._rows(file):
                num_read += 1
                click = _parse_or_reject(row, file, rejects)
                if click is not None:
                    parsed.append(click)
                if len(parsed) == _ROWS_AT_ONCE:
                    writer.write_batch(_to_batch(parsed))
                    parsed = []
            writer.write_batch(_to_batch(parsed))
            writer.add_key_value_metadata({"read": str(num_read)})
        self._num_read.inc(num_read)
        yield from ()

    def _rows(self, file: ClickFile) -> Iterator[tuple[int, Any, str]]:
        _, path, name = file
        path = os.fsdecode(path)
        with (
            record_files.naming(path, "click log"),
            record_files.open_file(path) as stream,
        ):
            yield from raw_records.read_rows(
                stream,
                name,
                encoding=self._encoding,
                needed=NEEDED,
            )


def _parse_or_reject(
    row: tuple[int, Any, str], file: ClickFile, rejects: TextIO
) -> dict[str, Any] | None:
    index, _, name = file
    line, fields, content = row
    try:
        if isinstance(fields, records.RecordError):
            raise fields
        # A line of rejects.jsonl stands for the record inside it.
        if "query_id" not in fields and {"reason", "record"} <= fields.keys():
            fields = fields["record"]
            content = raw_records.to_json(fields)
            if not isinstance(fields, dict):
                raise records.RecordError("bad_json", f"No object: {content}")
        click = parse_click(fields)
    except Exception as error:  # One row must not end the job.
        reason, message = raw_records.why_rejected(
            error, (records.RecordError, clicks.ClickError)
        )
        text = reject_line(
            reason, message, file=name, line=line, record=json.loads(content)
        )
        rejects.write(text + "\n")
        return None
    return {**click, "place": (index << 36) + line, "content": content}


def _to_batch(parsed: list[dict[str, Any]]) -> pa.RecordBatch:
    return pa.RecordBatch.from_pylist(parsed, schema=CLICK_SCHEMA)


@beam.typehints.with_input_types(ClickFile)
@beam.typehints.with_output_types(None)
class ParseClicks(beam.PTransform):
    """Click logs to `part_files` in `folder`; finished ones stay."""

    def __init__(self, folder: str, encoding: str = "utf-8"):
        super().__init__()
        self._parse_file = ParseFileFn(folder, encoding)

    def expand(self, logs: beam.PCollection) -> beam.PCollection:
        return logs | "ParseFile" >> beam.ParDo(self._parse_file)
