"""What an experiment leaves, from literal predictions."""

import csv
import json
import pathlib
import tempfile

import numpy as np
import tensorflow as tf

from sicot_tf.experiments import planning
from sicot_tf.experiments import report
from sicot_tf.experiments.experiment_file import Arm
from sicot_tf.experiments.experiment_file import Experiment
from tests.helpers import html_pages

_NUM_CLASSES = 24
# Two test records of each class.
_LABELS = np.repeat(np.arange(_NUM_CLASSES), 2)
# Classes whose records are all recognised: of the baseline half, of the arm
# all, of its twin three quarters.
_RIGHT = {"visual": 12, "cotrain": 24, "cotrain-shuffled": 18, "worse": 6}


class ReportTest(tf.test.TestCase):
    def setUp(self):
        super().setUp()
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = pathlib.Path(folder.name)
        generation = self.folder / "0123456789ab"
        generation.mkdir()
        classes = [
            {
                "sku_id": str(label),
                "sku_name": f"{html_pages.ATTACK}{label}",
                "train": 9 if label % 2 else 2,
                "head": bool(label % 2),
            }
            for label in range(_NUM_CLASSES)
        ]
        text = "".join(f"{json.dumps(each)}\n" for each in classes)
        (generation / "classes.jsonl").write_text(text)
        manifest = {
            "vocabulary_size": 7,
            "long_tail": {"head_threshold": 5},
            "splits": {"train": {"records": 132}, "test": {"records": 48}},
        }
        (generation / "manifest.json").write_text(json.dumps(manifest))
        self.generation = generation
        self.experiment = Experiment(
            name="sock",
            description=html_pages.ATTACK,
            dataset=generation,
            output=self.folder / "output",
            baseline="visual",
            seeds=(0, 1),
            train={},
            choose_on="first",
            arms={
                "visual": Arm("visual", {"streams": "visual"}),
                "cotrain": Arm("cotrain"),
                "worse": Arm("worse", {"streams": "visual", "momentum": 0.5}),
            },
        )
        for run, num_right in _RIGHT.items():
            for seed in (0, 1):
                self._evaluate(f"{run}-seed{seed}", num_right)

    def _evaluate(self, run, num_right):
        right = _LABELS < num_right
        best = np.where(right, _LABELS, (_LABELS + 1) % _NUM_CLASSES)
        others = [(_LABELS + more) % _NUM_CLASSES for more in (2, 3)]
        folder = self.experiment.output / "runs" / run / "evaluation-test"
        folder.mkdir(parents=True)
        np.savez(
            folder / "predictions.npz",
            labels=_LABELS,
            record_ids=np.array([f"r{each}" for each in range(48)]),
            top_labels=np.stack([best, *others], axis=-1),
        )
        (folder / "metrics.json").write_text('{"calibration": null}')
        (folder / "report.html").write_text("")

    def _write(self):
        plan = planning.make_plan(self.experiment, self.generation)
        return report.write(self.experiment, plan, self.generation)

    def _table(self, name):
        path = self.experiment.output / f"{name}.csv"
        with path.open(encoding="utf-8") as lines:
            return list(csv.DictReader(lines))

    def test_tables_and_page(self):
        """Breaks if a number stands in the wrong cell, a name becomes markup,
        or a finding says more than the numbers do.

        Top-1 is 50 %, 100 % and for the twin 75 %: a gain of 50 points, half
        of which survives. Head and tail are every other class.
        """
        page = self._write().read_text("utf-8")
        *_, visual, cotrain, worse = self._table("table_2")
        self.assertStartsWith(visual["top-1"], "50.0 [")
        self.assertEqual(visual["gain"], "-")
        self.assertEqual(cotrain["top-1"], "100.0 [100.0, 100.0]")
        self.assertStartsWith(cotrain["gain"], "+50.00 [+")
        self.assertStartsWith(cotrain["gain of its control"], "+25.00 [")
        self.assertStartsWith(cotrain["gain over its control"], "+25.00 [")
        self.assertStartsWith(cotrain["survives"], "50 % [")
        self.assertStartsWith(worse["gain"], "-25.00 [")
        self.assertEqual(worse["gain over its control"], "-")
        tail = self._table("table_4")[-2]
        self.assertStartsWith(tail["tail: gain"], "+50.00 [")
        self.assertStartsWith(tail["head: top-1"], "100.0 [")
        own = self._table("table_1")[-1]
        self.assertEqual(
            list(own.values()), ["sock", "24", "132", "48", "7", "5", "50.0 %"]
        )
        rows = self._table("table_3")
        self.assertEqual(
            [row["arm"] for row in rows],
            ["visual", "no arm", "no arm", "no arm", "cotrain"],
        )
        # The baseline takes class 12 for 13 and so on.
        mistake = self._table("confusions")[0]
        self.assertEndsWith(mistake["true class"], "12")
        self.assertEqual(
            [mistake[name] for name in ("visual", "cotrain", "worse")],
            ["100 %", "0 %", "100 %"],
        )
        markdown = (self.experiment.output / "tables.md").read_text("utf-8")
        self.assertIn(
            "| co-training, Alibaba 1M (paper) | 88.25 to 90.25 |", markdown
        )
        # === The page ===
        # The description, and both classes of each of the mistakes.
        num_mistakes = len(self._table("confusions"))
        html_pages.assert_harmless(self, page, times=1 + 2 * num_mistakes)
        for finding in (
            "cotrain: better than visual, +50.00 [",
            "so titles teach something here",
            "worse: worse than visual, -25.00 [",
        ):
            self.assertTrue(finding in page, msg=finding)
        # Long tail, gains, accuracy by class size.
        self.assertEqual(page.count('src="data:image/svg'), 3)

    def test_calibration_and_attention(self):
        """Breaks if what a run has is left out."""
        run_dir = self.experiment.output / "runs" / "worse-seed1"
        (run_dir / "attention.html").write_text("")
        sure = {"value": 0.95, "low": 0.9, "high": 1.0}
        none = dict.fromkeys(("value", "low", "high"))
        calibration = {
            "temperature": 1.5,
            "threshold": 0.0,
            "wanted_precision": 0.95,
            "errors": {"equal_width": {"before": sure, "after": none}},
            "groups": {"overall": {"precision": none, "coverage": sure}},
        }
        path = run_dir / "evaluation-test" / "metrics.json"
        path.write_text(json.dumps({"calibration": calibration}))
        page = self._write().read_text("utf-8")
        self.assertTrue('href="runs/worse-seed1/attention.html"' in page)
        (row,) = self._table("calibration")
        self.assertEqual(
            list(row.values()),
            ["worse", "1", "1.5", "95.0 [90.0, 100.0]", "-", "-", "95.0 %"]
            + ["-", "95.0 [90.0, 100.0]"],
        )

    def test_incomplete(self):
        """Breaks if an arm is shown without one of its seeds, or without its
        control."""
        runs = self.experiment.output / "runs"
        for run in ("cotrain-shuffled-seed1", "worse-seed0"):
            (runs / run / "evaluation-test" / "report.html").unlink()
        page = self._write().read_text("utf-8")
        missing = "cotrain: its twin of seed 1 is not finished"
        self.assertTrue(missing in page)
        self.assertLen(self._table("table_2"), 5)
        (runs / "visual-seed0" / "evaluation-test" / "report.html").unlink()
        self.assertIsNone(self._write())

    def test_other_records(self):
        """Breaks if runs are compared on different records."""
        path = self.experiment.output / (
            "runs/cotrain-seed1/evaluation-test/predictions.npz"
        )
        found = dict(np.load(path))
        np.savez(path, **found | {"record_ids": found["record_ids"][::-1]})
        with self.assertRaisesRegex(ValueError, "not of the same test records"):
            self._write()


if __name__ == "__main__":
    tf.test.main()
