"""First pipeline of `build_dataset`: record files to sorted, staged records.

Image bytes never travel: the worker that decodes an image appends the JPEG to
a staged file, and only its place goes through the shuffle. All else leaves
the pipeline as JSON Lines, grouped by file and sorted by key, so that the
number of workers leaves no trace. Both folders have to be visible to all
workers.
"""

import collections
import hashlib
import json
import math
import os
import pathlib
import posixpath
import uuid
from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Mapping
from typing import Any

import apache_beam as beam
from apache_beam.metrics import Metrics
from apache_beam.transforms import window
from apache_beam.utils import windowed_value

from beam_jobs import record_files
from beam_jobs import runners
from sicot_tf import config
from sicot_tf.data import raw_records
from sicot_tf.data import records
from sicot_tf.data import stored_images
from sicot_tf.data import titles

# File stem in the work folder, then sort key and JSON text of one line.
Line = tuple[str, tuple[str, str]]


def reject(record: Mapping[str, Any], error: Exception) -> Any:
    """A record's line in the rejects, with the reason it can't be used."""
    reason, message = "unexpected_error", f"{type(error).__name__}: {error}"
    if isinstance(error, records.RecordError):
        reason, message = error.reason, str(error)
    content = json.loads(record["content"])
    known = isinstance(content, dict)
    line = {
        "record_id": content.get("record_id") if known else None,
        "reason": reason,
        "message": message,
        "file": record["file"],
        "line": record["line"],
        "record": content,
    }
    Metrics.counter(runners.METRICS_NAMESPACE, f"rejected_{reason}").inc()
    stem = f"rejects-{record['file_index']:05d}"
    sort_key = f"{record['line']:012d}"
    return beam.pvalue.TaggedOutput(
        "rejects", (stem, (sort_key, raw_records.to_json(line)))
    )


class ReadRecordsFn(beam.DoFn):
    """Record files to checked records by record id."""

    def __init__(self, dataset_config: config.DatasetConfig):
        self._config = dataset_config
        self._num_read = Metrics.counter(
            runners.METRICS_NAMESPACE, "records_read"
        )

    def process(self, file: record_files.RecordFile) -> Iterator[Any]:
        folder = posixpath.dirname(file.path)
        with record_files.open_file(file.path) as stream:
            for line, row, content in raw_records.read_rows(stream, file.name):
                self._num_read.inc()
                record = {
                    "file_index": file.index,
                    "file": file.name,
                    "line": line,
                    "content": content,
                }
                try:
                    record |= self._parse(row, folder)
                except Exception as error:  # One record must not end the job.
                    yield reject(record, error)
                else:
                    yield record["record_id"], record

    def _parse(self, row: Any, folder: str) -> dict[str, Any]:
        if isinstance(row, records.RecordError):
            raise row
        record = raw_records.parse_record(
            row,
            title_field=self._config.title_field,
            strict=self._config.strict,
        )
        split = record["split"] or raw_records.assign_split(
            record["record_id"],
            seed=self._config.seed,
            val_percent=self._config.val_percent,
            test_percent=self._config.test_percent,
        )
        return {
            "record_id": record["record_id"],
            "sku_id": record["sku_id"],
            "sku_name": record["sku_name"],
            "title": record["title"],
            "source": record["source"] or "",
            "split": split,
            "box": record["box"],
            "image": raw_records.resolve_image(folder, record["image"]),
        }


class KeepFirstFn(beam.DoFn):
    """Of records with one id the first by file and line."""

    def process(self, group: tuple[str, Iterable[dict]]) -> Iterator[Any]:
        first, *others = sorted(
            group[1], key=lambda record: (record["file_index"], record["line"])
        )
        yield first
        for record in others:
            yield reject(
                record,
                records.RecordError(
                    "duplicate_id",
                    f"record_id {first['record_id']!r} was seen before: "
                    f"{first['file']}, line {first['line']}.",
                ),
            )


class StoreImageFn(beam.DoFn):
    """Decodes the image and appends the JPEG to this bundle's staged file."""

    def __init__(
        self, staging_folder: str, dataset_config: config.DatasetConfig
    ):
        self._folder = staging_folder
        self._config = dataset_config
        self._num_stored = Metrics.counter(
            runners.METRICS_NAMESPACE, "images_stored"
        )
        self._num_same = Metrics.counter(
            runners.METRICS_NAMESPACE, "images_unchanged"
        )
        self._num_bytes = Metrics.counter(
            runners.METRICS_NAMESPACE, "image_bytes"
        )

    def start_bundle(self) -> None:
        self._path = os.path.join(self._folder, uuid.uuid4().hex)
        self._file = open(self._path, "wb")

    def process(self, record: dict[str, Any]) -> Iterator[Any]:
        try:
            data = self._read(record["image"])
            jpeg = stored_images.to_stored_jpeg(
                data,
                image_size=self._config.image_size,
                jpeg_quality=self._config.jpeg_quality,
                min_image_side=self._config.min_image_side,
                max_image_pixels=self._config.max_image_pixels,
                box=record["box"],
            )
        except Exception as error:  # One record must not end the job.
            yield reject(record, error)
            return
        # A full disk, in turn, has to end it.
        digest = hashlib.sha256(jpeg).hexdigest()
        place = [self._path, self._file.tell(), len(jpeg), digest]
        self._file.write(jpeg)
        self._num_stored.inc()
        self._num_same.inc(jpeg == data)
        self._num_bytes.inc(len(jpeg))
        yield {**record, "staged": place}

    def _read(self, path: str) -> bytes:
        try:
            with record_files.open_file(path) as file:
                return file.read()
        except (OSError, ValueError) as error:
            raise records.RecordError("missing_image", str(error)) from error

    def finish_bundle(self) -> None:
        self._file.close()


class TokenizeFn(beam.DoFn):
    """Adds the words of the titles; counts those of the training titles."""

    def start_bundle(self) -> None:
        self._word_counts = collections.Counter()

    def process(self, batch: list[dict[str, Any]]) -> Iterator[Any]:
        try:
            batch_words = titles.tokenize([record["title"] for record in batch])
        except Exception:  # Find the record below.
            batch_words = [None] * len(batch)
        for record, words in zip(batch, batch_words, strict=True):
            try:
                if words is None:
                    (words,) = titles.tokenize([record["title"]])
            except Exception as error:  # One record must not end the job.
                yield reject(record, error)
                continue
            if record["split"] == "train":
                self._word_counts.update(words)
            yield {**record, "words": words}

    def finish_bundle(self) -> Iterator[Any]:
        for word_count in self._word_counts.items():
            yield beam.pvalue.TaggedOutput(
                "word_counts",
                windowed_value.WindowedValue(
                    word_count,
                    window.GlobalWindow().max_timestamp(),
                    (window.GlobalWindow(),),
                ),
            )


def shard_stem(split: str, index: int, num_shards: int) -> str:
    """The name of a shard's files, without their endings."""
    return f"{split}-{index:05d}-of-{num_shards:05d}"


def to_shard_line(
    record: Mapping[str, Any],
    split_bytes: Mapping[str, int],
    shard_megabytes: int,
    seed: int,
) -> Line:
    """The shard of a record and its place therein, both by a hash of the id.

    Shards are ranges of the hash: one after the other they are in its order.
    """
    split = record["split"]
    num_shards = max(1, math.ceil(split_bytes[split] / (shard_megabytes << 20)))
    digest = hashlib.blake2b(
        f"{seed}|{split}|{record['record_id']}".encode(), digest_size=8
    ).digest()
    index = int.from_bytes(digest, "big") * num_shards >> 64
    # Two ids may share a hash; no two records share an id.
    sort_key = f"{digest.hex()}|{record['record_id']}"
    stem = shard_stem(split, index, num_shards)
    return stem, (sort_key, raw_records.to_json(record))


class WriteLinesFn(beam.DoFn):
    """Sorts the lines of one file and writes them at once."""

    def __init__(self, folder: str):
        self._folder = pathlib.Path(folder)

    def process(
        self, group: tuple[str, Iterable[tuple[str, str]]]
    ) -> Iterator[str]:
        stem, lines = group
        path = self._folder / f"{stem}.jsonl"
        temporary = path.with_name(f".{uuid.uuid4().hex}")
        with temporary.open("w", encoding="utf-8", newline="\n") as file:
            file.writelines(f"{text}\n" for _, text in sorted(lines))
        os.replace(temporary, path)
        yield stem


def read_lines(path: pathlib.Path) -> Iterator[Any]:
    """The values of a file of `WriteLinesFn`; without lines there is none."""
    if not path.exists():
        return
    with path.open(encoding="utf-8", newline="\n") as file:
        for line in file:
            yield json.loads(line)


@beam.typehints.with_input_types(record_files.RecordFile)
@beam.typehints.with_output_types(str)
class StoreRecords(beam.PTransform):
    """Record files to sorted shards of records, word counts and rejects.

    Writes `<split>-SSSSS-of-NNNNN.jsonl`, `word_counts.jsonl` and
    `rejects-FFFFF.jsonl` (F: input file) into `lines_folder`; yields the
    stems. A file without lines is not written.
    """

    def __init__(
        self,
        lines_folder: str,
        staging_folder: str,
        dataset_config: config.DatasetConfig,
    ):
        super().__init__()
        self._lines_folder = lines_folder
        self._staging_folder = staging_folder
        self._config = dataset_config

    def expand(self, files: beam.PCollection) -> beam.PCollection:
        parsed = files | "ReadRecords" >> beam.ParDo(
            ReadRecordsFn(self._config)
        ).with_outputs("rejects", main="records")
        unique = (
            parsed.records
            | "GroupById" >> beam.GroupByKey()
            | "KeepFirst"
            >> beam.ParDo(KeepFirstFn()).with_outputs("rejects", main="records")
        )
        stored = unique.records | "StoreImage" >> beam.ParDo(
            StoreImageFn(self._staging_folder, self._config)
        ).with_outputs("rejects", main="records")
        tokenized = (
            stored.records
            | "Batch" >> beam.BatchElements(256, 4096)
            | "Tokenize"
            >> beam.ParDo(TokenizeFn()).with_outputs(
                "rejects", "word_counts", main="records"
            )
        )
        split_bytes = (
            tokenized.records
            | "SizeBySplit"
            >> beam.Map(lambda record: (record["split"], record["staged"][2]))
            | "SumBySplit" >> beam.CombinePerKey(sum)
        )
        shard_lines = tokenized.records | "AssignShard" >> beam.Map(
            to_shard_line,
            split_bytes=beam.pvalue.AsDict(split_bytes),
            shard_megabytes=self._config.shard_megabytes,
            seed=self._config.seed,
        ).with_output_types(Line)
        word_count_lines = (
            tokenized.word_counts
            | "SumWords" >> beam.CombinePerKey(sum)
            | "WordCountLine"
            >> beam.MapTuple(
                lambda word, count: (
                    "word_counts",
                    (word, json.dumps([word, count], ensure_ascii=False)),
                )
            ).with_output_types(Line)
        )
        return (
            (
                parsed.rejects,
                unique.rejects,
                stored.rejects,
                tokenized.rejects,
                shard_lines,
                word_count_lines,
            )
            | "AllLines" >> beam.Flatten().with_output_types(Line)
            | "GroupByFile" >> beam.GroupByKey()
            | "WriteLines" >> beam.ParDo(WriteLinesFn(self._lines_folder))
        )
