"""Dataset generations to batches, in an order that depends on nothing else.

The records of a global batch are a function of (seed, epoch, step), so a run
resumes at any step without reading what came before, and any number of
workers can take their rows of the same batch. This needs random access:
`RecordFiles` reads a record by its number through the offsets that the Beam
job writes beside every shard.
"""

import json
import pathlib
from typing import Any

import numpy as np
import tensorflow as tf

from sicot_tf import config
from sicot_tf.data import generations
from sicot_tf.data import images
from sicot_tf.data import records
from sicot_tf.data import tfrecords

# Stands where the epoch stands when titles are exchanged; never an epoch.
_TITLE_EXCHANGE = 2**32 - 1


class RecordFiles:
    """The TFRecord shards of one split, read by record number.

    Args:
        generation: folder of a dataset generation.
        split: `train`, `val` or `test`.

    Raises:
        ValueError: if a shard is missing or its size is not the manifest's.
    """

    def __init__(self, generation: pathlib.Path, split: str):
        self.generation = generation
        self.split = split
        self._shards: list[np.memmap] = []
        self._offsets: list[np.ndarray] = []
        manifest = read_manifest(generation)
        for name, count in sorted(manifest["splits"][split]["shards"].items()):
            path = generation / f"{name}.tfrecord"
            size = manifest["files"][path.name]["bytes"]
            if not path.exists() or path.stat().st_size != size:
                raise ValueError(
                    f"Expected {path} with {size:,} bytes, as its manifest "
                    "says; it is missing or cut. Copy the generation again, "
                    "or remove it and build it again."
                )
            if count:
                self._shards.append(np.memmap(path, np.uint8, mode="r"))
                self._offsets.append(np.load(path.with_suffix(".offsets.npy")))
        # Number of the first record of each shard.
        self._starts = np.cumsum([0] + [len(each) for each in self._offsets])

    def __len__(self) -> int:
        return int(self._starts[-1])

    def read(self, index: int) -> bytes:
        """The serialised example with this number, its checksum verified."""
        shard = int(np.searchsorted(self._starts, index, side="right")) - 1
        start = int(self._offsets[shard][index - self._starts[shard]])
        try:
            return tfrecords.read(self._shards[shard], start)
        except ValueError as error:
            raise ValueError(
                f"Record {index} of split {self.split} in {self.generation} "
                "is damaged. Copy the generation again, or remove it and "
                "build it again."
            ) from error

    def read_many(self, indices: np.ndarray) -> np.ndarray:
        """Serialised examples as an array of bytes, in the order asked for."""
        return np.array([self.read(int(i)) for i in indices], dtype=object)


def read_manifest(generation: pathlib.Path) -> dict[str, Any]:
    """The manifest of a dataset generation."""
    return config.read_json(generation / generations.MANIFEST)


def read_classes(path: pathlib.Path) -> list[dict[str, Any]]:
    """The rows of a `classes.jsonl`, in the order of their labels."""
    with open(path, encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


def num_steps_per_epoch(num_records: int, global_batch_size: int) -> int:
    """Steps that see every record once; the last batch may hold padding."""
    return -(-num_records // global_batch_size)


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
    num_shards: int = 1,
    shard_index: int = 0,
) -> tf.data.Dataset:
    """One batch for each step from `first_step` up to, not with, `last_step`.

    Every worker takes rows `shard_index::num_shards` of the global batch.
    Rows that pad the last batch of an epoch have weight 0.

    Args:
        files: the training records.
        shuffle_titles: gives every picture the title of another record (a
            fixed permutation), the control of a co-training run.

    Returns:
        A dataset of dictionaries, b = global_batch_size / num_shards:
        `image` `[b, image_size, image_size, 3]` float32 0 to 255,
        `title_ids` `[b, max_words]` int32 (0 is padding),
        `label` `[b]` int64, `weight` `[b]` float32.

    Raises:
        ValueError: if there are no records, or the batch does not divide.
    """
    num_records = len(files)
    if not num_records:
        raise ValueError(
            f"{files.generation} holds no training records; see its "
            "rejects.jsonl for the reasons."
        )
    if global_batch_size % num_shards:
        raise ValueError(
            f"The global batch of {global_batch_size} rows can't be divided "
            f"among {num_shards} workers; choose a multiple of {num_shards}."
        )
    steps_per_epoch = num_steps_per_epoch(num_records, global_batch_size)
    rows = np.arange(shard_index, global_batch_size, num_shards)

    def choose_records(step: tf.Tensor) -> dict[str, tf.Tensor]:
        epoch, step_in_epoch = step // steps_per_epoch, step % steps_per_epoch
        position = step_in_epoch * global_batch_size + rows
        index = _permute(position % num_records, num_records, seed, epoch)
        return {
            "index": index,
            "weight": tf.cast(position < num_records, tf.float32),
            "epoch": tf.fill([len(rows)], epoch),
        }

    def read(row: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        index = row.pop("index")
        row["example"] = _read_many(files, index)
        if shuffle_titles:
            other = _permute(index, num_records, seed, _TITLE_EXCHANGE)
            row["title_example"] = _read_many(files, other)
        return row

    def parse(row: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        record = tf.io.parse_single_example(
            row["example"], records.TRAINING_FEATURES
        )
        word_ids = record["word_ids"]
        if shuffle_titles:
            word_ids = tf.io.parse_single_example(
                row["title_example"], records.TRAINING_FEATURES
            )["word_ids"]
        return {
            "image": images.decode_for_training(
                record["image"],
                image_size,
                augmentation=augmentation,
                min_crop_area=min_crop_area,
                seed=images.augmentation_seed(
                    seed, row["epoch"], record["record_id"]
                ),
            ),
            "title_ids": pad_word_ids(word_ids, max_words),
            "label": record["label"],
            "weight": row["weight"],
        }

    dataset = tf.data.Dataset.range(first_step, last_step)
    dataset = dataset.map(choose_records)
    # One Python call a batch; the parsing below runs in parallel without it.
    dataset = dataset.map(read).unbatch()
    dataset = dataset.map(parse, num_parallel_calls=tf.data.AUTOTUNE)
    dataset = dataset.batch(len(rows), drop_remainder=True)
    return dataset.prefetch(tf.data.AUTOTUNE)


def make_evaluation_dataset(
    files: RecordFiles,
    *,
    image_size: int,
    batch_size: int,
    max_records: int = 0,
) -> tf.data.Dataset:
    """Every record once, in stored order; no title is ever parsed.

    Args:
        max_records: stop after so many records; 0: all. Stored order is
            random, so the first records are a fair sample.

    Returns:
        A dataset of dictionaries: `image` `[b, image_size, image_size, 3]`
        float32 0 to 255, `label` `[b]` int64, `record_id` and `sku_id`
        `[b]` string. The last batch may be smaller.
    """
    num_records = len(files)
    if max_records:
        num_records = min(num_records, max_records)

    def parse(example: tf.Tensor) -> dict[str, tf.Tensor]:
        record = tf.io.parse_single_example(
            example, records.EVALUATION_FEATURES
        )
        encoded = record.pop("image")
        image = images.decode_for_inference(encoded, image_size)
        return {**record, "image": image}

    dataset = tf.data.Dataset.range(num_records).batch(batch_size)
    dataset = dataset.map(lambda index: _read_many(files, index)).unbatch()
    dataset = dataset.map(parse, num_parallel_calls=tf.data.AUTOTUNE)
    return dataset.batch(batch_size).prefetch(tf.data.AUTOTUNE)


def pad_word_ids(word_ids: tf.Tensor, max_words: int) -> tf.Tensor:
    """`[num_words]` ids, cut or padded with 0 to `[max_words]` int32."""
    word_ids = tf.cast(word_ids[:max_words], tf.int32)
    padding = [[0, max_words - tf.shape(word_ids)[0]]]
    padded = tf.pad(word_ids, padding, constant_values=records.PADDING_ID)
    return tf.ensure_shape(padded, [max_words])


def _read_many(files: RecordFiles, indices: tf.Tensor) -> tf.Tensor:
    """`[n]` record numbers to `[n]` serialised examples."""
    examples = tf.numpy_function(files.read_many, [indices], tf.string)
    return tf.ensure_shape(examples, indices.shape)


def _permute(
    indices: tf.Tensor, size: int, seed: int, epoch: int | tf.Tensor
) -> tf.Tensor:
    """A permutation of 0 to size - 1 by (seed, epoch), without holding it."""
    return tf.random.experimental.index_shuffle(
        tf.cast(indices, tf.int64),
        seed=tf.stack([tf.cast(seed, tf.uint32), tf.cast(epoch, tf.uint32)]),
        max_index=tf.constant(size - 1, tf.int64),
    )
