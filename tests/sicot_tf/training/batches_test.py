"""What is known of all records is what the batches hold."""

import dataclasses
import json
import os
from unittest import mock

import numpy as np
import tensorflow as tf

from sicot_tf import config
from sicot_tf.training.batches import Batches
from tests.helpers import tiny_road

_MODEL = dataclasses.replace(
    config.ModelConfig(), streams="visual", image_size=16, max_words=8
)
_TRAIN = dataclasses.replace(
    config.TrainConfig(), epochs=1, global_batch_size=32
)


def _open(shuffle_titles):
    return Batches.open(
        tiny_road.generation(),
        _MODEL,
        dataclasses.replace(_TRAIN, shuffle_titles=shuffle_titles),
    )


class AnnotationsTest(tf.test.TestCase):
    def test_titles_of_the_batches(self):
        """Breaks if a control predicts the words of the right titles, or if
        the batches of the visual stream have none."""
        titles = []
        for shuffle_titles in (False, True):
            batches = _open(shuffle_titles)
            batch = next(iter(batches.training(0)))
            annotations = batches.annotations
            titles.append(
                sorted(
                    (label, *title)
                    for label, title in zip(
                        annotations.labels,
                        np.split(
                            annotations.word_ids, annotations.starts[1:-1]
                        ),
                    )
                )
            )
            self.assertEqual(
                titles[-1],
                sorted(
                    (label, *title[title > 0])
                    for label, title in zip(
                        batch["label"].numpy(), batch["title_ids"].numpy()
                    )
                ),
            )
        self.assertNotEqual(*titles)


class WantedTest(tf.test.TestCase):
    def test_own_files(self):
        """Breaks if a worker of --order files copies what others read."""
        shards = {"train": {"train-a": 5, "train-b": 0, "train-c": 3}}
        shards["val"] = {"val-a": 2}
        manifest = {
            "splits": {name: {"shards": each} for name, each in shards.items()}
        }
        addresses = ["127.0.0.1:1", "127.0.0.1:2"]
        second = {
            "cluster": {"worker": addresses},
            "task": {"type": "worker", "index": 1},
        }
        with mock.patch.dict(os.environ, {"TF_CONFIG": json.dumps(second)}):
            files, exact = (
                Batches.wanted(dataclasses.replace(_TRAIN, order=order))
                for order in ("files", "exact")
            )
            found = files(manifest), exact(manifest)
        # Of the files that are not empty, the second.
        own, others = {"train-c.tfrecord"}, {"train-a.tfrecord"}
        self.assertEqual(
            [
                {name for name in each if name.endswith(".tfrecord")}
                for each in found
            ],
            [own | {"val-a.tfrecord"}, own | others | {"val-a.tfrecord"}],
        )
        self.assertIn("train-c.offsets.npy", found[0])
        self.assertIn("classes.jsonl", found[0])


if __name__ == "__main__":
    tf.test.main()
