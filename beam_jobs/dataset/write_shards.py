"""Second pipeline of `build_dataset`: resolved records to TFRecord shards.

A shard is written by one worker, which reads the pictures from the parts'
files. Its summary appears last and marks it as finished: after a kill only
unfinished shards are written again.
"""

import hashlib
import pathlib
from collections.abc import Iterator
from typing import Any

import apache_beam as beam
import numpy as np
import pyarrow.parquet as pq
from apache_beam.metrics import Metrics

from beam_jobs.dataset import parts
from beam_jobs.pipelines import runners
from sicot_tf import files
from sicot_tf.data import records
from sicot_tf.data import tfrecords


class WriteShardFn(beam.DoFn):
    """A shard's stem to its TFRecord file and offsets; yields nothing.

    Reads `<stem>.parquet` of `shards_folder`, writes `<stem>.tfrecord` and
    `<stem>.offsets.npy` (uint64, the first byte of each record) into
    `output_folder`, and `<stem>.json` into `summaries_folder`: `shard`, the
    number of `records` and of `titles_without_words`.

    Args:
        vocabulary_path: the words, one a line, in the order of their ids.
    """

    def __init__(
        self,
        shards_folder: str,
        parts_folder: str,
        output_folder: str,
        summaries_folder: str,
        vocabulary_path: str,
    ):
        self._shards_folder = pathlib.Path(shards_folder)
        self._parts_folder = pathlib.Path(parts_folder)
        self._output_folder = pathlib.Path(output_folder)
        self._summaries_folder = pathlib.Path(summaries_folder)
        self._vocabulary_path = vocabulary_path
        self._counters = {
            name: Metrics.counter(runners.METRICS_NAMESPACE, name)
            for name in ("records_written", "shards_written", "shards_reused")
        }

    def setup(self) -> None:
        first = records.PADDING_ID + 1
        with open(self._vocabulary_path, encoding="utf-8") as file:
            self._word_ids = {
                word.removesuffix("\n"): i for i, word in enumerate(file, first)
            }

    def process(self, stem: str) -> Iterator[None]:
        summary_path = self._summaries_folder / f"{stem}.json"
        if summary_path.exists():
            self._counters["shards_reused"].inc()
            return
        summary = {"shard": stem, "records": 0, "titles_without_words": 0}
        path = self._output_folder / f"{stem}.tfrecord"
        # A worker that outlives the build must leave nothing in its result.
        with files.replacing(path, self._summaries_folder) as temporary:
            offsets = tfrecords.write(
                temporary, self._encode_all(stem, summary)
            )
        with (
            files.replacing(
                path.with_suffix(".offsets.npy"), self._summaries_folder
            ) as temporary,
            temporary.open("wb") as file,
        ):
            np.save(file, np.array(offsets, np.uint64))
        files.write_json(summary_path, summary)
        self._counters["records_written"].inc(summary["records"])
        self._counters["shards_written"].inc()
        yield from ()

    def _encode_all(
        self, stem: str, summary: dict[str, Any]
    ) -> Iterator[bytes]:
        is_train = stem.startswith("train-")
        source = pq.ParquetFile(self._shards_folder / f"{stem}.parquet")
        for batch in source.iter_batches(batch_size=1024):
            for record in batch.to_pylist():
                words = record["words"]
                if is_train:
                    words = [word for word in words if word in self._word_ids]
                summary["records"] += 1
                summary["titles_without_words"] += not words
                yield records.encode_example(
                    record_id=record["record_id"],
                    image=self._read_image(record),
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
        part = parts.files(self._parts_folder, record["part"])
        with part["jpegs"].open("rb") as file:
            file.seek(record["offset"])
            data = file.read(record["length"])
        if hashlib.sha256(data).digest() != record["sha256"]:
            raise OSError(
                f"The picture at byte {record['offset']} of {part['jpegs']} "
                "is not what was written there. Check the disk, and that all "
                "workers see one folder; then remove the folder "
                f"{self._parts_folder.parent} and run the job again."
            )
        return data


@beam.typehints.with_input_types(str)
class WriteShards(beam.PTransform):
    """Stems of shards to TFRecord files, offsets and summaries."""

    def __init__(self, write_shard: WriteShardFn):
        super().__init__()
        self._write_shard = write_shard

    def expand(self, stems: beam.PCollection) -> beam.PCollection:
        return (
            stems
            | "SpreadShards" >> beam.Reshuffle()
            | "WriteShard"
            >> beam.ParDo(self._write_shard).with_output_types(int)
        )
