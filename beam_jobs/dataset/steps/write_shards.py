"""Third pipeline of `build_dataset`: resolved records to TFRecord shards.

A shard is written by one worker, which reads the pictures from the parts'
files. Its summary appears last and marks it as finished: after a kill only
unfinished shards are written again.
"""

import concurrent.futures
import hashlib
import io
import itertools
from collections.abc import Iterator
from collections.abc import Sequence
from typing import Any

import apache_beam as beam
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from apache_beam.metrics import Metrics

from beam_jobs.pipelines import read_ahead
from beam_jobs.pipelines import runners
from beam_jobs.pipelines import sums
from sicot_tf import files
from sicot_tf.data import records
from sicot_tf.data import tfrecords
from sicot_tf.stores import locations
from sicot_tf.stores import opening

# Records that are Python objects at a time.
_BATCH = 1024
# Pictures that are read ahead of the one that is written.
_READ_AHEAD = 16


def plan_key(stem: str) -> str:
    """The file of a shard's records, without their pictures."""
    return f"{stem}.parquet"


def summary_key(stem: str) -> str:
    """The file that marks a shard as finished."""
    return f"{stem}.json"


class ReadPlanFn(beam.DoFn):
    """A shard's stem to the table of its records, `SHARD_SCHEMA`."""

    def __init__(self, plans: locations.Location):
        self._folder = opening.open_folder(plans)

    def process(self, stem: str) -> Iterator[pa.Table]:
        with self._folder.open(plan_key(stem)) as file:
            table = pq.read_table(file)
        yield table.replace_schema_metadata({"stem": stem})


class WriteShardFn(beam.DoFn):
    """The table of a shard's records to its TFRecord file and offsets.

    Writes `<stem>.tfrecord` and `<stem>.offsets.npy` (uint64, the first byte
    of each record) into `output`, and `<stem>.json` into `summaries`, which it
    also gives: `splits` with the numbers of `records` and of
    `titles_without_words`, `shards` with the records of each, `files` with
    size and SHA-256.

    Args:
        pictures: the folder of the parts' files.
        vocabulary: of the words, one a line, in the order of their ids; it is
            in `output`.
    """

    def __init__(
        self,
        pictures: locations.Location,
        output: locations.Location,
        summaries: locations.Location,
        vocabulary: str,
    ):
        self._pictures, self._output, self._summaries = map(
            opening.open_folder, (pictures, output, summaries)
        )
        self._vocabulary = vocabulary
        self._counters = {
            name: Metrics.counter(runners.METRICS_NAMESPACE, name)
            for name in ("records_written", "shards_written")
        }

    def setup(self) -> None:
        first = records.PADDING_ID + 1
        lines = io.StringIO(self._output.get(self._vocabulary).decode())
        self._word_ids = {
            word.removesuffix("\n"): i for i, word in enumerate(lines, first)
        }
        self._pool = concurrent.futures.ThreadPoolExecutor(_READ_AHEAD)

    def teardown(self) -> None:
        self._pool.shutdown()

    def process(self, table: pa.Table) -> Iterator[sums.Sums]:
        stem = table.schema.metadata[b"stem"].decode()
        split = stem.partition("-")[0]
        counts = {"records": table.num_rows, "titles_without_words": 0}
        summary = {
            "splits": {split: counts},
            "shards": {stem: table.num_rows},
            "files": {},
        }
        with self._summaries.scratch() as scratch:
            shard = scratch / f"{stem}.tfrecord"
            examples = self._encode_all(table, split == "train", counts)
            offsets = tfrecords.write(shard, examples)
            offsets_file = scratch / f"{stem}.offsets.npy"
            np.save(offsets_file, np.array(offsets, np.uint64))
            # A worker that outlives the build leaves nothing that is not
            # what another one has written there.
            for path in (shard, offsets_file):
                summary["files"][path.name] = files.describe(path)
                self._output.upload(path, path.name)
        self._summaries.put_json(summary_key(stem), summary)
        self._counters["records_written"].inc(table.num_rows)
        self._counters["shards_written"].inc()
        yield summary

    def _encode_all(
        self, table: pa.Table, is_train: bool, counts: dict[str, int]
    ) -> Iterator[bytes]:
        batches = map(pa.RecordBatch.to_pylist, table.to_batches(_BATCH))
        for record, image in read_ahead.read_ahead(
            self._pool,
            self._read_image,
            itertools.chain.from_iterable(batches),
            _READ_AHEAD,
        ):
            words = record["words"]
            if is_train:
                words = [word for word in words if word in self._word_ids]
            counts["titles_without_words"] += not words
            yield records.encode_example(
                record_id=record["record_id"],
                image=image,
                sku_id=record["sku_id"],
                label=record["label"],
                title=record["title"],
                words=words,
                word_ids=[
                    self._word_ids.get(word, records.PADDING_ID)
                    for word in words
                ],
                source=record["source"],
            )

    def _read_image(self, record: dict[str, Any]) -> bytes:
        data = self._pictures.get_range(
            record["jpegs"], record["offset"], record["length"]
        )
        if hashlib.sha256(data).digest() != record["sha256"]:
            place = locations.join(self._pictures.location, record["jpegs"])
            raise OSError(
                f"The picture at byte {record['offset']} of {place} is not "
                "what was written there. Check the disk; then remove the "
                f"folder {locations.parent(self._pictures.location)} and run "
                "the job again."
            )
        return data


@beam.typehints.with_input_types(str)
class WriteShards(beam.PTransform):
    """Stems of shards to their files; gives the summary of each."""

    def __init__(self, plans: locations.Location, write_shard: WriteShardFn):
        super().__init__()
        self._plans = plans
        self._write_shard = write_shard

    def expand(self, stems: beam.PCollection) -> beam.PCollection:
        """Stems to dicts."""
        return (
            stems
            | "ReadPlan" >> beam.ParDo(ReadPlanFn(self._plans))
            | "WriteShard" >> beam.ParDo(self._write_shard)
        )


class ReadSummaryFn(beam.DoFn):
    """Stems of shards that were finished before to the summary of each."""

    def __init__(self, summaries: locations.Location):
        self._folder = opening.open_folder(summaries)

    def process(self, batch: Sequence[str]) -> Iterator[sums.Sums]:
        for stem in batch:
            yield self._folder.get_json(summary_key(stem))
