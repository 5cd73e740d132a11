"""An experiment of real processes, killed in the middle."""

import csv
import json
import os
import pathlib
import signal
import subprocess
import sys
import tempfile
import time

import numpy as np
import tensorflow as tf

from sicot_tf import experiment
from tests.helpers import mistakes
from tests.helpers import tiny_road

_FILE = """
baseline = "visual"
seeds = [3]
[train]
backbone = "SmallCNN"
backbone_weights = "none"
image_size = 32
max_words = 8
global_batch_size = 8
learning_rate = 0.05
epochs = 2
[arms.visual]
streams = "visual"
[arms.cotrain]
mixed_loss_weight = 1.0
[arms.broken]
streams = "visual"
backbone_weights = "nowhere.weights.h5"
"""


def _bytes(folder):
    """Contents and times of all files of a finished run."""
    return {
        path: (path.read_bytes(), path.stat().st_mtime_ns)
        for path in folder.rglob("*")
        if path.is_file()
    }


class ExperimentTest(tf.test.TestCase):
    def setUp(self):
        super().setUp()
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = pathlib.Path(folder.name)
        self.file = self.folder / "tiny.toml"
        self.file.write_text(_FILE)
        self.output = self.folder / "output"
        self.flags = [
            *(str(self.file), "--dataset", str(tiny_road.generation())),
            *("--output", str(self.output), "--num_processes", "2"),
        ]

    def _start(self):
        return subprocess.Popen(
            [sys.executable, "-m", "sicot_tf.experiment", *self.flags],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def _wait_for(self, process, pattern):
        """Until a file is there; the folders that have it."""
        deadline = time.monotonic() + 300
        while not (found := list(self.output.glob(pattern))):
            self.assertIsNone(process.poll(), msg="ended too early")
            self.assertLess(time.monotonic(), deadline, msg=pattern)
            time.sleep(0.05)
        return [path.parent for path in found]

    def test_killed_and_started_again(self):
        """Breaks if what was finished is repeated after a kill, a failed run
        takes the others along, the twin is missing, or the page.
        """
        process = self._start()
        # Its checkpoints of both epochs, 4 steps each, are there.
        self._wait_for(process, "runs/visual-seed3/checkpoints/step-00000008/*")
        self._wait_for(process, "runs/cotrain-seed3/config.json")
        os.kill(process.pid, signal.SIGKILL)
        process.communicate()
        time.sleep(0.5)  # Its jobs die with it, a moment later.
        before = _bytes(self.output / "runs" / "visual-seed3")

        process = self._start()
        out, log = process.communicate(timeout=600)
        # One arm has failed.
        self.assertEqual(process.returncode, 1, msg=log)
        self.assertIn("train broken-seed3 failed with exit code 2", log)
        self.assertIn("nowhere.weights.h5", log)
        self.assertIn("Failed: train broken-seed3", out)
        self.assertIn(f"Page: {self.output / 'index.html'}", out)
        after = _bytes(self.output / "runs" / "visual-seed3")
        for path, found in before.items():
            self.assertEqual(after[path], found, msg=path)

        # === What is there ===
        runs = self.output / "runs"
        for name, shuffled in (("cotrain", False), ("cotrain-shuffled", True)):
            found = json.loads((runs / f"{name}-seed3/config.json").read_text())
            self.assertEqual(found["train"]["shuffle_titles"], shuffled)
            self.assertEqual(found["train"]["seed"], 3)
        numbers = json.loads((self.output / "results.json").read_text())
        self.assertEqual(
            list(numbers["numbers"]),
            ["cotrain", "cotrain, shuffled titles", "visual"],
        )
        self.assertRegex(numbers["missing"][0], "^broken: its run of seed 3")
        predictions = np.load(
            runs / "visual-seed3/evaluation-test/predictions.npz"
        )
        # Three records of each class: the mean over classes is that over all.
        right = predictions["top_labels"][:, 0] == predictions["labels"]
        cell = numbers["numbers"]["visual"]["overall"]["top1"]["macro"]
        self.assertAllClose(cell["accuracy"]["value"], right.mean())
        with open(self.output / "table_2.csv", encoding="utf-8") as lines:
            rows = list(csv.DictReader(lines))
        self.assertEqual(
            [row["method"] for row in rows[-2:]], ["visual", "cotrain"]
        )
        self.assertEqual(rows[0]["gain"], "+1.01")

        self.assertTrue((runs / "cotrain-seed3/attention.html").exists())

        # === A changed arm is told before anything runs ===
        self.file.write_text(
            _FILE.replace("mixed_loss_weight = 1.0", "momentum = 0.5")
        )
        with mistakes.assert_told(self, "momentum: 0.9, now 0.5"):
            experiment.main(self.flags)


if __name__ == "__main__":
    tf.test.main()
