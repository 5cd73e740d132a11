"""Last pipeline of `mine_clicks`: triplets to TFRecord shards.

A shard is written by one worker and appears as a whole; a finished one is not
written again after a kill. `TRIPLET_FEATURES` reads what it holds.
"""

import functools
import pathlib
from collections.abc import Iterator
from typing import Any

import apache_beam as beam
import pyarrow.parquet as pq
import tensorflow as tf
from apache_beam.metrics import Metrics

from beam_jobs.pipelines import runners
from sicot_tf import files
from sicot_tf.data import tfrecords

_TEXT = tf.io.FixedLenFeature([], tf.string)
TRIPLET_FEATURES = {
    "query_id": _TEXT,
    "positive_id": _TEXT,
    "negative_id": _TEXT,
    "query/encoded": _TEXT,
    "positive/encoded": _TEXT,
    "negative/encoded": _TEXT,
    "weight": tf.io.FixedLenFeature([], tf.float32),
    # `shown` or `hard`.
    "negative_kind": _TEXT,
}


class WriteShardFn(beam.DoFn):
    """A shard's stem to `<stem>.tfrecord`; yields nothing.

    Reads `<stem>.parquet` of `shards_folder`: the features with `query`,
    `positive` and `negative` as `{jpegs, offset, length}` in
    `pictures_folder`.
    """

    def __init__(
        self, shards_folder: str, pictures_folder: str, output_folder: str
    ):
        self._shards_folder = pathlib.Path(shards_folder)
        self._pictures_folder = pathlib.Path(pictures_folder)
        self._output_folder = pathlib.Path(output_folder)
        self._num_written = Metrics.counter(
            runners.METRICS_NAMESPACE, "triplets_written"
        )

    def process(self, stem: str) -> Iterator[None]:
        path = self._output_folder / f"{stem}.tfrecord"
        if path.exists():
            return
        # A worker that outlives the job must leave nothing in its result.
        with files.replacing(path, self._shards_folder) as temporary:
            offsets = tfrecords.write(temporary, self._encode_all(stem))
        self._num_written.inc(len(offsets))
        yield from ()

    def _encode_all(self, stem: str) -> Iterator[bytes]:
        # Neighbours share pictures only by chance: a small cache.
        read = functools.lru_cache(256)(self._read)
        source = pq.ParquetFile(self._shards_folder / f"{stem}.parquet")
        for batch in source.iter_batches(batch_size=1024):
            for row in batch.to_pylist():
                yield _encode(
                    row,
                    {
                        name: read(*row[name].values())
                        for name in ("query", "positive", "negative")
                    },
                )

    def _read(self, jpegs: str, offset: int, length: int) -> bytes:
        with (self._pictures_folder / jpegs).open("rb") as file:
            file.seek(offset)
            data = file.read(length)
        if len(data) != length:
            raise OSError(
                f"Expected {length} bytes at {offset} of "
                f"{self._pictures_folder / jpegs}, received {len(data)}. "
                "Remove that folder and run the job again."
            )
        return data


def _encode(row: dict[str, Any], pictures: dict[str, bytes]) -> bytes:
    values = {
        name: row[name].encode()
        for name in ("query_id", "positive_id", "negative_id", "negative_kind")
    } | {f"{name}/encoded": data for name, data in pictures.items()}
    feature = {
        name: tf.train.Feature(bytes_list=tf.train.BytesList(value=[value]))
        for name, value in values.items()
    }
    feature["weight"] = tf.train.Feature(
        float_list=tf.train.FloatList(value=[row["weight"]])
    )
    example = tf.train.Example(features=tf.train.Features(feature=feature))
    # Map order follows PYTHONHASHSEED unless asked for otherwise.
    return example.SerializeToString(deterministic=True)


@beam.typehints.with_input_types(str)
@beam.typehints.with_output_types(None)
class WriteShards(beam.PTransform):
    """Stems of shards to TFRecord files."""

    def __init__(
        self, shards_folder: str, pictures_folder: str, output_folder: str
    ):
        super().__init__()
        self._write = WriteShardFn(
            shards_folder, pictures_folder, output_folder
        )

    def expand(self, stems: beam.PCollection) -> beam.PCollection:
        return stems | "WriteShard" >> beam.ParDo(self._write)
