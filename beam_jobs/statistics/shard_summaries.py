"""The records of TFRecord shards to small counts, merged into one summary.

A summary has `counts`, counters by name, and `samples`, lists of at most a
few records by name, drawn by a hash. Its size follows the vocabulary, never
the number of records.
"""

import bisect
import collections
import io
import json
import pathlib
from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Mapping
from typing import Any

import apache_beam as beam
import numpy as np
import PIL.Image
import tensorflow as tf
from apache_beam.metrics import Metrics

from beam_jobs.pipelines import runners
from sicot_tf import files
from sicot_tf.data import records
from sicot_tf.data import titles
from sicot_tf.pages import pieces
from sicot_tf.stores import folder as folders
from sicot_tf.stores import local_copies
from sicot_tf.stores import locations
from sicot_tf.stores import opening

# Records of a sample: pictures of one class, examples of one split.
PICTURES_OF_A_CLASS = 6
EXAMPLES_OF_A_SPLIT = 3
# Sides in pixels.
_THUMBNAIL = (96, 96)
_BATCH_SIZE = 256
_SUMMARY = "summary.json"
_FEATURES = {
    name: records.ALL_FEATURES[name]
    for name in (
        *("record_id", "image", "sku_id", "label"),
        *("title", "words", "word_ids", "source"),
    )
}

Summary = dict[str, dict[str, Any]]


def script(num_letters: int, num_han: int, num_latin: int) -> str:
    """What a title is written in, by the scripts of its letters."""
    if not num_letters:
        return "no letters"
    if num_han == num_letters:
        return "Chinese"
    if num_latin == num_letters:
        return "Latin"
    return "Chinese and others" if num_han else "other"


class SummarizeShardFn(beam.DoFn):
    """The name of a shard to the summary of its records.

    Args:
        generation: folder of the TFRecord files, which may be on a store.
        is_head: `[num_classes]` bool.
        done: a folder that this machine sees; gets `<shard>.done`, its number
            of records, for each finished shard.
        sampled_labels: classes whose training pictures are sampled.
        seed: of the samples.
    """

    def __init__(
        self,
        generation: locations.Location,
        is_head: np.ndarray,
        done: locations.Location,
        sampled_labels: Iterable[int],
        seed: int,
    ):
        self._generation = generation
        self._is_head = is_head
        self._done = done
        self._sampled_labels = frozenset(sampled_labels)
        self._seed = seed
        self._num_read = Metrics.counter(
            runners.METRICS_NAMESPACE, "records_read"
        )

    def process(self, stem: str) -> Iterator[Summary]:
        name = f"{stem}.tfrecord"
        with local_copies.local_files(self._generation, [name]) as folder:
            counts, samples = self._read(folder / name)
        num_records = counts["records"][stem.partition("-")[0]]
        self._num_read.inc(num_records)
        opening.open_folder(self._done).put(
            f"{stem}.done", str(num_records).encode()
        )
        yield {
            "counts": dict(counts),
            "samples": {
                name: [(order, _sample_row(row)) for order, row in drawn]
                for name, drawn in samples.items()
            },
        }

    def _read(
        self, path: pathlib.Path
    ) -> tuple[dict[str, collections.Counter], dict[str, list]]:
        """Counts and samples of a shard's records."""
        split = path.name.partition("-")[0]
        counts = collections.defaultdict(collections.Counter)
        samples = collections.defaultdict(list)
        # Buffered: small reads from a network disk are slow.
        stored = tf.data.TFRecordDataset(str(path), buffer_size=8 << 20)
        for serialized in stored.batch(_BATCH_SIZE):
            batch = {
                name: value.numpy()
                for name, value in tf.io.parse_example(
                    serialized, _FEATURES
                ).items()
            }
            self._count_words(batch, split, counts)
            _count_scripts(batch["title"], split, counts)
            _count_pictures(batch["image"], split, counts)
            self._sample(batch, split, samples)
        return counts, samples

    def _count_words(
        self,
        batch: Mapping[str, np.ndarray],
        split: str,
        counts: Mapping[str, collections.Counter],
    ) -> None:
        """Records, title lengths, and each word by head and tail."""
        is_head = self._is_head[batch["label"]]
        lengths = np.array([len(each) for each in batch["word_ids"]], int)
        ids = np.concatenate([*batch["word_ids"], np.zeros(0, int)])
        rows = np.repeat(np.arange(len(lengths)), lengths)
        known = ids != records.PADDING_ID
        num_known = np.bincount(rows[known], minlength=len(lengths))
        counts["records"][split] += len(lengths)
        counts["known_words"][split] += int(known.sum())
        counts["unknown_words"][split] += int((~known).sum())
        counts[f"title_words/{split}"].update(num_known.tolist())
        if split == "train":
            for group, members in (("head", is_head), ("tail", ~is_head)):
                of_group = ids[known & members[rows]]
                values, times = np.unique(of_group, return_counts=True)
                counts[f"words/{group}"].update(
                    dict(zip(values.tolist(), times.tolist(), strict=True))
                )

    def _sample(
        self,
        batch: Mapping[str, np.ndarray],
        split: str,
        samples: Mapping[str, list[tuple[int, Any]]],
    ) -> None:
        """Keeps the records that come first in the drawn order."""
        for row, label in enumerate(batch["label"].tolist()):
            places = [(f"split/{split}", EXAMPLES_OF_A_SPLIT)]
            if split == "train" and label in self._sampled_labels:
                places.append((f"class/{label}", PICTURES_OF_A_CLASS))
            order = files.stable_hash(
                self._seed, batch["record_id"][row].decode()
            )
            for name, limit in places:
                drawn = samples[name]
                if len(drawn) < limit or order < drawn[-1][0]:
                    record = {
                        feature: batch[feature][row] for feature in _FEATURES
                    }
                    bisect.insort(drawn, (order, record), key=lambda x: x[0])
                    del drawn[limit:]


class MergeSummariesFn(beam.CombineFn):
    """Adds counts, keeps of every sample the records drawn first."""

    def create_accumulator(self) -> Summary:
        return {"counts": {}, "samples": {}}

    def add_input(self, merged: Summary, summary: Summary) -> Summary:
        for name, counter in summary["counts"].items():
            merged["counts"].setdefault(name, collections.Counter()).update(
                counter
            )
        for name, drawn in summary["samples"].items():
            both = [*merged["samples"].get(name, ()), *drawn]
            both.sort(key=lambda x: x[0])
            is_class = name.startswith("class/")
            limit = PICTURES_OF_A_CLASS if is_class else EXAMPLES_OF_A_SPLIT
            merged["samples"][name] = both[:limit]
        return merged

    def merge_accumulators(self, summaries: Iterable[Summary]) -> Summary:
        merged = self.create_accumulator()
        for summary in summaries:
            merged = self.add_input(merged, summary)
        return merged

    def extract_output(self, merged: Summary) -> Summary:
        return merged


class SummarizeShards(beam.PTransform):
    """Names of shards to one summary, `summary.json` in the folder `output`."""

    def __init__(
        self, summarize_shard: SummarizeShardFn, output: locations.Location
    ):
        super().__init__()
        self._summarize_shard = summarize_shard
        self._output = output

    def expand(self, stems: beam.PCollection) -> beam.PCollection:
        return (
            stems
            | "SummarizeShard" >> beam.ParDo(self._summarize_shard)
            | "Merge"
            >> beam.CombineGlobally(MergeSummariesFn()).without_defaults()
            | "Write" >> beam.Map(_write_summary, self._output)
        )


def read_summary(work: folders.Folder) -> Summary:
    """The summary that `SummarizeShards` wrote there."""
    summary = work.get_json(_SUMMARY)
    summary["counts"] = {
        name: collections.Counter(dict(pairs))
        for name, pairs in summary["counts"].items()
    }
    return summary


def _write_summary(summary: Summary, output: locations.Location) -> None:
    # Pairs, not objects: JSON would turn the numbers of words into text.
    counts = {
        name: sorted(counter.items())
        for name, counter in sorted(summary["counts"].items())
    }
    content = {"counts": counts, "samples": summary["samples"]}
    opening.open_folder(output).put(_SUMMARY, json.dumps(content).encode())


def _count_scripts(
    stored: Iterable[bytes],
    split: str,
    counts: Mapping[str, collections.Counter],
) -> None:
    """Titles by script; letters by script, over all splits."""
    texts = titles.visible_texts([each.decode() for each in stored])
    letters = tf.strings.regex_replace(texts, r"\P{L}", "")
    lengths = [
        tf.strings.length(
            tf.strings.regex_replace(letters, pattern, ""), unit="UTF8_CHAR"
        ).numpy()
        for pattern in ("", r"\P{Han}", r"\P{Latin}")
    ]
    counts[f"scripts/{split}"].update(
        script(*each) for each in zip(*lengths, strict=True)
    )
    num_letters, num_han, num_latin = (int(each.sum()) for each in lengths)
    counts["letters"].update(
        {
            "Chinese": num_han,
            "Latin": num_latin,
            "other": num_letters - num_han - num_latin,
        }
    )


def _count_pictures(
    images: Iterable[bytes],
    split: str,
    counts: Mapping[str, collections.Counter],
) -> None:
    """Sides in pixels and size in kilobytes, from the headers alone."""
    for image in images:
        try:
            with PIL.Image.open(io.BytesIO(image)) as picture:
                sides = picture.size
        except OSError:
            counts["unreadable_pictures"][split] += 1
            continue
        counts["shorter_side"][min(sides)] += 1
        counts["longer_side"][max(sides)] += 1
        counts["kilobytes"][-(-len(image) // 1000)] += 1


def _sample_row(record: Mapping[str, Any]) -> dict[str, Any]:
    """A drawn record as JSON, its picture as a data URI or None."""
    known = record["word_ids"] != records.PADDING_ID
    return {
        "record_id": record["record_id"].decode(),
        "sku_id": record["sku_id"].decode(),
        "label": int(record["label"]),
        "title": record["title"].decode(),
        "source": record["source"].decode(),
        "words": [word.decode() for word in record["words"]],
        "known": known.tolist(),
        "thumbnail": _thumbnail(record["image"]),
    }


def _thumbnail(image: bytes) -> str | None:
    """A small JPEG as a data URI."""
    thumbnail = io.BytesIO()
    try:
        with PIL.Image.open(io.BytesIO(image)) as picture:
            picture.thumbnail(_THUMBNAIL)
            picture.convert("RGB").save(thumbnail, "JPEG", quality=85)
    except OSError:
        return None
    return pieces.data_uri(thumbnail.getvalue())
