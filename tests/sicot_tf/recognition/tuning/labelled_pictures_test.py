import json
import pathlib
import tempfile
import unittest

from sicot_tf.recognition.tuning import labelled_pictures


class LabelledPicturesTest(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = pathlib.Path(folder.name)
        self.pattern = str(self.folder / "records-*.jsonl")

    def write(self, number, *rows):
        path = self.folder / f"records-{number}.jsonl"
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))

    def test_pictures(self):
        """Broken: settings are chosen on test pictures, or on others than
        the records say."""
        self.write(1, {"split": "val", "image": "/a/1.jpg", "sku_id": "tea"})
        self.write(
            0,
            {"split": "test", "image": "2.jpg", "sku_id": "pan"},
            {"split": "val", "image": "b/3.jpg", "sku_id": 7, "title": "x"},
        )
        self.assertEqual(
            labelled_pictures.read_pictures(self.pattern, "val"),
            [
                labelled_pictures.LabelledPicture(
                    self.folder / "b" / "3.jpg", "7"
                ),
                labelled_pictures.LabelledPicture(
                    pathlib.Path("/a/1.jpg"), "tea"
                ),
            ],
        )

    def test_scenes(self):
        """Broken: boxes are those of another scene, or in another order."""
        objects = [{"box": [1, 2, 3, 4], "sku_id": 9}, {"box": [5, 6, 7, 8]}]
        self.write(
            0,
            {"split": "val", "image": "s.jpg", "objects": objects},
            {"split": "test", "image": "t.jpg", "objects": objects},
            {"split": "train", "image": "u.jpg", "objects": objects[:1]},
        )
        self.assertEqual(
            labelled_pictures.read_scenes(self.pattern, ("train", "val")),
            [
                labelled_pictures.Scene(
                    self.folder / "s.jpg",
                    [(1, 2, 3, 4), (5, 6, 7, 8)],
                    ["9", ""],
                ),
                labelled_pictures.Scene(
                    self.folder / "u.jpg", [(1, 2, 3, 4)], ["9"]
                ),
            ],
        )

    def test_mistakes(self):
        """Broken: an error that names neither file nor line."""
        with self.assertRaisesRegex(ValueError, "found none at"):
            labelled_pictures.read_pictures(self.pattern, "val")
        self.write(0, {"split": "test", "image": "1.jpg", "sku_id": "tea"})
        with self.assertRaisesRegex(ValueError, "split val .*found none"):
            labelled_pictures.read_pictures(self.pattern, "val")
        for row in ({"split": "val", "image": "1.jpg"}, "text"):
            self.write(1, row)
            with self.assertRaisesRegex(ValueError, "line 1 of .*records-1"):
                labelled_pictures.read_pictures(self.pattern, "val")


if __name__ == "__main__":
    unittest.main()
