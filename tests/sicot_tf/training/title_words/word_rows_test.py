"""Rows from words as processes: two workers, resumed, folded, grown."""

import json
import shutil

import numpy as np
import tensorflow as tf

from sicot_tf.data import dataset
from sicot_tf.model import sicot
from sicot_tf.training import restoring
from sicot_tf.training import runs
from tests.helpers import tiny_road

# 32 records in batches of 8: 4 steps an epoch.
_FLAGS = (
    *(*tiny_road.TRAIN_FLAGS, "--checkpoint_steps", "4"),
    *("--word_rows_scale", "0.3", "--classifier", "sharded", "--epochs", "2"),
)


def _train(run_dir, *flags, generation=None):
    """Trains; what was logged."""
    return tiny_road.log_of_command(
        "sicot_tf.train",
        *("--dataset", generation or tiny_road.generation()),
        *("--run_dir", run_dir, *_FLAGS, *flags),
    )


def _losses(run_dir):
    rows = runs.read_curve(run_dir / "metrics.jsonl")
    return np.array([row["loss"] for row in rows if "loss" in row])


def _initial_rows():
    """Class rows as they start, from words or not."""
    return sicot.build_classifier(8, 128).kernels[0].numpy()


class WordRowsTest(tf.test.TestCase):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.folder = tiny_road.generation().parent.parent / "word_rows"
        cls.one = cls.folder / "one"
        _train(cls.one)

    def half_done(self, name):
        """A copy of the run as it was after four of its eight steps."""
        run_dir = self.folder / name
        shutil.copytree(self.one, run_dir)
        shutil.rmtree(run_dir / "checkpoints" / "step-00000008")
        return run_dir

    def test_two_workers_train_like_one(self):
        """Breaks if a worker's words are not those of its classes."""
        two = self.folder / "two"
        log = _train(two, "--num_workers", "2")
        self.assertIn("2 workers, sharded classifier", log)
        self.assertAllClose(_losses(two), _losses(self.one), rtol=1e-5)
        first, second = map(tiny_road.read_checkpoint, (self.one, two))
        self.assertEqual(set(first), set(second))
        for name, value in first.items():
            self.assertAllClose(value, second[name], atol=1e-5, msg=name)
        self.check_fold(two)

    def test_resumed(self):
        """Breaks if a run that goes on differs: alone bit for bit, replicated
        on two workers within 1e-5."""
        resumed = self.half_done("resumed")
        self.assertIn("resumed at step 4", _train(resumed))
        self.assertEqual(
            (resumed / "metrics.jsonl").read_text(),
            (self.one / "metrics.jsonl").read_text(),
        )
        first, second = map(tiny_road.read_checkpoint, (self.one, resumed))
        for name, value in first.items():
            self.assertAllEqual(value, second[name], msg=name)
        replicated = self.half_done("replicated")
        _train(
            replicated, *("--num_workers", "2", "--classifier", "replicated")
        )
        self.assertAllClose(_losses(replicated), _losses(self.one), rtol=1e-5)

    def test_fold(self):
        """Breaks if what is evaluated and served scores otherwise."""
        self.check_fold(self.one)

    def check_fold(self, run_dir):
        stream, classifier, _ = restoring.restore_visual(runs.load(run_dir))
        stored = tiny_road.read_checkpoint(run_dir)
        images = np.random.default_rng(0).uniform(0, 255, [4, 32, 32, 3])
        x_v = stream({"image": tf.constant(images, tf.float32)}).numpy()
        words = x_v @ stored["word_rows/kernel"]
        by_words = 0.3 * words @ stored["classifier/fixed"].T
        scores = x_v @ stored["classifier/kernel"].T + by_words
        scores += stored["classifier/bias"]
        self.assertAllClose(classifier(x_v), scores, 1e-5, 1e-5)
        self.assertGreater(np.abs(by_words).max(), 0.01)
        self.assertLen(classifier.weights, 2)

    def test_new_classes_start_from_their_words(self):
        """Breaks if a new class has no part of what its words have learned.

        The last class has another name, and word2vec found the same vectors
        again, turned: with the old vectors its part is what it was. Nothing
        moves without learning rate and momentum.
        """
        generation = self.folder / "dataset" / tiny_road.generation().name
        shutil.copytree(tiny_road.generation(), generation)
        classes = dataset.read_classes(generation / "classes.jsonl")
        classes[7]["sku_id"] = "new"
        (generation / "classes.jsonl").write_text(
            "".join(json.dumps(each) + "\n" for each in classes)
        )
        vectors = np.load(generation / "word_vectors.npy")
        turn, _ = np.linalg.qr(np.random.default_rng(0).normal(size=[16, 16]))
        np.save(
            generation / "word_vectors.npy", (vectors @ turn).astype("float32")
        )
        run_dir = self.folder / "grown"
        log = _train(
            run_dir,
            *("--learning_rate", "0", "--momentum", "0", "--epochs", "1"),
            *("--init_from", self.one),
            generation=generation,
        )
        self.assertIn("classes: 7 from", log)
        before, after = map(tiny_road.read_checkpoint, (self.one, run_dir))
        for name in ("word_rows/kernel", "classifier/fixed"):
            self.assertAllClose(after[name], before[name], 1e-5, 1e-5)
        self.assertGreater(np.abs(after["classifier/fixed"][7]).max(), 0.1)
        self.assertAllEqual(
            after["classifier/kernel"][:7], before["classifier/kernel"][:7]
        )
        self.assertAllEqual(after["classifier/kernel"][7], _initial_rows()[7])
        self.assertAllClose(
            np.load(run_dir / "word_vectors.npy")[1:], vectors[1:]
        )

    def test_another_kind(self):
        """Breaks if free rows start from what lacks its words' part."""
        with self.assertRaisesRegex(
            RuntimeError, r"exit 2\n\nerror: [^\n]*a scale above 0, or neither"
        ):
            _train(
                self.folder / "free",
                *("--word_rows_scale", "0", "--init_from", self.one),
            )


if __name__ == "__main__":
    tf.test.main()
