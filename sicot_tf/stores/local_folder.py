"""A folder on a disk of this machine, or one that is mounted."""

import contextlib
import os
import pathlib
import secrets
import shutil
import tempfile
from collections.abc import Iterator
from typing import BinaryIO

from sicot_tf import files
from sicot_tf.stores import folder

_SCRATCH = ".scratch-"


class LocalFolder(folder.Folder):
    """A folder on a disk; files get another name first and are renamed."""

    def __init__(self, location: pathlib.Path):
        super().__init__(location)
        self._path = location

    def get(self, key: str) -> bytes:
        """The content of a file."""
        return (self._path / key).read_bytes()

    def get_range(self, key: str, start: int, length: int) -> bytes:
        """Some bytes of a file."""
        with (self._path / key).open("rb") as file:
            file.seek(start)
            return file.read(length)

    def open(self, key: str) -> BinaryIO:
        """A file to read from."""
        return (self._path / key).open("rb")

    def put(self, key: str, content: bytes) -> None:
        """Writes a file."""
        files.write_bytes(self._place(key), content)

    def create(self, key: str, content: bytes) -> bool:
        """Writes a file that is not there yet."""
        path = self._place(key)
        temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
        try:
            temporary.write_bytes(content)
            files.sync(temporary)
            # Unlike renaming, fails where something is.
            os.link(temporary, path)
        except FileExistsError:
            return path.read_bytes() == content
        finally:
            temporary.unlink(missing_ok=True)
        files.sync(path.parent)
        return True

    def version(self, key: str) -> str | None:
        """Size and time of change."""
        try:
            return _version(os.stat(self._path / key))
        except (FileNotFoundError, NotADirectoryError):
            return None

    def list(
        self, prefix: str = "", *, is_deep: bool = True
    ) -> Iterator[folder.Entry]:
        """All files whose key starts with `prefix`."""
        start = self._path / prefix.rpartition("/")[0]
        found = []
        for inside, folders, names in os.walk(start):
            if not is_deep:
                folders.clear()
            for name in names:
                path = pathlib.Path(inside, name)
                key = path.relative_to(self._path).as_posix()
                if key.startswith(prefix) and not name.endswith(".tmp"):
                    with contextlib.suppress(FileNotFoundError):
                        found.append((key, path.stat()))
        for key, status in sorted(found, key=lambda each: each[0]):
            yield folder.Entry(
                key, status.st_size, status.st_mtime, _version(status)
            )

    def delete(self, key: str) -> None:
        """Removes a file."""
        (self._path / key).unlink(missing_ok=True)

    def upload(self, path: pathlib.Path, key: str) -> None:
        """Moves a file here, from `scratch` without a copy."""
        place = self._place(key)
        files.sync(path)
        os.replace(path, place)
        files.sync(place.parent)

    def download(self, key: str, path: pathlib.Path) -> None:
        """Copies a file."""
        files.join([self._path / key], path)

    def child(self, name: str) -> "LocalFolder":
        """A folder inside of this one."""
        return LocalFolder(self._path / name)

    @contextlib.contextmanager
    def scratch(self) -> Iterator[pathlib.Path]:
        """A hidden folder inside of this one, on the same disk."""
        self._path.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(
            prefix=_SCRATCH, dir=self._path
        ) as name:
            yield pathlib.Path(name)

    def _place(self, key: str) -> pathlib.Path:
        path = self._path / key
        path.parent.mkdir(parents=True, exist_ok=True)
        return path


def _version(status: os.stat_result) -> str:
    return f"{status.st_size}-{status.st_mtime_ns}"


def remove_scratch(folder: pathlib.Path) -> None:
    """Removes what `scratch` has left in a folder and those within at a kill.

    Whoever still works there fails.
    """
    for path in folder.rglob(f"{_SCRATCH}*"):
        shutil.rmtree(path, ignore_errors=True)
