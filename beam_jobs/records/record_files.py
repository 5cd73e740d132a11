"""The inputs of the Beam jobs: finding record files, and what they hold."""

import collections
import contextlib
import dataclasses
import fnmatch
import hashlib
import os
import posixpath
import re
from collections.abc import Collection
from collections.abc import Iterator
from collections.abc import Sequence
from typing import Any
from typing import BinaryIO

from apache_beam.io import filesystem
from apache_beam.io import filesystems

from beam_jobs.records import raw_records
from beam_jobs.records import text_lines
from sicot_tf.stores import folder as folders
from sicot_tf.stores import locations
from sicot_tf.stores import opening

_MISSING = "missing"


@dataclasses.dataclass(frozen=True)
class RecordFile:
    """One record file: its place, and the name it has in outputs."""

    path: str
    name: str


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


def state(path: str) -> Any:
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
