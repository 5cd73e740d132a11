"""The calibration of a real run, and what is made of it."""

import json
import pathlib
import shutil

import numpy as np
import tensorflow as tf

from sicot_tf import calibrate
from sicot_tf import config
from sicot_tf import evaluate
from sicot_tf.data import dataset
from sicot_tf.data import records
from sicot_tf.evaluation.calibration import fitting
from sicot_tf.training import exporting
from tests.helpers import tiny_road


class CalibrateTest(tf.test.TestCase):
    @classmethod
    def setUpClass(cls):
        """8 validation records: 3 right ones show a precision of 0.3."""
        super().setUpClass()
        cls.folder = pathlib.Path(tiny_road.records()).parents[1] / "calibrated"
        cls.run_dir = cls.folder / "cotrain"
        shutil.copytree(tiny_road.trained("cotrain"), cls.run_dir)
        calibrate.main(["--run_dir", str(cls.run_dir), "--precision", "0.3"])
        path = cls.run_dir / "calibration.json"
        cls.calibration = json.loads(path.read_text())
        evaluate.main(["--run_dir", str(cls.run_dir), "--split", "val"])
        cls.evaluation = cls.run_dir / "evaluation-val"
        cls.found = np.load(cls.evaluation / "predictions.npz")

    def test_evaluation_reports_what_was_fitted(self):
        """Breaks if the two read other records, another temperature or
        another threshold."""
        accepted = (
            self.found["calibrated_scores"] >= self.calibration["threshold"]
        )
        right = self.found["top_labels"][:, 0] == self.found["labels"]
        self.assertEqual(self.calibration["num_records"], 8)
        self.assertEqual(self.calibration["num_accepted"], accepted.sum())
        self.assertEqual(
            self.calibration["num_right"], (accepted & right).sum()
        )
        self.assertGreaterEqual(self.calibration["precision_low"], 0.3)
        self.assertEqual(self.calibration["split"], "val")
        self.assertEqual(self.calibration["step"], 60)
        metrics = json.loads((self.evaluation / "metrics.json").read_text())
        group = metrics["calibration"]["groups"]["overall"]
        self.assertEqual(group["num_accepted"], accepted.sum())
        # Few records in one bin: |mean score - share of right ones|.
        for stage, scores in (
            ("before", self.found["top_scores"][:, 0]),
            ("after", self.found["calibrated_scores"]),
        ):
            self.assertAllClose(
                metrics["calibration"]["errors"]["adaptive"][stage]["value"],
                abs(scores.mean() - right.mean()),
                atol=1e-5,
            )
        report = (self.evaluation / "report.html").read_text()
        self.assertIn("Expected calibration error in percent", report)
        page = (self.run_dir / "calibration.html").read_text()
        self.assertIn(self.calibration["generation"], page)

    def test_calibrated_scores_are_served(self):
        """Breaks if the temperature is lost, divides twice, or the served
        answer is not that of the threshold; a new threshold is a new version,
        the same one is not."""
        output = self.folder / "models"
        files = dataset.RecordFiles(tiny_road.generation(), "val")
        images = tf.constant(
            [
                tf.io.parse_single_example(
                    files.read(i), records.EVALUATION_FEATURES
                )["image"].numpy()
                for i in range(len(files))
            ]
        )
        scores = self.found["calibrated_scores"]
        # Halfway between the two best scores.
        strict = float(np.sort(scores)[-2:].mean())
        for threshold, version in ((None, "1"), (strict, "2")):
            for _ in range(2):
                directory = exporting.export(
                    self.run_dir, output, top_k=2, threshold=threshold
                )
                self.assertEqual(directory.name, version)
            model = tf.saved_model.load(str(directory))
            answer = model.signatures["serving_default"](image_bytes=images)
            self.assertAllClose(answer["score"][:, 0], scores, atol=1e-5)
            expected = threshold or self.calibration["threshold"]
            self.assertAllEqual(answer["recognised"], scores >= expected)
            info = json.loads(
                (directory / "assets.extra" / "export.json").read_text()
            )
            self.assertEqual(info["threshold"], expected)
            self.assertEqual(
                info["temperature"], self.calibration["temperature"]
            )
        self.assertEqual(answer["recognised"].numpy().sum(), 1)

    def test_calibrations_of_other_weights(self):
        """Breaks if scores are divided by what another training needs."""
        other = self.folder / "visual"
        shutil.copytree(tiny_road.trained("visual"), other)
        path = self.run_dir / "calibration.json"
        with self.assertRaisesRegex(ValueError, "fitted on other weights"):
            exporting.export(other, self.folder / "x", calibration=path)
        self.assertFalse((self.folder / "x").exists())
        shutil.copy(path, other)
        with self.assertLogs("sicot_tf", "WARNING") as logged:
            evaluate.main(["--run_dir", str(other), "--split", "val"])
        self.assertIn("Scores stay as they are", logged.output[0])
        found = np.load(other / "evaluation-val" / "predictions.npz")
        self.assertNotIn("calibrated_scores", found)
        (other / "calibration.json").write_text('{"temperature": -1}')
        with self.assertRaisesRegex(ValueError, "holds no calibration"):
            exporting.export(other, self.folder / "x")
        with self.assertRaisesRegex(ValueError, "threshold of 0 to 1"):
            exporting.export(other, self.folder / "x", threshold=80)

    def test_too_few_records(self):
        """Breaks if 8 records show 95 %, or nobody is told what is missing."""
        fitted = fitting.fit(self.run_dir, precision=0.95)
        self.assertIsNone(fitted.calibration.threshold)
        self.assertIn("takes 59 photos on which", "\n".join(fitted.notes))
        self.assertEqual(
            fitted.calibration.temperature, self.calibration["temperature"]
        )
        # Another classifier, and a calibration that says so.
        changed = fitting.fit(
            self.run_dir,
            precision=0.95,
            changes=config.PostHocConfig(logit_adjustment=1.0),
        )
        self.assertNotEqual(
            changed.calibration.weights_sha256,
            fitted.calibration.weights_sha256,
        )
        self.assertIn("--logit_adjustment 1.0: export", changed.notes[0])
        with self.assertRaisesRegex(ValueError, "between 0 and 1, received 1"):
            fitting.fit(self.run_dir, precision=1)


if __name__ == "__main__":
    tf.test.main()
