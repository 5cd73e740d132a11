"""Files of a store that are read on this machine."""

import pathlib
import tempfile
import unittest

from sicot_tf.stores import local_copies
from sicot_tf.stores import opening
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


if __name__ == "__main__":
    unittest.main()
