"""First pipeline of `build_product_index`: catalogue files to checked rows.

    file -> ReadRows -> parts of rows -> CheckProducts -> StoreProducts
                                                     \\-> StoreRejects

A part is some thousand rows of a file. Once the last part of a file and all
before it are stored, the file is not read again by a job that goes on after a
kill, and no part that is stored is checked again.
"""

import json
import os
import pathlib
import re
from collections.abc import Iterator
from collections.abc import Sequence
from typing import Any

import apache_beam as beam
import pyarrow as pa
import pyarrow.parquet as pq
from apache_beam.metrics import Metrics

from beam_jobs.catalogue import parse_catalogue
from beam_jobs.pipelines import runners
from beam_jobs.records import raw_records
from beam_jobs.records import record_files
from sicot_tf.data import records
from sicot_tf.stores import folder
from sicot_tf.stores import locations
from sicot_tf.stores import opening

# Index of a catalogue file, its path (which need not be UTF-8), its name in
# outputs.
CatalogueFile = tuple[int, bytes, str]
# Key of a part without its ending, name of its file, rows of `ROW_SCHEMA`.
Part = tuple[str, str, pa.Table]

# `content` is JSON; `reason` and `message` say what is wrong with a row.
ROW_SCHEMA = pa.schema(
    {
        "line": pa.int64(),
        "content": pa.string(),
        "reason": pa.string(),
        "message": pa.string(),
    }
)
_PRODUCTS, _REJECTS = ".products.parquet", ".rejects.jsonl"
# In the key of the last part of a file.
_LAST = "-last"
# Characters of a part: descriptions may be long.
_MAX_CHARACTERS = 1 << 24


def inputs(
    catalogue: Sequence[record_files.RecordFile],
) -> list[CatalogueFile]:
    """The elements that `ParseCatalogue` takes."""
    return [
        (number, os.fsencode(file.path), file.name)
        for number, file in enumerate(catalogue)
    ]


def products_in(parts: pathlib.Path) -> list[pathlib.Path]:
    """The Parquet files of products that `ParseCatalogue` stored."""
    return sorted(parts.glob(f"*/*{_PRODUCTS}"))


def rejects_in(parts: pathlib.Path) -> list[pathlib.Path]:
    """The JSON Lines of rejected records, in the order of the records."""
    return sorted(parts.glob(f"*/*{_REJECTS}"))


class ReadRowsFn(beam.DoFn):
    """A catalogue file to those of its parts that are not stored yet.

    The counts of the others go to `counts`.
    """

    def __init__(self, location: locations.Location, encoding: str = "utf-8"):
        self._folder = opening.open_folder(location)
        self._encoding = encoding

    def process(self, file: CatalogueFile) -> Iterator[Any]:
        index, path, name = file
        stored = _stored_parts(self._folder, index)
        for part in stored:
            counts = _stored_counts(self._folder, part)
            yield beam.pvalue.TaggedOutput("counts", counts)
        if _is_whole(stored):
            return
        for part, table in self._read_parts(index, os.fsdecode(path), name):
            if part not in stored:
                yield part, name, table

    def _read_parts(
        self, index: int, path: str, name: str
    ) -> Iterator[tuple[str, pa.Table]]:
        number, rows, num_characters = 0, [], 0
        with (
            record_files.naming(path, "catalogue file"),
            record_files.open_file(path) as stream,
        ):
            for line, row, content in raw_records.read_rows(
                stream, name, encoding=self._encoding, needed=["product_id"]
            ):
                if (
                    len(rows) == parse_catalogue.ROWS_AT_ONCE
                    or num_characters > _MAX_CHARACTERS
                ):
                    yield f"{index:05d}/{number:06d}", _to_table(rows)
                    number, rows, num_characters = number + 1, [], 0
                reason = message = None
                if isinstance(row, records.RecordError):
                    reason, message = row.reason, str(row)
                rows.append((line, content, reason, message))
                num_characters += len(content)
        yield f"{index:05d}/{number:06d}{_LAST}", _to_table(rows)


def _to_table(rows: Sequence[tuple]) -> pa.Table:
    columns = zip(*rows, strict=True) if rows else [()] * len(ROW_SCHEMA)
    return pa.table(
        [
            pa.array(column, field.type)
            for column, field in zip(columns, ROW_SCHEMA, strict=True)
        ],
        ROW_SCHEMA,
    )


def _stored_parts(place: folder.Folder, index: int) -> list[str]:
    """Keys, without endings, of the parts of a file, in their order."""
    keys = {entry.key for entry in place.list(f"{index:05d}/")}
    return sorted(
        key.removesuffix(_PRODUCTS)
        for key in keys
        if key.endswith(_PRODUCTS)
        and key.removesuffix(_PRODUCTS) + _REJECTS in keys
    )


def _is_whole(parts: Sequence[str]) -> bool:
    if not parts or not parts[-1].endswith(_LAST):
        return False
    return int(re.search(r"/(\d+)", parts[-1])[1]) == len(parts) - 1


def _stored_counts(place: folder.Folder, part: str) -> dict[str, int]:
    with place.open(part + _PRODUCTS) as file:
        return _counts(pq.read_schema(file))


def _counts(schema: pa.Schema) -> dict[str, int]:
    return {
        name: int(schema.metadata[name.encode()])
        for name in ("records_read", "records_rejected")
    }


class CheckProductsFn(beam.DoFn):
    """A part to its products, a table of `PRODUCT_SCHEMA`, by its key.

    The metadata of the table tell how many records were read and rejected.
    `rejects` gets the lines of the rejected ones, by the key as well.
    """

    def __init__(self) -> None:
        self._num_read = Metrics.counter(
            runners.METRICS_NAMESPACE, "records_read"
        )

    def process(self, part: Part) -> Iterator[Any]:
        key, name, table = part
        index = int(key.partition("/")[0])
        products, rejects = [], []
        columns = (column.to_pylist() for column in table.columns)
        for line, content, reason, message in zip(*columns, strict=True):
            try:
                if reason is not None:
                    raise records.RecordError(reason, message)
                product = parse_catalogue.parse_product(json.loads(content))
            except Exception as error:  # One record must not end the job.
                rejects.append(_reject_line(error, name, line, content))
                continue
            products.append({**product, "file": index, "line": line})
        counts = {
            "records_read": str(table.num_rows),
            "records_rejected": str(len(rejects)),
        }
        schema = parse_catalogue.PRODUCT_SCHEMA.with_metadata(counts)
        self._num_read.inc(table.num_rows)
        yield beam.pvalue.TaggedOutput("rejects", (key, rejects))
        yield key, pa.Table.from_pylist(products, schema)


def _reject_line(error: Exception, file: str, line: int, content: str) -> str:
    reason, message = raw_records.why_rejected(error)
    return raw_records.to_json(
        {
            "reason": reason,
            "message": message,
            "file": file,
            "line": line,
            "record": json.loads(content),
        }
    )


class _StoreFn(beam.DoFn):
    def __init__(self, location: locations.Location):
        self._folder = opening.open_folder(location)


class StoreRejectsFn(_StoreFn):
    """The lines of rejected records to a file of their part."""

    def process(self, part: tuple[str, Sequence[str]]) -> Iterator[None]:
        key, lines = part
        text = "".join(f"{line}\n" for line in lines)
        self._folder.put(key + _REJECTS, text.encode())
        yield from ()


class StoreProductsFn(_StoreFn):
    """Tables of products to Parquet files; yields counts of records."""

    def process(self, part: tuple[str, pa.Table]) -> Iterator[dict[str, int]]:
        key, table = part
        sink = pa.BufferOutputStream()
        pq.write_table(table, sink)
        self._folder.put(key + _PRODUCTS, sink.getvalue().to_pybytes())
        yield _counts(table.schema)


@beam.typehints.with_input_types(CatalogueFile)
@beam.typehints.with_output_types(dict[str, int])
class ParseCatalogue(beam.PTransform):
    """Catalogue files to counts: `records_read`, `records_rejected`.

    Args:
        location: the folder of the parts; those that are there stay.
        encoding: of the text of JSON Lines and CSV.
    """

    def __init__(self, location: locations.Location, encoding: str = "utf-8"):
        super().__init__()
        self._location = location
        self._encoding = encoding

    def expand(self, files: beam.PCollection) -> beam.PCollection:
        read = files | "ReadRows" >> beam.ParDo(
            ReadRowsFn(self._location, self._encoding)
        ).with_outputs("counts", main="parts")
        checked = read.parts | "CheckProducts" >> beam.ParDo(
            CheckProductsFn()
        ).with_outputs("rejects", main="products")
        _ = checked.rejects | "StoreRejects" >> beam.ParDo(
            StoreRejectsFn(self._location)
        )
        stored = checked.products | "StoreProducts" >> beam.ParDo(
            StoreProductsFn(self._location)
        )
        return (read.counts, stored) | "AllCounts" >> beam.Flatten()
