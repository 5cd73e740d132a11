"""What is told before anything runs; real processes: experiment_test.py."""

import json
import pathlib
import tempfile

import tensorflow as tf

from sicot_tf import config
from sicot_tf import files
from sicot_tf.experiments import planning
from sicot_tf.experiments import runner
from sicot_tf.experiments.experiment_file import Arm
from sicot_tf.experiments.experiment_file import Experiment


class RunnerTest(tf.test.TestCase):
    def setUp(self):
        super().setUp()
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.output = pathlib.Path(folder.name)
        self.experiment = Experiment(
            name="sock",
            description="",
            dataset=pathlib.Path("dataset"),
            output=self.output,
            baseline="visual",
            seeds=(0, 1),
            train={"epochs": 2, "streams": "visual"},
            choose_on="first",
            arms={
                "visual": Arm("visual"),
                "later": Arm("later", init_from="visual"),
            },
        )

    def _plan(self):
        return planning.make_plan(
            self.experiment, pathlib.Path("dataset/0123456789ab")
        )

    def _train(self, run, seed, start):
        run_dir = self.output / "runs" / run
        (run_dir / "checkpoints" / "step-00000010").mkdir(parents=True)
        (run_dir / "metrics.jsonl").write_text('{"step": 10, "epoch": 2.0}\n')
        presets = config.PRESETS["demo"]
        text = json.dumps(
            {
                "model": presets["ModelConfig"] | {"streams": "visual"},
                "train": presets["TrainConfig"] | {"epochs": 2, "seed": seed},
                "dataset": {"generation": "0123456789ab"},
            }
        )
        (run_dir / "config.json").write_text(text)
        (run_dir / "experiment.json").write_text(f'{{"init_from": "{start}"}}')

    def test_check(self):
        """Breaks if a run of other settings, or from another start, is shown
        as the arm's."""
        self._train("visual-seed0", 0, "")
        self._train("later-seed0", 0, "visual-seed0")
        runner.check(self.experiment, self._plan(), "0123456789ab")
        with self.assertRaisesRegex(ValueError, "visual-seed0 \\(generation: "):
            runner.check(self.experiment, self._plan(), "another")
        self._train("later-seed1", 1, "elsewhere-seed1")
        with self.assertRaisesRegex(
            ValueError,
            "later-seed1 \\(init_from: 'elsewhere-seed1', now 'visual-seed1'",
        ):
            runner.check(self.experiment, self._plan(), "0123456789ab")

    def test_preview(self):
        """Breaks if the list leaves out a job, or the estimate is not that of
        the missing ones.

        Of 8 jobs 7 are missing: 3 trainings at 600 s, as the finished one
        took, are 30 minutes, by two processes 15.
        """
        self._train("visual-seed0", 0, "")
        files.write_json(
            self.output / "seconds.json", {"train visual-seed0": 600.0}
        )
        lines = list(runner.preview(self.experiment, self._plan(), 2))
        self.assertLen(lines, 8 + 1)
        self.assertEqual(
            lines[0].split(None, 1), ["done", "train visual-seed0"]
        )
        self.assertEqual(lines[1].split(None, 1), ["runs", "test visual-seed0"])
        self.assertEqual(
            lines[-1],
            "8 jobs, 7 to run; about 15 minutes with --num_processes 2, by "
            "those that are finished; 4 of a kind that has not run yet.",
        )


if __name__ == "__main__":
    tf.test.main()
