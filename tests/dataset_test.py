"""Order, weights, titles and damage of what training and evaluation read."""

import pathlib
import shutil

import numpy as np
import tensorflow as tf
import tiny_road

from sicot_tf import config
from sicot_tf.data import dataset
from sicot_tf.data import records


def _training(files, **overrides):
    arguments = {
        "first_step": 0,
        "last_step": 10,
        "global_batch_size": 12,
        "seed": 0,
        "image_size": 16,
        "max_words": 8,
        "augmentation": "crop_flip",
        "min_crop_area": 0.5,
        **overrides,
    }
    batches = dataset.make_training_dataset(files, **arguments)
    return [tf.nest.map_structure(np.array, batch) for batch in batches]


class DatasetTest(tf.test.TestCase):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.files = dataset.RecordFiles(tiny_road.generation(), "train")

    def _assert_equal(self, first, second):
        self.assertLen(second, len(first))
        for one, other in zip(first, second):
            for name in one:
                self.assertAllEqual(one[name], other[name], msg=name)

    def test_random_access_equals_reading_in_order(self):
        """Breaks if offsets point anywhere but at records."""
        paths = sorted(tiny_road.generation().glob("train-*.tfrecord"))
        in_order = [
            each.numpy()
            for each in tf.data.TFRecordDataset([str(path) for path in paths])
        ]
        self.assertLen(self.files, 32)
        self.assertEqual(
            in_order, [self.files.read(i) for i in range(len(self.files))]
        )

    def test_a_damaged_record_is_an_error(self):
        """Breaks if flipped bits are trained on."""
        copy = pathlib.Path(self.get_temp_dir()) / "damaged"
        shutil.copytree(tiny_road.generation(), copy)
        shard = next(copy.glob("train-*.tfrecord"))
        content = bytearray(shard.read_bytes())
        content[100] ^= 1
        shard.write_bytes(content)
        with self.assertRaisesRegex(ValueError, "Record 0 .* is damaged"):
            dataset.RecordFiles(copy, "train").read(0)

    def test_every_record_once_an_epoch(self):
        """Breaks if an epoch repeats or forgets a record.

        32 records in batches of 12 are 3 steps; 4 rows pad the last one.
        """
        steps = dataset.num_steps_per_epoch(32, 12)
        self.assertEqual(steps, 3)
        for epoch in (0, 1):
            batches = _training(
                self.files,
                first_step=epoch * steps,
                last_step=(epoch + 1) * steps,
                augmentation="none",
            )
            rows = {
                batch["image"][i].tobytes()
                for batch in batches
                for i in range(12)
                if batch["weight"][i]
            }
            self.assertLen(rows, 32)
            weights = np.concatenate([each["weight"] for each in batches])
            self.assertAllEqual(weights, [1.0] * 32 + [0.0] * 4)

    def test_order_is_a_function_of_seed_and_step(self):
        """Breaks if a resumed run sees other batches."""
        whole = _training(self.files)
        self._assert_equal(whole, _training(self.files))
        self._assert_equal(whole[7:], _training(self.files, first_step=7))
        other = _training(self.files, seed=1)
        self.assertNotAllEqual(
            np.stack([each["label"] for each in whole]),
            np.stack([each["label"] for each in other]),
        )
        # Epochs differ too: steps 0 to 2 against steps 3 to 5.
        self.assertNotAllEqual(
            np.stack([each["label"] for each in whole[:3]]),
            np.stack([each["label"] for each in whole[3:6]]),
        )

    def test_workers_share_the_global_batch(self):
        """Breaks if the batch depends on the number of workers.

        Worker r takes rows r::3.
        """
        whole = _training(self.files)
        for worker in range(3):
            part = _training(self.files, num_shards=3, shard_index=worker)
            for step in range(10):
                for name in whole[step]:
                    self.assertAllEqual(
                        whole[step][name][worker::3], part[step][name]
                    )

    def test_shuffled_titles_change_titles_alone(self):
        """Breaks if the control differs in more than its titles."""
        plain = _training(self.files)
        shuffled = _training(self.files, shuffle_titles=True)
        for name in ("image", "label", "weight"):
            self.assertAllEqual(
                np.stack([each[name] for each in plain]),
                np.stack([each[name] for each in shuffled]),
            )
        different = [
            np.any(a != b)
            for one, other in zip(plain, shuffled)
            for a, b in zip(one["title_ids"], other["title_ids"])
        ]
        self.assertGreater(np.mean(different), 0.5)
        # The same titles, each as often, on other pictures.
        self.assertEqual(self._titles(plain), self._titles(shuffled))

    def _titles(self, batches):
        """The titles of the first epoch, sorted."""
        return sorted(
            tuple(title)
            for batch in batches[:3]
            for title, weight in zip(batch["title_ids"], batch["weight"])
            if weight
        )

    def test_padding_of_word_ids(self):
        """Breaks if titles are cut or padded in the wrong place."""
        self.assertAllEqual(
            dataset.pad_word_ids(tf.constant([5, 6, 7]), 5), [5, 6, 7, 0, 0]
        )
        self.assertAllEqual(
            dataset.pad_word_ids(tf.constant([5, 6, 7]), 2), [5, 6]
        )
        self.assertAllEqual(
            dataset.pad_word_ids(tf.constant([], tf.int64), 2), [0, 0]
        )

    def test_evaluation_reads_every_record_and_no_title(self):
        """Breaks if a record is lost, or text is parsed for evaluation."""
        files = dataset.RecordFiles(tiny_road.generation(), "test")
        batches = list(
            dataset.make_evaluation_dataset(files, image_size=16, batch_size=7)
        )
        self.assertEqual([len(each["label"]) for each in batches], [7, 7, 7, 3])
        self.assertEqual(
            set(batches[0]), {"image", "label", "record_id", "sku_id"}
        )
        expected = [
            tf.io.parse_single_example(
                files.read(i), records.EVALUATION_FEATURES
            )["record_id"].numpy()
            for i in range(24)
        ]
        found = [i for each in batches for i in each["record_id"].numpy()]
        self.assertEqual(found, expected)

    def test_kind_errors(self):
        """Breaks if a wrong batch size or an empty split fails late."""
        with self.assertRaisesRegex(ValueError, "multiple of 5"):
            _training(self.files, num_shards=5)
        folder = pathlib.Path(self.get_temp_dir()) / "cut"
        shutil.copytree(tiny_road.generation(), folder)
        manifest = dataset.read_manifest(folder)
        shards = manifest["splits"]["train"]["shards"]
        (name,) = shards
        (folder / f"{name}.tfrecord").write_bytes(b"")
        with self.assertRaisesRegex(ValueError, "missing or cut"):
            dataset.RecordFiles(folder, "train")
        shards.clear()
        config.write_json(folder / "manifest.json", manifest)
        empty = dataset.RecordFiles(folder, "train")
        with self.assertRaisesRegex(ValueError, "no training records"):
            _training(empty)


if __name__ == "__main__":
    tf.test.main()
