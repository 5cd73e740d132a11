"""Parts of the demo; the road itself runs in end_to_end_test.py."""

import json
import pathlib

import tensorflow as tf

from sicot_tf import demo


class DemoTest(tf.test.TestCase):
    def test_a_failed_command(self):
        """Breaks if the road goes on without what a command should have made,
        or tells a mistake twice."""
        folder = pathlib.Path(self.get_temp_dir())
        road = demo._Road(*[folder] * 5)
        with (
            self.assertNoLogs("sicot_tf.demo"),
            self.assertRaises(SystemExit) as ended,
        ):
            road.run("Train", "sicot_tf.train", "--epochs", "3")
        self.assertEqual(ended.exception.code, 2)
        with (
            self.assertLogs("sicot_tf.demo") as logged,
            self.assertRaises(SystemExit) as ended,
        ):
            road.run("Count", "sicot_tf.nothing")
        self.assertEqual(ended.exception.code, 1)
        self.assertIn("sicot_tf.nothing failed", logged.output[0])

    def test_held_out_photos(self):
        """Breaks if a photo was trained on, or its class is unknown."""
        folder = pathlib.Path(self.get_temp_dir())
        records, dataset = folder / "records", folder / "dataset"
        records.mkdir()
        (dataset / "0a1b").mkdir(parents=True)
        (dataset / "LATEST").write_text("0a1b\n")
        (dataset / "0a1b" / "classes.jsonl").write_text('{"sku_id": "a"}\n')
        rows = [
            {"record_id": "1", "sku_id": "a", "split": "train", "image": "1"},
            {"record_id": "2", "sku_id": "a", "split": "test", "image": "2"},
            {"record_id": "3", "sku_id": "b", "split": "test", "image": "3"},
        ]
        (records / "records.jsonl").write_text(
            "".join(json.dumps(row) + "\n" for row in rows)
        )
        (photo,) = demo._held_out_photos(records, dataset)
        self.assertEqual(photo["record_id"], "2")
        self.assertEqual(photo["image"], str(records / "2"))


if __name__ == "__main__":
    tf.test.main()
