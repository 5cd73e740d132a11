"""Training with several processes: the same curve, killed or resharded."""

import os
import pathlib
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import tensorflow as tf

from sicot_tf.checkpoints import step_folders
from sicot_tf.training import restoring
from sicot_tf.training import runs
from tests.helpers import tiny_road
from tests.helpers import worker_processes

# 32 records in batches of 8: 4 steps an epoch, 24 in all. Of the network,
# SmallCNN has no BatchNormalization, which follows the number of workers.
_FLAGS = (
    *(*tiny_road.TRAIN_FLAGS, "--checkpoint_steps", "3"),
    *("--classifier", "sharded", "--keep_checkpoints", "20"),
)


def _command(run_dir, *flags):
    return [
        *(sys.executable, "-m", "sicot_tf.train"),
        *("--dataset", str(tiny_road.generation())),
        *("--run_dir", str(run_dir), *_FLAGS, *flags),
    ]


def _train(run_dir, *flags):
    """Trains; what was logged."""
    return tiny_road.log_of_command(
        "sicot_tf.train", *_command(run_dir, *flags)[3:]
    )


def _losses(run_dir):
    rows = runs.read_curve(run_dir / "metrics.jsonl")
    return np.array([row["loss"] for row in rows if "loss" in row])


def _wait_for_step(process, run_dir, step):
    while process.poll() is None:
        rows = runs.read_curve(run_dir / "metrics.jsonl")
        if rows and rows[-1]["step"] >= step:
            return
        time.sleep(0.01)
    raise AssertionError(f"Training ended before step {step}.")


def _children(process):
    path = f"/proc/{process.pid}/task/{process.pid}/children"
    return [int(each) for each in pathlib.Path(path).read_text().split()]


class TrainWorkersTest(tf.test.TestCase):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.folder = tiny_road.generation().parent.parent / "train_workers"
        cls.whole = cls.folder / "whole"
        cls.log = _train(cls.whole, "--epochs", "6", "--num_workers", "2")

    def test_two_workers_train_like_one(self):
        """Breaks if the curve depends on how many work on it.

        Loss and validation of two processes, sharded, against one: every
        step within 1e-5.
        """
        self.assertIn("2 workers, sharded classifier", self.log)
        one = self.folder / "one"
        _train(one, "--epochs", "6")
        self.assertLen(_losses(self.whole), 24)
        self.assertAllClose(_losses(self.whole), _losses(one), rtol=1e-5)
        validated = [
            [row["val_top1"] for row in runs.read_curve(run / "metrics.jsonl")
             if "val_top1" in row]
            for run in (self.whole, one)
        ]  # fmt: skip
        self.assertLen(validated[0], 6)
        self.assertEqual(*validated)
        first, second = map(tiny_road.read_checkpoint, (self.whole, one))
        self.assertEqual(set(first), set(second))
        for name, value in first.items():
            self.assertAllClose(value, second[name], atol=1e-5, msg=name)

    def test_resharded_in_the_middle(self):
        """Breaks if a checkpoint of two workers is of use to two only.

        From step 12 three workers go on: 8 rows are 3 + 3 + 2, 8 classes
        3 + 3 + 2. Replicated, the classifier goes on as well.
        """
        for name, flags in (
            ("three", ("--num_workers", "3")),
            (
                "replicated",
                ("--num_workers", "2", "--classifier", "replicated"),
            ),
        ):
            run_dir = self.folder / name
            shutil.copytree(self.whole, run_dir)
            for folder in (run_dir / "checkpoints").glob("step-*"):
                if int(folder.name[5:]) > 12:
                    shutil.rmtree(folder)
            log = _train(run_dir, "--epochs", "6", *flags)
            self.assertIn("resumed at step 12", log)
            self.assertAllClose(
                _losses(run_dir), _losses(self.whole), rtol=1e-5
            )

    def test_two_kills(self):
        """Breaks if a lost worker costs more than time.

        SIGKILL of worker 1, then of the chief; the parent starts both again,
        and the curve and the weights come out the same, bit for bit.
        """
        run_dir = self.folder / "killed"
        process = subprocess.Popen(
            _command(run_dir, "--epochs", "6", "--num_workers", "2"),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        try:
            for victim, step in ((1, 5), (0, 14)):
                _wait_for_step(process, run_dir, step)
                os.kill(_children(process)[victim], signal.SIGKILL)
            output, _ = process.communicate(timeout=240)
        finally:
            process.kill()
        self.assertEqual(process.returncode, 0, msg=output)
        self.assertIn("resumed at step", output)
        self.assertEqual(
            (run_dir / "metrics.jsonl").read_text(),
            (self.whole / "metrics.jsonl").read_text(),
        )
        first, second = map(tiny_road.read_checkpoint, (self.whole, run_dir))
        for name, value in first.items():
            self.assertAllEqual(value, second[name], msg=name)

    def test_all_that_is_drawn_at_random(self):
        """Breaks if words left out, mixed pictures or dropped features depend
        on how many work, or on where a run was killed.

        Two workers against one within 1e-5; one that was killed against one
        that was not bit for bit. The attention of the LSTMs is read back.
        """
        flags = (
            *("--title_encoder", "bilstm_attention", "--word_dropout", "0.5"),
            *("--mixup", "0.4", "--dropout", "0.3", "--epochs", "2"),
            *("--distillation_weight", "0.5"),
        )
        one, two, killed = (
            self.folder / f"random_{name}" for name in ("one", "two", "killed")
        )
        _train(one, *flags)
        _train(two, *flags, "--num_workers", "2")
        self.assertLen(_losses(one), 8)
        self.assertAllClose(_losses(two), _losses(one), rtol=1e-5)
        process = subprocess.Popen(_command(killed, *flags))
        _wait_for_step(process, killed, 4)
        process.kill()
        process.wait()
        self.assertIn("resumed at step", _train(killed, *flags))
        self.assertEqual(
            (killed / "metrics.jsonl").read_text(),
            (one / "metrics.jsonl").read_text(),
        )
        first, second = map(tiny_road.read_checkpoint, (one, killed))
        for name, value in first.items():
            self.assertAllEqual(value, second[name], msg=name)
        self.assertTrue(any("lstm" in name for name in first))
        # In this process other layers were made before, or none.
        attention = restoring.restore_attention(runs.load(one))
        title = tf.constant([[1, 2, 0, 0, 0, 0, 0, 0]])
        weights = attention({"title_ids": title})
        self.assertAllClose(tf.reduce_sum(weights), 1.0)

    def test_sigterm_stops_all_together(self):
        """Breaks if a preempted machine loses work, or hangs the others.

        Two processes with TF_CONFIG, as on two machines; only the second one
        is asked to stop. Each reads its own files.
        """
        run_dir = self.folder / "terminated"
        addresses = worker_processes.free_addresses(2)
        workers = [
            subprocess.Popen(
                _command(run_dir, "--epochs", "50"),
                env=worker_processes.worker_environment(addresses, index),
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )
            for index in range(2)
        ]
        try:
            _wait_for_step(workers[0], run_dir, 2)
            workers[1].send_signal(signal.SIGTERM)
            outputs = [each.communicate(timeout=120)[0] for each in workers]
        finally:
            for each in workers:
                each.kill()
        self.assertEqual(
            [each.returncode for each in workers], [0, 0], msg=outputs
        )
        self.assertIn("the same command goes on", outputs[0])
        step = step_folders.latest_step(run_dir / "checkpoints")
        self.assertBetween(step, 2, 199)
        rows = runs.read_curve(run_dir / "metrics.jsonl")
        self.assertEqual(rows[-1]["step"], step)

    def test_more_products(self):
        """Breaks if a grown class list loses what was learned of the old.

        A run on all eight products starts from one that knew them in another
        generation; two workers share the rows.
        """
        run_dir = self.folder / "grown"
        log = _train(
            run_dir,
            *("--epochs", "1", "--num_workers", "2"),
            *("--init_from", str(self.whole)),
        )
        self.assertIn("classes: 8 from", log)
        # It starts where the other one ended, not at log(8) for each stream.
        self.assertLess(_losses(run_dir)[0], _losses(self.whole)[0] / 2)

    def test_order_by_files_needs_files(self):
        """Breaks if a worker without records of its own waits for ever, or
        if several workers tell one mistake several times."""
        with self.assertRaisesRegex(
            RuntimeError, r"exit 2\n\nerror: [^\n]*smaller --shard_m[^\n]*\n$"
        ):
            _train(
                self.folder / "files",
                *("--epochs", "1", "--num_workers", "2", "--order", "files"),
            )


if __name__ == "__main__":
    tf.test.main()
