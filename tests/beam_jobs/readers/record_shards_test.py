"""Folders of raw records: where pictures are, and what was noted."""

import pathlib
import tempfile
import unittest

from beam_jobs.readers import record_shards
from beam_jobs.records import raw_records


class RecordShardsTest(unittest.TestCase):
    def test_path_from(self):
        """Breaks if records name pictures that are elsewhere, or are other
        records where data lie in a bucket."""
        for output, root, expected in (
            ("s3://bucket/a/records", "s3://bucket/a/data", "../data"),
            ("s3://bucket/records", "s3://other/data", "s3://other/data"),
            ("gs://bucket/records", "s3://bucket/data", "s3://bucket/data"),
            (pathlib.Path("/records"), "gs://bucket/data", "gs://bucket/data"),
        ):
            with self.subTest(output=output, root=root):
                found = record_shards.path_from(output, root)
                self.assertEqual(found, expected)
                self.assertEqual(
                    raw_records.resolve_image(str(output), f"{found}/1.jpg"),
                    f"{root}/1.jpg",
                )
        with tempfile.TemporaryDirectory() as name:
            root = pathlib.Path(name).resolve()
            found = record_shards.path_from("s3://bucket/records", root)
            self.assertEqual(found, str(root))

    def test_notes(self):
        """Breaks if what was noted of a finished shard is lost."""
        notes = record_shards.Notes()
        notes.counts["google", "records"] += 3
        notes.add_problem("bad_line", line=2)
        self.assertEqual(record_shards.Notes.from_json(notes.to_json()), notes)


if __name__ == "__main__":
    unittest.main()
