"""Training as processes: the same curve again, killed or not."""

import pathlib
import random
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import tensorflow as tf

from sicot_tf.checkpoints import checkpoints
from sicot_tf.checkpoints import step_folders
from sicot_tf.training import runs
from tests.helpers import tiny_road

# 32 records in batches of 8: 4 steps an epoch, 24 in all.
_FLAGS = (*tiny_road.TRAIN_FLAGS, "--epochs", "6", "--checkpoint_steps", "3")


def _command(run_dir, *flags):
    return [
        *(sys.executable, "-m", "sicot_tf.train"),
        *("--dataset", str(tiny_road.generation())),
        *("--run_dir", str(run_dir), *_FLAGS, *flags),
    ]


def _wait_for_step(process, run_dir, step):
    """Waits until the curve of a run has reached a step."""
    while process.poll() is None:
        rows = runs.read_curve(run_dir / "metrics.jsonl")
        if rows and rows[-1]["step"] >= step:
            return
        time.sleep(0.01)
    raise AssertionError(f"Training ended before step {step}.")


class TrainTest(tf.test.TestCase):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.folder = pathlib.Path(tiny_road.generation()).parent.parent
        cls.whole = cls.folder / "train_test" / "whole"
        cls.printed = tiny_road.run_command(
            "sicot_tf.train", *_command(cls.whole)[3:]
        )

    def _copy(self, name):
        copy = self.folder / "train_test" / name
        shutil.copytree(self.whole, copy)
        return copy

    def _assert_same_run(self, run_dir):
        """Equal curves and weights, bit for bit."""
        self.assertEqual(
            (run_dir / "metrics.jsonl").read_text(),
            (self.whole / "metrics.jsonl").read_text(),
        )
        first, second = (
            tiny_road.read_checkpoint(each) for each in (self.whole, run_dir)
        )
        self.assertEqual(set(first), set(second))
        for name, value in first.items():
            self.assertAllEqual(value, second[name], msg=name)

    def test_results_alone_are_printed(self):
        """Breaks if a script has to look for results among messages."""
        self.assertRegex(
            self.printed,
            r"\ARun: .*/whole \(.*\)\nNext: python -m sicot_tf.evaluate .*\n\Z",
        )

    def test_the_curve(self):
        """Breaks if steps are lost, or nothing is learned."""
        rows = runs.read_curve(self.whole / "metrics.jsonl")
        steps = [row["step"] for row in rows if "loss" in row]
        self.assertEqual(steps, list(range(1, 25)))
        validated = [row["epoch"] for row in rows if "val_top1" in row]
        self.assertEqual(validated, [1.0, 2.0, 3.0, 4.0, 5.0, 6.0])
        losses = [row["loss_visual"] for row in rows if "loss" in row]
        self.assertLess(np.mean(losses[-4:]), np.mean(losses[:4]))
        self.assertIn("attention_entropy", rows[0])

    def test_killed_at_three_random_steps(self):
        """Breaks if a resumed run differs from an uninterrupted one.

        SIGKILL at any moment; the same command goes on.
        """
        run_dir = self.folder / "train_test" / "killed"
        kills = sorted(random.Random(0).sample(range(4, 22), 3))
        for step in kills:
            process = subprocess.Popen(
                _command(run_dir), stderr=subprocess.DEVNULL
            )
            _wait_for_step(process, run_dir, step)
            process.kill()
            process.wait()
        log = tiny_road.log_of_command("sicot_tf.train", *_command(run_dir)[3:])
        self.assertIn("resumed at step", log)
        self._assert_same_run(run_dir)

    def test_sigterm_saves_and_exits_with_zero(self):
        """Breaks if a preempted machine loses work."""
        run_dir = self.folder / "train_test" / "terminated"
        process = subprocess.Popen(_command(run_dir), stderr=subprocess.PIPE)
        _wait_for_step(process, run_dir, 2)
        process.send_signal(signal.SIGTERM)
        self.assertEqual(process.wait(), 0, msg=process.stderr.read())
        process.stderr.close()
        step = int(checkpoints.restore_variables(run_dir / "checkpoints", []))
        self.assertBetween(step, 2, 23)
        tiny_road.run_command("sicot_tf.train", *_command(run_dir)[3:])
        self._assert_same_run(run_dir)

    def test_a_finished_run_is_left_alone(self):
        """Breaks if running twice trains twice, or if TensorFlow says at
        every start what nobody can act on."""
        run_dir = self._copy("finished")
        before = (run_dir / "metrics.jsonl").read_bytes()
        log = tiny_road.log_of_command("sicot_tf.train", *_command(run_dir)[3:])
        self.assertRegex(log, r"\A[\d:]{8} INFO Already trained, .* 24\.\n\Z")
        self.assertEqual((run_dir / "metrics.jsonl").read_bytes(), before)

    def test_other_settings_need_another_folder(self):
        """Breaks if a run goes on with settings it was not made with."""
        run_dir = self._copy("other")
        with self.assertRaisesRegex(
            RuntimeError, "mixed_loss_weight: 1.0, now 0.5"
        ):
            tiny_road.run_command(
                "sicot_tf.train",
                *_command(run_dir, "--lambda", "0.5")[3:],
            )

    def test_a_loss_that_is_not_finite_ends_the_run(self):
        """Breaks if a diverged run goes on, or saves what it became."""
        run_dir = self.folder / "train_test" / "diverged"
        with self.assertRaisesRegex(RuntimeError, "lower --learning_rate"):
            tiny_road.run_command(
                "sicot_tf.train",
                *_command(run_dir, "--learning_rate", "1e30")[3:],
            )
        self.assertIsNone(step_folders.latest_step(run_dir / "checkpoints"))
        rows = runs.read_curve(run_dir / "metrics.jsonl")
        self.assertTrue(rows[-1]["skipped"])

    def test_options_work_in_training(self):
        """Breaks if a setting builds a model that can't be trained."""
        run_dir = self.folder / "train_test" / "options"
        options = (
            *("--dtype_policy", "mixed_bfloat16", "--attention_rank", "4"),
            *("--attention_activation", "sigmoid_norm", "--neck_dim", "16"),
            *("--no-train_word_vectors", "--shuffle_titles"),
            *("--warmup_epochs", "1", "--augmentation", "crop_flip"),
            *("--backbone_learning_rate_factor", "0.5"),
            *("--optimizer", "adamw", "--clip_norm", "1"),
            *("--label_smoothing", "0.1", "--logit_adjustment", "1"),
            *("--logit_memory", "0"),
        )
        tiny_road.run_command(
            "sicot_tf.train",
            *_command(run_dir, *options, "--epochs", "1")[3:],
        )
        rows = runs.read_curve(run_dir / "metrics.jsonl")
        # Warm-up over 4 steps to 0.05.
        self.assertAllClose(
            [row["learning_rate"] for row in rows if "loss" in row],
            [0.0125, 0.025, 0.0375, 0.05],
        )

    def test_config_beside_the_run(self):
        """Breaks if a run can't say what it was made from."""
        run = runs.load(self.whole)
        self.assertEqual(run.model.backbone, "SmallCNN")
        self.assertEqual(run.train.checkpoint_steps, 3)
        self.assertEqual(run.dataset["generation"], tiny_road.generation().name)
        self.assertLen(run.classes, 8)
        events = list((self.whole / "logs").iterdir())
        self.assertLen(events, 1)
        with self.assertRaisesRegex(ValueError, "no config.json"):
            runs.load(self.folder)


if __name__ == "__main__":
    tf.test.main()
