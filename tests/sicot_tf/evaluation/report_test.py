"""Tests of the page and the text table: honest sentences, safe HTML."""

import copy
import pathlib
import tempfile

import numpy as np
from absl.testing import absltest
from absl.testing import parameterized
from PIL import Image

from sicot_tf.evaluation import metrics
from sicot_tf.evaluation import report
from tests.helpers import html_pages

# Eight classes with four records each; run b has all right, run a half.
_COUNTS = np.array([9, 9, 9, 9, 1, 1, 1, 0])
_LABELS = np.repeat(np.arange(8), 4)
_B = np.stack([_LABELS] * 3, axis=1)
_A = np.where(np.arange(32)[:, np.newaxis] % 2, _B, (_B + 1) % 8)
_TABLES = {
    "baseline": metrics.accuracy_table(_LABELS, _A, _COUNTS, 5),
    "co-training": metrics.accuracy_table(_LABELS, _B, _COUNTS, 5),
}
_COMPARISON = metrics.compare(
    _LABELS, _A, _B, _COUNTS, 5, name_a="baseline", name_b="co-training"
)
_ATTACK = html_pages.ATTACK


def _comparison(low, difference, high, num_classes=300):
    """A comparison whose head shows the given interval."""
    comparison = copy.deepcopy(_COMPARISON)
    head = comparison["groups"]["head"]
    head["num_classes"] = num_classes
    head["top1"]["macro"] |= {
        "low": low,
        "difference": difference,
        "high": high,
    }
    return comparison


class HeadlineTest(parameterized.TestCase):
    @parameterized.parameters(
        (
            0.011,
            0.0321,
            0.0534,
            "Head classes, macro top-1: co-training is better than baseline "
            "by +3.21 points [+1.10, +5.34].",
        ),
        (
            -0.02,
            -0.01,
            -0.001,
            "Head classes, macro top-1: co-training is worse than baseline "
            "by -1.00 points [-2.00, -0.10].",
        ),
        (
            -0.005,
            0.01,
            0.025,
            "Head classes, macro top-1: no difference between co-training "
            "and baseline shown: +1.00 points [-0.50, +2.50], the interval "
            "contains 0.",
        ),
        # A loss too small to print is not printed as -0.00.
        (
            -0.00001,
            0.01,
            0.02,
            "Head classes, macro top-1: no difference between co-training "
            "and baseline shown: +1.00 points [+0.00, +2.00], the interval "
            "contains 0.",
        ),
        # An interval that just touches 0 contains it.
        (
            0.0,
            0.01,
            0.02,
            "Head classes, macro top-1: no difference between co-training "
            "and baseline shown: +1.00 points [+0.00, +2.00], the interval "
            "contains 0.",
        ),
    )
    def test_says_what_is_shown(self, low, difference, high, expected):
        """The first sentence of the page must not claim more than is shown."""
        sentences = report.headline(_TABLES, _comparison(low, difference, high))
        self.assertLen(sentences, 3)
        self.assertEqual(sentences[1], expected)

    def test_few_classes(self):
        """Intervals of a handful of classes are too narrow: it says so."""
        sentence = report.headline(_TABLES, _comparison(0.1, 0.2, 0.3, 7))[1]
        self.assertEndsWith(
            sentence, "; only 7 classes, the interval is too narrow."
        )

    @parameterized.parameters(0, 1)
    def test_one_class_shows_nothing(self, num_classes):
        """Without an interval there is no finding."""
        sentence = report.headline(
            _TABLES, _comparison(None, None, None, num_classes)
        )[1]
        self.assertEndsWith(
            sentence, f"{num_classes} tested, too few to show anything."
        )

    def test_without_comparison(self):
        """One run alone gets its accuracy beside the level of guessing."""
        self.assertEqual(
            report.headline({"baseline": _TABLES["baseline"]}, None),
            [
                "baseline, macro top-1: 50.0 [50.0, 50.0] % over 8 classes; "
                "guessing reaches 12.5 %."
            ],
        )

    def test_without_photos(self):
        """An empty test split is said, not crashed on."""
        table = metrics.accuracy_table(_LABELS[:0], _A[:0], _COUNTS, 5)
        self.assertEqual(
            report.headline({"run": table}, None), ["run: no test photos."]
        )


class FormatTableTest(absltest.TestCase):
    def test_text(self):
        """The terminal shows aligned columns within 80 characters."""
        table = copy.deepcopy(_TABLES["co-training"])
        table["groups"]["head"]["top1"]["macro"] = {
            "value": 0.0756,
            "low": 0.0512,
            "high": 0.1,
        }
        table["groups"]["tail"]["top3"]["micro"]["low"] = None
        table["groups"]["tail"]["top3"]["macro"]["value"] = None
        full = "100.0 [100.0, 100.0]"
        self.assertEqual(
            report.format_table({"run": table}).splitlines(),
            [
                "run: accuracy in % with 95 % intervals; head: at least 5 "
                "training images",
                "group   mean     classes      photos                 top-1"
                "                 top-3",
                f"overall micro          8          32  {full}  {full}",
                f"overall macro          8          32  {full}  {full}",
                f"head    micro          4          16  {full}  {full}",
                "head    macro          4          16    7.6 [  5.1,  10.0]  "
                + full,
                f"tail    micro          4          16  {full}   100.0 [no "
                "interval]",
                f"tail    macro          4          16  {full}"
                + 21 * " "
                + "-",
            ],
        )


class WriteReportTest(absltest.TestCase):
    def setUp(self):
        super().setUp()
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = pathlib.Path(folder.name)

    def _write(self, **changes):
        arguments = {
            "title": "Result",
            "dataset_facts": {"photos": 32, "words": {"distinct": 812}},
            "tables": _TABLES,
            "comparison": _COMPARISON,
            "plots": [],
            "examples": None,
            "settings": {
                "baseline": {"train": {"lambda": 0.0, "epochs": 10}},
                "co-training": {"train": {"lambda": 1.0, "epochs": 10}},
            },
        }
        path = self.folder / "report.html"
        report.write_report(path, **(arguments | changes))
        self.assertEqual(list(self.folder.glob(".*")), [])
        return path.read_text("utf-8")

    def test_numbers(self):
        """Every number of the tables stands on the page."""
        texts = html_pages.Page(self._write()).texts
        # Run a has half of every class right, run b all.
        self.assertIn("50.0 [50.0, 50.0]", texts)
        self.assertIn("100.0 [100.0, 100.0]", texts)
        self.assertIn("+50.00", texts)
        self.assertIn("[+50.00, +50.00]", texts)
        self.assertIn(
            "All classes, macro top-1: co-training is better than baseline by "
            "+50.00 points [+50.00, +50.00]; only 8 classes, the interval is "
            "too narrow.",
            texts,
        )
        self.assertIn("words.distinct", texts)
        self.assertIn("812", texts)
        # What differs between the runs is marked, what does not is not.
        self.assertIn("train.lambda (differs)", texts)
        self.assertIn("train.epochs", texts)

    def test_single_run(self):
        """Without a comparison there is no section of differences."""
        page = self._write(
            tables={"baseline": _TABLES["baseline"]}, comparison=None
        )
        texts = html_pages.Page(page).texts
        self.assertNotIn("Difference", texts)
        self.assertNotIn("Examples", texts)
        self.assertIn("Accuracy", texts)

    def test_escapes_everything(self):
        """A product's name must not run as a script in the reader's browser."""
        svg = self.folder / "plot.svg"
        svg.write_text(f"<?xml version='1.0'?><svg>{_ATTACK}</svg>", "utf-8")
        page = self._write(
            title=_ATTACK,
            dataset_facts={_ATTACK: _ATTACK},
            tables={
                _ATTACK: _TABLES["baseline"],
                '"b"': _TABLES["co-training"],
            },
            comparison=_COMPARISON | {"name_a": _ATTACK, "name_b": '"b"'},
            plots=[(_ATTACK, svg)],
            notes=[_ATTACK],
            examples=[
                {
                    "image": 'data:image/png;base64," onerror="alert(2)',
                    "true_sku": _ATTACK,
                    "true_name": _ATTACK,
                    "predicted_sku": _ATTACK,
                    "predicted_name": _ATTACK,
                    "score": 0.5,
                }
            ],
            settings={_ATTACK: {_ATTACK: _ATTACK}},
        )
        # Title of window and page 2, findings 3, note 1, accuracies 6,
        # caption and header of the differences 2, plot 1, products 2 + 2,
        # data 2, settings 3.
        html_pages.assert_harmless(self, page, times=24)

    def test_self_contained(self):
        """The page is mailed around: nothing may be loaded from elsewhere."""
        svg = self.folder / "plot.svg"
        svg.write_text("<?xml version='1.0'?><svg/>", encoding="utf-8")
        png = self.folder / "plot.png"
        Image.new("RGB", (4, 4)).save(png)
        parsed = html_pages.Page(
            self._write(plots=[("First", svg), ("Second", png)])
        )
        self.assertLen(parsed.sources, 2)
        self.assertStartsWith(parsed.sources[0], "data:image/svg+xml;base64,")
        self.assertStartsWith(parsed.sources[1], "data:image/png;base64,")
        self.assertNotIn("link", parsed.tags)
        self.assertIn("First", parsed.texts)

    def test_examples(self):
        """Right and wrong follow from the SKU, not from the name."""
        example = {
            "image": "data:image/jpeg;base64,AAAA",
            "true_sku": "7",
            "true_name": "pear",
            "predicted_sku": "8",
            "predicted_name": "pear",
            "score": 0.314,
        }
        parsed = html_pages.Page(
            self._write(examples=[example, example | {"predicted_sku": "7"}])
        )
        self.assertEqual(parsed.sources, 2 * ["data:image/jpeg;base64,AAAA"])
        start = parsed.texts.index("pear (7)")
        self.assertEqual(
            [text for text in parsed.texts[start:] if text][:8],
            ["pear (7)", "pear (8)", "0.31", "wrong"]
            + ["pear (7)", "pear (7)", "0.31", "right"],
        )

    def test_pictures_from_elsewhere(self):
        """A picture the page cannot show is an error, not a gap."""
        example = {
            "image": "https://example.com/pear.jpg",
            "true_sku": "7",
            "true_name": "pear",
            "predicted_sku": "8",
            "predicted_name": "pear",
            "score": 0.3,
        }
        with self.assertRaisesRegex(ValueError, "received 'https://example"):
            self._write(examples=[example])
        with self.assertRaisesRegex(ValueError, "ends in .svg or .png"):
            self._write(plots=[("Notes", self.folder / "notes.txt")])

    def test_settings_of_one_run(self):
        """A flat mapping of settings needs no run names."""
        texts = html_pages.Page(
            self._write(settings={"epochs": 10, "seed": 3})
        ).texts
        start = texts.index("Settings")
        self.assertEqual(
            [text for text in texts[start:] if text],
            ["Settings", "name", "value", "epochs", "10", "seed", "3"],
        )

    def test_same_bytes(self):
        """Two evaluations of one run must give the same page."""
        self.assertEqual(self._write(), self._write())


if __name__ == "__main__":
    absltest.main()
