"""Generations in a folder of any store: work in progress, and publishing.

On a disk as in `generations`: a hidden work folder, which is renamed. An
object store can't rename: files of a generation are written to where they
stay, and its manifest comes last; without one nobody takes it for a generation.
"""

import contextlib
import pathlib
from collections.abc import Iterator
from typing import Any

from sicot_tf import files
from sicot_tf.data import generations
from sicot_tf.stores import folder
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
            yield local_folder.LocalFolder(work)
        return
    raise NotImplementedError  # The lease comes next.


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


def point_latest(output: locations.Location, generation: str) -> None:
    """Makes LATEST name it, at once."""
    opening.open_folder(output).put(
        generations.LATEST, f"{generation}\n".encode()
    )
