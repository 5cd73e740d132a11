"""Copies between a store and this machine, for libraries that know disks only.

Where the folder of the work is on a disk, all workers see that disk, and
nothing is copied.
"""

import concurrent.futures
import pathlib
from collections.abc import Iterable

from sicot_tf.stores import folder
from sicot_tf.stores import locations

_NUM_THREADS = 16


def at_hand(
    place: folder.Folder,
    copies: pathlib.Path,
    keys: Iterable[str] | None = None,
) -> pathlib.Path:
    """A folder of this machine with the files of another one, not to change.

    Args:
        place: if it is on this machine, it is returned as it is.
        copies: where the copies go.
        keys: of the files that are needed; None: all.
    """
    if not locations.is_remote(place.location):
        return pathlib.Path(place.location)

    def copy(key: str) -> None:
        path = copies / key
        path.parent.mkdir(parents=True, exist_ok=True)
        place.download(key, path)

    copies.mkdir(parents=True, exist_ok=True)
    if keys is None:
        keys = [entry.key for entry in place.list()]
    with concurrent.futures.ThreadPoolExecutor(_NUM_THREADS) as pool:
        list(pool.map(copy, keys))
    return copies


def for_workers(path: pathlib.Path, place: folder.Folder) -> locations.Location:
    """Where all workers find the files of a folder of this machine.

    Args:
        path: the folder; what is in it does not change.
        place: where its copy goes; what is there stays.
    """
    if not locations.is_remote(place.location):
        return path.absolute()
    for file in sorted(path.rglob("*")):
        key = file.relative_to(path).as_posix()
        if file.is_file() and not place.exists(key):
            place.upload(file, key)
    return place.location
