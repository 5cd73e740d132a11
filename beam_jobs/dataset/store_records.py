"""First pipeline of `build_dataset`: parts of raw records to stored records.

A part is worked on by one worker: rows are checked, pictures decoded and
appended to one file of the part, titles split into words. What is known of
each record goes into a Parquet file, which appears last and marks the part as
finished: after a kill only unfinished parts are done again. No picture and no
record passes the shuffle.
"""

import concurrent.futures
import dataclasses
import hashlib
import itertools
import json
import os
import pathlib
from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Mapping
from typing import Any
from typing import BinaryIO

import apache_beam as beam
import pyarrow as pa
import pyarrow.parquet as pq
from apache_beam.metrics import Metrics

from beam_jobs.dataset import parts
from beam_jobs.pictures import stored_images
from beam_jobs.pipelines import runners
from beam_jobs.records import raw_records
from beam_jobs.records import record_files
from sicot_tf import config
from sicot_tf import files
from sicot_tf.data import records
from sicot_tf.data import titles

# Pictures that are read ahead of the one that is decoded.
_READ_AHEAD = 16


def reject_line(row: Mapping[str, Any], reason: str, message: str) -> str:
    """A row's line in the rejects, with the reason it can't be used."""
    content = json.loads(row["content"])
    known = isinstance(content, dict)
    return raw_records.to_json(
        {
            "record_id": content.get("record_id") if known else None,
            "reason": reason,
            "message": message,
            "file": row["file"],
            "line": row["line"],
            "record": content,
        }
    )


class StorePartFn(beam.DoFn):
    """The number of a part to the part's files; yields nothing.

    The metadata of the facts tell how many rows were `read` and `rejected`,
    and `images`: the sum (mod 2 ** 256) of one hash for each row's place and
    its picture as read, so that all parts' sums make one that does not depend
    on how rows were divided.
    """

    def __init__(
        self,
        rows_folder: str,
        output_folder: str,
        dataset_config: config.DatasetConfig,
    ):
        self._rows_folder = pathlib.Path(rows_folder)
        self._output_folder = pathlib.Path(output_folder)
        self._config = dataset_config
        self._counters = {
            name: Metrics.counter(runners.METRICS_NAMESPACE, name)
            for name in (
                "records_read",
                "images_stored",
                "images_unchanged",
                "image_bytes",
                "parts_stored",
                "parts_reused",
            )
        }

    def setup(self) -> None:
        self._pool = concurrent.futures.ThreadPoolExecutor(_READ_AHEAD)

    def teardown(self) -> None:
        self._pool.shutdown()

    def process(self, part: int) -> Iterator[None]:
        final = parts.files(self._output_folder, part)
        if final["facts"].exists():
            self._counters["parts_reused"].inc()
            return
        part_work = _PartWork(part)
        # Not `read_table`, which takes columns from the names of folders.
        with pq.ParquetFile(
            record_files.part_path(self._rows_folder, part)
        ) as rows_file:
            rows = rows_file.read().to_pylist()
        self._counters["records_read"].inc(len(rows))
        parsed = list(self._parse_all(rows, part_work))
        with (
            files.replacing(final["jpegs"]) as temporary,
            temporary.open("wb") as jpegs,
        ):
            stored = list(self._store_all(parsed, jpegs, part_work))
        facts = list(self._tokenize_all(stored, part_work))
        lines = (line for _, line in sorted(part_work.rejects))
        files.write_lines(final["rejects"], lines)
        table = pa.Table.from_pylist(facts, parts.FACTS_SCHEMA)
        table = table.replace_schema_metadata(
            {
                "read": str(len(rows)),
                "rejected": str(len(part_work.rejects)),
                "images": f"{part_work.images % 2**256:064x}",
            }
        )
        # Facts last: they mark the part as finished.
        with files.replacing(final["facts"]) as temporary:
            pq.write_table(table, temporary, compression="zstd")
        self._counters["parts_stored"].inc()
        yield from ()

    def _parse_all(
        self, rows: Iterable[dict[str, Any]], part_work: "_PartWork"
    ) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
        """Rows that hold to the contract, with what they say."""
        for row in rows:
            try:
                if row["reason"]:
                    raise records.RecordError(row["reason"], row["message"])
                record = raw_records.parse_record(
                    json.loads(row["content"]),
                    title_field=self._config.title_field,
                    strict=self._config.strict,
                )
            except Exception as error:  # One record must not end the job.
                part_work.reject(row, error)
            else:
                yield row, record

    def _store_all(
        self,
        parsed: Iterable[tuple[dict[str, Any], dict[str, Any]]],
        jpegs: BinaryIO,
        part_work: "_PartWork",
    ) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
        """Appends the pictures; facts of the records whose picture is good."""
        parsed = iter(parsed)
        while batch := list(itertools.islice(parsed, _READ_AHEAD)):
            contents = self._pool.map(_read_or_error, batch)
            for (row, record), content in zip(batch, contents, strict=True):
                try:
                    part_work.add_image(row["row"], content)
                    image = self._to_stored_image(content, record["box"])
                except Exception as error:  # As above.
                    part_work.reject(row, error)
                    continue
                # A full disk, however, has to end the job.
                place = jpegs.tell(), len(image.jpeg)
                jpegs.write(image.jpeg)
                self._counters["images_stored"].inc()
                self._counters["images_unchanged"].inc(image.jpeg == content)
                self._counters["image_bytes"].inc(len(image.jpeg))
                yield row, self._facts(row, record, part_work, place, image)

    def _to_stored_image(
        self, content: bytes | Exception, box: list[float] | None
    ) -> stored_images.StoredImage:
        if isinstance(content, Exception):
            # Without the folder, which differs between machines.
            message = getattr(content, "strerror", None) or str(content)
            raise records.RecordError("missing_image", message) from content
        return stored_images.to_stored_image(
            content,
            image_size=self._config.image_size,
            jpeg_quality=self._config.jpeg_quality,
            min_image_side=self._config.min_image_side,
            max_image_pixels=self._config.max_image_pixels,
            box=box,
        )

    def _facts(
        self,
        row: Mapping[str, Any],
        record: Mapping[str, Any],
        part_work: "_PartWork",
        place: tuple[int, int],
        image: stored_images.StoredImage,
    ) -> dict[str, Any]:
        seed = self._config.seed
        return {
            "row": row["row"],
            "record_id": record["record_id"],
            "sku_id": record["sku_id"],
            "sku_name": record["sku_name"],
            "title": record["title"],
            "source": record["source"] or "",
            "split": record["split"],
            "group": record["group"],
            "part": part_work.part,
            "offset": place[0],
            "length": place[1],
            "sha256": hashlib.sha256(image.jpeg).digest(),
            "image_hash_high": image.hashes[0],
            "image_hash_low": image.hashes[1],
            "split_hash": files.stable_hash(
                seed, "split", record["group"] or record["record_id"]
            ),
            "order_hash": files.stable_hash(seed, "order", record["record_id"]),
        }

    def _tokenize_all(
        self,
        stored: list[tuple[dict[str, Any], dict[str, Any]]],
        part_work: "_PartWork",
    ) -> Iterator[dict[str, Any]]:
        """Adds the words of the titles."""
        try:
            all_words = titles.tokenize([facts["title"] for _, facts in stored])
        except Exception:  # Find the record below.
            all_words = [None] * len(stored)
        for (row, facts), words in zip(stored, all_words, strict=True):
            try:
                if words is None:
                    (words,) = titles.tokenize([facts["title"]])
            except Exception as error:  # As above.
                part_work.reject(row, error)
            else:
                yield {**facts, "words": words}


@dataclasses.dataclass
class _PartWork:
    """What comes together while a part is worked on."""

    part: int
    images: int = 0
    rejects: list[tuple[int, str]] = dataclasses.field(default_factory=list)

    def add_image(self, row: int, content: bytes | Exception) -> None:
        """Takes a picture as it was read into the fingerprint."""
        state = b"missing"
        if isinstance(content, bytes):
            state = hashlib.sha256(content).digest()
        digest = hashlib.sha256(f"{row}|".encode() + state).digest()
        self.images += int.from_bytes(digest, "big")

    def reject(self, row: Mapping[str, Any], error: Exception) -> None:
        reason, message = "unexpected_error", f"{type(error).__name__}: {error}"
        if isinstance(error, records.RecordError):
            reason, message = error.reason, str(error)
        Metrics.counter(runners.METRICS_NAMESPACE, f"rejected_{reason}").inc()
        line = reject_line(row, reason, message)
        # The place is first in the line, so that files can be merged by it.
        self.rejects.append((row["row"], f"{row['row']}\t{line}"))


def _read_or_error(
    row_and_record: tuple[dict[str, Any], dict[str, Any]],
) -> bytes | Exception:
    row, record = row_and_record
    try:
        folder = os.fsdecode(row["folder"])
        path = raw_records.resolve_image(folder, record["image"])
        with record_files.open_file(path) as file:
            return file.read()
    except Exception as error:  # Told where the picture is needed.
        return error


@beam.typehints.with_input_types(int)
class StoreRecords(beam.PTransform):
    """Numbers of parts to the files of the parts.

    Args:
        rows_folder: where `record_files.survey` wrote the parts.
        output_folder: where the parts' files go; all workers have to see both.
    """

    def __init__(
        self,
        rows_folder: str,
        output_folder: str,
        dataset_config: config.DatasetConfig,
    ):
        super().__init__()
        self._store_part = StorePartFn(
            rows_folder, output_folder, dataset_config
        )

    def expand(self, parts: beam.PCollection) -> beam.PCollection:
        return (
            parts
            | "SpreadParts" >> beam.Reshuffle()
            | "StorePart" >> beam.ParDo(self._store_part).with_output_types(int)
        )
