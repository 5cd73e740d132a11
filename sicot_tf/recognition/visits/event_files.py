"""Files that lines are appended to until their hour is over.

A file is written as `events-<hour>-<host>-<pid>-<n>.jsonl.open` and loses its
last suffix once it is finished, so that readers of `*.jsonl` never find half a
line. Its process holds a lock on it; the lock of a killed one is free.
"""

import contextlib
import datetime
import fcntl
import os
import pathlib
import platform
import re

from sicot_tf import files

_OPEN = ".open"
# Longer than any line.
_TAIL = 1 << 16


class OpenFile:
    """A new file of this process; not safe for threads.

    Attributes:
        hour: in which it was opened.
        size: bytes of whole lines.

    Raises:
        OSError: wherever the disk refuses.
    """

    def __init__(self, folder: pathlib.Path, hour: str):
        self.hour = hour
        self.size = 0
        host = re.sub(r"[^A-Za-z0-9.]", "_", platform.node()) or "host"
        number = 0
        while True:
            name = f"events-{hour}-{host}-{os.getpid()}-{number}.jsonl"
            number += 1
            # The pid of a container is the same after each start.
            if (folder / name).exists():
                continue
            self._path = folder / f"{name}{_OPEN}"
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND
            with contextlib.suppress(FileExistsError):
                self._descriptor = os.open(self._path, flags, 0o640)
                if _lock(self._descriptor, self._path):
                    return
                os.close(self._descriptor)

    def append(self, line: bytes) -> None:
        """Appends a line with its end, or nothing of it."""
        written = os.write(self._descriptor, line)
        if written < len(line):
            os.ftruncate(self._descriptor, self.size)
            raise OSError("the disk took a part of a line only")
        self.size += written

    def finish(self) -> None:
        """Gives the file its final name; removes one without a line."""
        try:
            _finish(self._path, self.size)
        finally:
            os.close(self._descriptor)


def finish_left_open(folder: pathlib.Path) -> None:
    """Finishes the files of processes that were killed, without half a line."""
    for path in sorted(folder.glob(f"events-*.jsonl{_OPEN}")):
        # Another process may be doing the same.
        with contextlib.suppress(FileNotFoundError):
            descriptor = os.open(path, os.O_RDWR)
            try:
                if _lock(descriptor, path):
                    size = os.fstat(descriptor).st_size
                    start = max(0, size - _TAIL)
                    tail = os.pread(descriptor, _TAIL, start)
                    size = start + tail.rfind(b"\n") + 1
                    os.ftruncate(descriptor, size)
                    _finish(path, size)
            finally:
                os.close(descriptor)


def remove_before(folder: pathlib.Path, hour: str) -> None:
    """Removes finished files of hours before this one."""
    for path in folder.glob("events-*.jsonl"):
        found = re.match(r"events-(\d{8}T\d{2})-", path.name)
        if found and found[1] < hour:
            path.unlink(missing_ok=True)


def hour_of(seconds: float) -> str:
    """`20261127T22` for seconds since 1970, in UTC."""
    time = datetime.datetime.fromtimestamp(seconds, datetime.UTC)
    return time.strftime("%Y%m%dT%H")


def _lock(descriptor: int, path: pathlib.Path) -> bool:
    """Whether the file is this process's now, and still has its name."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except (BlockingIOError, FileNotFoundError):
        return False


def _finish(path: pathlib.Path, size: int) -> None:
    if not size:
        path.unlink()
        return
    files.sync(path)
    path.rename(path.with_suffix(""))
    files.sync(path.parent)
