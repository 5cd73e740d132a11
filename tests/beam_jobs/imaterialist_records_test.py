"""Tests of the raw records of iMaterialist, on small look-alikes."""

import contextlib
import io
import json
import os
import pathlib
import tempfile
import unittest

from beam_jobs.readers import imaterialist
from tests.helpers import fake_imaterialist


def _build(root, output, titles=None, **options):
    with contextlib.redirect_stderr(io.StringIO()):
        imaterialist.build(root, output, titles=titles, **options)


def _read(output):
    """All records, in order."""
    return [
        json.loads(line)
        for path in sorted(output.glob("records-*.jsonl"))
        for line in path.read_text("utf-8").splitlines()
    ]


def _summary(output):
    return json.loads((output / "summary.json").read_text("utf-8"))


class ImaterialistRecordsTest(unittest.TestCase):
    def setUp(self):
        super().setUp()
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = pathlib.Path(folder.name)

    def test_joins_images_titles_and_pictures(self):
        """However pictures and titles were stored, ids bring them together."""
        for arrangement, titles, suffix in (
            ("flat", "jsonl", ".jpg"),
            ("hashed", "csv", ""),
            ("classes", "parquet", ".jpg.gz"),
        ):
            with self.subTest(arrangement=arrangement, titles=titles):
                root = self.folder / arrangement
                output = self.folder / "records" / arrangement
                facts = fake_imaterialist.make_fake_imaterialist(
                    root, arrangement=arrangement, titles=titles, suffix=suffix
                )
                path = root / f"titles.{titles}"
                _build(root, output, titles=path, shard_records=30)
                records = _read(output)
                found, not_there = {}, 0
                for record in records:
                    image = os.path.normpath(output / record["image"])
                    if os.path.exists(image):
                        image = os.path.relpath(image, root)
                    else:
                        image, not_there = None, not_there + 1
                    found[record["record_id"]] = {
                        "sku_id": record["sku_id"],
                        "title": record["title"],
                        "split": record["split"],
                        "image": image,
                    }
                self.assertEqual(found, facts)
                ids = [record["record_id"] for record in records]
                self.assertEqual(ids, sorted(ids))
                self.assertEqual(len(list(output.glob("*-of-00003.jsonl"))), 3)
                counts = _summary(output)["counts"]
                self.assertEqual(
                    counts["train.json"]["pictures_not_there"], not_there
                )
                self.assertEqual(counts["titles"]["without_record"], 2)
                without = [r for r in records if not r["title"]]
                self.assertEqual(
                    counts["train.json"]["records_without_title"]
                    + counts["val.json"]["records_without_title"],
                    len(without),
                )
                self.assertGreater(len(without), 0)

    def test_notes_what_it_leaves_aside(self):
        """Rows without id, class or title must be found again."""
        root = self.folder / "imaterialist"
        fake_imaterialist.make_fake_imaterialist(root)
        path = root / "train.json"
        images = json.loads(path.read_text())["images"]
        # Twice the same: `build_dataset` rejects the second.
        bad = [{"id": "x.jpg"}, {"class": 1}, {"id": "y", "class": "1"}, None]
        path.write_text(json.dumps({"images": [*images, images[0], *bad]}))
        with (root / "titles.jsonl").open("a", encoding="utf-8") as file:
            file.write('no JSON\n{"id": "z"}\n["z", "bag"]\n')
            file.write(f'{{"id": "{images[0]["id"]}", "title": "second"}}\n')
        output = self.folder / "records"
        _build(root, output, titles=root / "titles.jsonl")
        records = _read(output)
        self.assertEqual(len(records), 64 + 1)
        summary = _summary(output)
        self.assertEqual(
            summary["counts"]["left_aside"], {"bad_image": 4, "bad_title": 3}
        )
        self.assertEqual(summary["counts"]["train.json"]["images"], 48 + 5)
        lines = (output / "problems.jsonl").read_text("utf-8").splitlines()
        self.assertEqual(len(lines), 7)
        self.assertNotIn("second", {record["title"] for record in records})

    def test_says_what_is_wrong(self):
        """A file of other columns would leave all pictures without titles."""
        root = self.folder / "imaterialist"
        fake_imaterialist.make_fake_imaterialist(root)
        output = self.folder / "records"
        titles = self.folder / "titles.csv"
        titles.write_text("id,name\n1,bag\n")
        with self.assertRaisesRegex(ValueError, "fields id and title"):
            _build(root, output, titles=titles)
        with self.assertRaisesRegex(ValueError, "Expected the file .*none.csv"):
            _build(root, output, titles=self.folder / "none.csv")
        (root / "val.json").write_text("[]")
        with self.assertRaisesRegex(ValueError, r'Expected \{"images'):
            _build(root, output)
        self.assertFalse(output.exists())

    def test_more_pictures_are_other_records(self):
        """Pictures that came later must be found, not those of before."""
        root = self.folder / "imaterialist"
        fake_imaterialist.make_fake_imaterialist(root)
        # Beside the pictures: its own files are no pictures.
        output = root / "records"
        _build(root, output)
        before = _summary(output)
        with self.assertLogs("beam_jobs", "INFO") as shown:
            _build(root, output)
        self.assertIn("already written", shown.output[-1])
        missing = next(
            record["image"]
            for record in _read(output)
            if not (output / record["image"]).exists()
        )
        later = root / "later" / pathlib.Path(missing).name
        later.parent.mkdir()
        later.write_bytes(b"JPEG")
        with self.assertRaisesRegex(ValueError, "with another pictures"):
            _build(root, output)
        _build(root, self.folder / "again")
        paths = {record["image"] for record in _read(self.folder / "again")}
        self.assertIn(f"../imaterialist/later/{later.name}", paths)
        self.assertEqual(before, _summary(output))


if __name__ == "__main__":
    unittest.main()
