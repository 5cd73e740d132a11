"""Folders of generations: who may build, what is in use, what is left."""

import hashlib
import pathlib
import signal
import subprocess
import sys
import tempfile
import unittest

from sicot_tf import files
from sicot_tf.data import generations

_BUILDER = """
import pathlib, sys, time
from sicot_tf.data import generations

directory = pathlib.Path(sys.argv[1])
with generations.only_builder(directory):
    with generations.work_folder(directory, "a") as work:
        generations.result_folder(work)
        print("at it", flush=True)
        time.sleep(600)
"""


class GenerationsTest(unittest.TestCase):
    def setUp(self):
        super().setUp()
        folder = self.enterContext(tempfile.TemporaryDirectory())
        self.directory = pathlib.Path(folder) / "index"

    def test_one_builder(self):
        """Breaks if two processes change one folder, or a kill locks it."""
        with subprocess.Popen(
            [sys.executable, "-c", _BUILDER, self.directory],
            stdout=subprocess.PIPE,
        ) as process:
            self.addCleanup(process.kill)
            self.assertEqual(process.stdout.readline(), b"at it\n")
            with self.assertRaisesRegex(ValueError, "is changing .*Wait"):
                with generations.only_builder(self.directory):
                    pass
            with self.assertRaisesRegex(ValueError, "works in .*Wait"):
                with generations.work_folder(self.directory, "a"):
                    pass
            generations.remove_abandoned(self.directory, "*")
            work = self.directory / ".work-a"
            self.assertTrue((work / "generation").is_dir())
            self.assertTrue(generations.is_worked_on(work))
            process.send_signal(signal.SIGKILL)
            process.wait()
        self.assertFalse(generations.is_worked_on(work))
        with generations.only_builder(self.directory):
            # What belongs to another work folder is removed, but not its own.
            with generations.work_folder(self.directory, "b") as own:
                generations.remove_abandoned(self.directory, "*")
                self.assertTrue(own.exists())
                self.assertFalse(work.exists())
        self.assertEqual(list(self.directory.iterdir()), [])

    def test_a_failed_job_is_gone_on_with(self):
        """Breaks if a failed job has to begin again, or half a file stays."""
        with self.assertRaises(ZeroDivisionError):
            with generations.work_folder(self.directory, "a") as work:
                result = generations.result_folder(work)
                (result / "done").touch()
                (result / ".manifest.json.0123.tmp").touch()
                _ = 1 / 0
        with generations.work_folder(self.directory, "a") as work:
            result = generations.result_folder(work)
            self.assertEqual(list(result.iterdir()), [result / "done"])
        self.assertEqual(list(self.directory.iterdir()), [])

    def test_latest_and_age(self):
        """Breaks if a rollback or --keep takes another generation."""
        self.assertIsNone(generations.latest(self.directory))
        for name, run in (
            ("b", {"built_at": "2026-01-01"}),
            ("a", {"built_at": "2026-01-02"}),
            ("d", {}),
            ("c", None),
            (".removed-x", None),
        ):
            folder = self.directory / name
            folder.mkdir(parents=True)
            files.write_json(folder / generations.MANIFEST, {})
            if run is not None:
                files.write_json(folder / generations.RUN, run)
        generations.point_latest(self.directory / "b")
        self.assertEqual(
            generations.latest(self.directory), self.directory / "b"
        )
        names = [each.name for each in generations.by_age(self.directory)]
        self.assertEqual(names, ["c", "d", "b", "a"])

    def test_describe_files(self):
        """Breaks if a manifest does not tell its files from damaged ones."""
        self.directory.mkdir()
        (self.directory / "b").write_bytes(b"abc")
        (self.directory / "a").touch()
        described = generations.describe_files(self.directory)
        self.assertEqual(list(described), ["a", "b"])
        self.assertEqual(
            described["b"],
            {"bytes": 3, "sha256": hashlib.sha256(b"abc").hexdigest()},
        )

    def test_publish(self):
        """Breaks if the second of two equal builds fails at its end."""
        final = self.directory / "a"
        for name in ("first", "second"):
            finished = self.directory / name
            finished.mkdir(parents=True)
            files.write_json(finished / generations.MANIFEST, {})
            generations.publish(finished, final)
        self.assertTrue((final / generations.MANIFEST).is_file())


if __name__ == "__main__":
    unittest.main()
