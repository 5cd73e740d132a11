"""What runs next, by literal folders of runs."""

import dataclasses
import json
import pathlib
import tempfile

import tensorflow as tf
from absl.testing import parameterized

from sicot_tf.experiments import experiment_file
from sicot_tf.experiments import planning
from sicot_tf.experiments.experiment_file import Arm
from sicot_tf.experiments.experiment_file import Experiment

_EXPERIMENTS = pathlib.Path(__file__).parents[3] / "experiments"
_GENERATION = pathlib.Path("dataset/0123456789ab")


class PlanningTest(tf.test.TestCase, parameterized.TestCase):
    def setUp(self):
        super().setUp()
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.output = pathlib.Path(folder.name)

    def _experiment(self, *members, choose_on="first"):
        return Experiment(
            name="sock",
            description="",
            dataset=pathlib.Path("dataset"),
            output=self.output,
            baseline="visual",
            seeds=(0, 1),
            train={"epochs": 2},
            choose_on=choose_on,
            arms={each.name: each for each in members},
        )

    def _train(self, run):
        """Leaves what a run of two epochs of five steps leaves."""
        run_dir = self.output / "runs" / run
        (run_dir / "checkpoints" / "step-00000010").mkdir(parents=True)
        (run_dir / "metrics.jsonl").write_text('{"step": 10, "epoch": 2.0}\n')
        return run_dir

    def _evaluate(self, run, folder, top1):
        folder = self.output / "runs" / run / folder
        folder.mkdir(parents=True)
        table = {"groups": {"overall": {"top1": {"macro": {"value": top1}}}}}
        text = json.dumps({"runs": {run: table}})
        (folder / "metrics.json").write_text(text)
        (folder / "report.html").write_text("")

    def _ready(self, experiment):
        plan = planning.make_plan(experiment, _GENERATION)
        return [job.name for job in plan.ready(set())]

    def test_twin_and_order(self):
        """Breaks if the twin is left out, or a test record is looked at before
        all is trained."""
        experiment = self._experiment(
            Arm("visual", {"streams": "visual"}), Arm("cotrain")
        )
        trainings = [
            f"{run}-seed{seed}"
            for run in ("visual", "cotrain", "cotrain-shuffled")
            for seed in (0, 1)
        ]
        self.assertEqual(
            self._ready(experiment), [f"train {run}" for run in trainings]
        )
        plan = planning.make_plan(experiment, _GENERATION)
        for job in plan.jobs.values():
            self.assertEqual(
                "--shuffle_titles" in job.command,
                job.name.startswith("train cotrain-shuffled"),
            )
        for run in trainings[:-1]:
            run_dir = self._train(run)
            (run_dir / "attention.html").write_text("")
        self.assertEqual(self._ready(experiment), [f"train {trainings[-1]}"])
        self._train(trainings[-1])
        self.assertEqual(
            self._ready(experiment), [f"test {run}" for run in trainings]
        )
        # Nothing but a failed training: the others are tested.
        plan = planning.make_plan(experiment, _GENERATION)
        self.assertLen(plan.ready({f"test {trainings[0]}"}), 5)

    @parameterized.parameters(
        ("first", "cotrain-0.3", [0.25, 0.5]),
        # (0.25 + 0.75) / 2 and (0.5 + 0.25) / 2.
        ("all", "cotrain-0.1", [0.5, 0.375]),
    )
    def test_choice(self, choose_on, expected, accuracies):
        """Breaks if a choice is not made on the validation records of the
        seeds it is to be made on, or another value is trained further."""
        experiment = self._experiment(
            Arm("visual", {"streams": "visual"}),
            Arm("cotrain", {"mixed_loss_weight": [0.1, 0.3]}),
            choose_on=choose_on,
        )
        plan = planning.make_plan(experiment, _GENERATION)
        self.assertEqual(plan.undecided, {"cotrain"})
        self.assertFalse(
            plan.jobs["train cotrain-0.1-shuffled-seed0"].is_certain
        )
        for run, top1 in (
            ("cotrain-0.1-seed0", 0.25),
            ("cotrain-0.1-seed1", 0.75),
            ("cotrain-0.3-seed0", 0.5),
            ("cotrain-0.3-seed1", 0.25),
        ):
            self._train(run)
            self._evaluate(run, "evaluation-val", top1)
            # What test records say has no say.
            self._evaluate(run, "evaluation-test", 1 - top1)
        plan = planning.make_plan(experiment, _GENERATION)
        self.assertEmpty(plan.undecided)
        self.assertEqual(plan.chosen["cotrain"].run, expected)
        self.assertEqual(plan.choices[0].accuracies, accuracies)
        trained = [name for name in plan.jobs if "shuffled-seed1" in name]
        self.assertEqual(
            trained,
            [f"{kind} {expected}-shuffled-seed1" for kind in ("train", "test")],
        )

    def test_equal_accuracies(self):
        """Breaks if a draw is decided by anything but the order."""
        experiment = self._experiment(
            Arm("visual", {"streams": "visual"}),
            Arm("after", of="visual", evaluate={"logit_adjustment": [1, 0.5]}),
        )
        for tau in ("1.0", "0.5"):
            self._evaluate(
                "visual-seed0", f"evaluation-val-logit_adjustment-{tau}", 0.5
            )
        plan = planning.make_plan(experiment, _GENERATION)
        self.assertEqual(plan.chosen["after"].evaluate, {"logit_adjustment": 1})
        # One training a seed serves both arms.
        self.assertEqual(
            [name for name in plan.jobs if name.startswith("train")],
            ["train visual-seed0", "train visual-seed1"],
        )

    def test_calibrate(self):
        """Breaks if test records are looked at before a run is calibrated."""
        experiment = dataclasses.replace(
            self._experiment(Arm("visual", {"streams": "visual"})),
            calibrate=True,
        )
        runs = [self._train(f"visual-seed{seed}") for seed in (0, 1)]
        self.assertEqual(
            self._ready(experiment),
            ["calibrate visual-seed0", "calibrate visual-seed1"],
        )
        for run_dir in runs:
            (run_dir / "calibration.json").write_text("")
        self.assertEqual(
            self._ready(experiment), ["test visual-seed0", "test visual-seed1"]
        )

    def test_init_from(self):
        """Breaks if a second stage begins before the first has ended, or from
        another seed."""
        experiment = self._experiment(
            Arm("visual", {"streams": "visual"}),
            Arm("later", {"streams": "visual"}, init_from="visual"),
        )
        self.assertNotIn("train later-seed1", self._ready(experiment))
        first = self._train("visual-seed1")
        self.assertIn("train later-seed1", self._ready(experiment))
        self.assertNotIn("train later-seed0", self._ready(experiment))
        job = planning.make_plan(experiment, _GENERATION).jobs[
            "train later-seed1"
        ]
        place = job.command.index("--init_from")
        self.assertEqual(job.command[place + 1], str(first))

    @parameterized.parameters(
        *sorted(path.name for path in _EXPERIMENTS.glob("*.toml"))
    )
    def test_files_of_this_project(self, name):
        """Breaks if a setting is renamed and a file still has the old one."""
        experiment = experiment_file.read(
            _EXPERIMENTS / name, output=self.output
        )
        plan = planning.make_plan(experiment, _GENERATION)
        for arm in plan.chosen.values():
            self.assertEqual(arm.reads_titles, arm.arm in plan.twins)
        self.assertNotEmpty(plan.twins)

    def test_baseline_reads_no_titles(self):
        """Breaks if gains are taken over a text method."""
        with self.assertRaisesRegex(ValueError, "'visual' reads titles"):
            planning.make_plan(self._experiment(Arm("visual")), _GENERATION)


if __name__ == "__main__":
    tf.test.main()
