"""What is known of all records is what the batches hold."""

import dataclasses

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


if __name__ == "__main__":
    tf.test.main()
