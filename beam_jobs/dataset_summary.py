"""What a dataset generation tells of itself: classes, rejects, manifest."""

import collections
import concurrent.futures
import hashlib
import heapq
import math
import os
import pathlib
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any

from beam_jobs import record_files
from beam_jobs import store_records
from sicot_tf import config
from sicot_tf.data import raw_records
from sicot_tf.data import records


def describe_generation(
    work: pathlib.Path,
    survey: record_files.Survey,
    dataset_config: config.DatasetConfig,
) -> dict[str, Any]:
    """Adds classes and rejects to a generation whose shards are written.

    Returns:
        What the manifest tells of its content.

    Raises:
        RuntimeError: if records read and records written or rejected differ.
    """
    generation = work / "generation"
    summaries = list(store_records.read_lines(work / "results/summaries.jsonl"))
    sku_ids = config.read_json(work / "words_and_labels.json")["sku_ids"]
    train_counts = collections.Counter()
    for summary in summaries:
        if summary["split"] == "train":
            for sku_id, (count, _) in summary["classes"].items():
                train_counts[sku_id] += count
    threshold = head_threshold(
        list(train_counts.values()),
        dataset_config.head_threshold,
        dataset_config.head_share,
    )
    _write_classes(summaries, sku_ids, threshold, generation / "classes.jsonl")
    rejected = _merge_rejects(
        [work / "lines", work / "results"], generation / "rejects.jsonl"
    )
    splits = {
        split: _describe_split(
            [each for each in summaries if each["split"] == split]
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
        raise RuntimeError(
            f"Records got lost or doubled: {counts}. Do all workers see one "
            "work folder, and did the inputs change while the job ran?"
        )
    return {
        "counts": counts,
        "unknown_fields": survey.unknown_fields,
        "splits": splits,
        "num_classes": len(sku_ids),
        "long_tail": _describe_long_tail(
            list(train_counts.values()), threshold
        ),
        "image_size": dataset_config.image_size,
        "word_vector_dim": dataset_config.word_vector_dim,
        "files": _describe_files(generation),
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
    summaries: Sequence[Mapping[str, Any]],
    sku_ids: Sequence[str],
    threshold: int,
    path: pathlib.Path,
) -> None:
    """One line for each class, in the order of the labels."""
    counts = {split: collections.Counter() for split in records.SPLITS}
    names: dict[str, str] = {}
    for summary in summaries:
        for sku_id, (count, name) in summary["classes"].items():
            counts[summary["split"]][sku_id] += count
            if name and sku_id not in names:
                names[sku_id] = name
    with path.open("w", encoding="utf-8", newline="\n") as file:
        for label, sku_id in enumerate(sku_ids):
            row = {
                "label": label,
                "sku_id": sku_id,
                "sku_name": names.get(sku_id),
                **{split: counts[split][sku_id] for split in records.SPLITS},
                "head": counts["train"][sku_id] >= threshold,
            }
            file.write(raw_records.to_json(row) + "\n")


def _merge_rejects(
    folders: Sequence[pathlib.Path], path: pathlib.Path
) -> dict[str, int]:
    """Joins the sorted rejects of both pipelines; counts the reasons."""
    counts = collections.Counter()
    sources = [
        store_records.read_lines(part)
        for folder in folders
        for part in sorted(folder.glob("rejects-*.jsonl"))
    ]
    merged = heapq.merge(*sources, key=lambda row: (row["file"], row["line"]))
    with path.open("w", encoding="utf-8", newline="\n") as file:
        for row in merged:
            counts[row["reason"]] += 1
            file.write(raw_records.to_json(row) + "\n")
    return dict(sorted(counts.items()))


def _describe_files(folder: pathlib.Path) -> dict[str, dict[str, Any]]:
    """Size and SHA-256 of every file, once it is safely on the disk."""

    def describe(path: pathlib.Path) -> dict[str, Any]:
        with path.open("rb") as file:
            os.fsync(file.fileno())
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        return {"bytes": path.stat().st_size, "sha256": digest}

    paths = sorted(folder.iterdir())
    with concurrent.futures.ThreadPoolExecutor() as pool:
        described = pool.map(describe, paths)
        return {
            path.name: description
            for path, description in zip(paths, described, strict=True)
        }
