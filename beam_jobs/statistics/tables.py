"""Classes and words of a generation, as arrays and as CSV files."""

import contextlib
import csv
import heapq
import pathlib
from collections.abc import Iterator
from collections.abc import Mapping
from typing import Any

import numpy as np

from beam_jobs.statistics import long_tail
from sicot_tf import files
from sicot_tf.data import dataset
from sicot_tf.data import records

_SAMPLED_CLASSES_OF_A_GROUP = 6
_MOST_FREQUENT = 45


def read_class_counts(
    generation: pathlib.Path,
) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Records of each class by split, and whether it is head, by label."""
    counts = {split: [] for split in records.SPLITS}
    is_head = []
    for row in dataset.iterate_classes(generation / "classes.jsonl"):
        for split in records.SPLITS:
            counts[split].append(row[split])
        is_head.append(row["head"])
    arrays = {k: np.array(v, np.int64) for k, v in counts.items()}
    return arrays, np.array(is_head, bool)


def draw_classes(generation: pathlib.Path, seed: int) -> list[dict[str, Any]]:
    """Some head classes, then some tail classes, the largest first."""
    sampled = []
    for head in (True, False):
        rows = heapq.nsmallest(
            _SAMPLED_CLASSES_OF_A_GROUP,
            (
                row
                for row in dataset.iterate_classes(generation / "classes.jsonl")
                if row["head"] == head and row["train"]
            ),
            key=lambda row: files.stable_hash(seed, row["sku_id"]),
        )
        sampled += sorted(rows, key=lambda row: (-row["train"], row["label"]))
    return sampled


def write_tables(
    generation: pathlib.Path,
    manifest: Mapping[str, Any],
    class_counts: Mapping[str, np.ndarray],
    counts: Mapping[str, Mapping[Any, int]],
    folder: pathlib.Path,
) -> list[dict[str, Any]]:
    """Writes classes.csv and words.csv; returns the most frequent words."""
    order = np.argsort(-class_counts["train"], kind="stable")
    ranks = np.empty_like(order)
    ranks[order] = np.arange(1, len(order) + 1)
    names = ["label", "sku_id", "sku_name", *records.SPLITS]
    with _csv_writer(folder / "classes.csv") as writer:
        writer.writerow([*names, "group", "rank"])
        for row in dataset.iterate_classes(generation / "classes.jsonl"):
            writer.writerow(
                [row[name] for name in names]
                + ["head" if row["head"] else "tail", ranks[row["label"]]]
            )
    head, tail = (
        long_tail.word_counts(counts.get(f"words/{group}", {}), manifest)
        for group in ("head", "tail")
    )
    most = np.argsort(-(head + tail), kind="stable")[:_MOST_FREQUENT].tolist()
    kept = dict.fromkeys(most)
    with (
        _csv_writer(folder / "words.csv") as writer,
        (generation / "vocabulary.txt").open(encoding="utf-8") as words,
    ):
        writer.writerow(["word_id", "word", "occurrences", "head", "tail"])
        for index, line in enumerate(words):
            word = line.rstrip("\n")
            in_head, in_tail = int(head[index]), int(tail[index])
            writer.writerow(
                [
                    index + records.PADDING_ID + 1,
                    word,
                    in_head + in_tail,
                    in_head,
                    in_tail,
                ]
            )
            if index in kept:
                kept[index] = {"word": word, "head": in_head, "tail": in_tail}
    return list(kept.values())


@contextlib.contextmanager
def _csv_writer(path: pathlib.Path) -> Iterator[Any]:
    with path.open("w", encoding="utf-8", newline="") as file:
        # All text in quotes: Python 3.11 leaves a carriage return bare, which
        # ends a row for whoever reads it.
        yield csv.writer(
            file, lineterminator="\n", quoting=csv.QUOTE_NONNUMERIC
        )
