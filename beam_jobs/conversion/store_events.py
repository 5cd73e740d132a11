"""Files of events to checked columns: the first stage of the report.

One worker takes one file at a time. Of what it can use a few numbers go into
a Parquet file, row group by row group; of ids only a hash of 64 bits is kept.
No event passes Beam's shuffle, which FnApiRunner would hold in memory.
"""

import datetime
import os
import pathlib
from collections.abc import Iterator
from typing import Any

import apache_beam as beam
import pyarrow as pa
import pyarrow.parquet as pq
from apache_beam.metrics import Metrics

from beam_jobs.pipelines import runners
from beam_jobs.records import raw_records
from beam_jobs.records import record_files
from sicot_tf import files
from sicot_tf.data import records
from sicot_tf.recognition.visits import events

# Index of a file, its path (which need not be UTF-8), its name in outputs.
EventFile = tuple[int, bytes, str]

EVENT_SCHEMA = pa.schema(
    {
        "event_id": pa.uint64(),
        "visitor": pa.uint64(),
        # Of UTC.
        "day": pa.date32(),
        # Microseconds since the year 1: below 2^59.
        "time": pa.int64(),
        # The file among the sorted files, times 2^36, plus the line: below
        # 2^56 for a million files.
        "place": pa.int64(),
        "event": pa.int8(),
        "variant": pa.string(),
        "recognised": pa.bool_(),
        "robot": pa.bool_(),
    }
)
# Rows a worker holds at once: a few MB of Python objects.
_ROWS_AT_ONCE = 16_384
_BEGINNING = datetime.datetime.min.replace(tzinfo=datetime.UTC)
_MICROSECOND = datetime.timedelta(microseconds=1)
_KINDS = {kind: number for number, kind in enumerate(events.KINDS)}


def part_files(folder: pathlib.Path, index: int) -> dict[str, pathlib.Path]:
    """What becomes of an event file: `events` and `rejects`."""
    return {
        "events": folder / f"{index:06d}.parquet",
        "rejects": folder / f"{index:06d}.rejects.jsonl",
    }


class StoreFileFn(beam.DoFn):
    """An `EventFile` to its part files; yields nothing."""

    def __init__(self, folder: str):
        self._folder = pathlib.Path(folder)
        self._stored, self._rejected = (
            Metrics.counter(runners.METRICS_NAMESPACE, name)
            for name in ("events_stored", "lines_rejected")
        )

    def process(self, event_file: EventFile) -> Iterator[None]:
        index, path, name = event_file
        final = part_files(self._folder, index)
        with (
            files.replacing(final["rejects"]) as rejects_path,
            rejects_path.open("w", encoding="utf-8") as rejects,
            files.replacing(final["events"]) as events_path,
            pq.ParquetWriter(events_path, EVENT_SCHEMA) as writer,
            record_files.naming(name, "event file"),
            record_files.open_file(os.fsdecode(path)) as file,
        ):
            rows = []
            for line, row, _ in raw_records.read_rows(file, name):
                try:
                    rows.append(_columns(row, index, line))
                except records.RecordError as error:
                    self._rejected.inc()
                    rejects.write(_reject_line(name, line, error))
                if len(rows) >= _ROWS_AT_ONCE:
                    self._write(writer, rows)
            self._write(writer, rows)
        yield from ()

    def _write(
        self, writer: pq.ParquetWriter, rows: list[tuple[Any, ...]]
    ) -> None:
        """Writes a row group and empties the list."""
        if rows:
            columns = [
                pa.array(column, field.type)
                for column, field in zip(
                    zip(*rows, strict=True), EVENT_SCHEMA, strict=True
                )
            ]
            writer.write_table(pa.table(columns, EVENT_SCHEMA))
            self._stored.inc(len(rows))
            rows.clear()


class StoreEvents(beam.PTransform):
    """Event files to part files."""

    def __init__(self, folder: str):
        super().__init__()
        self._folder = folder

    def expand(self, event_files: beam.PCollection) -> beam.PCollection:
        return event_files | beam.ParDo(StoreFileFn(self._folder))


def _columns(
    row: dict[str, Any] | records.RecordError, index: int, line: int
) -> tuple[Any, ...]:
    """The values of `EVENT_SCHEMA`.

    Raises:
        records.RecordError: with the reason.
    """
    if isinstance(row, records.RecordError):
        raise row
    try:
        event = events.parse(row)
    except ValueError as error:
        raise records.RecordError("bad_event", str(error)) from error
    return (
        files.stable_hash(event.event_id),
        files.stable_hash(event.visitor),
        event.time.date(),
        (event.time - _BEGINNING) // _MICROSECOND,
        (index << 36) + line,
        _KINDS[event.event],
        event.variant,
        event.recognised,
        event.robot,
    )


def _reject_line(name: str, line: int, error: records.RecordError) -> str:
    """Without the event: what is wrong with it may be an address in it."""
    message = str(error)
    if error.reason != "bad_event":
        # Of what is no object the reader shows the beginning.
        message = message.partition(", received")[0]
    reject = {"file": name, "line": line, "reason": error.reason}
    reject["message"] = message
    return raw_records.to_json(reject) + "\n"
