"""Where workers leave what the process that started them goes on with."""

import contextlib
import pathlib
import secrets
from collections.abc import Iterator

from apache_beam.options import pipeline_options as beam_options

from sicot_tf.stores import folder
from sicot_tf.stores import local_folder
from sicot_tf.stores import locations
from sicot_tf.stores import opening


@contextlib.contextmanager
def meeting_place(
    here: pathlib.Path,
    store: locations.Location,
    pipeline_options: beam_options.PipelineOptions,
) -> Iterator[folder.Folder]:
    """A folder that all workers of a job see.

    Args:
        here: an empty folder of this machine; taken by workers that run on it,
            and by those that share a file system.
        store: where data lies. If that is a store, workers elsewhere meet in
            a hidden folder there, which is removed in the end.
    """
    runner = pipeline_options.view_as(beam_options.StandardOptions).runner
    if not locations.is_remote(store) or runner == "FnApiRunner":
        yield local_folder.LocalFolder(here)
        return
    place = opening.open_folder(
        locations.join(store, f".meeting-{secrets.token_hex(8)}")
    )
    try:
        yield place
    finally:
        for entry in list(place.list()):
            place.delete(entry.key)
