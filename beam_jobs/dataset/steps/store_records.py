"""Second pipeline of `build_dataset`: rows of the record files to facts.

A part is one table, which one worker takes through all steps: rows are
checked, pictures decoded and appended to one file of the part, titles split
into words. What is known of each record goes into a Parquet file, which
appears last and marks the part as finished: after a kill only unfinished parts
are done again. No picture and no record passes a shuffle.
"""

import hashlib
from collections.abc import Iterator
from collections.abc import Sequence
from typing import Literal

import apache_beam as beam
import pyarrow as pa
import pyarrow.parquet as pq
from apache_beam import pvalue
from apache_beam.metrics import Metrics

from beam_jobs.dataset.steps import check_records
from beam_jobs.dataset.steps import parts
from beam_jobs.dataset.steps import reject_lines
from beam_jobs.dataset.steps import store_pictures
from beam_jobs.dataset.steps import tokenize_titles
from beam_jobs.pipelines import runners
from beam_jobs.pipelines import sums
from sicot_tf import config
from sicot_tf.stores import locations
from sicot_tf.stores import opening

_REJECTS = "rejects"
_TaggedRejects = pvalue.TaggedOutput[Literal["rejects"], pa.Table]


class ReadRowsFn(beam.DoFn):
    """A part to the table of its rows, of `parts.ROWS_SCHEMA`."""

    def __init__(self, rows: locations.Location):
        self._folder = opening.open_folder(rows)
        self._counter = Metrics.counter(
            runners.METRICS_NAMESPACE, "records_read"
        )

    def process(self, part: parts.Part) -> Iterator[pa.Table]:
        table = pa.concat_tables(
            parts.read_chunk(self._folder, chunk) for chunk in part.chunks
        )
        self._counter.inc(table.num_rows)
        yield table.replace_schema_metadata({"part": str(part.number)})


class WriteFactsFn(beam.DoFn):
    """A part's table to its files of facts and rejects.

    Gives the part's counts; the output `rejects` has the rejects as a table
    (`parts.REJECTS_SCHEMA`). Of two workers at one part the first one counts.
    """

    def __init__(self, folder: locations.Location):
        self._folder = opening.open_folder(folder)
        self._counters = {
            name: Metrics.counter(runners.METRICS_NAMESPACE, name)
            for name in ("parts_stored", "parts_reused")
        }

    def process(self, table: pa.Table) -> Iterator[sums.Sums | _TaggedRejects]:
        number = parts.number_of(table)
        facts, rejected = parts.divide(table)
        counts = {
            "read": table.num_rows,
            "images": int(table.schema.metadata[b"images"]),
        }
        reasons = _count_reasons(rejected)
        lines = reject_lines.to_lines(rejected.to_pylist())
        content = "".join(f"{line}\n" for line in lines).encode()
        digest = hashlib.sha256(content).hexdigest()
        key = parts.file_key(number, digest, "rejects")
        if rejected.num_rows:
            self._folder.put(key, content)
        facts = parts.describe(facts, {**counts, **reasons}, key)
        output = pa.BufferOutputStream()
        pq.write_table(facts, output, compression="zstd")
        facts_key = parts.facts_key(number)
        # Facts last: they mark the part as finished.
        if self._folder.create(facts_key, output.getvalue().to_pybytes()):
            self._counters["parts_stored"].inc()
            yield counts
            yield pvalue.TaggedOutput(_REJECTS, rejected)
        else:
            self._counters["parts_reused"].inc()
            yield parts.read_counts(self._folder, facts_key)


def _count_reasons(rejected: pa.Table) -> sums.Sums:
    return {
        "rejected": {
            each["values"]: each["counts"]
            for each in rejected["reason"].value_counts().to_pylist()
        }
    }


class _CountReasonsFn(beam.DoFn):
    def process(self, element: pa.Table) -> Iterator[sums.Sums]:
        yield _count_reasons(element)


@beam.typehints.with_input_types(parts.Part)
class StoreRecords(beam.PTransform):
    """Parts to their files; gives the counts of each.

    Args:
        rows: the folder of the files of rows.
        folder: where the parts' files go.
    """

    def __init__(
        self,
        rows: locations.Location,
        folder: locations.Location,
        dataset_config: config.DatasetConfig,
    ):
        super().__init__()
        self._rows = rows
        self._folder = folder
        self._config = dataset_config

    def expand(self, inputs: beam.PCollection) -> beam.PCollection:
        """Parts to dicts."""
        stored = (
            inputs
            | "ReadRows" >> beam.ParDo(ReadRowsFn(self._rows))
            | "CheckRecords"
            >> beam.ParDo(check_records.CheckRecordsFn(self._config))
            | "StorePictures"
            >> beam.ParDo(
                store_pictures.StorePicturesFn(self._folder, self._config)
            )
            | "TokenizeTitles" >> beam.ParDo(tokenize_titles.TokenizeTitlesFn())
            | "WriteFacts"
            >> beam.ParDo(WriteFactsFn(self._folder)).with_outputs(
                _REJECTS, main="counts"
            )
        )
        return (
            stored["counts"],
            stored[_REJECTS] | "CountReasons" >> beam.ParDo(_CountReasonsFn()),
        ) | "AllCounts" >> beam.Flatten()


class ReadCountsFn(beam.DoFn):
    """Parts that were finished before to the counts of each."""

    def __init__(self, folder: locations.Location):
        self._folder = opening.open_folder(folder)

    def process(self, batch: Sequence[parts.Part]) -> Iterator[sums.Sums]:
        for part in batch:
            yield parts.read_counts(self._folder, parts.facts_key(part.number))
