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
import contextlib
import dataclasses
import hashlib
import importlib.metadata
import json
import math
import os
import pathlib
import platform
import posixpath
import resource
import sys
import time
from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Sequence
from typing import Any

import numpy as np
from apache_beam.options import pipeline_options as beam_options
from gensim.models import word2vec

from beam_jobs import dataset_summary
from beam_jobs import progress
from beam_jobs import record_files
from beam_jobs import resolve_records
from beam_jobs import runners
from beam_jobs import store_records
from beam_jobs import write_shards
from sicot_tf import config
from sicot_tf.data import dataset
from sicot_tf.data import generations
from sicot_tf.data import raw_records
from sicot_tf.data import word_vector_files
from sicot_tf.data import word_vectors

# Raise it when equal input is to give another generation than before.
_FORMAT_VERSION = 2
# About 15 seconds of work on one core, for pictures of 800 x 600.
_PART_RECORDS = 1000
_MEMORY_MEGABYTES = 2048
# The libraries whose version shapes the bytes of a generation.
_LIBRARIES = (
    "duckdb",
    "gensim",
    "numpy",
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
    files = record_files.find_record_files(inputs.record_files)
    extras = _read_extras(inputs, files)
    stages: dict[str, dict[str, float]] = {}
    generations.remove_abandoned(output, "survey-*")
    with generations.work_folder(output, f"survey-{os.getpid()}") as spool:
        rows = spool / "rows"
        rows.mkdir()
        with _stage("survey", stages):
            survey = record_files.survey(
                files,
                dataset_config.title_field,
                rows,
                part_records=part_records,
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
        request = _name({**identity, "images": survey.images_sha256})
        finished = _find_finished(output, request)
        if finished:
            print(f"{finished} is already built.")
            generations.point_latest(finished)
            return finished
        with generations.work_folder(
            output, f"{request}-{part_records}"
        ) as work:
            if not (work / "rows").exists():
                rows.rename(work / "rows")
            return _build_in(
                work,
                output,
                identity,
                request,
                survey,
                extras,
                dataset_config,
                pipeline_options,
                memory_megabytes,
                stages,
            )


def _build_in(
    work: pathlib.Path,
    output: pathlib.Path,
    identity: dict[str, Any],
    request: str,
    survey: record_files.Survey,
    extras: "_Extras",
    dataset_config: config.DatasetConfig,
    pipeline_options: beam_options.PipelineOptions,
    memory_megabytes: int,
    stages: dict[str, dict[str, float]],
) -> pathlib.Path:
    """The stages after the survey, in a folder that survives interruption."""
    for name in ("parts", "shards", "summaries", "generation"):
        (work / name).mkdir(exist_ok=True)
    # A kill may have left a file that was not renamed yet.
    for path in (work / "generation").glob(".*"):
        path.unlink()
    config.write_json(
        work / "plan.json",
        {"records": survey.num_records, "parts": survey.num_parts},
    )
    with (
        _stage("check, decode, tokenise", stages),
        progress.watch(
            "Pictures",
            work / "parts",
            "part-*.parquet",
            total=survey.num_records,
            count=store_records.count_part,
            unit="records",
        ),
    ):
        counters = runners.run_each(
            pipeline_options,
            _unfinished(
                range(survey.num_parts),
                lambda part: store_records.part_files(work / "parts", part)[
                    "facts"
                ],
            ),
            store_records.StoreRecords(
                str(work / "rows"), str(work / "parts"), dataset_config
            ),
        )
    images_sha256 = store_records.images_sha256(work / "parts")
    identity = {**identity, "images_sha256": images_sha256}
    generation = output / _name(identity)
    if generation.exists():
        print(f"{generation} is already built, from equal pictures.")
        generations.check_complete(generation)
        generations.point_latest(generation)
        return generation

    with contextlib.closing(
        resolve_records.connect(work, memory_megabytes)
    ) as database:
        resolver = resolve_records.Resolver(
            database, work, work / "parts", dataset_config
        )
        with _stage("duplicates, splits", stages):
            resolver.load()
            resolver.reject_duplicates()
            similar = resolver.find_units()
            resolver.assign_splits(extras.frozen_test)
        with _stage("vocabulary, word vectors, labels", stages):
            words = _learn_words(resolver, work, extras, dataset_config)
            resolver.assign_labels(extras.kept_labels)
        print(f"  {words['vocabulary_size']:,} words", flush=True)
        stems = resolver.write_shards(work / "shards")
        with (
            _stage("write shards", stages),
            progress.watch(
                "Shards",
                work / "summaries",
                "*.json",
                total=len(stems),
                count=lambda _: {"done": 1},
                unit="shards",
            ),
        ):
            counters += runners.run_each(
                pipeline_options,
                _unfinished(
                    stems, lambda stem: work / "summaries" / f"{stem}.json"
                ),
                write_shards.WriteShards(
                    str(work / "shards"),
                    str(work / "parts"),
                    str(work / "generation"),
                    str(work / "summaries"),
                    str(work / "generation" / "vocabulary.txt"),
                ),
            )
        with _stage("manifest", stages):
            facts = dataset_summary.describe_generation(
                work, survey, resolver, dataset_config
            )
    config.write_json(
        work / "generation" / generations.MANIFEST,
        {**identity, **facts, **words, "duplicates": similar},
    )
    config.write_json(
        work / "generation" / "run.json",
        {
            "request": request,
            "record_folders": extras.record_folders,
            "stages": stages,
            "beam_counters": counters,
            "host": platform.node(),
            "num_cpus": os.cpu_count(),
            "platform": platform.platform(),
            "python": platform.python_version(),
            "apache_beam": importlib.metadata.version("apache-beam"),
        },
    )
    generations.publish(work / "generation", generation)
    return generation


def _name(identity: dict[str, Any]) -> str:
    canonical = json.dumps(identity, sort_keys=True).encode()
    return hashlib.sha256(canonical).hexdigest()[:12]


def _find_finished(output: pathlib.Path, request: str) -> pathlib.Path | None:
    """The generation that an equal request has made before."""
    for path in sorted(output.glob("*/run.json")):
        if config.read_json(path).get("request") == request:
            generations.check_complete(path.parent)
            return path.parent
    return None


def _unfinished(
    work: Iterable[Any], marker: Callable[[Any], pathlib.Path]
) -> list[Any]:
    """What an interrupted build has not finished; says what it has."""
    all_work = list(work)
    left = [each for each in all_work if not marker(each).exists()]
    if len(left) < len(all_work):
        print(
            f"  {len(all_work) - len(left)} of {len(all_work)} were finished "
            "before and are not done again.",
            flush=True,
        )
    return left


@contextlib.contextmanager
def _stage(name: str, stages: dict[str, dict[str, float]]) -> Iterator[None]:
    """Says what is going on; notes how long it took and the memory's peak."""
    print(f"{name} ...", flush=True)
    started = time.monotonic()
    yield
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    if sys.platform != "darwin":
        peak *= 1024
    stages[name] = {
        "seconds": round(time.monotonic() - started, 2),
        "peak_megabytes": round(peak / 2**20),
    }


# === Inputs beside the record files ===


@dataclasses.dataclass(frozen=True)
class _Extras:
    """`Inputs` as read; `identity` goes into the generation's name."""

    frozen_test: list[str]
    kept_labels: list[str]
    word_vectors: pathlib.Path | None
    record_folders: dict[str, str]
    identity: dict[str, Any]


def _read_extras(
    inputs: Inputs, files: Sequence[record_files.RecordFile]
) -> _Extras:
    identity = {}
    frozen_test, kept_labels = [], []
    if inputs.frozen_test:
        text = inputs.frozen_test.read_text("utf-8")
        frozen_test = sorted(filter(None, text.split("\n")))
        identity["frozen_test_sha256"] = _sha256(frozen_test)
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
    return _Extras(
        frozen_test, kept_labels, inputs.word_vectors, folders, identity
    )


def _sha256(lines: Sequence[str]) -> str:
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


# === Words ===


def _learn_words(
    resolver: resolve_records.Resolver,
    work: pathlib.Path,
    extras: _Extras,
    dataset_config: config.DatasetConfig,
) -> dict[str, Any]:
    """Vocabulary and word vectors from the training titles.

    Returns:
        What the manifest tells of them.
    """
    word_counts = resolver.count_words()
    vocabulary, statistics = word_vectors.select_vocabulary(
        word_counts,
        drop_frequent_percent=dataset_config.drop_frequent_percent,
        drop_rare_percent=dataset_config.drop_rare_percent,
        drop_by=dataset_config.drop_by,
        min_word_count=dataset_config.min_word_count,
    )
    resolver.set_vocabulary(vocabulary)
    counts = [word_counts[word] for word in vocabulary]
    generation = work / "generation"
    config.write_json(generation / "vocabulary.json", {"counts": counts})
    with (generation / "vocabulary.txt").open("w", encoding="utf-8") as file:
        file.writelines(f"{word}\n" for word in vocabulary)
    facts = {"vocabulary": statistics, "vocabulary_size": len(vocabulary)}
    vectors_path = generation / "word_vectors.npy"
    report_path = work / "word_vectors.json"
    # They take long, and an interrupted build has found the same words.
    if not report_path.exists():
        vectors, report = _make_vectors(
            resolver, work, vocabulary, word_counts, extras, dataset_config
        )
        np.save(vectors_path, vectors)
        config.write_json(report_path, report)
    facts["word_vector_dim"] = np.load(vectors_path, mmap_mode="r").shape[1]
    return {**facts, **config.read_json(report_path)}


def _make_vectors(
    resolver: resolve_records.Resolver,
    work: pathlib.Path,
    vocabulary: Sequence[str],
    word_counts: dict[str, int],
    extras: _Extras,
    dataset_config: config.DatasetConfig,
) -> tuple[np.ndarray, dict[str, Any]]:
    if extras.word_vectors:
        vectors, report = word_vector_files.load_word_vectors(
            extras.word_vectors,
            vocabulary,
            seed=dataset_config.seed,
            unknown=dataset_config.unknown_words,
            counts=[word_counts[word] for word in vocabulary],
        )
        return vectors, {"word_vectors": report}
    titles = work / "titles.txt"
    with titles.open("w", encoding="utf-8") as file:
        for words in resolver.iterate_training_words():
            file.write(" ".join(words) + "\n")
    vectors = word_vectors.train_word2vec(
        word2vec.LineSentence(str(titles)),
        vocabulary,
        word_counts,
        dim=dataset_config.word_vector_dim,
        epochs=dataset_config.word2vec_epochs,
        seed=dataset_config.seed,
    )
    return vectors, {}


def _check_config(dataset_config: config.DatasetConfig) -> None:
    """Raises ValueError for a setting out of range."""
    limits = {
        "image_size": (1, 65_535),
        "jpeg_quality": (1, 100),
        "min_image_side": (1, 65_535),
        "max_image_pixels": (1, math.inf),
        "min_word_count": (1, math.inf),
        "head_threshold": (0, math.inf),
        "head_share": (0, 1),
        "word_vector_dim": (1, math.inf),
        "word2vec_epochs": (1, math.inf),
        "val_percent": (0, 100),
        "test_percent": (0, 100 - dataset_config.val_percent),
        "val_per_class": (0, math.inf),
        "test_per_class": (0, math.inf),
        "min_train_per_class": (0, math.inf),
        "near_duplicate_distance": (-1, 64),
        "shard_megabytes": (1, math.inf),
        # NumPy takes no other seeds.
        "seed": (0, 2**32 - 1),
    }
    for name, (low, high) in limits.items():
        value = getattr(dataset_config, name)
        if not low <= value <= high:
            raise ValueError(
                f"{name}: expected {low} to {high}, received {value}."
            )
    # Raises for the two shares.
    word_vectors.select_vocabulary(
        {},
        drop_frequent_percent=dataset_config.drop_frequent_percent,
        drop_rare_percent=dataset_config.drop_rare_percent,
        drop_by=dataset_config.drop_by,
    )


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
    try:
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
    except (ValueError, OSError, RuntimeError) as error:
        raise SystemExit(f"build_dataset: {error}") from error
    _print_manifest(config.read_json(generation / generations.MANIFEST))
    print(f"\nGeneration: {generation}")
    print(
        f"Next: python -m sicot_tf.train --dataset {arguments.output} "
        "--run_dir runs/first"
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
    print()
    for name, value in rows:
        print(f"{name:34}{value:>12,}")


if __name__ == "__main__":
    main()
