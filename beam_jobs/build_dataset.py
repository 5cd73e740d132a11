"""Builds a dataset generation from raw records.

    record files -> StoreRecords (Beam) -> vocabulary, word2vec, labels
        -> WriteShards (Beam) -> DIR/<generation>/, DIR/LATEST

A generation is named by a hash of all that shapes it: settings, record files,
images, library versions. Equal input gives equal bytes, whatever the number
of workers; only `run.json` differs.
"""

import argparse
import contextlib
import hashlib
import importlib.metadata
import json
import math
import os
import pathlib
import platform
import time
from collections.abc import Iterator
from collections.abc import Sequence
from typing import Any

import numpy as np
from apache_beam.options import pipeline_options as beam_options
from gensim.models import word2vec

from beam_jobs import dataset_summary
from beam_jobs import record_files
from beam_jobs import runners
from beam_jobs import store_records
from beam_jobs import write_shards
from sicot_tf import config
from sicot_tf.data import generations
from sicot_tf.data import raw_records
from sicot_tf.data import records
from sicot_tf.data import word_vectors

# Raise it when equal input is to give another generation than before.
_FORMAT_VERSION = 1
# The libraries whose version shapes the bytes of a generation.
_LIBRARIES = (
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
  optional  sku_name, split (train, val, test), source, tags, category,
            description, lang, license, box [x_min, y_min, x_max, y_max]

records that can't be used stand in rejects.jsonl with one of these reasons
{reasons}

examples
  python -m beam_jobs.build_dataset --input records.jsonl --output dataset
  python -m beam_jobs.build_dataset --input 'shop/*.parquet' --output dataset \\
      --preset paper --title_field title_zh --num_processes 8
"""


def build(
    inputs: Sequence[str],
    output: pathlib.Path,
    dataset_config: config.DatasetConfig,
    pipeline_options: beam_options.PipelineOptions,
) -> pathlib.Path:
    """Builds a generation in `output` and points `output/LATEST` to it.

    A generation that is there already is not built again. Nothing of a new
    one is visible before it is complete.

    Args:
        inputs: paths or globs of record files.
        output: folder of the generations.
        pipeline_options: for both pipelines, from
            `runners.make_pipeline_options`.

    Returns:
        The folder of the generation.

    Raises:
        ValueError: if a setting is out of range, or a record file is missing
            or can't be read to its end.
    """
    _check_config(dataset_config)
    seconds: dict[str, float] = {}
    with _stage("survey", seconds):
        files = record_files.find_record_files(inputs)
        survey = record_files.survey(files, dataset_config.title_field)
    print(f"  {survey.num_records:,} records, {len(files)} file(s)", flush=True)
    identity = {
        "format_version": _FORMAT_VERSION,
        "config": config.to_dict(dataset_config),
        "inputs": survey.inputs,
        "inputs_and_images_sha256": survey.sha256,
        "library_versions": {
            name: importlib.metadata.version(name) for name in _LIBRARIES
        },
    }
    canonical = json.dumps(identity, sort_keys=True).encode()
    generation = output / hashlib.sha256(canonical).hexdigest()[:12]
    if generation.exists():
        if not (generation / generations.MANIFEST).is_file():
            raise ValueError(
                f"{generation} has lost its {generations.MANIFEST}. Remove "
                "the folder, then build again."
            )
        print(f"{generation} is already built.")
        generations.point_latest(generation)
        return generation
    with generations.work_folder(output, generation.name) as work:
        for name in ("lines", "staged", "results", "generation"):
            (work / name).mkdir()
        with _stage("check, decode, tokenise", seconds):
            counters = runners.run(
                pipeline_options,
                files,
                store_records.StoreRecords(
                    str(work / "lines"), str(work / "staged"), dataset_config
                ),
            )
        print(f"  {counters['images_stored']:,} images stored", flush=True)
        with _stage("vocabulary, word vectors, labels", seconds):
            words = _learn_words(work, dataset_config)
        print(f"  {words['vocabulary_size']:,} words", flush=True)
        with _stage("write shards", seconds):
            counters += runners.run(
                pipeline_options,
                _shard_stems(work / "lines", records.SPLITS),
                write_shards.WriteShards(
                    str(work / "lines"),
                    str(work / "generation"),
                    str(work / "results"),
                    str(work / "words_and_labels.json"),
                    dataset_config.require_words,
                ),
            )
        print(f"  {counters['records_written']:,} records written", flush=True)
        with _stage("manifest", seconds):
            facts = dataset_summary.describe_generation(
                work, survey, dataset_config
            )
        config.write_json(
            work / "generation" / generations.MANIFEST,
            {**identity, **facts, **words},
        )
        total = sum(seconds.values())
        config.write_json(
            work / "generation" / "run.json",
            {
                "seconds": {k: round(v, 2) for k, v in seconds.items()},
                "images_per_second": round(survey.num_records / total, 1),
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


@contextlib.contextmanager
def _stage(name: str, seconds: dict[str, float]) -> Iterator[None]:
    """Says what is going on and notes how long it took."""
    print(f"{name} ...", flush=True)
    started = time.monotonic()
    yield
    seconds[name] = time.monotonic() - started


def _shard_stems(lines: pathlib.Path, splits: Sequence[str]) -> list[str]:
    """The shards of the splits, also those that no record fell into."""
    stems = []
    for split in splits:
        present = [path.stem for path in lines.glob(f"{split}-*.jsonl")]
        if present:
            num_shards = int(present[0].rpartition("-")[2])
            stems += [
                store_records.shard_stem(split, index, num_shards)
                for index in range(num_shards)
            ]
    return stems


def _learn_words(
    work: pathlib.Path, dataset_config: config.DatasetConfig
) -> dict[str, Any]:
    """Vocabulary, word vectors and labels from the training records.

    Returns:
        What the manifest tells of them.
    """
    lines = work / "lines"
    word_counts = dict(store_records.read_lines(lines / "word_counts.jsonl"))
    vocabulary, statistics = word_vectors.select_vocabulary(
        word_counts,
        drop_frequent_percent=dataset_config.drop_frequent_percent,
        drop_rare_percent=dataset_config.drop_rare_percent,
        drop_by=dataset_config.drop_by,
        min_word_count=dataset_config.min_word_count,
    )
    known = frozenset(vocabulary)
    sku_ids = set()
    titles = work / "titles.txt"
    with titles.open("w", encoding="utf-8") as file:
        for stem in _shard_stems(lines, ["train"]):
            for record in store_records.read_lines(lines / f"{stem}.jsonl"):
                file.write(" ".join(record["words"]) + "\n")
                with contextlib.suppress(records.RecordError):
                    write_shards.training_words(
                        record, known, dataset_config.require_words
                    )
                    sku_ids.add(record["sku_id"])
    vectors = word_vectors.train_word2vec(
        word2vec.LineSentence(str(titles)),
        vocabulary,
        word_counts,
        dim=dataset_config.word_vector_dim,
        epochs=dataset_config.word2vec_epochs,
        seed=dataset_config.seed,
    )
    config.write_json(
        work / "words_and_labels.json",
        {"vocabulary": vocabulary, "sku_ids": sorted(sku_ids)},
    )
    generation = work / "generation"
    np.save(generation / "word_vectors.npy", vectors)
    with (generation / "vocabulary.txt").open("w", encoding="utf-8") as file:
        file.writelines(f"{word}\n" for word in vocabulary)
    config.write_json(
        generation / "vocabulary.json",
        {"counts": [word_counts[word] for word in vocabulary]},
    )
    return {"vocabulary": statistics, "vocabulary_size": len(vocabulary)}


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
        arguments.input,
        arguments.output,
        config.from_arguments(
            config.DatasetConfig, arguments, arguments.preset
        ),
        pipeline_options,
    )
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
