"""A folder of files, wherever it is: a dozen methods for jobs and readers.

Files have keys: names relative to the folder, `/` between their parts. A file
is there as a whole or not at all, on every store. What an object store can't
do, rename and lock, is not offered; what it can, is offered on a disk as well.
"""

import abc
import contextlib
import dataclasses
import json
import pathlib
from collections.abc import Iterator
from typing import Any
from typing import BinaryIO

from sicot_tf import files
from sicot_tf.stores import locations


@dataclasses.dataclass(frozen=True)
class Entry:
    """A file as a listing tells of it.

    Attributes:
        key: relative to the folder that was listed.
        num_bytes: its size.
        modified: seconds since 1970, by the clock of the store.
        version: changes with the content; what `Folder.version` gives.
    """

    key: str
    num_bytes: int
    modified: float
    version: str


class StoreError(OSError):
    """The store as a whole is at fault, so that no file can be had from it.

    For one it can't be reached. What ends a job, rather than one record of it.
    """


class BadKeysError(StoreError, PermissionError):
    """The store does not accept the credentials, or not any more."""


class StoreRefusedError(StoreError, PermissionError):
    """There are no credentials, no such bucket, or no permission there.

    What is known of one bucket; others may be open.
    """


class Folder(abc.ABC):
    """A folder of files; it need not be there before something is written.

    A missing file is a FileNotFoundError, whatever else fails an OSError with
    one clear sentence, of a store mostly a `StoreError`. Objects may be
    pickled: they hold a location only.

    Args:
        location: a path or a URL.
    """

    def __init__(self, location: locations.Location):
        self.location = location

    def __str__(self) -> str:
        return str(self.location)

    @abc.abstractmethod
    def get(self, key: str) -> bytes:
        """The content of a file."""

    @abc.abstractmethod
    def get_range(self, key: str, start: int, length: int) -> bytes:
        """Some bytes of a file; fewer at its end."""

    @abc.abstractmethod
    def open(self, key: str) -> BinaryIO:
        """A file to read from, which can seek; reads ahead, so close it."""

    @abc.abstractmethod
    def put(self, key: str, content: bytes) -> None:
        """Writes a file; replaces what was there at once."""

    @abc.abstractmethod
    def create(self, key: str, content: bytes) -> bool:
        """Writes a file that is not there yet.

        Returns:
            False if another one is there; True also if it has equal bytes
            (a retried request meets what it wrote itself).
        """

    @abc.abstractmethod
    def version(self, key: str) -> str | None:
        """What changes with the content of a file; None if there is none."""

    @abc.abstractmethod
    def list(
        self, prefix: str = "", *, is_deep: bool = True
    ) -> Iterator[Entry]:
        """All files whose key starts with `prefix`, in the order of their keys.

        Args:
            is_deep: also those in folders within that of the prefix, which
                may be very many.
        """

    @abc.abstractmethod
    def delete(self, key: str) -> None:
        """Removes a file; one that is not there is no error."""

    @abc.abstractmethod
    def upload(self, path: pathlib.Path, key: str) -> None:
        """Writes a file from one on this machine, which may be moved away."""

    @abc.abstractmethod
    def download(self, key: str, path: pathlib.Path) -> None:
        """Copies a file to this machine, there as a whole or not at all."""

    @abc.abstractmethod
    def child(self, name: str) -> "Folder":
        """A folder inside of this one."""

    @abc.abstractmethod
    @contextlib.contextmanager
    def scratch(self) -> Iterator[pathlib.Path]:
        """A folder of this machine to make files in that are uploaded.

        It is removed in the end; a kill leaves it.
        """

    # === What the above gives ===

    def exists(self, key: str) -> bool:
        """Whether there is such a file."""
        return self.version(key) is not None

    def delete_all(self, prefix: str = "") -> None:
        """Removes all files whose key starts with `prefix`."""
        for entry in self.list(prefix):
            self.delete(entry.key)

    def get_json(self, key: str) -> Any:
        """Reads a JSON file; the ValueError of a bad one names it."""
        try:
            return json.loads(self.get(key))
        except ValueError as error:
            place = locations.join(self.location, key)
            raise ValueError(f"{place} is not valid JSON: {error}") from error

    def put_json(self, key: str, value: Any) -> None:
        """Writes indented JSON with sorted keys."""
        self.put(key, files.json_bytes(value))
