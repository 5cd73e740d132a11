"""Files of a folder where libraries find them that read from disks only."""

import collections
import concurrent.futures
import contextlib
import pathlib
from collections.abc import Iterable
from collections.abc import Iterator

from sicot_tf import progress
from sicot_tf.stores import folder
from sicot_tf.stores import locations
from sicot_tf.stores import opening

_NUM_THREADS = 16


def at_hand(
    place: folder.Folder,
    copies: pathlib.Path,
    keys: Iterable[str] | None = None,
    description: str = "",
) -> pathlib.Path:
    """A folder of this machine with the files of another one, not to change.

    Args:
        place: if it is on this machine, it is returned as it is.
        copies: where the copies go.
        keys: of the files that are needed; None: all.
        description: of a progress bar; empty for none.
    """
    if not locations.is_remote(place.location):
        return pathlib.Path(place.location)

    def copy(key: str) -> None:
        path = copies / key
        path.parent.mkdir(parents=True, exist_ok=True)
        place.download(key, path)

    copies.mkdir(parents=True, exist_ok=True)
    if keys is None:
        keys = (entry.key for entry in place.list())
    keys = list(keys)
    with concurrent.futures.ThreadPoolExecutor(_NUM_THREADS) as pool:
        copied = pool.map(copy, keys)
        if description:
            copied = progress.bar(
                copied, description, unit="files", total=len(keys)
            )
        collections.deque(copied, maxlen=0)
    return copies


def local_file(
    location: locations.Location, copies: pathlib.Path
) -> pathlib.Path:
    """A path at which a file is: its own, or that of a copy in `copies`."""
    place = opening.open_folder(locations.parent(location))
    name = locations.name(location)
    return at_hand(place, copies, [name]) / name


@contextlib.contextmanager
def local_files(
    location: locations.Location, keys: Iterable[str]
) -> Iterator[pathlib.Path]:
    """A folder of this machine that has these files of a folder.

    Of a store they are copies, removed in the end; those that are not there
    are left out. A path is given back as it is.
    """
    if not locations.is_remote(location):
        yield pathlib.Path(location)
        return
    store = opening.open_folder(location)
    with store.scratch() as scratch:
        for key in keys:
            with contextlib.suppress(FileNotFoundError):
                store.download(key, scratch / key)
        yield scratch
