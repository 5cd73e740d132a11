"""What a dataset generation tells of itself: classes, rejects, manifest."""

import collections
import heapq
import itertools
import json
import math
import pathlib
from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any

from beam_jobs.dataset import resolve_records
from beam_jobs.records import raw_records
from beam_jobs.records import record_files
from sicot_tf import config
from sicot_tf import files
from sicot_tf.data import generations
from sicot_tf.data import records


def describe_generation(
    work: pathlib.Path,
    survey: record_files.Survey,
    resolver: resolve_records.Resolver,
    dataset_config: config.DatasetConfig,
) -> dict[str, Any]:
    """Adds classes and rejects to a generation whose shards are written.

    Returns:
        What the manifest tells of its content.

    Raises:
        ValueError: if records read and records written or rejected differ.
    """
    generation = work / "generation"
    long_tail = _write_classes(
        resolver, dataset_config, generation / "classes.jsonl"
    )
    rejected = _merge_rejects(
        sorted((work / "parts").glob("*.rejects.jsonl")),
        resolver.reject_lines(work / "rows"),
        generation / "rejects.jsonl",
    )
    summaries = [
        files.read_json(path)
        for path in sorted((work / "summaries").glob("*.json"))
    ]
    splits = {
        split: _describe_split(
            [
                each
                for each in summaries
                if each["shard"].startswith(f"{split}-")
            ]
        )
        for split in records.SPLITS
    }
    written = {split: each["records"] for split, each in splits.items()}
    counts = {
        "records_read": survey.num_records,
        "written": written,
        "rejected": rejected,
    }
    if survey.num_records != sum(written.values()) + sum(rejected.values()):
        raise ValueError(
            f"Records got lost or doubled: {counts}. Do all workers see one "
            "work folder, and did the inputs change while the job ran?"
        )
    return {
        "counts": counts,
        "unknown_fields": survey.unknown_fields,
        "splits": splits,
        "num_classes": long_tail["num_head_classes"]
        + long_tail["num_tail_classes"],
        "long_tail": long_tail,
        "image_size": dataset_config.image_size,
        "files": generations.describe_files(generation),
    }


def head_threshold(
    train_counts: Sequence[int], threshold: int, head_share: float
) -> int:
    """Training images from which on a class is head.

    `threshold`, or, where that is 0, the count of the class that ends the
    largest `head_share` of all classes, at least 2.
    """
    if threshold or not train_counts:
        return threshold
    rank = max(1, math.ceil(head_share * len(train_counts)))
    return max(2, sorted(train_counts, reverse=True)[rank - 1])


def _describe_long_tail(
    train_counts: Sequence[int], threshold: int
) -> dict[str, Any]:
    """Numbers of the two parts; head is at least `threshold` images."""
    head = [count for count in train_counts if count >= threshold]
    return {
        "head_threshold": threshold,
        "num_head_classes": len(head),
        "num_tail_classes": len(train_counts) - len(head),
        "head_train_images": sum(head),
        "tail_train_images": sum(train_counts) - sum(head),
        "largest_class": max(train_counts, default=0),
        "smallest_class": min(train_counts, default=0),
    }


def _describe_split(summaries: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    return {
        "records": sum(each["records"] for each in summaries),
        "titles_without_words": sum(
            each["titles_without_words"] for each in summaries
        ),
        "shards": {each["shard"]: each["records"] for each in summaries},
    }


def _write_classes(
    resolver: resolve_records.Resolver,
    dataset_config: config.DatasetConfig,
    path: pathlib.Path,
) -> dict[str, Any]:
    """One line for each class, in the order of the labels."""
    train_counts = [counts["train"] for _, _, counts in resolver.class_counts()]
    threshold = head_threshold(
        train_counts, dataset_config.head_threshold, dataset_config.head_share
    )
    rows = (
        {
            "label": label,
            "sku_id": sku_id,
            "sku_name": name,
            **counts,
            "head": counts["train"] >= threshold,
        }
        for label, (sku_id, name, counts) in enumerate(resolver.class_counts())
    )
    files.write_lines(path, map(raw_records.to_json, rows))
    return _describe_long_tail(train_counts, threshold)


def _merge_rejects(
    parts: Sequence[pathlib.Path],
    of_all_together: Iterator[str],
    path: pathlib.Path,
) -> dict[str, int]:
    """Joins the sorted rejects of all stages; counts the reasons."""
    counts = collections.Counter()
    merged = heapq.merge(
        itertools.chain.from_iterable(map(_read_lines, parts)),
        of_all_together,
        key=lambda line: int(line.partition("\t")[0]),
    )
    with path.open("w", encoding="utf-8", newline="\n") as file:
        for line in merged:
            text = line.partition("\t")[2]
            counts[json.loads(text)["reason"]] += 1
            file.write(text + "\n")
    return dict(sorted(counts.items()))


def _read_lines(path: pathlib.Path) -> Iterator[str]:
    with path.open(encoding="utf-8", newline="\n") as file:
        for line in file:
            yield line.removesuffix("\n")
