"""Re-reads the shards of a dataset generation and finds what is wrong.

Written apart from `sicot_tf.data.tfrecords` on purpose: a check that shares
the code of the writer shares its mistakes.
"""

import hashlib
import itertools
import pathlib
import struct
from collections.abc import Iterator
from collections.abc import Sequence
from typing import Any

import apache_beam as beam
import google_crc32c
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import tensorflow as tf

from beam_jobs.validation import check_files
from beam_jobs.validation import check_records
from sicot_tf.data import dataset
from sicot_tf.data import generations
from sicot_tf.data import records
from sicot_tf.data.decoding import image_decoders
from sicot_tf.stores import local_copies
from sicot_tf.stores import locations
from sicot_tf.stores import opening

# Examples with their pictures in memory at a time; facts written at a time.
_BATCH = 64
_TABLE_ROWS = 8192
# Around a TFRecord's data: length (uint64) and its checksum; the data's.
_HEADER_BYTES = 12
_CHECKSUM_BYTES = 4

# What the checks over all shards need to know of each record.
FACTS_SCHEMA = pa.schema(
    {
        "record_id": pa.binary(),
        "image_sha256": pa.binary(32),
        "label": pa.int64(),
        "split": pa.string(),
        **{name: pa.binary(8) for name in check_records.TEXT_FIELDS},
        # Shard and number of the record, by which messages name it.
        "place": pa.string(),
    }
)


class CheckShardFn(beam.DoFn):
    """The stem of a shard to `<stem>.parquet` and `<stem>.json` of a folder.

    The first has the facts of each record, the second, written last, the
    number of `records`, of `titles_without_words`, and the findings. Yields
    nothing.
    """

    def __init__(
        self,
        generation: locations.Location,
        facts: locations.Location,
        decode_images: bool,
    ):
        self._generation = generation
        self._facts = facts
        self._decode_images = decode_images

    def setup(self) -> None:
        # The checks over all shards tell what is wrong with these.
        ignored = check_files.Findings()
        names = (generations.MANIFEST, "classes.jsonl", "vocabulary.txt")
        with local_copies.local_files(self._generation, names) as folder:
            self._manifest = dataset.read_manifest(folder)
            self._sku_ids = check_files.read_classes(
                folder / "classes.jsonl", ignored
            ).sku_ids
            vocabulary = check_files.read_vocabulary(
                folder / "vocabulary.txt", ignored
            )
        first = records.PADDING_ID + 1
        self._word_ids = {word: i for i, word in enumerate(vocabulary, first)}

    def process(self, stem: str) -> Iterator[None]:
        findings = check_files.Findings()
        summary = {"records": 0, "titles_without_words": 0}
        store = opening.open_folder(self._facts)
        names = (f"{stem}.tfrecord", f"{stem}.offsets.npy")
        with (
            local_copies.local_files(self._generation, names) as folder,
            store.scratch() as scratch,
        ):
            path = scratch / f"{stem}.parquet"
            with pq.ParquetWriter(path, FACTS_SCHEMA) as facts:
                try:
                    self._check_shard(folder, stem, facts, summary, findings)
                except OSError as error:  # A bad disk is what we look for.
                    findings.add("files", f"{stem} can't be read: {error}")
            store.upload(path, path.name)
        store.put_json(
            f"{stem}.json",
            {
                **summary,
                "counts": findings.counts,
                "examples": findings.examples,
            },
        )
        yield from ()

    def _check_shard(
        self,
        folder: pathlib.Path,
        stem: str,
        facts: pq.ParquetWriter,
        summary: dict[str, int],
        findings: check_files.Findings,
    ) -> None:
        name = f"{stem}.offsets.npy"
        check_files.check_file(folder, name, self._manifest, findings)
        expected_offsets = _read_offsets(folder / name)
        name = f"{stem}.tfrecord"
        if not check_files.check_file(folder, name, self._manifest, findings):
            return
        found = _read_records(folder / name, expected_offsets)
        offsets: list[int] = []
        table: list[dict[str, Any]] = []
        while batch := list(itertools.islice(found, _BATCH)):
            examples, places = [], []
            for offset, example in batch:
                place = f"{stem}, record {len(offsets):,}"
                offsets.append(offset)
                if example is None:
                    findings.add("checksums", f"{place}, byte {offset:,}")
                else:
                    examples.append(example)
                    places.append(place)
            table += self._check_examples(examples, places, summary, findings)
            if len(table) >= _TABLE_ROWS:
                facts.write_table(pa.Table.from_pylist(table, FACTS_SCHEMA))
                table = []
        facts.write_table(pa.Table.from_pylist(table, FACTS_SCHEMA))
        if not np.array_equal(offsets, expected_offsets):
            findings.add(
                "offsets",
                f"{stem}.offsets.npy: {len(expected_offsets):,} offsets are "
                f"not those of the {len(offsets):,} records of the shard",
            )

    def _check_examples(
        self,
        examples: Sequence[bytes],
        places: Sequence[str],
        summary: dict[str, int],
        findings: check_files.Findings,
    ) -> list[dict[str, Any]]:
        """Checks examples one by one; returns the facts of those that parse."""
        facts = []
        for place, record in zip(places, _parse(examples), strict=True):
            if isinstance(record, str):
                findings.add("examples", f"{place}: {record:.300}")
                continue
            self._check_label(record, place, findings)
            self._check_words(record, place, findings)
            self._check_image(record["image"], place, findings)
            summary["records"] += 1
            summary["titles_without_words"] += not record["words"]
            facts.append(
                {
                    "record_id": record["record_id"],
                    "image_sha256": hashlib.sha256(record["image"]).digest(),
                    "label": record["label"],
                    "split": place.partition("-")[0],
                    **{
                        name: check_records.digest(record[name])
                        for name in check_records.TEXT_FIELDS
                    },
                    "place": place,
                }
            )
        return facts

    def _check_label(
        self,
        record: dict[str, Any],
        place: str,
        findings: check_files.Findings,
    ) -> None:
        label, sku_id = (
            record["label"],
            record["sku_id"].decode(errors="replace"),
        )
        if not 0 <= label < len(self._sku_ids):
            findings.add(
                "labels",
                f"{place}: label {label} of {len(self._sku_ids):,} classes",
            )
        elif self._sku_ids[label] != sku_id:
            findings.add(
                "labels",
                f"{place}: label {label} is {self._sku_ids[label]!r} in "
                f"classes.jsonl, the record is of {sku_id!r}",
            )

    def _check_words(
        self,
        record: dict[str, Any],
        place: str,
        findings: check_files.Findings,
    ) -> None:
        words = [word.decode(errors="replace") for word in record["words"]]
        expected = [
            self._word_ids.get(word, records.PADDING_ID) for word in words
        ]
        if record["word_ids"] != expected:
            findings.add(
                "words",
                f"{place}: the ids of {words} are {expected}, not "
                f"{record['word_ids']}"[:300],
            )

    def _check_image(
        self,
        image: bytes,
        place: str,
        findings: check_files.Findings,
    ) -> None:
        try:
            # Stored pictures are JPEG; decode_jpeg takes others, too.
            height, width, _ = tf.io.extract_jpeg_shape(image).numpy().tolist()
            if height * width > image_decoders.MAX_PIXELS:
                findings.add("images", f"{place}: {width} x {height} pixels")
            elif self._decode_images:
                tf.io.decode_jpeg(image, channels=3)
        except tf.errors.InvalidArgumentError as error:
            findings.add("images", f"{place}: {error.message:.200}")


def _read_offsets(path: pathlib.Path) -> np.ndarray:
    """What the file says, empty where it can't be read."""
    try:
        offsets = np.load(path)
        if offsets.dtype == np.uint64 and offsets.ndim == 1:
            return offsets
    except (OSError, ValueError, EOFError):
        pass
    return np.zeros(0, np.uint64)


def _read_records(
    path: pathlib.Path, offsets: np.ndarray
) -> Iterator[tuple[int, bytes | None]]:
    """Records with their place in the file; None where a checksum is off.

    Behind a damaged length it goes on at the next of `offsets`.
    """
    size = path.stat().st_size
    offset = 0
    with path.open("rb") as file:
        while offset < size:
            file.seek(offset)
            length, checksum = file.read(8), file.read(_CHECKSUM_BYTES)
            if _checksum(length) == checksum:
                (num_bytes,) = struct.unpack("<Q", length)
                data = file.read(num_bytes)
                is_good = _checksum(data) == file.read(_CHECKSUM_BYTES)
                yield offset, data if is_good else None
                offset += _HEADER_BYTES + num_bytes + _CHECKSUM_BYTES
            else:
                yield offset, None
                later = offsets[offsets > offset]
                offset = int(later.min()) if later.size else size


def _checksum(data: bytes) -> bytes:
    # tensorflow/core/lib/hash/crc32c.h: Mask.
    crc = google_crc32c.value(data)
    return struct.pack("<I", ((crc >> 15 | crc << 17) + 0xA282EAD8) % 2**32)


def _parse(examples: Sequence[bytes]) -> list[dict[str, Any] | str]:
    """The features of each example, or why it can't be parsed."""
    if not examples:
        return []
    try:
        parsed = tf.io.parse_example(examples, records.ALL_FEATURES)
    except tf.errors.InvalidArgumentError as error:
        if len(examples) == 1:
            return [error.message]
        return [each for example in examples for each in _parse([example])]
    columns = {
        name: values.to_list()
        if isinstance(values, tf.RaggedTensor)
        else values.numpy().tolist()
        for name, values in parsed.items()
    }
    return [
        dict(zip(columns, values, strict=True))
        for values in zip(*columns.values(), strict=True)
    ]


@beam.typehints.with_input_types(str)
class CheckShards(beam.PTransform):
    """Stems of shards to their facts and findings, as files of a folder."""

    def __init__(
        self,
        generation: locations.Location,
        facts: locations.Location,
        decode_images: bool,
    ):
        super().__init__()
        self._check_shard = CheckShardFn(generation, facts, decode_images)

    def expand(self, stems: beam.PCollection) -> beam.PCollection:
        return stems | "CheckShard" >> beam.ParDo(
            self._check_shard
        ).with_output_types(int)
