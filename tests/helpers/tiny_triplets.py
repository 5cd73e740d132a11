"""Triplets of clicks on the pictures of `tiny_road`, as mining writes them."""

import json
import pathlib

import numpy as np
import tensorflow as tf

from sicot_tf.data import tfrecords
from tests.helpers import tiny_road


def picture(colour: str, shape: str, seed: int) -> bytes:
    """A PNG of 48 x 32 pixels: the product in a random corner, noise beside."""
    rng = np.random.default_rng(seed)
    pixels = rng.integers(200, 256, size=(32, 48, 3)).astype(np.uint8)
    object_ = np.array(tiny_road.draw(colour, shape, seed).resize((20, 20)))
    top, left = rng.integers(0, 12), rng.integers(0, 28)
    pixels[top : top + 20, left : left + 20] = object_
    return tf.io.encode_png(pixels).numpy()


def write(folder: pathlib.Path, num_train: int, num_val: int = 8) -> None:
    """A generation; of each triplet's products one was clicked."""
    folder.mkdir(parents=True)
    products = [(c, s) for c in tiny_road.COLOURS for s in tiny_road.SHAPES]
    rng = np.random.default_rng(0)
    for split, number in (("train", num_train), ("val", num_val)):
        examples = []
        for index in range(number):
            clicked, other = rng.choice(len(products), 2, replace=False)
            seed = 10_000 * (split == "val") + 3 * index
            values = {
                "query_id": f"{split}-{index}".encode(),
                "positive_id": str(clicked).encode(),
                "negative_id": str(other).encode(),
                "query/encoded": picture(*products[clicked], seed),
                "positive/encoded": picture(*products[clicked], seed + 1),
                "negative/encoded": picture(*products[other], seed + 2),
                "negative_kind": b"shown",
            }
            feature = {
                name: tf.train.Feature(
                    bytes_list=tf.train.BytesList(value=[value])
                )
                for name, value in values.items()
            }
            feature["weight"] = tf.train.Feature(
                float_list=tf.train.FloatList(value=[1.0 + index % 2])
            )
            example = tf.train.Example(
                features=tf.train.Features(feature=feature)
            )
            examples.append(example.SerializeToString())
        # Two shards, as a job writes several.
        for shard in (0, 1):
            path = folder / f"{split}-{shard:05d}-of-00002.tfrecord"
            tfrecords.write(path, examples[shard::2])
    (folder / "manifest.json").write_text(json.dumps({"files": {}}))
