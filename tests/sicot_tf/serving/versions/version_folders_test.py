"""Tests of version_folders: names of versions and policies."""

import pathlib
import tempfile
import unittest

from tensorflow.core.protobuf import saved_model_pb2
from tensorflow_serving.config import model_server_config_pb2

from sicot_tf.serving.versions import version_folders
from sicot_tf.serving.versions.options import Options

# A file that has not changed since the first look is whole.
OPTIONS = Options(file_system_poll_wait_seconds=1e-9)


class VersionFoldersTest(unittest.TestCase):
    """Breaks if a version is never found, or the wrong one is served."""

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
        """Numbers that are found, and whether nothing is awaited."""
        config = model_server_config_pb2.ModelConfig(
            name="m", base_path=str(self.base_path), model_version_policy=policy
        )
        look = finder.look(config, known)
        return list(look.versions), look.is_done

    def test_names(self):
        """Only what absl::SimpleAtoi reads is a version; 0007 is 7."""
        names = ["1", "0007", "-3", ".8.tmp-1", "v9", "1_0", "2.0", "9" * 20]
        self.add(*names)
        expected = {1: "1", 7: "0007", -3: "-3"}
        expected = {
            key: self.base_path / name for key, name in expected.items()
        }
        self.assertEqual(
            version_folders.list_versions(self.base_path), expected
        )
        # TensorFlow Serving, too, takes the later name of a duplicate.
        self.add("7")
        expected[7] = self.base_path / "7"
        self.assertEqual(
            version_folders.list_versions(self.base_path), expected
        )
        # Must not look like a folder without versions: that may unload.
        with self.assertRaises(FileNotFoundError):
            version_folders.list_versions(self.base_path / "none")

    def test_policies(self):
        """Each policy, by what the config file can say."""
        self.add("1", "2", "3", "10")
        finder = version_folders.VersionFinder(OPTIONS)
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
        finder = version_folders.VersionFinder(OPTIONS)
        with self.assertLogs(version_folders.__name__) as logs:
            for _ in range(2):
                found = self.look(finder, specific={"versions": [1, 5]})
                self.assertEqual(found, ([1], True))
        [line] = logs.output
        self.assertIn("Version 5 of servable m", line)

    def test_no_versions(self):
        """The text people search for."""
        with self.assertLogs(version_folders.__name__) as logs:
            found = self.look(version_folders.VersionFinder(OPTIONS))
        self.assertEqual(found, ([], True))
        self.assertIn("No versions of servable m found", logs.output[0])

    def test_half_written_version_leaves_its_place_to_the_one_before(self):
        """Breaks if a running copy takes a model off the air."""
        self.add("1")
        (self.base_path / "2").mkdir()
        finder = version_folders.VersionFinder(OPTIONS)
        self.assertEqual(self.look(finder), ([1], False))
        # A loaded version stays while `rm -r` is half through with it.
        self.assertEqual(self.look(finder, known=[2]), ([2], True))


if __name__ == "__main__":
    unittest.main()
