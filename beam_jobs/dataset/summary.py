"""What a dataset generation tells of itself: classes, rejects, manifest."""

import bisect
import collections
import heapq
import itertools
import json
import math
import pathlib
from collections.abc import Iterator
from collections.abc import Sequence
from typing import Any

from beam_jobs.dataset import resolve_records
from beam_jobs.dataset.steps import parts
from beam_jobs.dataset.steps import reject_lines
from beam_jobs.pipelines import sums
from beam_jobs.records import raw_records
from sicot_tf import config
from sicot_tf import files
from sicot_tf.data import records
from sicot_tf.stores import folder


def describe_generation(
    counts: sums.Sums,
    rejected: dict[str, int],
    shards: sums.Sums,
    long_tail: dict[str, Any],
    image_size: int,
) -> dict[str, Any]:
    """What the manifest tells of the content.

    Args:
        counts: of the survey: `rows` and `unknown_fields`.
        rejected: records of each reason, of all stages.
        shards: the sum of the shards' summaries.
        long_tail: of `write_classes`.

    Raises:
        ValueError: if records read and records written or rejected differ.
    """
    splits = {
        split: {
            "records": 0,
            "titles_without_words": 0,
            **shards.get("splits", {}).get(split, {}),
            "shards": {
                stem: num_records
                for stem, num_records in shards.get("shards", {}).items()
                if stem.startswith(f"{split}-")
            },
        }
        for split in records.SPLITS
    }
    written = {split: each["records"] for split, each in splits.items()}
    described = {
        "records_read": counts["rows"],
        "written": written,
        "rejected": rejected,
    }
    if counts["rows"] != sum(written.values()) + sum(rejected.values()):
        raise ValueError(
            f"Records got lost or doubled: {described}. Do all workers see one "
            "folder, and did the inputs change while the job ran?"
        )
    return {
        "counts": described,
        "unknown_fields": counts["unknown_fields"],
        "splits": splits,
        "num_classes": long_tail["num_head_classes"]
        + long_tail["num_tail_classes"],
        "long_tail": long_tail,
        "image_size": image_size,
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


def write_classes(
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


def write_rejects(
    of_parts: Sequence[pathlib.Path],
    of_all_together: Iterator[str],
    path: pathlib.Path,
) -> dict[str, int]:
    """Joins the sorted rejects of all stages; counts the reasons."""
    counts = collections.Counter()
    merged = heapq.merge(
        itertools.chain.from_iterable(map(_read_lines, of_parts)),
        of_all_together,
        key=lambda line: int(line.partition("\t")[0]),
    )
    with path.open("w", encoding="utf-8", newline="\n") as file:
        for line in merged:
            text = line.partition("\t")[2]
            counts[json.loads(text)["reason"]] += 1
            file.write(text + "\n")
    return dict(sorted(counts.items()))


def lines_of_rejected(
    rejected: Iterator[tuple[int, str, str]],
    rows: folder.Folder,
    chunks: Sequence[parts.Chunk],
) -> Iterator[str]:
    """Lines for rejects of which row, reason and message are known.

    Of the files of rows only those are read that hold one.

    Args:
        rejected: in the order of their rows.
        rows: the folder of the files of rows.
        chunks: the files, in their order.
    """
    starts = [chunk.first_row for chunk in chunks]
    by_chunk = itertools.groupby(
        rejected, key=lambda each: bisect.bisect_right(starts, each[0]) - 1
    )
    for number, of_chunk in by_chunk:
        table = parts.read_chunk(rows, chunks[number])
        for row, reason, message in of_chunk:
            (content,) = table.slice(row - starts[number], 1).to_pylist()
            yield from reject_lines.to_lines(
                [{**content, "reason": reason, "message": message}]
            )


def _read_lines(path: pathlib.Path) -> Iterator[str]:
    with path.open(encoding="utf-8", newline="\n") as file:
        for line in file:
            yield line.removesuffix("\n")
