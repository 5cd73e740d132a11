"""Order, weights, titles and damage of what training and evaluation read."""

import pathlib
import shutil

import numpy as np
import tensorflow as tf

from sicot_tf import files
from sicot_tf.data import annotations
from sicot_tf.data import dataset
from sicot_tf.data import records
from sicot_tf.data import tfrecords
from sicot_tf.data.record_sampling import RecordSampling
from sicot_tf.data.schedule import Schedule
from sicot_tf.data.schedule import num_steps_per_epoch
from tests.helpers import tiny_road


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


def _split_into_files(folder, counts):
    """A generation with the tiny road's training records in several files."""
    whole = dataset.RecordFiles(tiny_road.generation(), "train")
    manifest = {"splits": {"train": {"shards": {}}}, "files": {}}
    folder.mkdir()
    start = 0
    for number, count in enumerate(counts):
        stem = f"train-{number:05d}-of-{len(counts):05d}"
        path = folder / f"{stem}.tfrecord"
        examples = whole.read_many(np.arange(start, start + count))
        offsets = tfrecords.write(path, examples)
        np.save(path.with_suffix(".offsets.npy"), offsets)
        manifest["splits"]["train"]["shards"][stem] = count
        manifest["files"][path.name] = {"bytes": path.stat().st_size}
        start += count
    files.write_json(folder / "manifest.json", manifest)
    return folder


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
        steps = num_steps_per_epoch(32, 12)
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

        Row i of the global batch is row i // M of worker i % M; rows beyond
        it weigh nothing. 32 records by 12 end with a padded batch.
        """
        whole = _training(self.files, last_step=4)
        for workers in (2, 3, 7):
            parts = [
                _training(
                    self.files,
                    last_step=4,
                    num_workers=workers,
                    worker_index=worker,
                )
                for worker in range(workers)
            ]
            for step, batch in enumerate(whole):
                for name, expected in batch.items():
                    # [rows, workers, ...] in the order of the rows.
                    rows = np.stack([part[step][name] for part in parts], 1)
                    rows = rows.reshape(-1, *rows.shape[2:])
                    self.assertAllEqual(expected, rows[:12], msg=name)
                    if name == "weight":
                        self.assertAllEqual(rows[12:], 0 * rows[12:])

    def test_workers_with_their_own_files(self):
        """Breaks if an epoch repeats or forgets a record of some file.

        Files of 10, 0, 9, 8, 5 records: worker 0 of 2 has 10 + 8, worker 1
        9 + 5; by ceil(7 / 2) = 4 that is 5 steps for both.
        """
        folder = pathlib.Path(self.get_temp_dir()) / "several"
        _split_into_files(folder, (10, 0, 9, 8, 5))
        schedule = Schedule((18, 14), 7, 2)
        seen, totals = [], np.zeros(10)
        for worker, count in enumerate((18, 14)):
            files = dataset.RecordFiles(folder, "train", 2, worker)
            self.assertEqual(files.record_counts, (18, 14))
            arguments = {
                "global_batch_size": 7,
                "num_workers": 2,
                "worker_index": worker,
                "augmentation": "none",
            }
            batches = _training(files, **arguments)
            epochs = []
            for epoch in (batches[:5], batches[5:]):
                rows = [
                    batch["image"][i].tobytes()
                    for batch in epoch
                    for i in range(4)
                    if batch["weight"][i]
                ]
                self.assertLen(rows, count)
                self.assertLen(set(rows), count)
                epochs.append(rows)
            self.assertNotEqual(*epochs)
            self.assertEqual(*map(set, epochs))
            seen += epochs[0]
            totals += [each["weight"].sum() for each in batches]
            # A run goes on at any step.
            self._assert_equal(
                batches[7:], _training(files, first_step=7, **arguments)
            )
        self.assertLen(set(seen), 32)
        self.assertAllEqual(
            totals, [schedule.total_weight(step) for step in range(10)]
        )

    def test_other_workers_files_are_not_touched(self):
        """Breaks if a worker needs the files of the others on its disk."""
        folder = pathlib.Path(self.get_temp_dir()) / "own"
        _split_into_files(folder, (10, 9, 8, 5))
        for path in folder.glob("train-0000[02]*"):
            path.unlink()
        files = dataset.RecordFiles(folder, "train", 2, 1)
        self.assertLen(files, 14)
        expected = [*range(10, 19), *range(27, 32)]
        self.assertEqual(
            [files.read(i) for i in range(14)],
            [self.files.read(i) for i in expected],
        )
        with self.assertRaisesRegex(ValueError, "missing or cut"):
            dataset.RecordFiles(folder, "train", 2, 0)
        with self.assertRaisesRegex(ValueError, "those of worker 1 of 2"):
            _training(files, num_workers=2, worker_index=0)

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

    def test_sampled_records(self):
        """Breaks if a sampled run can't be resumed or shared exactly, begins
        in another epoch, or shows a record that is drawn again unchanged.

        3 steps an epoch; sampling begins with the second.
        """
        labels = annotations.read(self.files).labels
        sampling = {
            "sampling": RecordSampling.of_labels(
                labels, "balanced", seed=0, from_epoch=1
            )
        }
        plain = _training(self.files)
        whole = _training(self.files, **sampling)
        self._assert_equal(plain[:3], whole[:3])
        self._assert_equal(
            whole[5:], _training(self.files, first_step=5, **sampling)
        )
        parts = [
            _training(
                self.files, num_workers=2, worker_index=worker, **sampling
            )
            for worker in range(2)
        ]
        for step, batch in enumerate(whole):
            for name, expected in batch.items():
                rows = np.stack([part[step][name] for part in parts], 1)
                self.assertAllEqual(
                    expected, rows.reshape(-1, *rows.shape[2:]), msg=name
                )
        # Equally many steps, and the same places pad.
        self.assertAllEqual(
            *(
                np.concatenate([each["weight"] for each in batches])
                for batches in (plain, whole)
            )
        )
        # Of a class with a single record, no picture twice.
        rarest = int(np.argmin(np.bincount(labels)))
        pictures = [
            batch["image"][i].tobytes()
            for batch in whole[3:]
            for i in np.flatnonzero(batch["label"] == rarest)
        ]
        # 7 batches of 12, an eighth of them.
        self.assertGreater(len(pictures), 4)
        self.assertLen(set(pictures), len(pictures))

    def _titles(self, batches):
        """The titles of the first epoch, sorted."""
        return sorted(
            tuple(title)
            for batch in batches[:3]
            for title, weight in zip(batch["title_ids"], batch["weight"])
            if weight
        )

    def test_words_left_out(self):
        """Breaks if word dropout changes more than what the streams see."""
        plain = _training(self.files)
        found = _training(self.files, word_dropout=0.5)
        self._assert_equal(plain, found)
        fewer = 0
        for batch in found:
            for title, seen in zip(batch["title_ids"], batch["seen_title_ids"]):
                words = seen[seen != 0].tolist()
                # In their order, then padding; never none.
                self.assertAllEqual(seen[len(words) :], [0] * (8 - len(words)))
                self.assertGreaterEqual(len(words), 1)
                left = iter(title.tolist())
                self.assertTrue(all(word in left for word in words))
                fewer += len(words) < np.count_nonzero(title)
        self.assertGreater(fewer, 60)

    def test_mixup(self):
        """Breaks if a picture is mixed by other shares than its label, with
        itself alone, or with one picture more often than with others."""
        plain = _training(self.files)
        found = _training(self.files, mixup=1.0)
        for name in ("title_ids", "label", "weight"):
            self.assertAllEqual(
                np.stack([each[name] for each in plain]),
                np.stack([each[name] for each in found]),
            )
        # The pictures of the first epoch as they are.
        pictures = np.concatenate([each["image"] for each in plain[:3]])[:32]
        labels = np.concatenate([each["label"] for each in plain[:3]])[:32]
        mixed = {
            name: np.concatenate([each[name] for each in found[:3]])[:32]
            for name in found[0]
        }
        partners = []
        for row in range(32):
            share = mixed["own_share"][row]
            would_be = share * pictures[row] + (1 - share) * pictures
            errors = np.abs(would_be - mixed["image"][row]).max(axis=(1, 2, 3))
            partners.append(int(np.argmin(errors)))
            self.assertLess(errors[partners[-1]], 1e-3)
            self.assertEqual(mixed["partner_label"][row], labels[partners[-1]])
        self.assertEqual(sorted(partners), list(range(32)))
        # Of a random permutation one stays in place on average.
        self.assertLess(np.sum(np.array(partners) == np.arange(32)), 8)
        self.assertLen(set(mixed["own_share"].tolist()), 32)
        # Other partners in another epoch.
        self.assertNotAllEqual(
            np.stack([each["own_share"] for each in found[:3]]),
            np.stack([each["own_share"] for each in found[3:6]]),
        )

    def test_mixup_of_kept_features(self):
        """Breaks if a cached view is mixed with another record's picture.

        Record i has the feature i, so that a mixed one tells its partner.
        """
        features = np.arange(32, dtype=np.float32).reshape(32, 1, 1)
        plain = _training(self.files, features=features, last_step=3)
        found = _training(self.files, features=features, last_step=3, mixup=1.0)
        labels = [
            tf.io.parse_single_example(
                self.files.read(i), records.EVALUATION_FEATURES
            )["label"].numpy()
            for i in range(32)
        ]
        for batch, mixed in zip(plain, found):
            share = mixed["own_share"]
            partner = (mixed["image"] - share[:, None] * batch["image"])[:, 0]
            # A share near 1 leaves nothing of the partner.
            for row in np.flatnonzero(share < 0.99):
                index = partner[row] / (1 - share[row])
                self.assertAllClose(index, np.round(index), atol=0.01)
                label = labels[int(np.round(index))]
                self.assertEqual(mixed["partner_label"][row], label)

    def test_noise_is_shared_and_resumed(self):
        """Breaks if what is drawn for a record depends on who reads it."""
        settings = {"word_dropout": 0.5, "mixup": 0.4, "last_step": 4}
        whole = _training(self.files, **settings)
        self._assert_equal(
            whole[2:], _training(self.files, first_step=2, **settings)
        )
        parts = [
            _training(
                self.files, num_workers=2, worker_index=worker, **settings
            )
            for worker in range(2)
        ]
        for step, batch in enumerate(whole):
            for name, expected in batch.items():
                rows = np.stack([part[step][name] for part in parts], 1)
                self.assertAllEqual(
                    expected, rows.reshape(expected.shape), msg=name
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
        # Unknown words take no place: they leave before the cut.
        self.assertAllEqual(
            dataset.pad_word_ids(tf.constant([0, 5, 0, 6, 7, 8]), 3), [5, 6, 7]
        )

    def test_evaluation_reads_every_record_and_no_title(self):
        """Breaks if a record is lost, or text is parsed for evaluation."""
        files = dataset.RecordFiles(tiny_road.generation(), "test")
        batches = list(
            dataset.make_evaluation_dataset(files, image_size=16, batch_size=7)
        )
        self.assertEqual([len(each["label"]) for each in batches], [7, 7, 7, 3])
        self.assertEqual(
            set(batches[0]),
            {"image", "label", "record_id", "sku_id", "weight"},
        )
        self.assertAllEqual(batches[-1]["weight"], [1.0, 1.0, 1.0])
        expected = [
            tf.io.parse_single_example(
                files.read(i), records.EVALUATION_FEATURES
            )["record_id"].numpy()
            for i in range(24)
        ]
        found = [i for each in batches for i in each["record_id"].numpy()]
        self.assertEqual(found, expected)

    def test_workers_evaluate_every_record_once(self):
        """Breaks if a worker runs dry while others wait for it.

        10 records by 7 on 3 workers: 2 batches of 3 rows on each.
        """
        files = dataset.RecordFiles(tiny_road.generation(), "test")
        arguments = {"image_size": 16, "batch_size": 7, "max_records": 10}
        whole = list(dataset.make_evaluation_dataset(files, **arguments))
        expected = [i for each in whole for i in each["record_id"].numpy()]
        self.assertLen(expected, 10)
        found = []
        for worker in range(3):
            batches = dataset.make_evaluation_dataset(
                files, **arguments, num_workers=3, worker_index=worker
            )
            self.assertEqual(batches.element_spec["label"].shape, [3])
            self.assertLen(list(batches), 2)
            for number, batch in enumerate(batches):
                # Row i of a worker is row 3 i + worker of the batch.
                found += [
                    (7 * number + 3 * i + worker, batch["record_id"][i].numpy())
                    for i in range(3)
                    if batch["weight"][i]
                ]
        self.assertEqual(sorted(found), list(enumerate(expected)))

    def test_kind_errors(self):
        """Breaks if too few files or an empty split fail late."""
        with self.assertRaisesRegex(ValueError, "smaller --shard_megabytes"):
            dataset.RecordFiles(tiny_road.generation(), "train", 2, 0)
        folder = pathlib.Path(self.get_temp_dir()) / "cut"
        shutil.copytree(tiny_road.generation(), folder)
        manifest = dataset.read_manifest(folder)
        shards = manifest["splits"]["train"]["shards"]
        (name,) = shards
        (folder / f"{name}.tfrecord").write_bytes(b"")
        with self.assertRaisesRegex(ValueError, "missing or cut"):
            dataset.RecordFiles(folder, "train")
        shards.clear()
        files.write_json(folder / "manifest.json", manifest)
        empty = dataset.RecordFiles(folder, "train")
        with self.assertRaisesRegex(ValueError, "no training records"):
            _training(empty)
        batches = dataset.make_evaluation_dataset(
            empty, image_size=16, batch_size=7
        )
        self.assertEmpty(list(batches))


if __name__ == "__main__":
    tf.test.main()
