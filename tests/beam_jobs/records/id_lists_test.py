"""Tests of the lists of ids that people write."""

import codecs
import pathlib
import tempfile
import unittest

from beam_jobs.records import id_lists


class IdListsTest(unittest.TestCase):
    def setUp(self):
        super().setUp()
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self._path = pathlib.Path(folder.name) / "ids.txt"

    def test_what_editors_add_is_no_part_of_an_id(self):
        """If it fails, the first record of a frozen test trains."""
        self._path.write_bytes(
            codecs.BOM_UTF8 + b" r1\r\n\r\nr 2\t\rr1\n" + "é\u2028x".encode()
        )
        found = id_lists.read(self._path)
        self.assertEqual(found.ids, ["r1", "r 2", "é\u2028x"])
        self.assertEqual(found.num_repeated, 1)

    def test_other_encodings_are_told(self):
        """If it fails, no id of the list is known, and nobody says why."""
        for content in (
            "r1\nr5".encode("utf-16"),
            codecs.BOM_UTF16_LE + "中文".encode("utf-16-le"),
            "é".encode("latin-1"),
        ):
            self._path.write_bytes(content)
            with self.assertRaisesRegex(ValueError, "in UTF-8.*Save it as"):
                id_lists.read(self._path)

    def test_unknown_ids_are_counted_and_named(self):
        """If it fails, a list of another data set goes unnoticed."""
        self._path.write_text("r1\nz\ny\nr1\n")
        found = id_lists.read(self._path)
        self.assertEqual(
            found.describe(["z", "y"]),
            {
                "listed": 3,
                "repeated": 1,
                "unknown": 2,
                "unknown_ids": ["y", "z"],
            },
        )
        with self.assertRaisesRegex(ValueError, "none of its 3 is: 'r1', 'y'"):
            found.describe(["r1", "y", "z"])


if __name__ == "__main__":
    unittest.main()
