"""Labels and words of all training records, as training itself sees them."""

import numpy as np
import tensorflow as tf

from sicot_tf.data import annotations
from sicot_tf.data import dataset
from tests.helpers import tiny_road


class AnnotationsTest(tf.test.TestCase):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.files = dataset.RecordFiles(tiny_road.generation(), "train")
        cls.read = annotations.read(cls.files)

    def _titles_of_training(self, shuffle_titles):
        """Labels and titles of one epoch, sorted."""
        batches = dataset.make_training_dataset(
            self.files,
            **{"first_step": 0, "last_step": 1, "global_batch_size": 32},
            **{"seed": 3, "image_size": 16, "max_words": 8},
            **{"augmentation": "none", "min_crop_area": 1.0},
            shuffle_titles=shuffle_titles,
        )
        batch = next(iter(batches))
        return sorted(
            (int(label), [int(each) for each in title if each])
            for label, title in zip(batch["label"], batch["title_ids"])
        )

    def _titles(self, found):
        return sorted(
            (int(label), found.word_ids[start:stop].tolist())
            for label, start, stop in zip(
                found.labels, found.starts, found.starts[1:]
            )
        )

    def test_every_title_with_its_label(self):
        """Breaks if words move to a neighbouring record."""
        self.assertEqual(
            self._titles(self.read), self._titles_of_training(False)
        )

    def test_shuffled_titles_are_those_of_the_control(self):
        """Breaks if a control's targets are made of the right titles."""
        self.assertEqual(
            self._titles(annotations.shuffled(self.read, seed=3)),
            self._titles_of_training(True),
        )

    def test_records_of_words(self):
        """Breaks if empty titles are forgotten.

        Titles of 2, 0 and 1 words.
        """
        found = annotations.Annotations(
            np.array([5, 6, 7]), np.array([1, 2, 3]), np.array([0, 2, 2, 3])
        )
        self.assertAllEqual(found.records_of_words, [0, 0, 2])
