"""Sampling and second stages as whole runs: resumed, on two workers, served."""

import pathlib
import shutil

import keras
import numpy as np
import tensorflow as tf

from sicot_tf import train
from sicot_tf.checkpoints import step_folders
from sicot_tf.training import exporting
from sicot_tf.training import runs
from tests.helpers import tiny_road

# 32 records in batches of 8: 4 steps an epoch.
_FLAGS = (
    *(*tiny_road.TRAIN_FLAGS, "--checkpoint_steps", "3"),
    *("--keep_checkpoints", "20"),
)


def _flags(run_dir, *flags):
    return [
        *("--dataset", str(tiny_road.generation())),
        *("--run_dir", str(run_dir), *_FLAGS, *map(str, flags)),
    ]


def _train(run_dir, *flags):
    """Trains in this process, whose number of models must not matter."""
    keras.utils.clear_session()
    train.main(_flags(run_dir, *flags))
    return run_dir


def _cut(run_dir, copy, step):
    """A copy of a run, killed after the checkpoint of a step."""
    shutil.copytree(run_dir, copy)
    for folder in step_folders.in_order(copy / "checkpoints"):
        if step_folders.step_of(folder) > step:
            shutil.rmtree(folder)
    return copy


def _losses(run_dir):
    rows = runs.read_curve(run_dir / "metrics.jsonl")
    return np.array([row["loss"] for row in rows if "loss" in row])


class TrainLongTailTest(tf.test.TestCase):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.first = tiny_road.trained("cotrain")
        cls.before = tiny_road.read_checkpoint(cls.first)
        cls.folder = pathlib.Path(cls.first).parent.parent / "long_tail"
        stages = {
            name: (
                *("--second_stage", name, "--init_from", cls.first),
                *("--epochs", "2", "--label_aware_smoothing", "0.1"),
            )
            for name in ("crt", "lws")
        }
        cls.flags = stages["lws"]
        cls.crt = _train(cls.folder / "crt", *stages["crt"])
        cls.lws = _train(cls.folder / "lws", *stages["lws"])

    def _changed(self, run_dir):
        """Names of the weights of the first stage that are others now."""
        after = tiny_road.read_checkpoint(run_dir)
        return {
            name
            for name, value in self.before.items()
            # Not the optimizer's, which starts anew.
            if not name.startswith("sgd/")
            and not name.endswith("/momentum")
            and not np.array_equal(value, after[name])
        }

    def _assert_same_run(self, run_dir, whole):
        """Equal curves and weights, bit for bit."""
        self.assertEqual(
            (run_dir / "metrics.jsonl").read_text(),
            (whole / "metrics.jsonl").read_text(),
        )
        first, second = map(tiny_road.read_checkpoint, (whole, run_dir))
        self.assertEqual(set(first), set(second))
        for name, value in first.items():
            self.assertAllEqual(value, second[name], msg=name)

    def test_rows_start_anew(self):
        """Breaks if cRT changes the streams, or goes on with the old rows.

        Fresh rows know nothing: the first loss is that of chance, log(8), for
        each stream, within what random rows say of features.
        """
        self.assertEqual(
            self._changed(self.crt), {"classifier/kernel", "classifier/bias"}
        )
        self.assertGreater(_losses(self.crt)[0], 1.5 * _losses(self.lws)[0])
        self.assertAllClose(_losses(self.crt)[0] / 2, np.log(8), atol=0.7)

    def test_rows_keep_their_direction(self):
        """Breaks if LWS learns more than a positive length for each row."""
        self.assertEqual(self._changed(self.lws), {"classifier/kernel"})
        after = tiny_road.read_checkpoint(self.lws)
        kernel = self.before["classifier/kernel"]
        self.assertAllEqual(after["classifier/kernel/initial"], kernel)
        factors = np.sum(after["classifier/kernel"] * kernel, axis=1)
        factors /= np.sum(kernel * kernel, axis=1)
        self.assertAllClose(
            after["classifier/kernel"], factors[:, None] * kernel, atol=1e-6
        )
        self.assertNotAllClose(factors, np.ones(8), atol=1e-3)

    def test_killed(self):
        """Breaks if a second stage that was killed ends otherwise, or has to
        be told again what it started from."""
        killed = _cut(self.lws, self.folder / "killed", 3)
        _train(
            killed,
            *("--second_stage", "lws", "--epochs", "2"),
            *("--label_aware_smoothing", "0.1"),
        )
        self._assert_same_run(killed, self.lws)

    def test_two_workers(self):
        """Breaks if the curve depends on how many work on it, or on who has
        the class rows: sharded for 4 steps, then replicated from step 3."""
        run_dir = self.folder / "workers"
        workers = ("--num_workers", "2", "--classifier")
        log = tiny_road.log_of_command(
            "sicot_tf.train",
            *_flags(run_dir, *self.flags, *workers, "sharded"),
        )
        self.assertIn("sharded classifier", log)
        self.assertIn("balanced sampling", log)
        self.assertAllClose(_losses(run_dir), _losses(self.lws), rtol=1e-5)
        replicated = _cut(run_dir, self.folder / "replicated", 3)
        log = tiny_road.log_of_command(
            "sicot_tf.train",
            *_flags(replicated, *self.flags, *workers, "replicated"),
        )
        self.assertIn("resumed at step 3", log)
        self.assertAllClose(_losses(replicated), _losses(self.lws), rtol=1e-5)

    def test_deferred_sampling(self):
        """Breaks if deferred sampling begins early, late, or never, or is
        not resumed exactly."""
        plain_flags = ("--streams", "visual", "--epochs", "2")
        flags = (*plain_flags, "--sampling", "balanced")
        flags += ("--sampling_from_epoch", "1")
        deferred = _train(self.folder / "deferred", *flags)
        plain = _train(self.folder / "plain", *plain_flags)
        self.assertAllEqual(_losses(deferred)[:4], _losses(plain)[:4])
        self.assertNotAllClose(_losses(deferred)[4:], _losses(plain)[4:])
        killed = _cut(deferred, self.folder / "killed_deferred", 6)
        self._assert_same_run(_train(killed, *flags), deferred)

    def test_served(self):
        """Breaks if a second stage leaves less than a whole run."""
        directory = exporting.export(self.lws, self.folder / "exported")
        model = tf.saved_model.load(str(directory))
        self.assertIn("serving_default", model.signatures)

    def test_needs_a_first_stage(self):
        """Breaks if a classifier is trained on streams of chance."""
        with self.assertRaises(SystemExit) as raised:
            train.main(_flags(self.folder / "none", "--second_stage", "crt"))
        self.assertEqual(raised.exception.code, 2)


if __name__ == "__main__":
    tf.test.main()
