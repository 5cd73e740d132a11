"""Tests of whole_versions: a version that is being copied is not whole."""

import os
import pathlib
import shutil
import tempfile
import time
from unittest import mock

import numpy as np
import tensorflow as tf
from tensorflow.core.protobuf import saved_model_pb2

from sicot_tf.serving.versions import whole_versions


class Doubler(tf.Module):
    """A variable, and a table read from an asset."""

    def __init__(self, path):
        super().__init__()
        self.factor = tf.Variable(np.full([100], 2.0, np.float32))
        self.table = tf.lookup.StaticHashTable(
            tf.lookup.TextFileInitializer(
                path,
                tf.int64,
                tf.lookup.TextFileIndex.LINE_NUMBER,
                tf.string,
                tf.lookup.TextFileIndex.WHOLE_LINE,
            ),
            "",
        )

    @tf.function(input_signature=[tf.TensorSpec([None], name="x")])
    def serve(self, x):
        return {
            "y": x * self.factor[0],
            "label": self.table.lookup(tf.zeros_like(x, tf.int64)),
        }


class WholeVersionsTest(tf.test.TestCase):
    """Breaks if a model goes on the air without its variables."""

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls._folder = tempfile.TemporaryDirectory()
        cls.addClassCleanup(cls._folder.cleanup)
        labels = pathlib.Path(cls._folder.name, "labels.txt")
        labels.write_text("a\nb\n")
        cls.saved_model = pathlib.Path(cls._folder.name, "saved")
        module = Doubler(str(labels))
        tf.saved_model.save(
            module, str(cls.saved_model), signatures={"serve": module.serve}
        )

    def setUp(self):
        super().setUp()
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.directory = pathlib.Path(folder.name, "1")
        shutil.copytree(self.saved_model, self.directory)

    def look(self, check):
        fault, _ = check.find_fault(self.directory)
        return fault

    def find_fault(self):
        return self.look(whole_versions.WholenessCheck(0.0))

    def test_whole(self):
        self.assertEqual(self.find_fault(), "")

    def test_each_missing_file(self):
        """Files may arrive in any order."""
        for name, fault in (
            ("saved_model.pb", "does not exist"),
            ("variables/variables.index", "variables.index can't"),
            (
                "variables/variables.data-00000-of-00001",
                "data files of variables are missing",
            ),
            ("assets/labels.txt", "assets/labels.txt is missing"),
            ("variables", "variables.index can't"),
        ):
            with self.subTest(name):
                path = self.directory / name
                aside = self.directory.with_name("aside")
                path.rename(aside)
                self.assertIn(fault, self.find_fault())
                aside.rename(path)
        self.assertEqual(self.find_fault(), "")

    def test_each_cut_file(self):
        """A copy that broke off, or is slow."""
        for name, fault in (
            ("saved_model.pb", "Cannot parse"),
            ("variables/variables.index", "can't be read"),
            ("variables/variables.data-00000-of-00001", "too short"),
        ):
            path = self.directory / name
            whole = path.read_bytes()
            # 100 floats are most of the data file, but not the whole.
            for size in (0, 1, len(whole) // 2):
                with self.subTest(name=name, size=size):
                    path.write_bytes(whole[:size])
                    self.assertNotEqual(self.find_fault(), "")
            self.assertIn(fault, self.find_fault())
            path.write_bytes(whole)
        self.assertEqual(self.find_fault(), "")

    def test_text_form(self):
        """`saved_model.pbtxt` stands for `saved_model.pb`."""
        path = self.directory / "saved_model.pb"
        text = str(saved_model_pb2.SavedModel.FromString(path.read_bytes()))
        path.unlink()
        path = path.with_suffix(".pbtxt")
        path.write_text(text)
        self.assertEqual(self.find_fault(), "")
        path.write_text(text[: len(text) // 2])
        self.assertIn("Cannot parse", self.find_fault())

    def test_one_of_two_data_files(self):
        """Large models have several."""
        data = self.directory / "variables/variables.data-00000-of-00001"
        data.rename(data.with_name("variables.data-00000-of-00002"))
        self.assertIn("data files of variables are missing", self.find_fault())

    def test_graph_without_variables(self):
        """TensorFlow 1 leaves an empty folder; it must load all the same."""
        directory = self.directory.with_name("2")
        with tf.Graph().as_default(), tf.compat.v1.Session() as session:
            x = tf.compat.v1.placeholder(tf.float32, [None], "x")
            tf.compat.v1.saved_model.simple_save(
                session, str(directory), {"x": x}, {"y": 2 * x}
            )
        check = whole_versions.WholenessCheck(0.0)
        self.assertEqual(check.find_fault(directory)[0], "")
        shutil.rmtree(directory / "variables")
        self.assertEqual(check.find_fault(directory)[0], "")

    def test_waits_until_files_rest(self):
        """What no header tells, for example a warm-up file to come."""
        check = whole_versions.WholenessCheck(0.2)
        changing = "its files are still changing"
        self.assertEqual(self.look(check), changing)
        (self.directory / "assets.extra").mkdir()
        time.sleep(0.25)
        # 0.25 seconds later, but with a folder more.
        self.assertEqual(self.look(check), changing)
        time.sleep(0.25)
        self.assertEqual(self.look(check), "")

    def test_seconds_unchanged(self):
        """Since its last change, if need be before this process began."""
        (self.directory / "saved_model.pb").unlink()
        check = whole_versions.WholenessCheck(0.0)
        time.sleep(0.3)
        fault, seconds = check.find_fault(self.directory)
        self.assertIn("not exist", fault)
        self.assertBetween(seconds, 0.2, 60)
        start = time.time() - 0.1  # File systems have their own clock.
        (self.directory / "more").touch()
        fault, seconds = check.find_fault(self.directory)
        self.assertIn("not exist", fault)
        self.assertLess(seconds, time.time() - start)

    def test_set_back_times_do_not_hide_a_change(self):
        """`cp -p` and `rsync -t` give a file an old time as they write it."""
        for path in self.directory.rglob("*"):
            os.utime(path, (0, 0))
        check = whole_versions.WholenessCheck(60.0)
        self.assertIn("still changing", self.look(check))

    def test_old_folder_needs_one_look(self):
        """A server that starts must not wait for no reason."""
        check = whole_versions.WholenessCheck(60.0)
        with mock.patch.object(whole_versions, "_QUIET_SECONDS", 0.1):
            time.sleep(0.15)
            self.assertEqual(self.look(check), "")


if __name__ == "__main__":
    tf.test.main()
