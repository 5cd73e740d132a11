"""Second pipeline of `build_dataset`: staged records to TFRecord shards."""

import collections
import hashlib
import os
import pathlib
import uuid
from collections.abc import Container
from collections.abc import Iterator
from typing import Any

import apache_beam as beam
import numpy as np
from apache_beam.metrics import Metrics

from beam_jobs import runners
from beam_jobs import store_records
from sicot_tf import config
from sicot_tf.data import raw_records
from sicot_tf.data import records
from sicot_tf.data import tfrecords


def training_words(
    record: dict[str, Any], vocabulary: Container[str], require_words: bool
) -> list[str]:
    """The words a training record keeps: those of the vocabulary.

    Raises:
        records.RecordError: `no_words` if none is left and one is required.
    """
    words = [word for word in record["words"] if word in vocabulary]
    if require_words and not words:
        raise records.RecordError(
            "no_words",
            f"No word of the title {record['title']!r:.100} is in the "
            "vocabulary.",
        )
    return words


class WriteShardFn(beam.DoFn):
    """The lines of one shard to its TFRecord file and a summary of it.

    A summary has the number of `records`, of `titles_without_words`, and for
    each SKU id the number of records and the first name.
    """

    def __init__(
        self,
        lines_folder: str,
        output_folder: str,
        words_and_labels: str,
        require_words: bool,
    ):
        self._lines_folder = pathlib.Path(lines_folder)
        self._output_folder = pathlib.Path(output_folder)
        self._words_and_labels = words_and_labels
        self._require_words = require_words
        self._num_written = Metrics.counter(
            runners.METRICS_NAMESPACE, "records_written"
        )

    def setup(self) -> None:
        tables = config.read_json(self._words_and_labels)
        first = records.PADDING_ID + 1
        self._word_ids = {
            word: i for i, word in enumerate(tables["vocabulary"], first)
        }
        self._labels = {
            sku_id: label for label, sku_id in enumerate(tables["sku_ids"])
        }

    def process(self, stem: str) -> Iterator[Any]:
        classes: dict[str, list[Any]] = {}
        counts = collections.Counter()
        rejects = []

        def encode_all() -> Iterator[bytes]:
            path = self._lines_folder / f"{stem}.jsonl"
            for record in store_records.read_lines(path):
                image = _read_staged(*record["staged"])
                try:
                    words, example = self._encode(record, image)
                except Exception as error:  # One record must not end the job.
                    rejects.append(store_records.reject(record, error))
                    continue
                sku_id, sku_name = record["sku_id"], record["sku_name"]
                count, name = classes.get(sku_id, (0, None))
                classes[sku_id] = [count + 1, name or sku_name]
                counts["records"] += 1
                counts["titles_without_words"] += not words
                yield example

        path = self._output_folder / f"{stem}.tfrecord"
        temporary = path.with_name(f".{uuid.uuid4().hex}")
        offsets = tfrecords.write(temporary, encode_all())
        os.replace(temporary, path)
        with temporary.open("wb") as file:
            np.save(file, np.array(offsets, np.uint64))
        os.replace(temporary, path.with_suffix(".offsets.npy"))
        self._num_written.inc(counts["records"])
        summary = {
            "shard": stem,
            "split": stem.partition("-")[0],
            "records": counts["records"],
            "titles_without_words": counts["titles_without_words"],
            "classes": classes,
        }
        yield "summaries", (stem, raw_records.to_json(summary))
        yield from rejects

    def _encode(
        self, record: dict[str, Any], image: bytes
    ) -> tuple[list[str], bytes]:
        """The words a record keeps, and the record as a TFRecord example."""
        label = self._labels.get(record["sku_id"])
        words = record["words"]
        if record["split"] == "train":
            words = training_words(record, self._word_ids, self._require_words)
        elif label is None:
            raise records.RecordError(
                "class_not_in_train",
                f"No training record of class {record['sku_id']!r} is left.",
            )
        return words, records.encode_example(
            record_id=record["record_id"],
            image=image,
            sku_id=record["sku_id"],
            label=label,
            title=record["title"],
            words=words,
            word_ids=[
                self._word_ids.get(word, records.PADDING_ID) for word in words
            ],
            source=record["source"],
        )


def _read_staged(path: str, offset: int, length: int, sha256: str) -> bytes:
    with open(path, "rb") as file:
        file.seek(offset)
        data = file.read(length)
    if hashlib.sha256(data).hexdigest() != sha256:
        raise OSError(
            f"The staged image at byte {offset} of {path} is not what was "
            "written there. Check the disk, and that all workers see one "
            "folder, then run the job again."
        )
    return data


@beam.typehints.with_input_types(str)
@beam.typehints.with_output_types(str)
class WriteShards(beam.PTransform):
    """Stems of shards to TFRecord files, offsets, summaries and rejects.

    Reads `<stem>.jsonl` of `lines_folder`, writes `<stem>.tfrecord` and
    `<stem>.offsets.npy` (uint64, the first byte of each record) into
    `output_folder`, `summaries.jsonl` and `rejects-FFFFF.jsonl` into
    `results_folder`; yields the stems of the latter.

    Args:
        words_and_labels: path of a JSON file with `vocabulary`, the words in
            the order of their ids, and `sku_ids` in the order of the labels.
    """

    def __init__(
        self,
        lines_folder: str,
        output_folder: str,
        results_folder: str,
        words_and_labels: str,
        require_words: bool,
    ):
        super().__init__()
        self._write_shard = WriteShardFn(
            lines_folder, output_folder, words_and_labels, require_words
        )
        self._results_folder = results_folder

    def expand(self, stems: beam.PCollection) -> beam.PCollection:
        written = (
            stems
            | "SpreadShards" >> beam.Reshuffle()
            | "WriteShard"
            >> beam.ParDo(self._write_shard).with_outputs(
                "rejects", main="summaries"
            )
        )
        return (
            (written.summaries, written.rejects)
            | "AllLines" >> beam.Flatten().with_output_types(store_records.Line)
            | "GroupByFile" >> beam.GroupByKey()
            | "WriteLines"
            >> beam.ParDo(store_records.WriteLinesFn(self._results_folder))
        )
