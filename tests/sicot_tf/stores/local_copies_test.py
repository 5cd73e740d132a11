"""Files of a store that are read on this machine."""

import pathlib
import tempfile
import unittest

from sicot_tf.stores import local_copies
from sicot_tf.stores import opening
from sicot_tf.stores import uploads
from tests.helpers import object_stores


class LocalCopiesTest(unittest.TestCase):
    def test_local_files(self):
        """Breaks if a worker finds no shard, or leaves it on its disk."""
        here = pathlib.Path(self.enterContext(tempfile.TemporaryDirectory()))
        with object_stores.s3_bucket() as bucket:
            opening.open_folder(f"{bucket}/l").put("a", b"1")
            with local_copies.local_files(f"{bucket}/l", ["a", "b"]) as folder:
                (path,) = folder.iterdir()
                self.assertEqual((path.name, path.read_bytes()), ("a", b"1"))
        self.assertFalse(folder.exists())
        with local_copies.local_files(here, ["a"]) as folder:
            self.assertEqual(folder, here)


class AtHandTest(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = pathlib.Path(folder.name)
        (self.folder / "model" / "variables").mkdir(parents=True)
        (self.folder / "model" / "variables" / "a").write_bytes(b"1")
        (self.folder / "model" / "b").write_bytes(b"2")

    def test_on_a_disk(self):
        """Breaks if files are copied that all workers see."""
        model = self.folder / "model"
        place = opening.open_folder(self.folder / "work")
        self.assertEqual(uploads.for_workers(model, place), model)
        here = opening.open_folder(model)
        copies = self.folder / "copies"
        self.assertEqual(local_copies.at_hand(here, copies), model)
        self.assertEqual(
            [each.name for each in self.folder.iterdir()], ["model"]
        )

    def test_there_and_back(self):
        """Breaks if a worker of another machine lacks a file."""
        with object_stores.s3_bucket() as bucket:
            place = opening.open_folder(f"{bucket}/work")
            found = uploads.for_workers(self.folder / "model", place)
            self.assertEqual(found, f"{bucket}/work")
            copies = local_copies.at_hand(place, self.folder / "copies")
            self.assertEqual((copies / "variables" / "a").read_bytes(), b"1")
            self.assertEqual((copies / "b").read_bytes(), b"2")
            some = local_copies.at_hand(place, self.folder / "some", ["b"])
            self.assertEqual([each.name for each in some.iterdir()], ["b"])


if __name__ == "__main__":
    unittest.main()
