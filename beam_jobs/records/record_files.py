"""The inputs of the Beam jobs: finding record files, and what they hold."""

import collections
import concurrent.futures
import contextlib
import dataclasses
import fnmatch
import hashlib
import json
import os
import pathlib
import posixpath
import re
from collections.abc import Collection
from collections.abc import Iterator
from collections.abc import Sequence
from typing import Any
from typing import BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq
from apache_beam.io import filesystem
from apache_beam.io import filesystems

from beam_jobs.records import raw_records
from beam_jobs.records import text_lines
from sicot_tf import progress
from sicot_tf.data import records
from sicot_tf.stores import folder as folders
from sicot_tf.stores import locations
from sicot_tf.stores import opening

_MISSING = "missing"
# Rows surveyed at once; images looked up at once.
_CHUNK = 4096
# Characters of a chunk, and of a part: titles may be short, descriptions long.
_MAX_CHARACTERS = 1 << 24
# Remote file systems answer in tens of milliseconds.
_NUM_THREADS = 16

# A part: rows of one or more files in the order of all rows. `content` is
# JSON text; `reason` and `message` say what is wrong with a row, else null.
# `folder` is the bytes of a path, which need not be UTF-8.
PART_SCHEMA = pa.schema(
    {
        "row": pa.int64(),
        "file": pa.string(),
        "folder": pa.binary(),
        "line": pa.int64(),
        "content": pa.string(),
        "reason": pa.string(),
        "message": pa.string(),
    }
)


@dataclasses.dataclass(frozen=True)
class RecordFile:
    """One record file: its place, and the name it has in outputs."""

    path: str
    name: str


@dataclasses.dataclass(frozen=True)
class Survey:
    """What one pass over the record files tells.

    Attributes:
        num_records: rows of all files, good or not.
        num_parts: how many parts they were spooled into.
        unknown_fields: how many records have a field outside the contract.
        inputs: name and SHA-256 of each file.
        images_sha256: of all image paths with size and time of change;
            it changes whenever a picture may have.
    """

    num_records: int
    num_parts: int
    unknown_fields: dict[str, int]
    inputs: list[dict[str, str]]
    images_sha256: str


def open_file(path: str) -> BinaryIO:
    """Opens any path that a store or Beam knows.

    The bytes are as stored, also of a `.gz`; a small file is read at once.
    """
    if _is_on_store(path):
        store, key = opening.file_of(path)
        return store.open(key)
    return filesystems.FileSystems.open(
        path, compression_type=filesystem.CompressionTypes.UNCOMPRESSED
    )


def sha256(path: str) -> str:
    """SHA-256, in hex, of a file at any path that `open_file` knows."""
    with open_file(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def find_record_files(patterns: Sequence[str]) -> list[RecordFile]:
    """The files that paths or globs mean, sorted by path.

    Raises:
        ValueError: if a pattern matches nothing, or something else.
    """
    paths = set()
    for pattern in patterns:
        if "://" not in pattern:
            pattern = os.path.abspath(pattern)
        if os.path.isfile(pattern):  # Its name may look like a glob.
            paths.add(pattern)
            continue
        folder, name = os.path.split(pattern)
        if os.path.isdir(folder) and set(folder) & set("*?["):
            # The folder's name is no pattern. Beam knows no way to escape one.
            found = fnmatch.filter(os.listdir(folder), name)
            if found:
                paths.update(os.path.join(folder, each) for each in found)
                continue
        found = _match(pattern)
        if not found:
            raise ValueError(f"No record file matches {pattern!r}.")
        paths.update(found)
    ordered = sorted(paths)
    for path in ordered:
        raw_records.check_format(path)
    names = [posixpath.basename(path) for path in ordered]
    if len(set(names)) < len(names):
        names = ordered
    return [
        RecordFile(path, text_lines.printable(name))
        for path, name in zip(ordered, names, strict=True)
    ]


def _is_on_store(path: str) -> bool:
    # What Beam does there makes a client for every call.
    return locations.scheme(path) in locations.SCHEMES


def _match(pattern: str) -> list[str]:
    if not _is_on_store(pattern):
        (match,) = filesystems.FileSystems.match([pattern])
        return [each.path for each in match.metadata_list]
    store, key = opening.file_of(pattern)
    is_match = re.compile(filesystem.FileSystem.translate_pattern(key)).match
    prefix = re.split(r"[*?[]", key, maxsplit=1)[0]
    # Millions of pictures may lie in the folders below.
    is_deep = prefix == key or "/" in key[len(prefix) :] or "**" in key
    found = []
    for entry in store.list(prefix, is_deep=is_deep):
        if entry.key == key:  # Its name may look like a glob.
            return [pattern]
        if prefix == key:
            break
        if is_match(entry.key):
            found.append(str(locations.join(str(store), entry.key)))
    return found


def part_path(folder: pathlib.Path, part: int) -> pathlib.Path:
    """The file of a part."""
    return folder / f"part-{part:06d}.parquet"


@contextlib.contextmanager
def naming(path: str, what: str = "record file") -> Iterator[None]:
    """What breaks a whole file becomes a ValueError with its name."""
    try:
        yield
    except raw_records.READ_ERRORS as error:
        raise ValueError(f"The {what} {path} can't be read: {error}") from error


def check_encodings(
    files: Sequence[RecordFile],
    encoding: str,
    fields: Collection[str] | None = None,
    what: str = "record file",
) -> None:
    """Looks at the beginning of each file before any is read.

    Raises:
        ValueError: if one is text of another encoding.
    """
    for file in files:
        with naming(file.path, what), open_file(file.path) as stream:
            raw_records.check_encoding(
                stream, file.name, encoding=encoding, fields=fields
            )


def survey(
    files: Sequence[RecordFile],
    title_field: str,
    folder: pathlib.Path,
    *,
    part_records: int,
    encoding: str = "utf-8",
) -> Survey:
    """Reads all record files once and spools their rows into parts.

    Parts are what a worker takes at a time and what an interrupted job need
    not do again. Pictures are looked at (size and time), not read.

    Args:
        folder: where the parts are written.
        part_records: rows of a part, fewer where they are long.
        encoding: of the text of JSON Lines and CSV.

    Raises:
        ValueError: if a record file can't be read to its end, or is of
            another encoding.
    """
    digest = hashlib.sha256()
    inputs = []
    unknown_fields = collections.Counter()
    known = raw_records.known_fields(title_field)
    check_encodings(files, encoding, known)
    parts = _PartWriter(folder, part_records)
    with (
        concurrent.futures.ThreadPoolExecutor(_NUM_THREADS) as pool,
        progress.bar(description="Record files", unit="records") as bar,
    ):
        for file in files:
            with naming(file.path):
                inputs.append({"name": file.name, "sha256": sha256(file.path)})
            file_folder = posixpath.dirname(file.path)
            for rows in _read_chunks(file, encoding, known, unknown_fields):
                for line, row, content in rows:
                    parts.add(file.name, file_folder, line, row, content)
                paths = _image_paths(rows, file_folder)
                for pair in zip(paths, pool.map(_state, paths), strict=True):
                    digest.update(json.dumps(pair).encode())
                bar.update(len(rows))
    parts.flush()
    return Survey(
        parts.num_rows,
        parts.num_parts,
        {
            text_lines.printable(name): count
            for name, count in unknown_fields.items()
        },
        inputs,
        digest.hexdigest(),
    )


def _image_paths(rows: Sequence[Any], folder: str) -> list[str]:
    images = [row.get("image") for _, row, _ in rows if isinstance(row, dict)]
    return [
        raw_records.resolve_image(folder, image)
        for image in images
        if isinstance(image, str)
    ]


class _PartWriter:
    """Spools rows into Parquet files of equal length."""

    def __init__(self, folder: pathlib.Path, part_records: int):
        self.num_rows = 0
        self.num_parts = 0
        self._folder = folder
        self._part_records = part_records
        self._rows: list[dict[str, Any]] = []
        self._num_characters = 0

    def add(
        self, file: str, folder: str, line: int, row: Any, content: str
    ) -> None:
        reason = message = None
        if isinstance(row, records.RecordError):
            reason, message = row.reason, str(row)
        self._rows.append(
            {
                "row": self.num_rows,
                "file": file,
                "folder": os.fsencode(folder),
                "line": line,
                "content": content,
                "reason": reason,
                "message": message,
            }
        )
        self.num_rows += 1
        self._num_characters += len(content)
        if (
            len(self._rows) == self._part_records
            or self._num_characters > _MAX_CHARACTERS
        ):
            self.flush()

    def flush(self) -> None:
        if self._rows:
            pq.write_table(
                pa.Table.from_pylist(self._rows, PART_SCHEMA),
                part_path(self._folder, self.num_parts),
                compression="zstd",
            )
            self.num_parts += 1
            self._rows = []
            self._num_characters = 0


def read_rows(
    file: RecordFile,
    *,
    encoding: str,
    fields: Collection[str],
    unknown: collections.Counter[str] | None = None,
) -> Iterator[tuple[int, Any, str]]:
    """`raw_records.read_rows` of a record file; errors name the file."""
    with naming(file.path), open_file(file.path) as stream:
        yield from raw_records.read_rows(
            stream,
            file.name,
            encoding=encoding,
            fields=fields,
            needed=raw_records.NEEDED,
            unknown=unknown,
        )


def _read_chunks(
    file: RecordFile,
    encoding: str,
    fields: Collection[str],
    unknown: collections.Counter[str],
) -> Iterator[list[Any]]:
    chunk, num_characters = [], 0
    for each in read_rows(
        file, encoding=encoding, fields=fields, unknown=unknown
    ):
        chunk.append(each)
        num_characters += len(each[2])
        if len(chunk) == _CHUNK or num_characters > _MAX_CHARACTERS:
            yield chunk
            chunk, num_characters = [], 0
    if chunk:
        yield chunk


def _state(path: str) -> Any:
    """What changes with a file: size and time, or what a remote one offers."""
    try:
        if _is_on_store(path):
            store, key = opening.file_of(path)
            return store.version(key) or _MISSING
        if "://" in path:
            return str(filesystems.FileSystems.checksum(path))
        status = os.stat(path)
        return status.st_size, status.st_mtime_ns
    except (FileNotFoundError, folders.StoreRefusedError):
        return _MISSING
    except folders.StoreError:
        raise
    except (OSError, ValueError):
        return _MISSING
