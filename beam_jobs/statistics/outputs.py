"""The statistics of a dataset generation as a page, plots, CSV and JSON.

    TFRecord shards -> SummarizeShards (Beam) -> numbers, plots, page,
        description (Croissant)

Every record is read once; what is kept of it are counts. Equal generations
give equal bytes.
"""

import functools
import os
import pathlib
from collections.abc import Callable
from collections.abc import Mapping
from typing import Any

import numpy as np
from apache_beam.options import pipeline_options as beam_options

from beam_jobs.pipelines import meeting_place
from beam_jobs.pipelines import progress
from beam_jobs.pipelines import runners
from beam_jobs.statistics import croissant
from beam_jobs.statistics import long_tail
from beam_jobs.statistics import page
from beam_jobs.statistics import shard_summaries
from beam_jobs.statistics import tables
from beam_jobs.statistics.plots import balance
from beam_jobs.statistics.plots import class_sizes
from beam_jobs.statistics.plots import picture_sizes
from beam_jobs.statistics.plots import title_lengths
from sicot_tf import files
from sicot_tf.data import dataset
from sicot_tf.data import generation_cache
from sicot_tf.data import generations
from sicot_tf.data import records
from sicot_tf.evaluation import plots
from sicot_tf.stores import folder as folders
from sicot_tf.stores import locations
from sicot_tf.stores import uploads


def write_statistics(
    source: locations.Location,
    output: locations.Location,
    pipeline_options: beam_options.PipelineOptions,
) -> dict[str, Any]:
    """Writes the statistics of a generation.

    On a disk the folder appears as a whole; on a store statistics.json comes
    last.

    Args:
        source: a complete generation; of one on a store the workers copy the
            shards, one at a time.
        output: the folder to write; what an earlier run wrote is replaced.
        pipeline_options: from `runners.make_pipeline_options`.

    Returns:
        What `statistics.json` holds.

    Raises:
        ValueError: if `output` is something else, or the generation holds no
            records, or not those of its manifest.
    """
    generation = generation_cache.local_generation(source, _beside_shards)
    manifest = dataset.read_manifest(generation)
    _check_sizes(generation, manifest)
    with uploads.replacing_folder(
        output, known_by="statistics.json", kind="result"
    ) as finished:
        statistics = _write_all(
            generation, manifest, finished, output, pipeline_options
        )
        files.write_json(finished / "statistics.json", statistics)
        files.write_json(
            finished / "croissant.json",
            croissant.describe(
                generation.name, manifest, _relative(source, output)
            ),
        )
    return statistics


def _beside_shards(manifest: dict[str, Any]) -> list[str]:
    """All files that are no shards."""
    endings = (".tfrecord", ".offsets.npy")
    return [name for name in manifest["files"] if not name.endswith(endings)]


def _relative(source: locations.Location, output: locations.Location) -> str:
    """The generation as a link from a file of the output."""
    if locations.is_remote(source):
        if locations.parent(source) == locations.parent(output):
            return f"../{locations.name(source)}"
        return str(source)
    if locations.is_remote(output):
        return pathlib.Path(source).resolve().as_uri()
    base = os.path.relpath(source.resolve(), output.resolve())
    return pathlib.Path(base).as_posix()


def _write_all(
    generation: pathlib.Path,
    manifest: Mapping[str, Any],
    folder: pathlib.Path,
    output: locations.Location,
    pipeline_options: beam_options.PipelineOptions,
) -> dict[str, Any]:
    """Tables, plots and page; returns all numbers."""
    class_counts, is_head = tables.read_class_counts(generation)
    seed = manifest["config"]["seed"]
    sampled = tables.draw_classes(generation, seed)
    labels = [each["label"] for each in sampled]
    summarize_shard = functools.partial(
        shard_summaries.SummarizeShardFn,
        # Workers may be on other machines.
        _absolute(generation_cache.origin(generation)),
        is_head,
        sampled_labels=labels,
        seed=seed,
    )
    with meeting_place.meeting_place(
        folder.parent / "work", locations.parent(output), pipeline_options
    ) as work:
        summary = _summarize(
            generation, manifest, summarize_shard, work, pipeline_options
        )
    counts = summary["counts"]
    statistics = {
        "generation": generation.name,
        **long_tail.describe(manifest, class_counts, is_head, counts),
    }
    most_frequent = tables.write_tables(
        generation, manifest, class_counts, counts, folder
    )
    examples = {
        split: _rows(summary, f"split/{split}") for split in records.SPLITS
    }
    for each in sampled:
        each["records"] = _rows(summary, f"class/{each['label']}")
    _draw_plots(statistics, class_counts["train"], folder)
    page.write_page(
        folder / "statistics.html",
        statistics=statistics,
        most_frequent=most_frequent,
        sampled_classes=sampled,
        examples=examples,
        plots=folder,
    )
    statistics["most_frequent_words"] = most_frequent
    statistics["contact_sheet"] = [
        {**each, "records": [row["record_id"] for row in each["records"]]}
        for each in sampled
    ]
    statistics["examples"] = {
        split: [
            {k: v for k, v in row.items() if k != "thumbnail"} for row in rows
        ]
        for split, rows in examples.items()
    }
    return statistics


def _check_sizes(generation: pathlib.Path, manifest: Mapping[str, Any]) -> None:
    """Raises ValueError if a file that is no shard is missing or cut."""
    for name in _beside_shards(manifest):
        generations.check_size(
            generation / name, manifest["files"][name]["bytes"]
        )


def _absolute(location: locations.Location) -> locations.Location:
    if locations.is_remote(location):
        return location
    return pathlib.Path(location).absolute()


def _summarize(
    generation: pathlib.Path,
    manifest: Mapping[str, Any],
    summarize_shard: Callable[..., shard_summaries.SummarizeShardFn],
    work: folders.Folder,
    pipeline_options: beam_options.PipelineOptions,
) -> shard_summaries.Summary:
    """Reads all shards; checks that they hold what the manifest says."""
    shards = {
        stem: count
        for split in records.SPLITS
        for stem, count in manifest["splits"][split]["shards"].items()
        if count
    }
    if not shards:
        raise ValueError(
            f"{generation} holds no records; see its rejects.jsonl."
        )
    done = work.child("done")
    with progress.watch(
        "read",
        done,
        "*.done",
        total=sum(shards.values()),
        count=lambda key: {"done": int(done.get(key))},
        unit="records",
    ):
        runners.run(
            pipeline_options,
            sorted(shards),
            shard_summaries.SummarizeShards(
                summarize_shard(done=done.location), work.location
            ),
        )
    summary = shard_summaries.read_summary(work)
    _check_counts(generation, manifest, summary)
    return summary


def _check_counts(
    generation: pathlib.Path,
    manifest: Mapping[str, Any],
    summary: shard_summaries.Summary,
) -> None:
    expected = {
        split: manifest["splits"][split]["records"] for split in records.SPLITS
    }
    found = {
        split: summary["counts"]["records"][split] for split in records.SPLITS
    }
    if found != expected:
        raise ValueError(
            f"Expected {expected} records, as the manifest says, found "
            f"{found} in {generation}. Copy the generation again, or remove "
            "it and build it again."
        )


def _rows(summary: shard_summaries.Summary, name: str) -> list[dict[str, Any]]:
    return [row for _, row in summary["samples"].get(name, ())]


def _draw_plots(
    statistics: Mapping[str, Any],
    train_counts: np.ndarray,
    folder: pathlib.Path,
) -> None:
    classes = statistics["classes"]
    threshold = statistics["table_1"]["head_threshold"]
    plots.long_tail_plot(train_counts, threshold, folder / "long_tail.svg")
    class_sizes(
        classes["by_training_images"], threshold, folder / "class_sizes.svg"
    )
    balance(classes, statistics["words"], folder / "balance.svg")
    title_lengths(statistics["splits"], folder / "title_lengths.svg")
    picture_sizes(statistics["pictures"], folder / "picture_sizes.svg")
