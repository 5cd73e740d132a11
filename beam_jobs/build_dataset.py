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

import argparse
import dataclasses
import functools
import hashlib
import importlib.metadata
import json
import os
import pathlib
import platform
import posixpath
import shlex
import sys
from collections.abc import Iterator
from collections.abc import Sequence
from typing import Any

from apache_beam.options import pipeline_options as beam_options

from beam_jobs.dataset import build_stages
from beam_jobs.dataset import word_vectors
from beam_jobs.pipelines import runners
from beam_jobs.records import id_lists
from beam_jobs.records import raw_records
from beam_jobs.records import record_files
from sicot_tf import command_line
from sicot_tf import config
from sicot_tf.data import dataset
from sicot_tf.data import generations

# Raise it when equal input is to give another generation than before.
_FORMAT_VERSION = 3
# About 15 seconds of work on one core, for pictures of 800 x 600.
_PART_RECORDS = 1000
_MEMORY_MEGABYTES = 2048
# DuckDB needs some to spill the rest.
_LEAST_MEGABYTES = 64
# The libraries whose version shapes the bytes of a generation.
_LIBRARIES = (
    "duckdb",
    "gensim",
    "numpy",
    "opencv-python-headless",
    "Pillow",
    "rjieba",
    "tensorflow",
    "tensorflow-text",
)

_EPILOG = """\
raw records: JSON Lines (.jsonl), CSV (.csv), both also gzipped, or Parquet
  required  record_id, sku_id (the class), title (may be empty), image (a
            path, absolute or relative to the record file, or a URI)
  optional  sku_name, split (train, val, test), group (stays on one side of
            the split), source, tags, category, description, lang, license,
            box [x_min, y_min, x_max, y_max]

records that can't be used stand in rejects.jsonl with one of these reasons
{reasons}

examples
  python -m beam_jobs.build_dataset --input records.jsonl --output dataset
  python -m beam_jobs.build_dataset --input 'shop/*.parquet' --output dataset \\
      --preset paper --title_field title_zh --num_processes 8
"""


@dataclasses.dataclass(frozen=True)
class Inputs:
    """What a generation is made of, apart from its settings.

    Attributes:
        record_files: paths or globs.
        frozen_test: file of record ids, one a line, that are in the test set.
        keep_labels: an older generation, or its folder, whose classes keep
            their labels.
        word_vectors: file of word vectors to take instead of training them.
    """

    record_files: Sequence[str]
    frozen_test: pathlib.Path | None = None
    keep_labels: pathlib.Path | None = None
    word_vectors: pathlib.Path | None = None


def build(
    inputs: Inputs,
    output: pathlib.Path,
    dataset_config: config.DatasetConfig,
    pipeline_options: beam_options.PipelineOptions,
    *,
    part_records: int = _PART_RECORDS,
    memory_megabytes: int = _MEMORY_MEGABYTES,
) -> pathlib.Path:
    """Builds a generation in `output` and points `output/LATEST` to it.

    A generation that is there already is not built again, an interrupted
    build goes on where it was. Nothing of a new one is visible before it is
    complete.

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
    _check_config(dataset_config)
    for name, value, least in (
        ("part_records", part_records, 1),
        ("memory_megabytes", memory_megabytes, _LEAST_MEGABYTES),
    ):
        if value < least:
            raise ValueError(
                f"{name}: expected {least} or more, received {value}."
            )
    files = record_files.find_record_files(inputs.record_files)
    extras = _read_extras(inputs, files)
    measures: dict[str, dict[str, float]] = {}
    generations.remove_abandoned(output, "survey-*")
    with generations.work_folder(output, f"survey-{os.getpid()}") as spool:
        rows = spool / "rows"
        rows.mkdir()
        with build_stages.stage("survey", measures):
            survey = record_files.survey(
                files,
                dataset_config.title_field,
                rows,
                part_records=part_records,
                encoding=dataset_config.encoding,
            )
        if not survey.num_records:
            raise ValueError(
                f"Expected records, found none in "
                f"{', '.join(file.path for file in files)}."
            )
        print(f"  {survey.num_records:,} records, {len(files)} file(s)")
        identity = {
            "format_version": _FORMAT_VERSION,
            "config": config.to_dict(dataset_config),
            "inputs": survey.inputs,
            **extras.identity,
            "library_versions": {
                name: importlib.metadata.version(name) for name in _LIBRARIES
            },
        }
        # Pictures are told apart by size and time here, by content later.
        asked = {**identity, "images": survey.images_sha256}
        request = _name(asked)
        finished = find_finished(output, asked)
        if finished:
            print(f"{finished} is already built.")
            _point_latest(finished)
            return finished
        with generations.work_folder(
            output, f"{request}-{part_records}"
        ) as work:
            if not (work / "rows").exists():
                rows.rename(work / "rows")
            with runners.local_processes(pipeline_options) as processes:
                stages = build_stages.BuildStages(
                    work=work,
                    survey=survey,
                    extras=extras,
                    dataset_config=dataset_config,
                    run_each=functools.partial(
                        runners.run_each, pipeline_options, processes=processes
                    ),
                    measures=measures,
                )
                stages.store_records()
                identity["images_sha256"] = stages.images_sha256()
                generation = output / _name(identity)
                if generation.exists():
                    print(f"{generation} is built, from equal pictures.")
                    generations.check_complete(generation)
                    _point_latest(generation)
                    return generation
                facts = stages.make_generation(memory_megabytes)
            _write_reports(
                work / "generation",
                {**identity, **facts},
                {
                    "request": request,
                    "record_folders": extras.record_folders,
                    "stages": measures,
                    "beam_counters": stages.counters,
                },
            )
            generations.publish(work / "generation", generation)
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
    config.write_json(generation / generations.MANIFEST, manifest)
    config.write_json(
        generation / "run.json",
        {
            **run,
            "host": platform.node(),
            "num_cpus": os.cpu_count(),
            "platform": platform.platform(),
            "python": platform.python_version(),
            "apache_beam": importlib.metadata.version("apache-beam"),
        },
    )


def _name(identity: dict[str, Any]) -> str:
    """A hash in which settings at their defaults have no part.

    So a new setting gives no generation another name. A default that changes
    has to raise `_FORMAT_VERSION`.
    """
    defaults = config.to_dict(config.DatasetConfig())
    settings = {
        name: value
        for name, value in identity["config"].items()
        if value != defaults[name]
    }
    return _digest({**identity, "config": settings})


def _former_name(
    identity: dict[str, Any], generation: pathlib.Path
) -> str | None:
    """What the version of a generation would have named an identity.

    Earlier ones hashed all the settings they knew, which the manifest lists.
    None if the identity has a setting that they had not, or the manifest can't
    be read: another generation's damage is no reason to stop.
    """
    try:
        known = dataset.read_manifest(generation)["config"]
    except (OSError, ValueError, KeyError):
        return None
    defaults = config.to_dict(config.DatasetConfig())
    settings = identity["config"]
    if any(
        settings[name] != defaults[name] for name in settings.keys() - known
    ):
        return None
    shared = {name: settings[name] for name in settings.keys() & known}
    return _digest({**identity, "config": shared})


def _digest(identity: dict[str, Any]) -> str:
    canonical = json.dumps(identity, sort_keys=True).encode()
    return hashlib.sha256(canonical).hexdigest()[:12]


def find_finished(
    output: pathlib.Path, asked: dict[str, Any]
) -> pathlib.Path | None:
    """The generation that an equal request has made before.

    Args:
        asked: the identity of a generation with `images`, a hash of its
            pictures.
    """
    name = _name(asked)
    for path in sorted(output.glob("*/run.json")):
        request = config.read_json(path).get("request")
        if request == name or request == _former_name(asked, path.parent):
            generations.check_complete(path.parent)
            return path.parent
    return None


# === Inputs beside the record files ===


def _read_extras(
    inputs: Inputs, files: Sequence[record_files.RecordFile]
) -> build_stages.Extras:
    identity = {}
    frozen_test, kept_labels = None, []
    if inputs.frozen_test:
        frozen_test = id_lists.read(inputs.frozen_test)
        identity["frozen_test_sha256"] = _sha256(sorted(frozen_test.ids))
    if inputs.keep_labels:
        kept_labels = [
            row["sku_id"]
            for row in dataset.iterate_classes(
                generations.resolve_generation(inputs.keep_labels)
                / "classes.jsonl"
            )
        ]
        identity["kept_labels_sha256"] = _sha256(kept_labels)
    if inputs.word_vectors:
        with inputs.word_vectors.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        identity["word_vectors_sha256"] = digest
    folders = {each.name: posixpath.dirname(each.path) for each in files}
    return build_stages.Extras(
        frozen_test, kept_labels, inputs.word_vectors, folders, identity
    )


def _sha256(lines: Sequence[str]) -> str:
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def _check_config(dataset_config: config.DatasetConfig) -> None:
    """Raises ValueError for settings that contradict each other."""
    shares = dataset_config.val_percent + dataset_config.test_percent
    if shares > 100:
        raise ValueError(
            "Expected val_percent and test_percent to be at most 100 together, "
            f"received {shares}."
        )
    # Raises for the two shares.
    word_vectors.select_vocabulary(
        {},
        drop_frequent_percent=dataset_config.drop_frequent_percent,
        drop_rare_percent=dataset_config.drop_rare_percent,
        drop_by=dataset_config.drop_by,
    )


@command_line.mistakes_in_a_sentence()
def main(argv: list[str] | None = None) -> None:
    """Parses the flags, builds, prints what came of it."""
    width = max(map(len, raw_records.REJECT_REASONS))
    reasons = "\n".join(
        f"  {reason:{width}}  {explanation}"
        for reason, explanation in raw_records.REJECT_REASONS.items()
    )
    parser = argparse.ArgumentParser(
        prog="python -m beam_jobs.build_dataset",
        description="Builds a dataset generation from raw records.",
        epilog=_EPILOG.format(reasons=reasons),
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument(
        "--input",
        nargs="+",
        required=True,
        metavar="RECORDS",
        help="record files: paths or globs",
    )
    parser.add_argument(
        "--output",
        type=pathlib.Path,
        required=True,
        metavar="DIR",
        help="folder of the generations; DIR/LATEST names the newest",
    )
    parser.add_argument(
        "--preset", choices=sorted(config.PRESETS), default="demo"
    )
    parser.add_argument(
        "--frozen_test",
        type=pathlib.Path,
        metavar="FILE",
        help="record ids, one a line, that are in the test set whatever their "
        "hash says",
    )
    parser.add_argument(
        "--keep_labels",
        type=pathlib.Path,
        metavar="DIR",
        help="an older data set: its classes keep their labels, new ones come "
        "behind them",
    )
    parser.add_argument(
        "--word_vectors",
        type=pathlib.Path,
        metavar="FILE",
        help="take these instead of training word2vec: word2vec text or "
        "binary, GloVe, fastText .vec, also .gz and .bz2",
    )
    parser.add_argument(
        "--part_records",
        type=int,
        default=_PART_RECORDS,
        help="records a worker takes at a time, and may have to do again "
        "after a kill; the result does not depend on it (default: %(default)s)",
    )
    parser.add_argument(
        "--memory_megabytes",
        type=int,
        default=_MEMORY_MEGABYTES,
        help="memory of the stage over all records before it spills to the "
        "disk (default: %(default)s)",
    )
    runners.add_arguments(parser)
    config.add_arguments(parser, config.DatasetConfig)
    arguments, beam_flags = parser.parse_known_args(argv)
    try:
        pipeline_options = runners.make_pipeline_options(
            arguments.runner, arguments.num_processes, beam_flags
        )
    except ValueError as error:
        parser.error(str(error))
    generation = build(
        Inputs(
            arguments.input,
            arguments.frozen_test,
            arguments.keep_labels,
            arguments.word_vectors,
        ),
        arguments.output,
        config.from_arguments(
            config.DatasetConfig, arguments, arguments.preset
        ),
        pipeline_options,
        part_records=arguments.part_records,
        memory_megabytes=arguments.memory_megabytes,
    )
    manifest = dataset.read_manifest(generation)
    _print_manifest(manifest)
    for warning in _warnings(manifest):
        print(f"Warning: {warning}", file=sys.stderr)
    print(f"\nGeneration: {generation}")
    if not num_training_records(generation):
        raise ValueError(
            f"not one of {manifest['counts']['records_read']:,} records can "
            "be trained on. See why: python -m beam_jobs.replay_rejects "
            f"{shlex.quote(str(generation))}"
        )
    print(
        "Next: python -m sicot_tf.train --dataset "
        f"{shlex.quote(str(arguments.output))} --run_dir runs/first"
    )


def _warnings(manifest: dict[str, Any]) -> Iterator[str]:
    """What the lists name that the records do not have, in sentences."""
    frozen_test = manifest.get("frozen_test")
    if frozen_test and not frozen_test["listed"]:
        yield "the list of --frozen_test names no record."
    if frozen_test and frozen_test["unknown"]:
        yield (
            f"{frozen_test['unknown']:,} of {frozen_test['listed']:,} ids of "
            "--frozen_test are of no record that can be used, for example "
            f"{', '.join(map(repr, frozen_test['unknown_ids']))}."
        )
    kept_labels = manifest.get("kept_labels")
    if kept_labels and not kept_labels["trained"]:
        yield (
            f"not one of the {kept_labels['listed']:,} classes of "
            "--keep_labels has a training record."
        )
    word_vectors = manifest.get("word_vectors")
    if word_vectors and not word_vectors["share_of_vocabulary_found"]:
        yield (
            "the file of --word_vectors has not one of the "
            f"{manifest['vocabulary_size']:,} words."
        )


def _print_manifest(manifest: dict[str, Any]) -> None:
    """The counts, as a table."""
    counts = manifest["counts"]
    tail = manifest["long_tail"]
    rows = [("records read", counts["records_read"])]
    rows += [(f"written: {k}", v) for k, v in counts["written"].items()]
    rows += [(f"rejected: {k}", v) for k, v in counts["rejected"].items()]
    rows += [
        (f"unknown field: {k}", v)
        for k, v in manifest["unknown_fields"].items()
    ]
    rows += [
        ("classes", manifest["num_classes"]),
        (
            f"head (>= {tail['head_threshold']} images)",
            tail["num_head_classes"],
        ),
        ("tail", tail["num_tail_classes"]),
        ("words", manifest["vocabulary_size"]),
    ]
    if frozen_test := manifest.get("frozen_test"):
        for name in ("listed", "repeated", "unknown", "in_test"):
            label = name.replace("_", " ")
            rows.append((f"frozen test ids: {label}", frozen_test[name]))
    print()
    for name, value in rows:
        print(f"{name:34}{value:>12,}")


if __name__ == "__main__":
    main()
