"""Triplets of clicks, from their TFRecords to batches.

The triplets of a step are a function of (seed, epoch, step), as the records
of `data.dataset` are: a run resumes at any step, on any number of workers.
"""

import functools
import pathlib
import struct

import numpy as np
import tensorflow as tf

from sicot_tf import files
from sicot_tf.data import generations
from sicot_tf.data import images
from sicot_tf.data import tfrecords
from sicot_tf.data.dataset import as_written
from sicot_tf.data.schedule import Schedule

PICTURES = ("query", "positive", "negative")
_IDS = ("query_id", "positive_id", "negative_id")
_FEATURES = {
    **{name: tf.io.FixedLenFeature([], tf.string) for name in _IDS},
    **{
        f"{name}/encoded": tf.io.FixedLenFeature([], tf.string)
        for name in PICTURES
    },
    "weight": tf.io.FixedLenFeature([], tf.float32),
}
# Length and two checksums around the data of a record.
_FRAME_BYTES = 16
# The "epoch" of the permutation that exchanges clicks; no run gets there.
_CLICK_EXCHANGE = 2**31
# Brightness and contrast of a picture vary by so much.
_BRIGHTNESS, _CONTRAST = 20.0, 0.15


class TripletFiles:
    """The triplets of one split of a generation, read by their number.

    Raises:
        ValueError: if there are none, or a file is cut.
    """

    def __init__(self, generation: pathlib.Path, split: str):
        self.generation = generation
        self._contents: list[np.memmap] = []
        places = []
        described = files.read_json(generation / generations.MANIFEST)
        sizes = described.get("files", {})
        for path in sorted(generation.glob(f"{split}-*.tfrecord")):
            if path.name in sizes:
                generations.check_size(path, sizes[path.name]["bytes"])
            if not path.stat().st_size:
                continue
            content = np.memmap(path, np.uint8, mode="r")
            for offset in _offsets(content, path):
                places.append((len(self._contents), offset))
            self._contents.append(content)
        self._places = np.array(places, np.int64).reshape(-1, 2)

    def __len__(self) -> int:
        return len(self._places)

    def read_many(self, indices: np.ndarray) -> np.ndarray:
        """Serialised examples as an array of bytes, in the order asked for."""
        places = self._places[indices]
        return np.array(
            [
                tfrecords.read(self._contents[file], int(offset))
                for file, offset in places
            ],
            dtype=object,
        )


def _offsets(content: np.memmap, path: pathlib.Path) -> list[int]:
    """Where the records of a file start."""
    offsets, offset = [], 0
    while offset < len(content):
        offsets.append(offset)
        header = content[offset : offset + 8].tobytes()
        offset += _FRAME_BYTES
        if len(header) == 8:
            offset += struct.unpack("<Q", header)[0]
        if len(header) < 8 or offset > len(content):
            raise ValueError(
                f"Expected whole triplets in {path}, its last one is cut. "
                "Copy the generation again, or mine the clicks again."
            )
    return offsets


def open_training(generation: pathlib.Path) -> TripletFiles:
    """The triplets to train on; ValueError if there are none."""
    found = TripletFiles(generation, "train")
    if not len(found):
        raise ValueError(
            f"Expected train-*.tfrecord with triplets in {generation}, found "
            "none. Mine clicks: python -m beam_jobs.mine_clicks --help"
        )
    return found


def training_batches(
    triplets: TripletFiles,
    schedule: Schedule,
    *,
    first_step: int,
    last_step: int,
    worker_index: int,
    whole_size: int,
    min_crop_area: float,
    seed: int,
    shuffle_clicks: bool,
) -> tf.data.Dataset:
    """One batch a step: this worker's triplets.

    Args:
        shuffle_clicks: positives are those of another triplet.

    Returns:
        Dictionaries, b = `schedule.examples_per_worker`: for each of
        `PICTURES` `<name>/image` `[b, whole_size, whole_size, 3]` and
        `<name>/extents` `[b, 2]` float32; `query_id`, `positive_id`,
        `negative_id` `[b]` int64, hashes; `weight` `[b]` float32, 0 for
        triplets that pad.
    """
    others = _permutation(len(triplets), seed, _CLICK_EXCHANGE)

    def read(
        position: np.ndarray, epoch: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        order = _permutation(len(triplets), seed, int(epoch))
        index = order[position]
        clicked = others[index] if shuffle_clicks else index
        return triplets.read_many(index), triplets.read_many(clicked)

    def choose(step: tf.Tensor) -> dict[str, tf.Tensor]:
        position, is_real = schedule.take(step, worker_index)
        epoch = step // schedule.steps_per_epoch
        example, clicked = tf.numpy_function(
            read, [position, epoch], [tf.string, tf.string]
        )
        shape = [schedule.examples_per_worker]
        return {
            "example": tf.ensure_shape(example, shape),
            "clicked": tf.ensure_shape(clicked, shape),
            "is_real": is_real,
            "epoch": tf.fill(shape, epoch),
        }

    def parse(chosen: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        example = tf.io.parse_single_example(chosen["example"], _FEATURES)
        clicked = tf.io.parse_single_example(chosen["clicked"], _FEATURES)
        for name in ("positive_id", "positive/encoded", "weight"):
            example[name] = clicked[name]
        batch = {
            name: tf.strings.to_hash_bucket_fast(example[name], 2**62)
            for name in _IDS
        }
        batch["weight"] = example["weight"] * chosen["is_real"]
        for name in PICTURES:
            # The same picture is another view in each triplet.
            key = tf.strings.join(
                [name, example["query_id"], example[f"{name}_id"]], "|"
            )
            image, extents = _augmented(
                example[f"{name}/encoded"],
                whole_size,
                min_crop_area,
                images.augmentation_seed(seed, chosen["epoch"], key),
            )
            batch[f"{name}/image"], batch[f"{name}/extents"] = image, extents
        return batch

    dataset = tf.data.Dataset.range(first_step, last_step)
    dataset = dataset.map(as_written(choose)).unbatch()
    dataset = dataset.map(as_written(parse), tf.data.AUTOTUNE)
    dataset = dataset.batch(schedule.examples_per_worker, drop_remainder=True)
    return dataset.prefetch(2)


def plain_pictures(
    triplets: TripletFiles, whole_size: int, max_triplets: int
) -> tuple[tf.data.Dataset, np.ndarray, np.ndarray]:
    """Queries and clicked products of the first triplets, as they are.

    Returns:
        A dataset of `image` and `extents`, first the query of each triplet,
        then its product; and the ids of both, `[num_triplets]` bytes.
    """
    examples = triplets.read_many(np.arange(min(len(triplets), max_triplets)))
    parsed = tf.io.parse_example(list(examples), _FEATURES)
    encoded = tf.concat(
        [parsed["query/encoded"], parsed["positive/encoded"]], axis=0
    )
    dataset = tf.data.Dataset.from_tensor_slices(encoded).map(
        as_written(
            lambda each: dict(
                zip(
                    ("image", "extents"),
                    images.fit_whole(images.decode_stored(each), whole_size),
                )
            )
        ),
        tf.data.AUTOTUNE,
    )
    return dataset, parsed["query_id"].numpy(), parsed["positive_id"].numpy()


@functools.lru_cache(3)
def _permutation(number: int, seed: int, epoch: int) -> np.ndarray:
    return np.random.default_rng([seed, epoch]).permutation(number)


def _augmented(
    encoded: tf.Tensor, whole_size: int, min_crop_area: float, seed: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor]:
    """A window of a picture, perhaps mirrored, a little lighter or darker."""
    seeds = tf.unstack(tf.random.experimental.stateless_split(seed, 3))
    image = images.decode_stored(encoded)
    begin, size, _ = tf.image.stateless_sample_distorted_bounding_box(
        tf.shape(image),
        bounding_boxes=tf.constant([[[0.0, 0.0, 1.0, 1.0]]]),
        seed=seeds[0],
        min_object_covered=0.0,
        aspect_ratio_range=(0.5, 2.0),
        area_range=(min_crop_area, 1.0),
        max_attempts=10,
    )
    image = tf.slice(image, begin, size)
    image, extents = images.fit_whole(image, whole_size)
    lighter, stronger, mirrored = tf.unstack(
        tf.random.stateless_uniform([3], seeds[1], -1, 1)
    )
    mean = tf.reduce_mean(image)
    image = mean + (image - mean) * (1 + _CONTRAST * stronger)
    image = tf.clip_by_value(image + _BRIGHTNESS * lighter, 0.0, 255.0)
    # Padding has to stay at the right: only the picture's columns turn.
    last = tf.cast(tf.round(extents[1] * whole_size), tf.int32) - 1
    columns = tf.range(whole_size)
    turned = tf.maximum(last - columns, 0)
    columns = tf.where(mirrored > 0, turned, columns)
    return tf.gather(image, columns, axis=1), extents
