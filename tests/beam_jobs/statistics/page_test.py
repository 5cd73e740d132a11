"""The page of a dataset: what stands where, and that it is harmless."""

import pathlib
import tempfile

from absl.testing import absltest

from beam_jobs.statistics import page
from tests.helpers import html_pages

_GROUP = {
    "classes": 1,
    "share_of_classes": 0.5,
    "train_images": 3,
    "share_of_train_images": 0.75,
}
_SPLIT = {
    "records": 4,
    "titles_without_words": 0,
    "words_per_title": {"mean": 4.5},
    "unknown_word_rate": 0.25,
    "scripts": {},
    "records_per_class": {"0": 1, "50": 2, "100": 3},
}
_SIDES = {"quantiles": {"0": 16, "50": 20, "100": 24}}
_STATISTICS = {
    "generation": "abc",
    "table_1": {
        "classes": 2,
        "train_images": 4,
        "val_images": 1,
        "test_images": 2,
        "vocabulary": 10,
        "head_threshold": 3,
    },
    "classes": {
        "head": _GROUP,
        "tail": _GROUP,
        "gini": 0.5,
        "imbalance": 3.0,
        "without_training_images": 1,
    },
    "words": {
        "vocabulary": 10,
        "head_only": 1,
        "shared": 3,
        "tail_only": 4,
        "unused": 2,
        "occurrences": 1234,
        "gini": 0.25,
        "share_of_vocabulary": 0.3,
        "share_of_occurrences": 0.4,
        "share_of_tail_occurrences": 0.5,
    },
    "tail_support": {"images_of_its_class": 1, "occurrences_of_its_words": 7},
    "splits": {"train": _SPLIT, "val": _SPLIT, "test": _SPLIT},
    "letters": {"Chinese": 1, "Latin": 3},
    "pictures": {
        "shorter_side": _SIDES,
        "longer_side": _SIDES,
        "kilobytes": _SIDES,
        "unreadable": 1,
    },
    "records_read": 10,
    "rejected": {"duplicate_id": 2, "no_title": 3},
    "inputs": [{"name": "records.jsonl", "sha256": "0a1b"}],
    "vocabulary_selection": {"dropped_rare": 0},
    "config": {"seed": 0},
}


class PageTest(absltest.TestCase):
    def setUp(self):
        super().setUp()
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = pathlib.Path(folder.name)
        for name in (
            *("balance", "class_sizes", "long_tail", "picture_sizes"),
            "title_lengths",
        ):
            (self.folder / f"{name}.svg").write_text("<svg/>")

    def _write(self, text, image=None, **changes):
        path = self.folder / "statistics.html"
        record = {
            "record_id": text,
            "sku_id": text,
            "title": text,
            "source": text,
            "words": [text, "new"],
            "known": [True, False],
            "thumbnail": image,
        }
        page.write_page(
            path,
            statistics=_STATISTICS | changes,
            most_frequent=[{"word": text, "head": 3, "tail": 1}],
            sampled_classes=[
                {
                    "sku_id": text,
                    "sku_name": text,
                    "train": 1,
                    "head": True,
                    "records": [record],
                }
            ],
            examples={"train": [record]},
            plots=self.folder,
        )
        self.assertEmpty(list(self.folder.glob(".*")))
        return path.read_text("utf-8")

    def test_what_stands_where(self):
        """Breaks if a number stands beside another name."""
        text = self._write("red", b"JPEG")
        texts = [each for each in html_pages.Page(text).texts if each]
        for expected in (
            ["3 : 1", "largest to smallest class"],
            ["share of images", "75.0 %", "75.0 %"],
            ["median", "2", "2", "2", "largest", "3", "3", "3"],
            ["1 in titles of head classes only", "3 shared"],
            ["red", "4"],
            ["words per title", "4.50", "4.50", "4.50"],
            ["red", "red, 1 training image"],
            ["no_title", "3"],
            ["records.jsonl", "0a1b", "dropped_rare", "0", "seed", "0"],
        ):
            places = range(len(texts) - len(expected) + 1)
            found = [texts[i : i + len(expected)] for i in places]
            self.assertIn(expected, found)
        self.assertIn("10 records read,\n5 rejected (50.0 %)", text)
        self.assertIn("1 class without", " ".join(text.split()))
        self.assertIn('<span class="word unread">new</span>', text)
        # Three quarters of the highest bar.
        self.assertIn('<i class="head" style="width:75.00%"></i>', text)

    def test_escapes_everything(self):
        """Breaks if what stands in a record file runs as a script."""
        attack = html_pages.ATTACK
        text = self._write(
            attack,
            generation=attack,
            letters={attack: 1},
            rejected={attack: 1},
            inputs=[{"name": attack, "sha256": attack}],
            vocabulary_selection={attack: attack},
            config={attack: attack},
            splits=_STATISTICS["splits"]
            | {"val": _SPLIT | {"scripts": {attack: 1}}},
        )
        # Title of window and page 2, word 1, script 1, letters 1; class 2 and
        # missing picture 1; record 2 with picture 1, title 1 and word 1;
        # reason 1; settings 6.
        html_pages.assert_harmless(self, text, times=21)

    def test_nothing_there(self):
        """Breaks if a dataset without words, rejects or examples fails."""
        page.write_page(
            self.folder / "statistics.html",
            statistics=_STATISTICS
            | {
                "rejected": {},
                "words": dict.fromkeys(_STATISTICS["words"], 0),
                "letters": {},
            },
            most_frequent=[],
            sampled_classes=[],
            examples={},
            plots=self.folder,
        )
        text = (self.folder / "statistics.html").read_text("utf-8")
        self.assertIn("10 records read,\n0 rejected.</p>", text)
        self.assertIn("pictures are all there is to learn from", text)


if __name__ == "__main__":
    absltest.main()
