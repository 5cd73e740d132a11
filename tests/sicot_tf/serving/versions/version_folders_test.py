"""Tests of version_folders: names of versions and policies."""

import contextlib
import io
import pathlib
import tempfile
import unittest

from tensorflow.core.protobuf import saved_model_pb2
from tensorflow_serving.config import model_server_config_pb2

from sicot_tf.serving.versions import version_folders


class VersionFoldersTest(unittest.TestCase):
    """Wrong here: a version is never found, or the wrong one is served."""

    def setUp(self):
        super().setUp()
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.base_path = pathlib.Path(folder.name)

    def add(self, *names):
        """Versions that are whole: one graph, no variables."""
        for name in names:
            (self.base_path / name).mkdir()
            saved_model = saved_model_pb2.SavedModel()
            saved_model.meta_graphs.add()
            (self.base_path / name / "saved_model.pb").write_bytes(
                saved_model.SerializeToString()
            )

    def look(self, finder, known=(), **policy):
        """Numbers that are found, and what is written to the log."""
        config = model_server_config_pb2.ModelConfig(
            name="m", base_path=str(self.base_path), model_version_policy=policy
        )
        with contextlib.redirect_stderr(io.StringIO()) as log:
            look = finder.look(
                config, {number: self.base_path / "x" for number in known}
            )
        return list(look.versions), look.is_done, log.getvalue()

    def test_names(self):
        """Only what absl::SimpleAtoi reads is a version; 0007 is 7."""
        names = ["1", "0007", "-3", ".8.tmp-1", "v9", "1_0", "2.0", "9" * 20]
        self.add(*names)
        self.assertEqual(
            version_folders.list_versions(self.base_path),
            {
                1: self.base_path / "1",
                7: self.base_path / "0007",
                -3: self.base_path / "-3",
            },
        )

    def test_later_name_of_a_duplicate_wins(self):
        """TensorFlow Serving's choice, and its warning."""
        self.add("7", "0007")
        self.assertEqual(
            version_folders.list_versions(self.base_path),
            {7: self.base_path / "7"},
        )
        _, _, log = self.look(version_folders.VersionFinder(0))
        self.assertIn(
            "Duplicate version directories detected. Version 7 will be loaded "
            "from 7, 0007 will be ignored.",
            log,
        )

    def test_missing_base_path(self):
        """Must not look like a folder without versions: that may unload."""
        with self.assertRaises(FileNotFoundError):
            version_folders.list_versions(self.base_path / "none")

    def test_policies(self):
        """Each policy, by what the config file can say."""
        self.add("1", "2", "3", "10")
        finder = version_folders.VersionFinder(0)
        self.assertEqual(self.look(finder)[0], [10])
        self.assertEqual(self.look(finder, latest={})[0], [10])
        self.assertEqual(
            self.look(finder, latest={"num_versions": 2})[0], [10, 3]
        )
        self.assertEqual(self.look(finder, all={})[0], [10, 3, 2, 1])
        self.assertEqual(
            self.look(finder, specific={"versions": [1, 3]})[0], [3, 1]
        )

    def test_missing_specific_version(self):
        """A warning, once a minute, and the others are served."""
        self.add("1")
        finder = version_folders.VersionFinder(0)
        found, is_done, log = self.look(finder, specific={"versions": [1, 5]})
        self.assertEqual((found, is_done), ([1], True))
        self.assertEqual(
            log,
            "Version 5 of servable m, which was requested to be served as a "
            "'specific' version in the servable's version policy, was not "
            "found in the file system\n",
        )
        self.assertEqual(
            self.look(finder, specific={"versions": [1, 5]})[2], ""
        )

    def test_no_versions(self):
        """The text people search for."""
        _, is_done, log = self.look(version_folders.VersionFinder(0))
        self.assertTrue(is_done)
        self.assertEqual(
            log,
            "No versions of servable m found under base path "
            f"{self.base_path}. Did you forget to name your leaf directory as "
            "a number (eg. '/1/')?\n",
        )

    def test_half_written_version_leaves_its_place_to_the_one_before(self):
        """Else a running copy takes a model off the air."""
        self.add("1")
        (self.base_path / "2").mkdir()
        finder = version_folders.VersionFinder(0)
        found, is_done, log = self.look(finder)
        self.assertEqual((found, is_done), ([1], False))
        self.assertIn("2: saved_model.pb is missing", log)

    def test_known_version_is_not_looked_into(self):
        """A loaded version stays while `rm -r` is half through with it."""
        (self.base_path / "2").mkdir()
        finder = version_folders.VersionFinder(0)
        found, is_done, log = self.look(finder, known=[2])
        self.assertEqual((found, is_done), ([2], True))
        self.assertIn("stays loaded from", log)


if __name__ == "__main__":
    unittest.main()
