"""What is made on this machine and may go to a store."""

import contextlib
import pathlib
from collections.abc import Iterator

from sicot_tf import files
from sicot_tf.stores import folder
from sicot_tf.stores import locations
from sicot_tf.stores import opening


@contextlib.contextmanager
def replacing_folder(
    location: locations.Location, *, known_by: str, kind: str
) -> Iterator[pathlib.Path]:
    """`files.replacing_folder` for a folder that may lie on a store.

    There the files go up once all are made, `known_by` as the last one, and
    those of an earlier result that this one lacks are removed.

    Raises:
        ValueError: if something else is there.
    """
    if not locations.is_remote(location):
        with files.replacing_folder(
            pathlib.Path(location), known_by=known_by, kind=kind
        ) as finished:
            yield finished
        return
    store = opening.open_folder(location)
    before = {entry.key for entry in store.list()}
    if before and known_by not in before:
        raise ValueError(
            f"Expected {location} to be absent or an earlier {kind}, found "
            "something else there. Name another folder."
        )
    with store.scratch() as scratch:
        finished = scratch / kind
        finished.mkdir()
        yield finished
        made = {
            path.relative_to(finished).as_posix(): path
            for path in sorted(finished.rglob("*"))
            if path.is_file()
        }
        last = made.pop(known_by)
        for key, path in made.items():
            store.upload(path, key)
        store.upload(last, known_by)
    for key in before - {*made, known_by}:
        store.delete(key)


@contextlib.contextmanager
def replacing(location: locations.Location) -> Iterator[pathlib.Path]:
    """`files.replacing` for a file that may lie on a store."""
    if not locations.is_remote(location):
        with files.replacing(pathlib.Path(location)) as temporary:
            yield temporary
        return
    store = opening.open_folder(locations.parent(location))
    with store.scratch() as scratch:
        path = scratch / locations.name(location)
        yield path
        store.upload(path, path.name)


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
