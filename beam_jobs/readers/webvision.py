"""WebVision 2.0, or 1.0: from its lists to folders of raw records."""

import logging
import math
import posixpath
from collections.abc import Sequence
from typing import Any

import apache_beam as beam
from apache_beam.options import pipeline_options as beam_options

from beam_jobs.pipelines import runners
from beam_jobs.readers import record_shards
from beam_jobs.readers import webvision_files
from beam_jobs.readers import webvision_shards
from sicot_tf.stores import locations
from sicot_tf.stores import opening

_log = logging.getLogger(__name__)

# Raise it when equal input is to give other records than before.
_FORMAT_VERSION = 1
# About 60 MB.
_SHARD_RECORDS = 200_000


def build(
    root: locations.Location,
    output: locations.Location,
    pipeline_options: beam_options.PipelineOptions,
    *,
    sources: Sequence[str] = webvision_files.SOURCES,
    text_fields: Sequence[str] = ("title",),
    num_classes: int = 1000,
    class_seed: int = 0,
    class_list: locations.Location | None = None,
    shard_records: int = _SHARD_RECORDS,
) -> None:
    """Writes the records of some classes into a new folder.

    Args:
        root: where the archives were unpacked.
        output: a new folder, or one that an equal call filled.
        sources: of the training pictures.
        text_fields: make up the title.
        num_classes: how many classes to choose; 0: all.
        class_seed: of the choice.
        class_list: names the classes instead.
        shard_records: about how many records a shard has.

    Raises:
        ValueError: if a file is missing, the lists don't fit together, or
            `output` holds something else.
    """
    if not locations.is_remote(root):
        root = root.absolute()
    place = opening.open_folder(root)
    lists = webvision_files.find_lists(root, sources)
    synsets_key = webvision_files.find_file(place, "synsets.txt")
    synsets = webvision_files.read_synsets(place, synsets_key)
    names = dict(synsets)
    chosen = _choose_classes(names, num_classes, class_seed, class_list)
    labels = [label for label, row in enumerate(synsets) if row[0] in chosen]
    settings = {
        "format_version": _FORMAT_VERSION,
        "sources": list(sources),
        "text_fields": list(text_fields),
        "classes": chosen,
        "shard_records": shard_records,
        **_describe_files(root, output, synsets_key, lists),
    }
    if record_shards.is_written(output, settings):
        return

    num_shards = _count_shards(lists, synsets, labels, shard_records)
    _log.info("titles of %s classes ...", f"{len(chosen):,}")
    with record_shards.writing(output, settings) as (result, work):
        read_list = webvision_shards.ReadListFn(frozenset(labels), num_shards)
        folders = settings["image_folders"]
        write_shards = webvision_shards.WriteShardFn(
            *(result.location, work.location, num_shards),
            *(lists, folders, synsets, text_fields),
        )
        class_names = {each: names[each] for each in chosen}
        write_notes = beam.Map(
            record_shards.write_notes, result, settings, class_names
        )
        runners.run(
            pipeline_options,
            lists,
            webvision_shards.WriteRecords(read_list, write_shards)
            | "WriteNotes" >> write_notes,
        )


def _choose_classes(
    names: dict[str, str],
    num_classes: int,
    class_seed: int,
    class_list: locations.Location | None,
) -> list[str]:
    if class_list:
        return webvision_files.read_class_list(class_list, names)
    return webvision_files.choose_classes(names, num_classes, class_seed)


def _count_shards(
    lists: Sequence[webvision_files.ImageList],
    synsets: Sequence[tuple[str, str]],
    labels: Sequence[int],
    shard_records: int,
) -> int:
    """Checks the lists; as if all classes had equally many pictures."""
    num_lines = sum(
        webvision_files.check_list(each, len(synsets)) for each in lists
    )
    num_records = num_lines * len(labels) / len(synsets)
    return max(1, math.ceil(num_records / shard_records))


def _describe_files(
    root: locations.Location,
    output: locations.Location,
    synsets_key: str,
    lists: Sequence[webvision_files.ImageList],
) -> dict[str, Any]:
    """Where the pictures are, and hashes of all that is read."""
    place = opening.open_folder(root)
    inputs = [synsets_key]
    for each in lists:
        inputs += [each.filelist, *filter(None, [each.meta_list])]
    path_to_root = record_shards.path_from(output, root)
    return {
        "image_folders": {
            each.name: posixpath.join(path_to_root, each.images)
            for each in lists
        },
        "inputs": {
            posixpath.basename(key): record_shards.sha256(place, key)
            for key in inputs
        },
        "metadata": {
            each.name: webvision_files.digest_metadata(each)
            for each in lists
            if each.metadata
        },
    }
