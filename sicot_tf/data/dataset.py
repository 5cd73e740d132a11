"""Dataset generations to batches, in an order that depends on nothing else.

The records of a step are a function of (seed, epoch, step), so a run resumes
at any step without reading what came before, and any number of workers can
take their part of the same batch: `Schedule` says which. This needs random
access: `RecordFiles` reads a record by its number through the offsets that
the Beam job writes beside every file.
"""

import functools
import json
import pathlib
from collections.abc import Iterator
from typing import Any

import numpy as np
import tensorflow as tf

from sicot_tf import files
from sicot_tf.data import generation_cache
from sicot_tf.data import generations
from sicot_tf.data import images
from sicot_tf.data import noise
from sicot_tf.data import records
from sicot_tf.data import tfrecords
from sicot_tf.data.record_sampling import RecordSampling
from sicot_tf.data.schedule import Schedule

# Without AutoGraph: no Python branch here looks at a tensor, and rewriting the
# functions took 2 of the 8 seconds until a small training's first step.
as_written = tf.autograph.experimental.do_not_convert
# The "epoch" of the permutation that exchanges titles; no run gets there.
_TITLE_EXCHANGE = 2**32 - 1
# Added to the epoch of the permutation that finds partners for mixup.
_PARTNERS = 2**31
# What is read with the records of any split.
_BESIDE_RECORDS = {"classes.jsonl", "vocabulary.txt", "word_vectors.npy"}


class RecordFiles:
    """The TFRecord files of one split, read by record number.

    Args:
        generation: folder of a dataset generation.
        split: `train`, `val` or `test`.
        num_workers: among how many workers the files are divided.
        worker_index: opens files `worker_index::num_workers` (in the order of
            their names, empty ones left out) and touches no other; they need
            not even be on this machine.

    Attributes:
        record_counts: records of every worker, by the manifest.

    Raises:
        ValueError: if a file is missing or its size is not the manifest's,
            or if there are fewer files than workers.
    """

    def __init__(
        self,
        generation: pathlib.Path,
        split: str,
        num_workers: int = 1,
        worker_index: int = 0,
    ):
        self.generation = generation
        self.split = split
        self.num_workers = num_workers
        self.worker_index = worker_index
        self._contents: list[np.memmap] = []
        self._offsets: list[np.ndarray] = []
        manifest = read_manifest(generation)
        counts = _shards(manifest, split)
        if num_workers > max(1, len(counts)):
            raise ValueError(
                f"Expected at least one file of {split} records for each of "
                f"{num_workers} workers, found {len(counts)} in {generation}. "
                "Build the dataset with a smaller --shard_megabytes, or train "
                "with --order exact or fewer workers."
            )
        self.record_counts = tuple(
            sum(count for _, count in counts[worker::num_workers])
            for worker in range(num_workers)
        )
        for name, _ in counts[worker_index::num_workers]:
            path = generation / f"{name}.tfrecord"
            generations.check_size(path, manifest["files"][path.name]["bytes"])
            self._contents.append(np.memmap(path, np.uint8, mode="r"))
            self._offsets.append(np.load(path.with_suffix(".offsets.npy")))
        # Number of the first record of each file.
        self._starts = np.cumsum([0] + [len(each) for each in self._offsets])

    def __len__(self) -> int:
        return int(self._starts[-1])

    def read(self, index: int) -> bytes:
        """The serialised example with this number, its checksum verified."""
        file = int(np.searchsorted(self._starts, index, side="right")) - 1
        start = int(self._offsets[file][index - self._starts[file]])
        try:
            return tfrecords.read(self._contents[file], start)
        except ValueError as error:
            raise ValueError(
                f"Record {index} of split {self.split} in {self.generation} "
                "is damaged. Copy the generation again, or remove it and "
                "build it again."
            ) from error

    def read_many(self, indices: np.ndarray) -> np.ndarray:
        """Serialised examples as an array of bytes, in the order asked for."""
        return np.array([self.read(int(i)) for i in indices], dtype=object)


def wanted(**shares: tuple[int, int]) -> generation_cache.Wanted:
    """What `generation_cache` has to copy for some splits to be read.

    Args:
        **shares: by split, num_workers and worker_index of `RecordFiles`.
    """

    def names(manifest: dict[str, Any]) -> set[str]:
        found = set(_BESIDE_RECORDS)
        for split, (num_workers, worker_index) in shares.items():
            own = _shards(manifest, split)[worker_index::num_workers]
            for name, _ in own:
                found |= {f"{name}.tfrecord", f"{name}.offsets.npy"}
        return found

    return names


def _shards(manifest: dict[str, Any], split: str) -> list[tuple[str, int]]:
    """Files of a split and their records, in the order of their names."""
    shards = sorted(manifest["splits"][split]["shards"].items())
    return [(name, count) for name, count in shards if count]


def read_manifest(generation: pathlib.Path) -> dict[str, Any]:
    """The manifest of a dataset generation.

    Raises:
        ValueError: if it is not that of a data set.
    """
    path = generation / generations.MANIFEST
    manifest = files.read_json(path)
    # The manifest of a product index has neither.
    if not isinstance(manifest, dict) or not {"config", "splits"} & set(
        manifest
    ):
        raise ValueError(
            f"Expected the manifest of a data set in {path}; it is damaged, "
            "or of something else."
        )
    return manifest


def iterate_classes(path: pathlib.Path) -> Iterator[dict[str, Any]]:
    """The rows of a `classes.jsonl`, in the order of their labels.

    As a list, a million of them take 1 GiB.

    Raises:
        ValueError: if a line is no class, and behind the last one if there
            was none.
    """
    number = 0
    with open(path, encoding="utf-8") as lines:
        try:
            for number, line in enumerate(lines, start=1):
                row = json.loads(line)
                row["sku_id"], row["train"], row["head"]
                yield row
        # ValueError includes bytes that are not UTF-8.
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(
                f"{path}, line {number}: expected a class with sku_id, train "
                f"and head ({error!r}). Copy the file again."
            ) from error
    if not number:
        raise ValueError(
            f"{path} names no class, so there are no records to train on; see "
            "rejects.jsonl beside it for the reasons."
        )


def read_classes(path: pathlib.Path) -> list[dict[str, Any]]:
    """`iterate_classes` as a list."""
    return list(iterate_classes(path))


def make_training_dataset(
    files: RecordFiles,
    *,
    first_step: int,
    last_step: int,
    global_batch_size: int,
    seed: int,
    image_size: int,
    max_words: int,
    augmentation: str,
    min_crop_area: float,
    shuffle_titles: bool = False,
    features: np.ndarray | None = None,
    sampling: RecordSampling | None = None,
    word_dropout: float = 0.0,
    mixup: float = 0.0,
    num_workers: int = 1,
    worker_index: int = 0,
) -> tf.data.Dataset:
    """One batch for each step from `first_step` up to, not with, `last_step`.

    What a worker takes of a step, `Schedule` says: of files opened whole its
    examples of one global batch, of files opened for it alone their records.

    Args:
        files: the training records.
        shuffle_titles: gives every picture the title of another record (a
            fixed permutation), the control of a co-training run.
        features: `[len(files), views, ...]` float32, taken for the images; an
            epoch sees one view of each record, the next another.
        sampling: draws the records of a step, of files opened whole; None:
            every record once an epoch.
        word_dropout: chance of a word to be left out of `seen_title_ids`.
        mixup: alpha of Beta(alpha, alpha); 0: pictures are not mixed. Where
            features are taken, these are (arXiv 1806.05236).
        num_workers: number of workers.
        worker_index: number of this worker.

    Returns:
        A dataset of dictionaries, b = `Schedule.examples_per_worker`:
        `image` `[b, image_size, image_size, 3]` float32 0 to 255,
        `title_ids` `[b, max_words]` int32 (0 is padding),
        `label` `[b]` int64, `weight` `[b]` float32. With word dropout also
        `seen_title_ids`, what is left of `title_ids`; with mixup
        `partner_label` `[b]` int64 and `own_share` `[b]` float32, from 0.5
        to 1, of `label` in the mixed picture.

    Raises:
        ValueError: if there are no records, or the files were opened for
            another worker.
    """
    _check_opened_for(files, num_workers, worker_index)
    schedule = Schedule(files.record_counts, global_batch_size, num_workers)

    def choose_records(step: tf.Tensor) -> dict[str, tf.Tensor]:
        position, weight = schedule.take(step, worker_index)
        epoch = step // schedule.steps_per_epoch
        index = _permute(position, len(files), seed, epoch)
        epochs = tf.fill([schedule.examples_per_worker], epoch)
        # What tells one sight of a record from another; each gets its crop.
        visit = epochs
        if sampling is not None:
            places = schedule.places(worker_index)
            drawn = sampling.draw(step, places, global_batch_size)
            begun = epoch >= sampling.from_epoch
            index = tf.where(begun, drawn, index)
            visit = tf.where(begun, step * global_batch_size + places, visit)
        return {
            "index": index,
            "weight": weight,
            "epoch": epochs,
            "visit": visit,
        }

    parse = functools.partial(
        _parse_training_example,
        seed=seed,
        max_words=max_words,
        image_size=image_size,
        augmentation=augmentation,
        min_crop_area=min_crop_area,
        word_dropout=word_dropout,
        mixup=mixup,
    )
    dataset = tf.data.Dataset.range(first_step, last_step)
    dataset = dataset.map(as_written(choose_records))
    # One Python call a batch; the parsing below runs in parallel without it.
    dataset = dataset.map(
        as_written(
            lambda chosen: _read_examples(
                files, chosen, seed, shuffle_titles, features, mixup > 0
            )
        )
    ).unbatch()
    dataset = dataset.map(
        as_written(parse), num_parallel_calls=tf.data.AUTOTUNE
    )
    dataset = dataset.batch(schedule.examples_per_worker, drop_remainder=True)
    return dataset.prefetch(tf.data.AUTOTUNE)


def _check_opened_for(
    files: RecordFiles, num_workers: int, worker_index: int
) -> None:
    """Raises ValueError if a worker can't train on these files."""
    if not len(files):
        raise ValueError(
            f"{files.generation} holds no training records; see its "
            "rejects.jsonl for the reasons."
        )
    opened_for = (files.num_workers, files.worker_index)
    if opened_for not in ((1, 0), (num_workers, worker_index)):
        raise ValueError(
            f"Expected files opened for worker {worker_index} of "
            f"{num_workers}, or for all, received those of worker "
            f"{files.worker_index} of {files.num_workers}."
        )


def _read_examples(
    files: RecordFiles,
    chosen: dict[str, tf.Tensor],
    seed: int,
    shuffle_titles: bool,
    features: np.ndarray | None,
    with_partners: bool,
) -> dict[str, tf.Tensor]:
    """Adds the serialised examples and features; whose titles; partners."""

    def read(index: tf.Tensor) -> dict[str, tf.Tensor]:
        found = {"example": _read_many(files, index)}
        if features is not None:
            view = (index + chosen["visit"]) % features.shape[1]
            found["features"] = _take(features, index, view)
        return found

    index = chosen["index"]
    examples = chosen | read(index)
    if shuffle_titles:
        other = _permute(index, len(files), seed, _TITLE_EXCHANGE)
        examples["title_example"] = _read_many(files, other)
    if with_partners:
        epoch = chosen["epoch"][0] + _PARTNERS
        partners = read(_permute(index, len(files), seed, epoch))
        for name, each in partners.items():
            examples[f"partner_{name}"] = each
    return examples


def exchanged_titles(num_records: int, seed: int) -> np.ndarray:
    """`[num_records]` int64: with `shuffle_titles`, whose title each gets."""
    numbers = tf.range(num_records, dtype=tf.int64)
    return _permute(numbers, num_records, seed, _TITLE_EXCHANGE).numpy()


def _parse_training_example(
    example: dict[str, tf.Tensor],
    *,
    seed: int,
    max_words: int,
    image_size: int,
    augmentation: str,
    min_crop_area: float,
    word_dropout: float,
    mixup: float,
) -> dict[str, tf.Tensor]:
    """One example as the training step gets it."""

    def seed_of(record: dict[str, tf.Tensor]) -> tf.Tensor:
        return images.augmentation_seed(
            seed, example["visit"], record["record_id"]
        )

    def image_of(
        record: dict[str, tf.Tensor], features: tf.Tensor | None
    ) -> tf.Tensor:
        if features is not None:
            return features
        return images.decode_for_training(
            record["image"],
            image_size,
            augmentation=augmentation,
            min_crop_area=min_crop_area,
            seed=seed_of(record),
        )

    record = tf.io.parse_single_example(
        example["example"], records.TRAINING_FEATURES
    )
    word_ids = record["word_ids"]
    if "title_example" in example:
        word_ids = tf.io.parse_single_example(
            example["title_example"], records.TRAINING_FEATURES
        )["word_ids"]
    parsed = {
        "image": image_of(record, example.get("features")),
        "title_ids": pad_word_ids(word_ids, max_words),
        "label": record["label"],
        "weight": example["weight"],
    }
    if word_dropout:
        kept = noise.drop_words(
            parsed["title_ids"], word_dropout, seed_of(record)
        )
        parsed["seen_title_ids"] = pad_word_ids(kept, max_words)
    if mixup:
        partner = tf.io.parse_single_example(
            example["partner_example"], records.EVALUATION_FEATURES
        )
        other = image_of(partner, example.get("partner_features"))
        share = noise.draw_own_share(mixup, seed_of(record))
        parsed["image"] = share * parsed["image"] + (1 - share) * other
        parsed |= {"partner_label": partner["label"], "own_share": share}
    return parsed


def make_views_dataset(
    files: RecordFiles,
    *,
    view: int,
    image_size: int,
    batch_size: int,
    augmentation: str,
    min_crop_area: float,
) -> tf.data.Dataset:
    """A view of every record in stored order, whatever the seed of a run.

    Returns:
        A dataset of `[b, image_size, image_size, 3]` float32 0 to 255.
    """

    def parse(example: tf.Tensor) -> tf.Tensor:
        record = tf.io.parse_single_example(example, records.TRAINING_FEATURES)
        return images.decode_for_training(
            record["image"],
            image_size,
            augmentation=augmentation,
            min_crop_area=min_crop_area,
            seed=images.augmentation_seed(
                0, tf.constant(view, tf.int64), record["record_id"]
            ),
        )

    dataset = tf.data.Dataset.range(len(files)).batch(batch_size)
    dataset = dataset.map(
        as_written(lambda index: _read_many(files, index))
    ).unbatch()
    dataset = dataset.map(
        as_written(parse), num_parallel_calls=tf.data.AUTOTUNE
    )
    return dataset.batch(batch_size).prefetch(tf.data.AUTOTUNE)


def make_evaluation_dataset(
    files: RecordFiles,
    *,
    image_size: int,
    batch_size: int,
    max_records: int = 0,
    features: np.ndarray | None = None,
    num_workers: int = 1,
    worker_index: int = 0,
) -> tf.data.Dataset:
    """Every record once, in stored order; no title is ever parsed.

    Args:
        files: the records, opened whole by every worker.
        batch_size: examples of a batch over all workers.
        max_records: stop after so many records; 0: all. Stored order is
            random, so the first records are a fair sample.
        features: `[len(files), 1, ...]` float32, taken for the images.
        num_workers: number of workers; each takes examples
            `worker_index::num_workers` of every batch.

    Returns:
        A dataset of dictionaries: `image` `[b, image_size, image_size, 3]`
        float32 0 to 255, `label` `[b]` int64, `record_id` and `sku_id`
        `[b]` string, `weight` `[b]` float32. With one worker the last batch
        may be smaller. Several take equally many batches and examples, b =
        `Schedule.examples_per_worker`; those that pad have weight 0.
    """
    num_records = len(files)
    if max_records:
        num_records = min(num_records, max_records)

    schedule = Schedule((num_records,), batch_size, num_workers)

    def read(step: tf.Tensor) -> dict[str, tf.Tensor]:
        index, weight = schedule.take(step, worker_index)
        examples = {"example": _read_many(files, index), "weight": weight}
        if features is not None:
            examples["features"] = _take(features, index, index * 0)
        return examples

    def parse(example: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        record = tf.io.parse_single_example(
            example["example"], records.EVALUATION_FEATURES
        )
        encoded = record.pop("image")
        if "features" in example:
            image = example["features"]
        else:
            image = images.resize_and_crop_center(
                images.decode_stored(encoded), image_size
            )
        return {**record, "image": image, "weight": example["weight"]}

    dataset = tf.data.Dataset.range(schedule.steps_per_epoch)
    dataset = dataset.map(as_written(read)).unbatch()
    if num_workers == 1:
        dataset = dataset.filter(
            as_written(lambda example: example["weight"] > 0)
        )
    dataset = dataset.map(
        as_written(parse), num_parallel_calls=tf.data.AUTOTUNE
    )
    dataset = dataset.batch(
        schedule.examples_per_worker, drop_remainder=num_workers > 1
    )
    return dataset.prefetch(tf.data.AUTOTUNE)


def pad_word_ids(word_ids: tf.Tensor, max_words: int) -> tf.Tensor:
    """The first known words: `[num_words]` ids to `[max_words]` int32.

    Words without an id (`PADDING_ID`) leave before the cut: they take no
    place from others. Shorter titles are padded.
    """
    known = tf.boolean_mask(word_ids, word_ids != records.PADDING_ID)
    word_ids = tf.cast(known[:max_words], tf.int32)
    padding = [[0, max_words - tf.shape(word_ids)[0]]]
    padded = tf.pad(word_ids, padding, constant_values=records.PADDING_ID)
    return tf.ensure_shape(padded, [max_words])


def _read_many(files: RecordFiles, indices: tf.Tensor) -> tf.Tensor:
    """`[n]` record numbers to `[n]` serialised examples."""
    examples = tf.numpy_function(files.read_many, [indices], tf.string)
    return tf.ensure_shape(examples, indices.shape)


def _take(features: np.ndarray, index: tf.Tensor, view: tf.Tensor) -> tf.Tensor:
    """`[n, ...]` float32, one view of each record."""
    taken = tf.numpy_function(
        lambda index, view: features[index, view], [index, view], tf.float32
    )
    return tf.ensure_shape(taken, [*index.shape, *features.shape[2:]])


def _permute(
    indices: tf.Tensor, size: int, seed: int, epoch: int | tf.Tensor
) -> tf.Tensor:
    """A permutation of 0 to size - 1 by (seed, epoch), without holding it."""
    return tf.random.experimental.index_shuffle(
        tf.cast(indices, tf.int64),
        seed=tf.stack([tf.cast(seed, tf.uint32), tf.cast(epoch, tf.uint32)]),
        max_index=tf.constant(size - 1, tf.int64),
    )
