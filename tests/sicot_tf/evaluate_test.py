"""Evaluation of real runs; titles never reach it."""

import json
import pathlib
import shutil

import numpy as np
import tensorflow as tf

from sicot_tf import config
from sicot_tf import evaluate
from sicot_tf import files
from sicot_tf.data import dataset
from sicot_tf.data import tfrecords
from sicot_tf.evaluation import accuracy
from sicot_tf.training import runs
from tests.helpers import tiny_road


def _with_other_titles(generation, folder):
    """A copy of a generation whose test titles all name the wrong class."""
    copy = folder / generation.name
    shutil.copytree(generation, copy)
    manifest = dataset.read_manifest(copy)
    for path in copy.glob("test-*.tfrecord"):
        examples = []
        for content in tf.data.TFRecordDataset(str(path)).as_numpy_iterator():
            example = tf.train.Example.FromString(content)
            feature = example.features.feature
            feature["title"].bytes_list.value[:] = [b"yellow circle"]
            feature["words"].bytes_list.value[:] = [b"yellow", b"circle"]
            feature["word_ids"].int64_list.value[:] = [1, 2]
            examples.append(example.SerializeToString(deterministic=True))
        offsets = tfrecords.write(path, examples)
        np.save(path.with_suffix(".offsets.npy"), np.array(offsets, np.uint64))
        manifest["files"][path.name]["bytes"] = path.stat().st_size
    files.write_json(copy / "manifest.json", manifest)
    return copy


def _with_another_class(generation, folder):
    """A copy in which a new class stands first and one SKU has a new name."""
    copy = folder / "0123456789ab"
    shutil.copytree(generation, copy)
    path = copy / "classes.jsonl"
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    rows[-1]["sku_id"] = "unknown"
    rows.insert(0, rows[0] | {"sku_id": "new", "sku_name": None})
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    manifest = dataset.read_manifest(copy)
    for path in copy.glob("test-*.tfrecord"):
        examples = []
        for content in tf.data.TFRecordDataset(str(path)).as_numpy_iterator():
            example = tf.train.Example.FromString(content)
            label = example.features.feature["label"].int64_list
            label.value[:] = [label.value[0] + 1]
            examples.append(example.SerializeToString(deterministic=True))
        offsets = tfrecords.write(path, examples)
        np.save(path.with_suffix(".offsets.npy"), np.array(offsets, np.uint64))
        manifest["files"][path.name]["bytes"] = path.stat().st_size
    files.write_json(copy / "manifest.json", manifest)
    return copy


class EvaluateTest(tf.test.TestCase):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.run_dir = tiny_road.trained("cotrain")
        cls.output = tiny_road.evaluated()
        cls.metrics = json.loads((cls.output / "metrics.json").read_text())

    def test_counts_and_accuracies(self):
        """Breaks if records are lost, or the table is not of this model.

        24 test records, 3 of each product; head are the two products of 8
        training images or more. The network tells colour and shape apart far
        better than chance, 1 / 8.
        """
        for streams in ("visual", "cotrain"):
            groups = self.metrics["runs"][streams]["groups"]
            self.assertEqual(groups["overall"]["num_records"], 24)
            self.assertEqual(groups["head"]["num_records"], 6)
            self.assertEqual(groups["tail"]["num_records"], 18)
            self.assertGreater(groups["overall"]["top1"]["micro"]["value"], 0.4)
        found = np.load(self.output / "predictions.npz")
        right = found["top_labels"][:, 0] == found["labels"]
        groups = self.metrics["runs"]["cotrain"]["groups"]
        self.assertAllClose(
            groups["overall"]["top1"]["micro"]["value"], right.mean()
        )

    def test_titles_do_not_reach_evaluation(self):
        """Breaks if a changed title changes what is recognised."""
        folder = pathlib.Path(self.get_temp_dir())
        changed = _with_other_titles(tiny_road.generation(), folder)
        title = tf.io.parse_single_example(
            dataset.RecordFiles(changed, "test").read(0),
            {"title": tf.io.FixedLenFeature([], tf.string)},
        )["title"]
        self.assertEqual(title, b"yellow circle")
        before = dict(np.load(self.output / "predictions.npz"))
        run_dir = folder / "cotrain"
        shutil.copytree(self.run_dir, run_dir)
        evaluate.main(["--run_dir", str(run_dir), "--dataset", str(changed)])
        output = run_dir / "evaluation-test"
        after = dict(np.load(output / "predictions.npz"))
        for name, value in before.items():
            self.assertAllEqual(value, after[name], msg=name)

    def test_another_class_list(self):
        """Breaks if a label is looked up in another list than its own: all
        labels are one more here, and the last class is unknown to the run.

        24 test records, 3 of each class; 21 are left, in their old order.
        """
        folder = pathlib.Path(self.get_temp_dir()) / "another"
        changed = _with_another_class(tiny_road.generation(), folder)
        before = dict(np.load(self.output / "predictions.npz"))
        kept = before["labels"] < 7
        run_dir = folder / "cotrain"
        shutil.copytree(self.run_dir, run_dir)
        evaluate.main(["--run_dir", str(run_dir), "--dataset", str(changed)])
        output = run_dir / "evaluation-test"
        after = dict(np.load(output / "predictions.npz"))
        for name, value in before.items():
            self.assertAllEqual(value[kept], after[name], msg=name)
        found = json.loads((output / "metrics.json").read_text())
        self.assertEqual(found["records"], {"tested": 21, "left_out": 3})
        self.assertEqual(found["classes"]["known"], 7)
        self.assertEqual(
            found["classes"]["unknown_examples"], ["new", "unknown"]
        )
        self.assertLen(found["classes"]["absent_examples"], 1)
        page = (output / "report.html").read_text()
        self.assertIn("Left out: 3 of 24 records", page)
        self.assertIn("not on 0123456789ab", page)

    def test_adjusted_after_training(self):
        """Breaks if an adjusted evaluation overwrites the plain one, does not
        say that it is one, or divides by anything but the shares.

        Scores are proportional to exp(logit): divided by the shares and made
        to add up to 1 again, the plain ones are the adjusted ones. Of five
        scores a record, those of classes that are among the best in both are
        compared by their quotients.
        """
        evaluate.main(
            [
                *("--run_dir", str(self.run_dir), "--logit_adjustment", "1"),
                *("--compare_to", str(tiny_road.trained("visual"))),
            ]
        )
        output = self.run_dir / "evaluation-test-logit_adjustment-1.0"
        metrics = json.loads((output / "metrics.json").read_text())
        self.assertEqual(metrics["post_hoc"], {"logit_adjustment": 1.0})
        self.assertNotIn("post_hoc", self.metrics)
        self.assertIn("logit_adjustment 1.0", metrics["notes"][-1])
        counts = np.array(runs.load(self.run_dir).train_counts)
        plain, adjusted = (
            dict(np.load(each / "predictions.npz"))
            for each in (self.output, output)
        )
        num_compared = 0
        for record in range(24):
            before, after = (
                dict(
                    zip(each["top_labels"][record], each["top_scores"][record])
                )
                for each in (plain, adjusted)
            )
            both = sorted(set(before) & set(after))
            quotients = np.log(
                [after[each] * counts[each] / before[each] for each in both]
            )
            self.assertAllClose(quotients, quotients[:1].repeat(len(both)))
            num_compared += len(both) - 1
        self.assertGreater(num_compared, 24)

    def test_changes_that_do_not_go_with_the_training(self):
        """Breaks if rare classes are lifted twice, or only after a model was
        built the mistake is seen."""
        folder = pathlib.Path(self.get_temp_dir()) / "trained"
        shutil.copytree(self.run_dir, folder)
        described = json.loads((folder / "config.json").read_text())
        described["train"]["sampling"] = "balanced"
        (folder / "config.json").write_text(json.dumps(described))
        shutil.rmtree(folder / "checkpoints")
        with self.assertRaisesRegex(ValueError, "together they do it twice"):
            accuracy.measure(
                folder, changes=config.PostHocConfig(weight_normalization=0.5)
            )

    def test_report_and_plots(self):
        """Breaks if the page misses the comparison, plots or photos."""
        page = (self.output / "report.html").read_text()
        self.assertIn("visual", page)
        self.assertIn("data:image/jpeg;base64,", page)
        self.assertGreaterEqual(page.count("data:image/svg+xml"), 4)
        self.assertIn("mixed_loss_weight", page)
        for name in ("long_tail", "head_tail", "loss_curves"):
            self.assertTrue((self.output / f"{name}.svg").exists())

    def test_kind_errors(self):
        """Breaks if a run without checkpoint, or two runs of one name, fail
        with a puzzle."""
        folder = pathlib.Path(self.get_temp_dir())
        copy = folder / "cotrain"
        shutil.copytree(self.run_dir, copy)
        with self.assertRaisesRegex(ValueError, "same folder name"):
            accuracy.measure(copy, compare_to=self.run_dir)
        other = folder / "other"
        shutil.copytree(self.run_dir, other)
        rows = (other / "classes.jsonl").read_text().splitlines(keepends=True)
        (other / "classes.jsonl").write_text("".join(rows[::-1]))
        with self.assertRaisesRegex(ValueError, "the same SKUs with other"):
            accuracy.measure(copy, compare_to=other)
        # Labels of the checkpoint and lines of its class list.
        with self.assertRaisesRegex(ValueError, "another list of classes"):
            accuracy.measure(other)
        shutil.rmtree(copy / "checkpoints")
        with self.assertRaisesRegex(ValueError, "Train first"):
            accuracy.measure(copy)


if __name__ == "__main__":
    tf.test.main()
