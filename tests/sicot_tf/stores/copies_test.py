"""Results that go to a store, and files of it that are read here."""

import pathlib
import tempfile
import unittest

from sicot_tf.stores import copies
from sicot_tf.stores import opening
from tests.helpers import object_stores


class CopiesTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.bucket = cls.enterClassContext(object_stores.s3_bucket())
        cls.here = pathlib.Path(
            cls.enterClassContext(tempfile.TemporaryDirectory())
        )

    def _write(self, place, contents):
        with copies.replacing_folder(
            place, known_by="a.json", kind="result"
        ) as folder:
            for name, content in contents.items():
                path = folder / name
                path.parent.mkdir(exist_ok=True)
                path.write_bytes(content)

    def test_a_folder_replaces_an_earlier_one(self):
        """Breaks if a page of last week stays, or a foreign folder goes."""
        for place in (self.here / "r", f"{self.bucket}/r"):
            store = opening.open_folder(place)
            self._write(place, {"a.json": b"1", "plots/b.svg": b"1"})
            self._write(place, {"a.json": b"2", "c.svg": b"2"})
            self.assertEqual(
                {entry.key: store.get(entry.key) for entry in store.list()},
                {"a.json": b"2", "c.svg": b"2"},
            )
            store.delete("a.json")
            with self.assertRaisesRegex(ValueError, "something else there"):
                self._write(place, {"a.json": b"3"})
            self.assertEqual([each.key for each in store.list()], ["c.svg"])

    def test_nothing_of_what_failed(self):
        """Breaks if half a result is found on the store."""
        url = f"{self.bucket}/failed"
        with self.assertRaises(ZeroDivisionError):
            with copies.replacing_folder(
                url, known_by="a.json", kind="result"
            ) as folder:
                (folder / "a.json").write_bytes(b"1")
                1 / 0
        with self.assertRaises(ZeroDivisionError):
            with copies.replacing(f"{url}/file") as path:
                path.write_bytes(b"1")
                1 / 0
        self.assertEqual([*opening.open_folder(url).list()], [])

    def test_local_files(self):
        """Breaks if a worker finds no shard, or leaves it on its disk."""
        opening.open_folder(f"{self.bucket}/l").put("a", b"1")
        with copies.local_files(f"{self.bucket}/l", ["a", "b"]) as folder:
            found = {path.name: path.read_bytes() for path in folder.iterdir()}
        self.assertEqual(found, {"a": b"1"})
        self.assertFalse(folder.exists())
        with copies.local_files(self.here, ["a"]) as folder:
            self.assertEqual(folder, self.here)


if __name__ == "__main__":
    unittest.main()
