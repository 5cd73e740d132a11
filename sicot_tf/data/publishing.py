"""Generations in a folder of any store: work in progress, and publishing.

On a disk as in `generations`: a hidden work folder, which is renamed. An
object store can't rename: files of a generation are written to where they
stay, and its manifest comes last; without one nobody takes it for a generation.
"""

import contextlib
import fnmatch
import pathlib
from collections.abc import Iterator
from typing import Any

from sicot_tf import files
from sicot_tf.data import generations
from sicot_tf.stores import folder
from sicot_tf.stores import lease as leases
from sicot_tf.stores import local_folder
from sicot_tf.stores import locations
from sicot_tf.stores import opening


@contextlib.contextmanager
def work_folder(
    output: locations.Location, name: str
) -> Iterator[folder.Folder]:
    """A hidden folder in `output` that outlives a killed or failed job.

    The next job of the same name goes on in it; it is removed once a job has
    come to its end.

    Raises:
        ValueError: if another process works in it.
    """
    if not locations.is_remote(output):
        with generations.work_folder(pathlib.Path(output), name) as work:
            local_folder.remove_scratch(work)
            yield local_folder.LocalFolder(work)
        return
    store = opening.open_folder(output)
    work = f"{generations.WORK}{name}"
    doing = f"works in {locations.join(output, work)}"
    with leases.hold(store, f"{work}{generations.LOCK}", doing) as lease:
        yield store.child(work)
        _remove(store, work, lease)


@contextlib.contextmanager
def only_builder(output: locations.Location) -> Iterator[None]:
    """Keeps other processes from changing a folder of generations.

    Raises:
        ValueError: if one is at it.
    """
    if not locations.is_remote(output):
        with generations.only_builder(pathlib.Path(output)):
            yield
        return
    store = opening.open_folder(output)
    with leases.hold(store, generations.LOCK, f"is changing {output}") as lease:
        yield
        lease.check()


def is_worked_on(output: locations.Location, name: str) -> bool:
    """Whether a process works in the work folder of this name."""
    work = f"{generations.WORK}{name}"
    if not locations.is_remote(output):
        return generations.is_worked_on(pathlib.Path(output, work))
    store = opening.open_folder(output)
    return leases.is_held(store, f"{work}{generations.LOCK}")


def remove_abandoned(output: locations.Location, pattern: str) -> None:
    """Removes work folders that no process works in.

    Args:
        pattern: of their names, with wildcards.
    """
    if not locations.is_remote(output):
        generations.remove_abandoned(pathlib.Path(output), pattern)
        return
    store = opening.open_folder(output)
    pattern = f"{generations.WORK}{pattern}{generations.LOCK}"
    for entry in store.list(generations.WORK, is_deep=False):
        if not fnmatch.fnmatchcase(entry.key, pattern):
            continue
        if leases.is_done(store, entry.key):
            continue
        with (
            contextlib.suppress(leases.HeldError),
            leases.hold(store, entry.key, "works there") as lease,
        ):
            work = entry.key.removesuffix(generations.LOCK)
            _remove(store, work, lease)


def _remove(store: folder.Folder, work: str, lease: leases.Lease) -> None:
    # A successor may need it.
    lease.check()
    store.delete_all(f"{work}/")
    lease.is_done = True


def result_folder(
    output: locations.Location, work: folder.Folder, generation: str
) -> folder.Folder:
    """Where the files of a generation are written before it is published.

    Without what a kill has cut short.
    """
    if locations.is_remote(output):
        return opening.open_folder(locations.join(output, generation))
    return local_folder.LocalFolder(
        generations.result_folder(pathlib.Path(work.location))
    )


def publish(
    output: locations.Location,
    result: folder.Folder,
    generation: str,
    manifest: dict[str, Any],
) -> locations.Location:
    """Makes a finished generation visible, as a whole; returns its place."""
    place = locations.join(output, generation)
    if locations.is_remote(output):
        # Another process may have built the same one meanwhile.
        result.create(generations.MANIFEST, files.json_bytes(manifest))
    else:
        result.put_json(generations.MANIFEST, manifest)
        generations.publish(pathlib.Path(result.location), pathlib.Path(place))
    return place


def resolve_generation(place: locations.Location) -> locations.Location:
    """`generations.resolve_generation`, which knows URLs as well."""
    return generations.resolve_generation(place)


def latest(output: locations.Location) -> locations.Location | None:
    """The generation that `LATEST` names; None in a new folder."""
    return generations.latest(output)


def point_latest(output: locations.Location, generation: str) -> None:
    """Makes LATEST name it, at once."""
    opening.open_folder(output).put(
        generations.LATEST, f"{generation}\n".encode()
    )
