"""What the folders of all object stores have in common."""

import abc
import contextlib
import io
import pathlib
import shutil
import tempfile
from collections.abc import Iterator
from typing import BinaryIO
from typing import Self

from sicot_tf import files
from sicot_tf.stores import folder
from sicot_tf.stores import object_file

# Files up to this size come as a whole, by one request.
SMALL = 4 << 20
_COPIED_AT_ONCE = 16 << 20


class ObjectFolder(folder.Folder):
    """The objects of a bucket whose names begin with those of the folder.

    Args:
        location: URL of a bucket, or of a folder inside of one.

    Raises:
        ValueError: if no bucket is named.
    """

    def __init__(self, location: str):
        super().__init__(location.rstrip("/"))
        scheme, _, place = self.location.partition("://")
        self._bucket, _, prefix = place.partition("/")
        self._prefix = f"{prefix}/" if prefix else ""
        if not self._bucket:
            raise ValueError(
                f"Expected a bucket in the URL, such as {scheme}://bucket/"
                f"folder, received {location!r}."
            )
        self._name("")

    def __getstate__(self) -> dict[str, object]:
        """Without the `_client`, which is made anew where it is needed."""
        return {
            name: value
            for name, value in self.__dict__.items()
            if name != "_client"
        }

    @abc.abstractmethod
    def replace(self, key: str, content: bytes, version: str) -> bool:
        """Writes a file if its version is still the one given.

        Returns:
            False if it is another one, or the file is gone; True also if it
            has equal bytes (a retried request meets what it wrote itself).
        """

    @abc.abstractmethod
    def _begin(self, name: str) -> bytes | tuple[int, str]:
        """A small object's content, or size and version of a large one."""

    @abc.abstractmethod
    def _read(
        self, name: str, start: int, length: int, version: str | None
    ) -> bytes:
        """Bytes of an object; an OSError if it has another version."""

    @abc.abstractmethod
    def _objects(
        self, prefix: str, is_deep: bool
    ) -> Iterator[tuple[str, folder.Entry]]:
        """Entries of a bucket, by the full name of the object."""

    def _name(self, key: str) -> str:
        """The full name of an object.

        Not all clients can ask for what looks like a path to be normalised.
        """
        name = self._prefix + key
        parts = name.rstrip("/").split("/")
        if name and not all(part not in ("", ".", "..") for part in parts):
            raise ValueError(
                "Expected a URL without empty parts, '.' and '..', received "
                f"'{self._url(name)}'. Write it without them, or rename the "
                "object."
            )
        return name

    def _url(self, name: str) -> str:
        scheme = self.location.partition("://")[0]
        return f"{scheme}://{self._bucket}/{name}"

    def get_range(self, key: str, start: int, length: int) -> bytes:
        """Some bytes of a file."""
        if length <= 0:
            return b""
        return self._read(self._name(key), start, length, None)

    def open(self, key: str) -> BinaryIO:
        """A file to read from: by one request if it is small.

        A large one is read in long ranges, all of the same version.
        """
        name = self._name(key)
        begin = self._begin(name)
        if isinstance(begin, bytes):
            return io.BytesIO(begin)
        num_bytes, version = begin
        return object_file.open_object(
            num_bytes,
            lambda start, length: self._read(name, start, length, version),
        )

    def list(
        self, prefix: str = "", *, is_deep: bool = True
    ) -> Iterator[folder.Entry]:
        """All files whose key starts with `prefix`."""
        skipped = len(self._prefix)
        for name, entry in self._objects(self._prefix + prefix, is_deep):
            # What consoles make where they show a folder.
            if not name.endswith("/"):
                yield folder.Entry(
                    name[skipped:],
                    entry.num_bytes,
                    entry.modified,
                    entry.version,
                )

    def download(self, key: str, path: pathlib.Path) -> None:
        """Copies a file to this machine."""
        with (
            self.open(key) as source,
            files.replacing(path) as temporary,
            temporary.open("wb") as target,
        ):
            shutil.copyfileobj(source, target, _COPIED_AT_ONCE)

    def child(self, name: str) -> Self:
        """A folder inside of this one."""
        return type(self)(f"{self.location}/{name}")

    @contextlib.contextmanager
    def scratch(self) -> Iterator[pathlib.Path]:
        """A temporary folder of this machine."""
        with tempfile.TemporaryDirectory(prefix="sicot-") as name:
            yield pathlib.Path(name)
