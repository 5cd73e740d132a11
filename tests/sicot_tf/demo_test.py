"""Parts of the demo; the road itself runs in end_to_end_test.py."""

import io
import json
import pathlib
import sys

import tensorflow as tf

from sicot_tf import demo


class DemoTest(tf.test.TestCase):
    def test_start_up_noise_is_left_out(self):
        """Breaks if a command's own words are swallowed, or progress bars
        arrive only at the end of a line."""
        noise = (
            b"WARNING: All log messages before absl::InitializeLog() is\n"
            b"I0000 00:00:1.2 3 port.cc:153] oneDNN custom operations\n"
        )
        passed = (
            b"E0000 00:00:1.2 3 memory.cc:1] something real\n"
            b"  1%|   | 1/9\r  2%|   | 2/9\r100%| | 9/9\n"
            b"ValueError: no line end"
        )
        stream = io.TextIOWrapper(io.BytesIO())
        before, sys.stderr = sys.stderr, stream
        try:
            demo._pass_on(io.BytesIO(noise + passed))
        finally:
            sys.stderr = before
        self.assertEqual(stream.buffer.getvalue(), passed)

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
