"""`beam_jobs.status` on finished and interrupted builds."""

import contextlib
import io
import json
import os
import pathlib
import tempfile
import unittest

import pyarrow as pa
import pyarrow.parquet as pq

from beam_jobs import status
from beam_jobs.dataset.steps import parts
from sicot_tf import files
from sicot_tf.data import generations
from tests.helpers import object_stores


def _finish(directory, name, records, seconds):
    generation = directory / name
    generation.mkdir()
    manifest = generation / "manifest.json"
    files.write_json(
        manifest,
        {
            "counts": {
                "written": {"train": records},
                "rejected": {"no_words": 2},
            }
        },
    )
    os.utime(manifest, (seconds, seconds))
    generations.point_latest(generation)


def _interrupt(directory):
    """A build of 300 records in 3 parts: one every 10 seconds, two done."""
    work = directory / ".work-abc-100"
    for name in ("parts", "shards", "summaries"):
        (work / name).mkdir(parents=True)
    files.write_json(work / "plan.json", {"records": 300, "parts": 3})
    for part in range(2):
        path = work / "parts" / parts.facts_key(part)
        table = pa.table({"row": pa.array([], pa.int64())})
        counts = {"read": 100, "rejected": {"too_small": part}}
        pq.write_table(parts.describe(table, counts, ""), path)
        os.utime(path, (10 * part, 10 * part))
    return work


def _print(*arguments):
    output = io.StringIO()
    with contextlib.redirect_stdout(output):
        status.main([str(each) for each in arguments])
    return output.getvalue()


class StatusTest(unittest.TestCase):
    def setUp(self):
        self._directory = pathlib.Path(
            self.enterContext(tempfile.TemporaryDirectory())
        )

    def test_finished(self):
        """If it fails, nobody knows what is served tomorrow."""
        _finish(self._directory, "later", 7, 200)
        _finish(self._directory, "early", 5, 100)
        found = json.loads(_print(self._directory, "--json"))["finished"]
        self.assertEqual(
            [
                (f["generation"], f["latest"], f["records"], f["rejected"])
                for f in found
            ],
            [("early", True, 5, 2), ("later", False, 7, 2)],
        )
        lines = _print(self._directory).splitlines()
        self.assertIn("LATEST", lines[0])
        self.assertNotIn("LATEST", lines[1])

    def test_interrupted_and_running(self):
        """If it fails, a night's progress can't be seen."""
        work = _interrupt(self._directory)
        (found,) = json.loads(_print(self._directory, "--json"))["unfinished"]
        # 100 records in the 10 seconds after the first part.
        self.assertEqual(
            {name: found[name] for name in (
                "running", "records", "records_done", "rejected", "parts_done",
                "records_per_second", "seconds_left",
            )},
            {"running": False, "records": 300, "records_done": 200,
             "rejected": 1, "parts_done": 2, "records_per_second": 10.0,
             "seconds_left": 10},
        )  # fmt: skip
        self.assertIn("goes on with it", _print(self._directory))
        with generations.work_folder(self._directory, "abc-100"):
            self.assertTrue(work.exists())
            self.assertIn("running: 200 of 300", _print(self._directory))

    def test_on_a_store(self):
        """If it fails, who builds on a store has to guess."""
        _finish(self._directory, "later", 7, 200)
        work = _interrupt(self._directory)
        with object_stores.s3_bucket() as bucket:
            object_stores.upload_folder(self._directory, f"{bucket}/data")
            there = json.loads(_print(f"{bucket}/data", "--json"))
            here = json.loads(_print(self._directory, "--json"))
            self.assertIn("no generation", _print(f"{bucket}/nothing"))
        for found in (there, here):
            # A store's times are those of the upload.
            for each in (*found["finished"], *found["unfinished"]):
                for name in ("finished", "records_per_second", "seconds_left"):
                    each.pop(name, None)
        self.assertEqual(there, here)
        self.assertEqual(there["unfinished"][0]["work"], work.name)

    def test_nothing(self):
        """If it fails, an empty folder is a crash."""
        self.assertIn("no generation", _print(self._directory))


if __name__ == "__main__":
    unittest.main()
