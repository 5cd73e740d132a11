"""Tests of the plots: what is drawn, and that it is drawn the same again."""

import pathlib
import tempfile
import xml.etree.ElementTree as ElementTree

import numpy as np
from absl.testing import absltest
from absl.testing import parameterized
from PIL import Image

from sicot_tf.evaluation import metrics
from sicot_tf.evaluation import plots

_COUNTS = np.array([3, 40, 1, 9, 5, 1, 0, 12])
_LABELS = np.repeat(np.arange(8), 4)
_RIGHT = np.stack([_LABELS] * 3, axis=1)
_SOME = np.where(np.arange(32)[:, np.newaxis] % 3, _RIGHT, (_RIGHT + 1) % 8)
_RUNS = {"baseline": _SOME, "_co-training $x$": _RIGHT}
_TABLES = {
    name: metrics.accuracy_table(
        _LABELS, top_labels, _COUNTS, 5, num_resamples=100
    )
    for name, top_labels in _RUNS.items()
}
_BINS = {
    name: metrics.accuracy_by_training_images(
        _LABELS, top_labels, _COUNTS, 5, num_resamples=100
    )
    for name, top_labels in _RUNS.items()
}
_ROWS = {
    "baseline": [
        {"step": 10, "epoch": 1.0, "loss": 3.0, "loss_visual": 3.0},
        {"step": 20, "epoch": 2.0, "loss": 2.0, "loss_visual": 2.0},
        {"step": 20, "val_top1": 0.4, "val_top1_head": 0.6},
    ],
    "co-training": [
        {"step": 10, "epoch": 1.0, "loss_visual": 3.1, "loss_mixed": 2.9},
        {"step": 20, "epoch": 2.0, "loss_visual": 2.1, "loss_mixed": 1.9},
        {"step": 20, "val_top1": 0.5, "val_top1_tail": 0.3},
    ],
}
_PLOTS = (
    ("long_tail", lambda path: plots.long_tail_plot(_COUNTS, 5, path)),
    (
        "by_images",
        lambda path: plots.accuracy_by_training_images(_BINS, path),
    ),
    ("bars", lambda path: plots.head_tail_bars(_TABLES, path)),
    ("loss", lambda path: plots.loss_curves(_ROWS, path)),
)


class PlotsTest(parameterized.TestCase):
    def setUp(self):
        super().setUp()
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = pathlib.Path(folder.name)

    @parameterized.named_parameters(*_PLOTS)
    def test_valid_files_with_equal_bytes(self, draw):
        """A page would show broken pictures, or change without a reason."""
        svg, png = draw(self.folder / "plot.svg")
        self.assertEqual(
            sorted(self.folder.iterdir()),
            [self.folder / "plot.png", self.folder / "plot.svg"],
        )
        root = ElementTree.parse(svg).getroot()
        self.assertEqual(root.tag, "{http://www.w3.org/2000/svg}svg")
        self.assertNotIn("<dc:date>", svg.read_text("utf-8"))
        with Image.open(png) as image:
            self.assertGreaterEqual(image.width, 1000)
            # Something is drawn, in more than black and white.
            colors = image.convert("RGB").getcolors(maxcolors=2**20)
            self.assertGreater(len(colors), 10)
        again = draw(self.folder / "again")
        self.assertEqual(
            [path.read_bytes() for path in again],
            [svg.read_bytes(), png.read_bytes()],
        )

    def test_million_classes_stay_small(self):
        """One bar a class would be a file of hundreds of megabytes."""
        counts = np.maximum(1, 30_000 // np.arange(1, 1_000_001))
        svg, _ = plots.long_tail_plot(counts, 200, self.folder / "million")
        self.assertLess(svg.stat().st_size, 200_000)

    def test_only_head_classes(self):
        """A group without classes has no bars and no legend entry."""
        svg, _ = plots.long_tail_plot(np.array([9, 8]), 5, self.folder / "head")
        text = svg.read_text("utf-8")
        self.assertIn("head: 2 classes, 17 images", text)
        self.assertNotIn("tail:", text)

    def test_texts(self):
        """Titles carry the numbers; run names stand as they are given."""
        svg, _ = plots.long_tail_plot(_COUNTS, 5, self.folder / "long_tail")
        text = svg.read_text("utf-8")
        # 40, 12, 9 and 5 are head: 4 of 8 classes, 66 of 71 images.
        self.assertIn("50.0 % of the classes (head) have 93.0 % of", text)
        self.assertIn("tail: 4 classes, 5 images", text)
        svg, _ = plots.head_tail_bars(_TABLES, self.folder / "bars")
        text = svg.read_text("utf-8")
        self.assertIn("_co-training $x$", text)
        # A formula would be set in italics.
        self.assertNotIn("Oblique", text)
        self.assertIn("guessing: 12.5 %", text)

    def test_groups_without_value_or_interval(self):
        """An empty group is left out; a single class has no whisker."""
        table = metrics.accuracy_table(_LABELS, _RIGHT, _COUNTS, 40)
        self.assertEqual(table["groups"]["head"]["num_classes"], 1)
        plots.head_tail_bars({"run": table}, self.folder / "single")
        table = metrics.accuracy_table(_LABELS, _RIGHT, _COUNTS, 50)
        svg, _ = plots.head_tail_bars({"run": table}, self.folder / "none")
        self.assertIn("0 classes", svg.read_text("utf-8"))

    def test_loss_panels(self):
        """Only what was measured gets a panel."""
        svg, _ = plots.loss_curves(_ROWS, self.folder / "loss")
        text = svg.read_text("utf-8")
        for title in (
            "Training loss, all terms",
            "Training loss, mixed stream",
            "Validation, tail classes",
        ):
            self.assertIn(title, text)
        rows = {"run": [{"step": 1, "loss": 2.0}, {"step": 2, "loss": 1.0}]}
        svg, _ = plots.loss_curves(rows, self.folder / "steps")
        text = svg.read_text("utf-8")
        self.assertNotIn("mixed stream", text)
        self.assertNotIn("epoch", text)
        self.assertIn("<!-- step -->", text)

    def test_long_runs_are_averaged(self):
        """601 rows become means of three, the axis says so."""
        rows = [{"step": step, "loss": float(step)} for step in range(601)]
        svg, _ = plots.loss_curves({"run": rows}, self.folder / "long")
        self.assertIn("step (means of 3 rows)", svg.read_text("utf-8"))
        x, y = plots._course(rows, "loss", False, 3)
        self.assertLen(x, 201)
        # (0 + 1 + 2) / 3, and the last one stands by itself.
        self.assertEqual((x[0], y[0], x[-1], y[-1]), (1, 1, 600, 600))

    def test_validation_rows_find_their_epoch(self):
        """Validation knows its step only; epoch 1.5 lies at step 15."""
        rows = [
            {"step": 10, "epoch": 1.0},
            {"step": 20, "epoch": 2.0},
            {"step": 15, "val_top1": 0.5},
        ]
        x, y = plots._course(rows, "val_top1", True, 1)
        self.assertEqual((x.tolist(), y.tolist()), ([1.5], [0.5]))

    def test_nothing_to_draw(self):
        """An empty picture would hide that metrics are missing."""
        with self.assertRaisesRegex(ValueError, "received none"):
            plots.loss_curves({"run": [{"step": 1}]}, self.folder / "empty")


if __name__ == "__main__":
    absltest.main()
