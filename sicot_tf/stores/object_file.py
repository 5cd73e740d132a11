"""A large object as a file to read from."""

import io
from collections.abc import Callable
from typing import BinaryIO

# Read at once at least: a request takes as long as some megabytes.
_AHEAD = 8 << 20


def open_object(num_bytes: int, read: Callable[[int, int], bytes]) -> BinaryIO:
    """A file that can seek and reads ahead.

    Args:
        num_bytes: its size.
        read: gives bytes from a start, of a length.
    """
    return io.BufferedReader(_Object(num_bytes, read), _AHEAD)


class _Object(io.RawIOBase):
    def __init__(self, num_bytes: int, read: Callable[[int, int], bytes]):
        self._num_bytes = num_bytes
        self._read = read
        self._position = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {
            io.SEEK_SET: 0,
            io.SEEK_CUR: self._position,
            io.SEEK_END: self._num_bytes,
        }[whence]
        if base + offset < 0:
            raise ValueError(f"Expected a place in the file, got {offset}.")
        self._position = base + offset
        return self._position

    def readinto(self, buffer: memoryview) -> int:
        content = self._next(len(buffer))
        buffer[: len(content)] = content
        return len(content)

    def readall(self) -> bytes:
        return self._next(self._num_bytes)

    def _next(self, length: int) -> bytes:
        length = min(length, self._num_bytes - self._position)
        if length <= 0:
            return b""
        content = self._read(self._position, length)
        self._position += len(content)
        return content
