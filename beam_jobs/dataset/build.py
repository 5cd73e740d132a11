"""Builds a dataset generation from raw records.

    record files -> survey: parts of rows
        -> StoreRecords (Beam): pictures, words and facts, part by part
        -> Resolver (DuckDB): duplicates, splits, vocabulary, labels, shards
        -> WriteShards (Beam) -> DIR/<generation>/, DIR/LATEST

A generation is named by a hash of all that shapes it: settings, record files,
pictures, library versions. Equal input gives equal bytes, whatever the number
of workers and parts; only `run.json` differs. A killed build goes on with the
first part or shard that it has not finished.
"""

import functools
import logging
import os
import pathlib
import posixpath
from collections.abc import Sequence
from typing import Any

from apache_beam.options import pipeline_options as beam_options

from beam_jobs.dataset import build_stages
from beam_jobs.dataset import identity
from beam_jobs.dataset.inputs import MEMORY_MEGABYTES
from beam_jobs.dataset.inputs import PART_RECORDS
from beam_jobs.dataset.inputs import Inputs
from beam_jobs.pipelines import runners
from beam_jobs.records import id_lists
from beam_jobs.records import record_files
from beam_jobs.words import word_vectors
from sicot_tf import config
from sicot_tf import files
from sicot_tf.data import dataset
from sicot_tf.data import generations

_log = logging.getLogger(__name__)

# DuckDB needs some to spill the rest.
_LEAST_MEGABYTES = 64


def build(
    inputs: Inputs,
    output: pathlib.Path,
    dataset_config: config.DatasetConfig,
    pipeline_options: beam_options.PipelineOptions,
    *,
    part_records: int = PART_RECORDS,
    memory_megabytes: int = MEMORY_MEGABYTES,
) -> pathlib.Path:
    """Builds a generation in `output` and points `output/LATEST` to it.

    What is there already is not built again, an interrupted build goes on
    where it was. Nothing of a new one is visible before it is complete.

    Args:
        output: folder of the generations.
        pipeline_options: for both pipelines, from
            `runners.make_pipeline_options`.
        part_records: records a worker takes at a time.
        memory_megabytes: what the stage over all records may take before it
            spills to the disk.

    Returns:
        The folder of the generation.

    Raises:
        ValueError: if a setting is out of range, a record file is missing or
            can't be read to its end, or another process builds the same.
    """
    _check_settings(dataset_config, part_records, memory_megabytes)
    found = record_files.find_record_files(inputs.record_files)
    extras = _read_extras(inputs, found)
    measures: dict[str, dict[str, float]] = {}
    generations.remove_abandoned(output, "survey-*")
    with generations.work_folder(output, f"survey-{os.getpid()}") as spool:
        rows = spool / "rows"
        survey = _survey(found, dataset_config, rows, part_records, measures)
        shaping = identity.identify(dataset_config, survey, extras)
        # Pictures are told apart by size and time here, by content later.
        asked = {**shaping, "images": survey.images_sha256}
        finished = identity.find_finished(output, asked)
        if finished:
            _log.info("%s is already built", finished)
            _point_latest(finished)
            return finished
        request = identity.name(asked)
        name = f"{request}-{part_records}"
        with (
            generations.work_folder(output, name) as work,
            runners.local_processes(pipeline_options) as processes,
        ):
            if not (work / "rows").exists():
                rows.rename(work / "rows")
            run_each = functools.partial(
                runners.run_each, pipeline_options, processes=processes
            )
            stages = build_stages.BuildStages(
                work, survey, extras, dataset_config, run_each, measures
            )
            return _run(stages, output, shaping, request, memory_megabytes)


def _survey(
    found: Sequence[record_files.RecordFile],
    dataset_config: config.DatasetConfig,
    rows: pathlib.Path,
    part_records: int,
    measures: dict[str, dict[str, float]],
) -> record_files.Survey:
    rows.mkdir()
    with build_stages.stage("survey", measures):
        survey = record_files.survey(
            found,
            dataset_config.title_field,
            rows,
            part_records=part_records,
            encoding=dataset_config.encoding,
        )
    if not survey.num_records:
        raise ValueError(
            f"Expected records, found none in "
            f"{', '.join(file.path for file in found)}."
        )
    _log.info("%s records, %d file(s)", f"{survey.num_records:,}", len(found))
    return survey


def _run(
    stages: build_stages.BuildStages,
    output: pathlib.Path,
    shaping: dict[str, Any],
    request: str,
    memory_megabytes: int,
) -> pathlib.Path:
    """All stages; returns the generation, published."""
    stages.store_records()
    shaping = {**shaping, "images_sha256": stages.images_sha256()}
    generation = output / identity.name(shaping)
    if generation.exists():
        _log.info("%s is built, from equal pictures", generation)
        generations.check_complete(generation)
        _point_latest(generation)
        return generation
    facts = stages.make_generation(memory_megabytes)
    finished = stages.work / "generation"
    _write_reports(
        finished,
        {**shaping, **facts},
        {
            "request": request,
            "record_folders": stages.extras.record_folders,
            "stages": stages.measures,
            "beam_counters": stages.counters,
        },
    )
    generations.publish(finished, generation)
    _point_latest(generation)
    return generation


def _point_latest(generation: pathlib.Path) -> None:
    """Points LATEST to it, but not from records to none."""
    pointer = generation.with_name(generations.LATEST)
    if num_training_records(generation) or not pointer.exists():
        generations.point_latest(generation)


def num_training_records(generation: pathlib.Path) -> int:
    """How many records there are to train on, by the manifest."""
    return dataset.read_manifest(generation)["counts"]["written"]["train"]


def _write_reports(
    generation: pathlib.Path, manifest: dict[str, Any], run: dict[str, Any]
) -> None:
    """Writes the manifest, and beside it what no two runs have in common."""
    files.write_json(generation / generations.MANIFEST, manifest)
    files.write_json(
        generation / generations.RUN, run | runners.describe_machine()
    )


# === Inputs beside the record files ===


def _read_extras(
    inputs: Inputs, found: Sequence[record_files.RecordFile]
) -> build_stages.Extras:
    digests = {}
    frozen_test, kept_labels = None, []
    if inputs.frozen_test:
        frozen_test = id_lists.read(inputs.frozen_test)
        digests["frozen_test_sha256"] = _sha256(sorted(frozen_test.ids))
    if inputs.keep_labels:
        kept_labels = [
            row["sku_id"]
            for row in dataset.iterate_classes(
                generations.resolve_generation(inputs.keep_labels)
                / "classes.jsonl"
            )
        ]
        digests["kept_labels_sha256"] = _sha256(kept_labels)
    if inputs.word_vectors:
        digests["word_vectors_sha256"] = files.sha256(inputs.word_vectors)
    folders = {each.name: posixpath.dirname(each.path) for each in found}
    return build_stages.Extras(
        frozen_test, kept_labels, inputs.word_vectors, folders, digests
    )


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
