"""Files of a folder where this machine can open them by path."""

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


def local_copy(
    place: folder.Folder, scratch: pathlib.Path, endings: tuple[str, ...]
) -> pathlib.Path:
    """A path at which the files of a folder are.

    That of the folder itself if it is on this machine, else of copies.

    Args:
        scratch: where a folder for copies is made.
        endings: of the keys that are copied.
    """
    if not locations.is_remote(place.location):
        return pathlib.Path(place.location)
    target = scratch / locations.name(place.location)
    target.mkdir()
    entries = [each for each in place.list() if each.key.endswith(endings)]
    with (
        progress.bar(
            description=f"Copy {target.name}",
            total=sum(entry.num_bytes for entry in entries),
            unit="B",
            unit_scale=True,
        ) as bar,
        concurrent.futures.ThreadPoolExecutor(_NUM_THREADS) as pool,
    ):
        copies = pool.map(
            lambda entry: place.download(entry.key, target / entry.key), entries
        )
        for entry, _ in zip(entries, copies, strict=True):
            bar.update(entry.num_bytes)
    return target


def local_file(
    location: locations.Location, scratch: pathlib.Path
) -> pathlib.Path:
    """A path at which a file is: its own, or that of a copy."""
    if not locations.is_remote(location):
        return pathlib.Path(location)
    name = locations.name(location)
    place = opening.open_folder(locations.parent(location))
    place.download(name, scratch / name)
    return scratch / name


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
