"""Room for copies of generations on this machine; the least used make it."""

import contextlib
import fcntl
import json
import logging
import math
import os
import pathlib
import shutil
from collections.abc import Collection
from collections.abc import Mapping
from typing import Any

from sicot_tf.data import generations

# Parts of a copy, see `generation_cache`.
CHECKED = "checked"
INCOMING = "incoming"
USED = "used"

_FOLDER = "SICOT_TF_CACHE"
_GIGABYTES = "SICOT_TF_CACHE_GIGABYTES"
_REMOVED = ".removed-"
# What stays free on the disk, for all else that is written.
_RESERVE = 2**30
_log = logging.getLogger(__name__)


def folder() -> pathlib.Path:
    """The cache of this machine."""
    named = os.environ.get(_FOLDER)
    if named:
        return pathlib.Path(named).expanduser().absolute()
    return pathlib.Path.home() / ".cache" / "sicot_tf" / "generations"


def limit() -> int | None:
    """Bytes that the cache may hold; None for what its disk can hold.

    Raises:
        ValueError: if the variable holds no number.
    """
    text = os.environ.get(_GIGABYTES)
    if not text:
        return None
    with contextlib.suppress(ValueError):
        gigabytes = float(text)
        if 0 < gigabytes < math.inf:
            return int(gigabytes * 1e9)
    raise ValueError(
        f"Expected {_GIGABYTES} to be a number such as 500, received {text!r}."
    )


def make_room(
    copy: pathlib.Path,
    names: Collection[str],
    described: Mapping[str, Mapping[str, Any]],
    most: int | None,
    *,
    may_remove: bool,
) -> None:
    """Makes room for more files of a copy; call it under the cache's lock.

    Removes copies that no process reads, those that were read longest ago
    first, and no more than it takes.

    Args:
        copy: its folder in the cache.
        names: of the files that come.
        described: bytes of files by name.
        most: bytes that the cache may hold; None: what its disk can hold.
        may_remove: False if all copies are to stay.

    Raises:
        ValueError: if there is none.
    """
    cache = copy.parent
    for left in cache.glob(f"{_REMOVED}*"):
        shutil.rmtree(left, ignore_errors=True)
    names = set(names) | _claimed(copy)
    own = sum(described[name]["bytes"] for name in names)
    if most is not None and own > most:
        raise ValueError(
            f"Expected a generation of at most {_gigabytes(most)}, as "
            f"{_GIGABYTES} says, received {_gigabytes(own)} to copy to "
            f"{copy}. Raise the limit, or name a larger disk with {_FOLDER}."
        )
    others = {
        path: _size(path)
        for path in cache.iterdir()
        if may_remove and path != copy and (path / USED).is_file()
    }
    coming = own - _present(copy)

    def lacks() -> int:
        """Bytes that must go; of those that others fetch, too."""
        pending = sum(
            max(0, size - _present(path))
            for path, size in others.items()
            if _is_used(path)
        )
        free = shutil.disk_usage(cache).free - _RESERVE
        over = 0 if most is None else own + sum(others.values()) - most
        return max(over, coming + pending - free)

    for path in sorted(others, key=lambda each: (each / USED).stat().st_mtime):
        if lacks() <= 0:
            return
        if not _is_used(path):
            _log.info("Removing %s, to make room", path)
            del others[path]
            _remove(path)
    lacking = lacks()
    if lacking > 0:
        raise ValueError(
            f"Expected room for {_gigabytes(coming)} in {cache}, "
            f"{_gigabytes(lacking)} are lacking: the rest is free space, or of "
            f"generations that are being read. Raise {_GIGABYTES}, name a "
            f"larger disk with {_FOLDER}, or wait until others have finished."
        )


def _remove(copy: pathlib.Path) -> None:
    # Nobody may find half of it.
    removed = copy.with_name(f"{_REMOVED}{copy.name}")
    os.rename(copy, removed)
    shutil.rmtree(removed)


def _is_used(copy: pathlib.Path) -> bool:
    with (copy / USED).open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def _claimed(copy: pathlib.Path) -> set[str]:
    """The files that are there, or that somebody fetches."""
    return {path.name for path in (copy / CHECKED).glob("*")}


def _size(copy: pathlib.Path) -> int:
    """Bytes of a copy, once all is there that was asked for."""
    try:
        (manifest,) = copy.glob(f"*/{generations.MANIFEST}")
        described = json.loads(manifest.read_bytes())["files"]
        return sum(described[name]["bytes"] for name in _claimed(copy))
    except (OSError, ValueError, KeyError, TypeError):
        return _present(copy)  # Damaged; it goes like any other.


def _present(copy: pathlib.Path) -> int:
    paths = [*copy.glob("*/*")]
    return sum(path.stat().st_size for path in paths if path.is_file())


def _gigabytes(num_bytes: int) -> str:
    return f"{num_bytes / 1e9:,.3g} GB"
