"""Pictures of a part, decoded, checked and stored in one file."""

import concurrent.futures
import hashlib
import os
from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any
from typing import BinaryIO

import apache_beam as beam
import pyarrow as pa
from apache_beam.metrics import Metrics

from beam_jobs.dataset.steps import parts
from beam_jobs.dataset.steps import reject_lines
from beam_jobs.pictures import stored_images
from beam_jobs.pipelines import read_ahead
from beam_jobs.pipelines import runners
from beam_jobs.records import record_pictures
from sicot_tf import config
from sicot_tf.data import records
from sicot_tf.stores import locations
from sicot_tf.stores import opening

# Pictures that are read ahead of the one that is decoded.
_READ_AHEAD = 16


class StorePicturesFn(beam.DoFn):
    """A table of checked rows to one with the place of each stored picture.

    `parts.CHECKED_SCHEMA` to `parts.STORED_SCHEMA`. No picture leaves the
    worker but in the part's file, which is written to `pictures`.

    The table's metadata get `images`: the sum of one hash for each row's place
    and its picture as read, so that all parts' sums make one that does not
    depend on how rows were divided.
    """

    def __init__(
        self, pictures: locations.Location, dataset_config: config.DatasetConfig
    ):
        self._folder = opening.open_folder(pictures)
        self._config = dataset_config
        self._counters = {
            name: Metrics.counter(runners.METRICS_NAMESPACE, name)
            for name in ("images_stored", "images_unchanged", "image_bytes")
        }

    def setup(self) -> None:
        self._pool = concurrent.futures.ThreadPoolExecutor(_READ_AHEAD)

    def teardown(self) -> None:
        self._pool.shutdown()

    def process(self, table: pa.Table) -> Iterator[pa.Table]:
        rows = table.to_pylist()
        with self._folder.scratch() as scratch:
            path = scratch / "jpegs"
            with path.open("wb") as file:
                images, digest = self._store_all(rows, file)
                num_bytes = file.tell()
            key = parts.file_key(parts.number_of(table), digest, "jpegs")
            if num_bytes:
                self._folder.upload(path, key)
        for row in rows:
            if not row["reason"]:
                row["jpegs"] = key
        metadata = {**table.schema.metadata, b"images": str(images)}
        stored = parts.of_part(rows, parts.STORED_SCHEMA, table)
        yield stored.replace_schema_metadata(metadata)

    def _store_all(
        self, rows: Sequence[dict[str, Any]], file: BinaryIO
    ) -> tuple[int, str]:
        """Appends the pictures; the hash of them as read, and of the file."""
        images = 0
        written = hashlib.sha256()
        good = [row for row in rows if not row["reason"]]
        for row, content in read_ahead.read_ahead(
            self._pool, _read_or_error, good, _READ_AHEAD
        ):
            try:
                images += _image_hash(row["row"], content)
                image = self._to_stored_image(content, row["box"])
            except Exception as error:  # One record must not end the job.
                row.update(reject_lines.describe(error))
                continue
            # A full disk, however, has to end the job.
            row["offset"] = file.tell()
            file.write(image.jpeg)
            written.update(image.jpeg)
            row["length"] = len(image.jpeg)
            row["sha256"] = hashlib.sha256(image.jpeg).digest()
            row["image_hash_high"], row["image_hash_low"] = image.hashes
            self._counters["images_stored"].inc()
            self._counters["images_unchanged"].inc(image.jpeg == content)
            self._counters["image_bytes"].inc(len(image.jpeg))
        return images, written.hexdigest()

    def _to_stored_image(
        self, content: bytes | records.RecordError, box: list[float] | None
    ) -> stored_images.StoredImage:
        if isinstance(content, records.RecordError):
            raise content
        return stored_images.to_stored_image(
            content,
            image_size=self._config.image_size,
            jpeg_quality=self._config.jpeg_quality,
            min_image_side=self._config.min_image_side,
            max_image_pixels=self._config.max_image_pixels,
            box=box,
        )


def _image_hash(row: int, content: bytes | records.RecordError) -> int:
    state = b"missing"
    if isinstance(content, bytes):
        state = hashlib.sha256(content).digest()
    digest = hashlib.sha256(f"{row}|".encode() + state).digest()
    return int.from_bytes(digest, "big")


def _read_or_error(row: Mapping[str, Any]) -> bytes | records.RecordError:
    path, folder = map(os.fsdecode, (row["image"], row["folder"]))
    try:
        return record_pictures.read(path, folder)
    except records.RecordError as error:  # Told where the picture is needed.
        return error
