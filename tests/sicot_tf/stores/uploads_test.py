"""Results that go to a store."""

import pathlib
import tempfile
import unittest

from sicot_tf.stores import opening
from sicot_tf.stores import uploads
from tests.helpers import object_stores


class UploadsTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.bucket = cls.enterClassContext(object_stores.s3_bucket())
        cls.here = pathlib.Path(
            cls.enterClassContext(tempfile.TemporaryDirectory())
        )

    def _write(self, place, contents):
        with uploads.replacing_folder(
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
            with uploads.replacing_folder(
                url, known_by="a.json", kind="result"
            ) as folder:
                (folder / "a.json").write_bytes(b"1")
                1 / 0
        with self.assertRaises(ZeroDivisionError):
            with uploads.replacing(f"{url}/file") as path:
                path.write_bytes(b"1")
                1 / 0
        self.assertEqual([*opening.open_folder(url).list()], [])


if __name__ == "__main__":
    unittest.main()
