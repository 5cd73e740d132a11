"""Builds a dataset generation from raw records.

    record files -> SurveyRecords (Beam): ranges of files to tables of rows
        -> StoreRecords (Beam): pictures, words and facts, part by part
        -> Resolver (DuckDB): duplicates, splits, vocabulary, labels, shards
        -> WriteShards (Beam) -> DIR/<generation>/, DIR/LATEST

A generation is named by a hash of all that shapes it: settings, record files,
pictures, library versions. Equal input gives equal bytes, whatever the number
of workers and parts and wherever DIR is; only `run.json` differs. A killed
build goes on with the first part or shard that it has not finished.
"""

import contextlib
import functools
import logging
import pathlib
import posixpath
import tempfile
from collections.abc import Sequence

from apache_beam.options import pipeline_options as beam_options

from beam_jobs.dataset import build_stages
from beam_jobs.dataset import identity
from beam_jobs.dataset.inputs import MEMORY_MEGABYTES
from beam_jobs.dataset.inputs import PART_RECORDS
from beam_jobs.dataset.inputs import Inputs
from beam_jobs.pipelines import runners
from beam_jobs.records import id_lists
from beam_jobs.records import raw_records
from beam_jobs.records import record_files
from beam_jobs.words import word_vectors
from sicot_tf import config
from sicot_tf import files
from sicot_tf.data import dataset
from sicot_tf.data import generations
from sicot_tf.data import publishing
from sicot_tf.stores import local_copies
from sicot_tf.stores import locations
from sicot_tf.stores import opening

_log = logging.getLogger(__name__)

# DuckDB needs some to spill the rest.
_LEAST_MEGABYTES = 64


def build(
    inputs: Inputs,
    output: locations.Location,
    dataset_config: config.DatasetConfig,
    pipeline_options: beam_options.PipelineOptions,
    *,
    part_records: int = PART_RECORDS,
    memory_megabytes: int = MEMORY_MEGABYTES,
) -> locations.Location:
    """Builds a generation in `output` and points `output/LATEST` to it.

    What is there already is not built again, an interrupted build goes on
    where it was. Nothing of a new one is visible before it is complete.

    Args:
        output: folder of the generations.
        pipeline_options: for all pipelines, from
            `runners.make_pipeline_options`.
        part_records: records a worker takes at a time.
        memory_megabytes: what the stage over all records may take before it
            spills to the disk.

    Returns:
        Where the generation is.

    Raises:
        ValueError: if a setting is out of range, a record file is missing or
            can't be read to its end, or another process builds the same.
    """
    _check_settings(dataset_config, part_records, memory_megabytes)
    found = record_files.find_record_files(inputs.record_files)
    record_files.check_encodings(
        found,
        dataset_config.encoding,
        raw_records.known_fields(dataset_config.title_field),
    )
    with contextlib.ExitStack() as stack:
        extras = _read_extras(inputs, stack)
        states = [
            {"name": each.name, "state": record_files.state(each.path)}
            for each in found
        ]
        name = identity.name(identity.identify(dataset_config, states, extras))
        work = stack.enter_context(
            publishing.work_folder(output, f"{name}-{part_records}")
        )
        processes = stack.enter_context(
            runners.local_processes(pipeline_options)
        )
        stages = build_stages.BuildStages(
            work,
            stack.enter_context(work.scratch()),
            extras,
            dataset_config,
            functools.partial(
                runners.sum_each, pipeline_options, processes=processes
            ),
        )
        generation = _run(stages, found, output, part_records, memory_megabytes)
    _point_latest(output, generation)
    return locations.join(output, generation)


def _run(
    stages: build_stages.BuildStages,
    found: Sequence[record_files.RecordFile],
    output: locations.Location,
    part_records: int,
    memory_megabytes: int,
) -> str:
    """All stages; the name of the generation, published."""
    stages.survey(found, part_records)
    record_inputs = [
        {"name": each.name, "sha256": stages.counts["files"][each.name]}
        for each in found
    ]
    shaping = identity.identify(
        stages.dataset_config, record_inputs, stages.extras
    )
    # Pictures are told apart by size and time here, by content later.
    asked = {**shaping, "images": stages.counts["images"]}
    request = identity.name(asked)
    place = opening.open_folder(output)
    finished = identity.find_finished(place, request)
    if finished:
        _log.info("%s is already built", finished)
        return finished
    stages.store_records(part_records)
    shaping = {**shaping, "images_sha256": stages.images_sha256}
    generation = identity.name(shaping)
    if identity.is_built(place, generation):
        _log.info("%s is built, from equal pictures", generation)
    else:
        result = publishing.result_folder(output, stages.work, generation)
        facts = stages.make_generation(result, memory_megabytes)
        folders = {each.name: posixpath.dirname(each.path) for each in found}
        # What no two runs have in common stands beside the manifest.
        result.put_json(
            generations.RUN,
            {
                "request": request,
                "record_folders": folders,
                "stages": stages.measures,
                "beam_counters": stages.counters,
                **runners.describe_machine(),
            },
        )
        publishing.publish(output, result, generation, {**shaping, **facts})
    identity.remember(place, request, generation)
    return generation


def _point_latest(output: locations.Location, generation: str) -> None:
    """Points LATEST to it, but not from records to none."""
    place = opening.open_folder(output)
    manifest = place.get_json(f"{generation}/{generations.MANIFEST}")
    num_records = manifest["counts"]["written"]["train"]
    if num_records or not place.exists(generations.LATEST):
        publishing.point_latest(output, generation)


# === Inputs beside the record files ===


def _read_extras(
    inputs: Inputs, stack: contextlib.ExitStack
) -> build_stages.Extras:
    scratch = pathlib.Path(stack.enter_context(tempfile.TemporaryDirectory()))
    digests = {}
    frozen_test, kept_labels, vectors = None, [], None
    if inputs.frozen_test:
        path = local_copies.local_file(inputs.frozen_test, scratch)
        frozen_test = id_lists.read(path)
        digests["frozen_test_sha256"] = _sha256(sorted(frozen_test.ids))
    if inputs.keep_labels:
        kept = publishing.resolve_generation(inputs.keep_labels)
        path = local_copies.local_file(
            locations.join(kept, "classes.jsonl"), scratch
        )
        kept_labels = [row["sku_id"] for row in dataset.iterate_classes(path)]
        digests["kept_labels_sha256"] = _sha256(kept_labels)
    if inputs.word_vectors:
        vectors = local_copies.local_file(inputs.word_vectors, scratch)
        digests["word_vectors_sha256"] = files.sha256(vectors)
    return build_stages.Extras(frozen_test, kept_labels, vectors, digests)


def _sha256(lines: Sequence[str]) -> str:
    return files.text_sha256("\n".join(lines))


def _check_settings(
    dataset_config: config.DatasetConfig,
    part_records: int,
    memory_megabytes: int,
) -> None:
    """Raises ValueError for settings out of range or against each other."""
    for name, value, least in (
        ("part_records", part_records, 1),
        ("memory_megabytes", memory_megabytes, _LEAST_MEGABYTES),
    ):
        if value < least:
            raise ValueError(
                f"{name}: expected {least} or more, received {value}."
            )
    shares = dataset_config.val_percent + dataset_config.test_percent
    if shares > 100:
        raise ValueError(
            "Expected val_percent and test_percent to be at most 100 together, "
            f"received {shares}."
        )
    # Raises ValueError if the two shares are too large together.
    word_vectors.select_vocabulary(
        {},
        drop_frequent_percent=dataset_config.drop_frequent_percent,
        drop_rare_percent=dataset_config.drop_rare_percent,
        drop_by=dataset_config.drop_by,
    )
