import pathlib

import numpy as np
import tensorflow as tf

from sicot_tf.data.schedule import Schedule
from sicot_tf.search_training import triplets
from tests.helpers import tiny_triplets

_NAMES = ("query_id", "positive_id", "negative_id")


class TripletsTest(tf.test.TestCase):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.folder = pathlib.Path(cls.get_temp_dir(cls())) / "g"
        tiny_triplets.write(cls.folder, 11)
        cls.files = triplets.open_training(cls.folder)

    def _batches(self, num_workers=1, worker_index=0, **changes):
        arguments = {
            "first_step": 0,
            "last_step": 6,
            "whole_size": 33,
            "min_crop_area": 0.8,
            "seed": 1,
            "shuffle_clicks": False,
        }
        return list(
            triplets.training_batches(
                self.files,
                Schedule((11,), 4, num_workers),
                worker_index=worker_index,
                **(arguments | changes),
            ).as_numpy_iterator()
        )

    def test_every_triplet_once_an_epoch(self):
        """Breaks if triplets are lost or weigh more: 11 in 3 steps of 4."""
        batches = self._batches()
        weights = np.concatenate([each["weight"] for each in batches[:3]])
        ids = np.concatenate([each["query_id"] for each in batches[:3]])
        self.assertEqual(weights[-1], 0)
        self.assertLen(set(ids[:11]), 11)
        # Weights are 1 and 2 in turn: 6 and 5 of them.
        self.assertEqual(weights.sum(), 16)

    def test_resumed_and_spread_it_is_the_same(self):
        """Breaks if a run that goes on, or two workers, see other pictures."""
        batches = self._batches()
        later = self._batches(first_step=4)
        self.assertAllEqual(
            batches[5]["negative/image"], later[1]["negative/image"]
        )
        halves = [self._batches(2, index)[1] for index in (0, 1)]
        for name, whole in batches[1].items():
            for index, half in enumerate(halves):
                self.assertAllEqual(whole[index::2], half[name], msg=name)

    def test_shuffled_clicks(self):
        """Breaks if the control keeps the clicks, or changes more than them."""
        plain = self._batches(last_step=3)
        control = self._batches(last_step=3, shuffle_clicks=True)
        found = {name: [[], []] for name in _NAMES}
        for place, batches in enumerate((plain, control)):
            for name in _NAMES:
                rows = np.concatenate([each[name] for each in batches])[:11]
                found[name][place] = list(rows)
        self.assertEqual(*found["query_id"])
        self.assertEqual(*found["negative_id"])
        self.assertNotEqual(*found["positive_id"])
        self.assertEqual(*map(sorted, found["positive_id"]))

    def test_cut_file(self):
        """Breaks if a file that was copied in part trains on what is left."""
        folder = pathlib.Path(self.get_temp_dir()) / "cut"
        tiny_triplets.write(folder, 4)
        path = sorted(folder.glob("train-*"))[0]
        path.write_bytes(path.read_bytes()[:-3])
        with self.assertRaisesRegex(ValueError, "its last one is cut"):
            triplets.open_training(folder)
