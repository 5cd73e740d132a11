"""The inputs of the Beam jobs: finding record files, and what they hold."""

import collections
import concurrent.futures
import csv
import dataclasses
import hashlib
import itertools
import json
import os
import posixpath
import zlib
from collections.abc import Iterator
from collections.abc import Sequence
from typing import Any
from typing import BinaryIO

import tqdm
from apache_beam.io import filesystem
from apache_beam.io import filesystems

from sicot_tf.data import raw_records

_MISSING = "missing"
_CHUNK = 4096


@dataclasses.dataclass(frozen=True)
class RecordFile:
    """One record file: its place, and the name it has in outputs."""

    index: int
    path: str
    name: str


@dataclasses.dataclass(frozen=True)
class Survey:
    """What one pass over the inputs tells; `sha256` also covers the images."""

    num_records: int
    unknown_fields: dict[str, int]
    inputs: list[dict[str, str]]
    sha256: str


def open_file(path: str) -> BinaryIO:
    """Opens any path Beam knows; the bytes as stored, also of a `.gz`."""
    return filesystems.FileSystems.open(
        path, compression_type=filesystem.CompressionTypes.UNCOMPRESSED
    )


def find_record_files(patterns: Sequence[str]) -> list[RecordFile]:
    """The files that paths or globs mean, sorted by path.

    Raises:
        ValueError: if a pattern matches nothing.
    """
    paths = set()
    for pattern in patterns:
        if "://" not in pattern:
            pattern = os.path.abspath(pattern)
        if os.path.isfile(pattern):  # Its name may look like a glob.
            paths.add(pattern)
            continue
        (match,) = filesystems.FileSystems.match([pattern])
        if not match.metadata_list:
            raise ValueError(f"No record file matches {pattern!r}.")
        paths.update(each.path for each in match.metadata_list)
    ordered = sorted(paths)
    names = [posixpath.basename(path) for path in ordered]
    if len(set(names)) < len(names):
        names = ordered
    return [
        RecordFile(index, path, name)
        for index, (path, name) in enumerate(zip(ordered, names, strict=True))
    ]


def survey(files: Sequence[RecordFile], title_field: str) -> Survey:
    """Reads all record files and the bytes of all images once.

    Raises:
        ValueError: if a record file can't be read to its end.
    """
    digest = hashlib.sha256()
    inputs = []
    num_records = 0
    unknown_fields = collections.Counter()
    known = raw_records.known_fields(title_field)
    with (
        concurrent.futures.ThreadPoolExecutor() as pool,
        tqdm.tqdm(desc="Fingerprints", unit=" records") as progress,
    ):
        for file in files:
            inputs.append({"name": file.name, "sha256": _sha256(file.path)})
            folder = posixpath.dirname(file.path)
            for rows in _read_chunks(file):
                images = []
                for row in rows:
                    if isinstance(row, dict):
                        unknown_fields.update(row.keys() - known)
                        images.append(row.get("image"))
                images = [each for each in images if isinstance(each, str)]
                paths = [
                    raw_records.resolve_image(folder, image) for image in images
                ]
                digests = pool.map(_sha256, paths)
                for pair in zip(images, digests, strict=True):
                    digest.update(json.dumps(pair).encode())
                num_records += len(rows)
                progress.update(len(rows))
    digest.update(json.dumps(inputs).encode())
    return Survey(num_records, dict(unknown_fields), inputs, digest.hexdigest())


def _read_chunks(file: RecordFile) -> Iterator[list[Any]]:
    """Lists of rows; what breaks a whole file is told with its name."""
    try:
        with open_file(file.path) as stream:
            rows = raw_records.read_rows(stream, file.name)
            while chunk := list(itertools.islice(rows, _CHUNK)):
                yield [row for _, row, _ in chunk]
    except (OSError, EOFError, ValueError, zlib.error, csv.Error) as error:
        raise ValueError(
            f"The record file {file.path} can't be read: {error}"
        ) from error


def _sha256(path: str) -> str:
    """SHA-256 of a local file; what a remote file system offers instead."""
    try:
        if "://" in path:
            return str(filesystems.FileSystems.checksum(path))
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except (OSError, ValueError):
        return _MISSING
