"""Generations of a store on this machine: copied once, verified, shared.

    <cache>/<key>/<generation>/    files, each there once it is verified
    <cache>/<key>/checked/<file>   locked by who fetches it; what was verified
    <cache>/<key>/used             locked by who reads; as old as the last use
    <cache>/<key>/origin.url       where it was copied from

The cache is `SICOT_TF_CACHE` (default: ~/.cache/sicot_tf/generations), which
holds at most `SICOT_TF_CACHE_GIGABYTES` (default: what its disk can hold).
"""

import concurrent.futures
import contextlib
import fcntl
import json
import logging
import os
import pathlib
from collections.abc import Callable
from collections.abc import Collection
from collections.abc import Iterator
from typing import Any
from typing import TextIO

from sicot_tf import files
from sicot_tf import progress
from sicot_tf.data import cache_room
from sicot_tf.data import generations
from sicot_tf.data import publishing
from sicot_tf.stores import folder
from sicot_tf.stores import locations
from sicot_tf.stores import opening

# The names of the files that are read, by the manifest.
Wanted = Callable[[dict[str, Any]], Collection[str]]

_ORIGIN = "origin.url"
_LOCK = ".lock"
# Files at a time: large ones that share the way from the store.
_AT_ONCE = 8
_log = logging.getLogger(__name__)
# Nobody removes what this process may read until its end.
_in_use: dict[pathlib.Path, TextIO] = {}


def local_generation(
    location: locations.Location,
    wanted: Wanted | None = None,
    cache: pathlib.Path | None = None,
) -> pathlib.Path:
    """A generation as a folder of this machine, to be read only.

    One on a store is copied into the cache, as far as that has not been done;
    processes that want the same share one copy. It stays there while this
    process lives.

    Args:
        location: as of `generations.resolve_generation`.
        wanted: which files are read; None for all. `manifest.json` and
            `run.json` are always there.
        cache: a folder in which nothing is ever removed, in place of the
            machine's cache.

    Raises:
        ValueError: if there is no complete generation, a file of it is
            damaged on the store, or there is no room for it.
        OSError: if the store or the disk fails.
    """
    if not locations.is_remote(location):
        return generations.resolve_generation(location)
    source = publishing.resolve_generation(location)
    store = opening.open_folder(source)
    content = store.get(generations.MANIFEST)
    manifest = _parse(content, source)
    names = sorted(manifest["files"])
    if wanted is not None:
        names = sorted(set(wanted(manifest)).intersection(names))
    is_shared, limit = cache is None, None
    if cache is None:
        cache, limit = cache_room.folder(), cache_room.limit()
    generations.make_folder(cache)
    key = files.text_sha256(f"{source}\n{content.decode()}")[:16]
    copy = _Copy(store, cache / key, manifest["files"])
    with _locked(cache / _LOCK):
        copy.open(content)
        missing = [name for name in names if not copy.is_verified(name)]
        if missing:
            cache_room.make_room(
                *(copy.place, missing, manifest["files"], limit),
                may_remove=is_shared,
            )
            copy.claim(missing)
    copy.fetch(missing)
    return copy.generation


def origin(generation: pathlib.Path) -> locations.Location:
    """Where a generation was copied from; any other is where it is."""
    path = generation.parent / _ORIGIN
    if path.is_file():
        return path.read_text("utf-8").strip()
    return generation


def _parse(content: bytes, source: str) -> dict[str, Any]:
    """A manifest, whose files may be written below any folder."""
    try:
        manifest = json.loads(content)
        for name, described in manifest["files"].items():
            if pathlib.PurePath(name).name != name:
                raise ValueError(f"{name!r} is no name of a file")
            int(described["bytes"]), str(described["sha256"])
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(
            f"{source}/{generations.MANIFEST} does not describe the files of "
            f"a generation ({error!r}). Copy it again, or build it again."
        ) from error
    return manifest


class _Copy:
    """The copy of a generation, as a whole or in part.

    Args:
        store: the generation.
        place: the folder of all that belongs to the copy.
        described: bytes and sha256 of files, by name.
    """

    def __init__(
        self,
        store: folder.Folder,
        place: pathlib.Path,
        described: dict[str, dict[str, Any]],
    ):
        self.generation = place / locations.name(store.location)
        self.place = place
        self._store = store
        self._described = described

    def open(self, manifest: bytes) -> None:
        """Makes the folders, and keeps others from removing them."""
        for path in (
            self.generation,
            self.place / cache_room.CHECKED,
            self.place / cache_room.INCOMING,
        ):
            path.mkdir(parents=True, exist_ok=True)
        used = self.place / cache_room.USED
        if self.place not in _in_use:
            _in_use[self.place] = used.open("a")
            fcntl.flock(_in_use[self.place], fcntl.LOCK_SH)
        os.utime(used)
        files.write_text(self.place / _ORIGIN, f"{self._store}\n")
        files.write_bytes(self.generation / generations.MANIFEST, manifest)
        # No manifest tells of it: it differs from one build to the next.
        with contextlib.suppress(FileNotFoundError):
            run = self._store.get(generations.RUN)
            files.write_bytes(self.generation / generations.RUN, run)

    def claim(self, names: Collection[str]) -> None:
        """Says that there will be these files."""
        for name in names:
            self._mark(name).touch()

    def is_verified(self, name: str) -> bool:
        """Whether a file is as it was when its digest was compared."""
        with contextlib.suppress(FileNotFoundError):
            mark = self._mark(name).read_text("utf-8")
            return mark == _version(self.generation / name)
        return False

    def fetch(self, names: Collection[str]) -> None:
        """Copies files; those that others fetch just now are waited for."""
        if not names:
            return
        total = sum(self._described[name]["bytes"] for name in names)
        _log.info(
            "Copying %s (%d files) to %s", self._store, len(names), self.place
        )
        with (
            concurrent.futures.ThreadPoolExecutor(_AT_ONCE) as pool,
            progress.bar(
                description="Copying",
                total=total,
                unit="bytes",
                unit_scale=True,
            ) as bar,
        ):
            for num_bytes in pool.map(self._fetch, names):
                bar.update(num_bytes)

    def _fetch(self, name: str) -> int:
        path, described = self.generation / name, self._described[name]
        incoming = self.place / cache_room.INCOMING
        with _locked(self._mark(name)) as mark:
            if self.is_verified(name):
                return described["bytes"]
            # What a kill has left.
            for left in incoming.glob(f".{name}.*"):
                left.unlink()
            # It may have been touched only.
            if not path.is_file() or files.sha256(path) != described["sha256"]:
                self._store.download(name, incoming / name)
                _check(incoming / name, described, self._store)
                os.replace(incoming / name, path)
                files.sync(self.generation)
            mark.truncate(0)
            mark.write(_version(path))
            mark.flush()
        return described["bytes"]

    def _mark(self, name: str) -> pathlib.Path:
        return self.place / cache_room.CHECKED / name


def _check(
    path: pathlib.Path, described: dict[str, Any], store: folder.Folder
) -> None:
    digest = files.sha256(path)
    if digest != described["sha256"]:
        size = path.stat().st_size
        path.unlink()
        raise ValueError(
            f"{locations.join(store.location, path.name)} is damaged: expected "
            f"{described['bytes']:,} bytes with SHA-256 "
            f"{described['sha256']}, as its manifest says, received {size:,} "
            f"with {digest}. Copy the generation there again, or build it "
            "again."
        )


def _version(path: pathlib.Path) -> str:
    status = path.stat()
    return f"{status.st_size}-{status.st_mtime_ns}"


@contextlib.contextmanager
def _locked(path: pathlib.Path) -> Iterator[TextIO]:
    """Waits for a lock, which ends with the process at the latest."""
    with path.open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield file
