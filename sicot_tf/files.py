"""Files that are there as a whole or not at all, JSON, and digests.

What is written gets another name first, is put on the disk (fsync) and then
renamed: neither a killed process nor a lost machine leaves half a file. The
package `atomicwrites`, which did the same, is no longer kept up; its author
points to `os.replace`.
"""

import contextlib
import errno
import hashlib
import json
import os
import pathlib
import secrets
import shutil
import tempfile
from collections.abc import Iterable
from collections.abc import Iterator
from typing import Any


@contextlib.contextmanager
def replacing(
    path: pathlib.Path | str, folder: pathlib.Path | None = None
) -> Iterator[pathlib.Path]:
    """A path to write a file to, which becomes `path` once all is written.

    An exception leaves what was there before, and nothing else.

    Args:
        folder: where the file lies until then, on the same disk; None for
            the folder of `path`. A kill leaves it there, with a name that
            starts with "." and ends in ".tmp".
    """
    path = pathlib.Path(path)
    # Two processes, or two threads, may be writing the same file.
    name = f".{path.name}.{secrets.token_hex(4)}.tmp"
    temporary = (folder or path.parent) / name
    try:
        yield temporary
        sync(temporary)
        os.replace(temporary, path)
        sync(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


def write_bytes(path: pathlib.Path | str, content: bytes) -> None:
    """Writes a file as a whole."""
    with replacing(path) as temporary:
        temporary.write_bytes(content)


def write_text(path: pathlib.Path | str, text: str) -> None:
    """Writes a file of UTF-8 as a whole."""
    write_bytes(path, text.encode("utf-8"))


def write_lines(path: pathlib.Path | str, lines: Iterable[str]) -> None:
    """Writes lines, which come without their ends, as UTF-8."""
    with (
        replacing(path) as temporary,
        temporary.open("w", encoding="utf-8", newline="\n") as file,
    ):
        file.writelines(f"{line}\n" for line in lines)


def join(parts: Iterable[pathlib.Path], path: pathlib.Path | str) -> None:
    """Writes the bytes of some files as one, in their order."""
    with replacing(path) as temporary, temporary.open("wb") as output:
        for part in parts:
            with part.open("rb") as file:
                shutil.copyfileobj(file, output)


def write_json(path: pathlib.Path | str, value: Any) -> None:
    """Writes indented JSON with sorted keys."""
    write_bytes(path, json_bytes(value))


def json_bytes(value: Any) -> bytes:
    """Indented JSON with sorted keys, as a file holds it."""
    text = json.dumps(value, indent=2, ensure_ascii=False, sort_keys=True)
    # Half a surrogate pair becomes the escape that JSON has for it.
    return f"{text}\n".encode("utf-8", "backslashreplace")


def read_json(path: pathlib.Path | str) -> Any:
    """Reads a JSON file; the error names the file."""
    try:
        return json.loads(pathlib.Path(path).read_text(encoding="utf-8"))
    # Also bytes that are not UTF-8.
    except ValueError as error:
        raise ValueError(f"{path} is not valid JSON: {error}") from error


def sync(path: pathlib.Path) -> None:
    """Waits until a file, or the names in a folder, are on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        # Some network file systems can't do it for folders.
        if error.errno != errno.EINVAL:
            raise
    finally:
        os.close(descriptor)


def rename_folder(finished: pathlib.Path, folder: pathlib.Path) -> None:
    """Gives a folder its final name, where no folder is but an empty one."""
    sync(finished)
    os.rename(finished, folder)
    sync(folder.parent)


@contextlib.contextmanager
def replacing_folder(
    folder: pathlib.Path, *, known_by: str, kind: str
) -> Iterator[pathlib.Path]:
    """A folder to write to, which becomes `folder` once all is written.

    It lies in a folder of its own, on the same disk, that is removed in the
    end: `parent` is a place for what else is needed meanwhile.

    Args:
        folder: absent, or what an earlier run wrote; that is replaced.
        known_by: a file that every such folder has.
        kind: what such a folder is, for the message.

    Raises:
        ValueError: if `folder` is something else.
    """
    if folder.exists() and not (folder / known_by).is_file():
        raise ValueError(
            f"Expected {folder} to be absent or an earlier {kind}, found "
            "something else there. Name another folder."
        )
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(
        prefix=f".{folder.name}-", dir=folder.parent
    ) as work:
        finished = pathlib.Path(work).absolute() / kind
        # Unlike the temporary folder, readable by others.
        finished.mkdir()
        yield finished
        # A folder can't be renamed onto another one.
        if folder.exists():
            folder.rename(finished.with_name("replaced"))
        rename_folder(finished, folder)


def remove_folder(folder: pathlib.Path) -> None:
    """Removes a folder of which no reader may find half.

    A kill leaves `.removed-<name>` beside it.
    """
    removed = folder.with_name(f".removed-{folder.name}")
    os.rename(folder, removed)
    shutil.rmtree(removed)


def sha256(path: pathlib.Path | str) -> str:
    """SHA-256 of a file, in hex."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def describe(path: pathlib.Path | str) -> dict[str, Any]:
    """What a manifest says of a file: its `bytes` and `sha256`."""
    return {"bytes": os.path.getsize(path), "sha256": sha256(path)}


def text_sha256(text: str) -> str:
    """SHA-256 of a text as UTF-8, in hex; what UTF-8 can't hold counts as ?."""
    return hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()


def json_sha256(value: Any) -> str:
    """SHA-256, in hex, of a value as JSON with sorted keys."""
    return text_sha256(json.dumps(value, sort_keys=True))


def stable_hash(*parts: int | str) -> int:
    """64 bits that the parts and their order decide, on every machine."""
    text = "|".join(map(str, parts))
    digest = hashlib.blake2b(text.encode("utf-8"), digest_size=8).digest()
    return int.from_bytes(digest, "big")
