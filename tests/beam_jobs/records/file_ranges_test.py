"""Record files cut into ranges."""

import json
import pathlib
import tempfile
import unittest

import pyarrow as pa
import pyarrow.parquet as pq

from beam_jobs.records import file_ranges
from beam_jobs.records import record_files

_FIELDS = {"record_id", "image", "sku_id", "title"}


def _read(path, encoding="utf-8", range_bytes=1 << 20):
    """Rows of each range with their line, and the lines of each range."""
    files = [record_files.RecordFile(str(path), path.name)]
    rows, lines = [], []
    for each in file_ranges.plan(files, encoding, range_bytes):
        reader = file_ranges.RowReader(each, encoding=encoding, fields=_FIELDS)
        found = [(line, row["record_id"]) for line, row, _ in reader]
        rows.append(found)
        lines.append(reader.num_lines)
    return rows, lines


def _number_through(rows, lines):
    """Lines of the file instead of those of a range."""
    first, numbered = 0, []
    for of_range, num_lines in zip(rows, lines, strict=True):
        numbered += [(first + line, name) for line, name in of_range]
        first += num_lines
    return numbered


class FileRangesTest(unittest.TestCase):
    def setUp(self):
        folder = self.enterContext(tempfile.TemporaryDirectory())
        self._folder = pathlib.Path(folder)

    def test_every_cut_of_lines(self):
        """Breaks if a record at a cut is read twice, or by nobody.

        Lines of other lengths, blank ones, no line end behind the last one,
        and letters of several bytes.
        """
        path = self._folder / "records.jsonl"
        texts = [
            json.dumps({"record_id": name}, ensure_ascii=False)
            for name in ("a", "红色手提包", "c" * 50, "d", "é")
        ]
        texts.insert(2, "")
        content = "\n".join(texts)
        expected = [
            (1, "a"), (2, "红色手提包"), (4, "c" * 50), (5, "d"), (6, "é"),
        ]  # fmt: skip
        num_bytes = len(content.encode())
        for end in ("", "\n", "\n\n"):
            path.write_text(content + end, "utf-8")
            for range_bytes in range(1, num_bytes + 4):
                rows, lines = _read(path, range_bytes=range_bytes)
                self.assertEqual(_number_through(rows, lines), expected)

    def test_several_workers_read_one_file(self):
        """Breaks if a single process reads sixty million records."""
        path = self._folder / "records.jsonl"
        line = json.dumps({"record_id": "a"}) + "\n"
        path.write_text(line * 10)
        rows, lines = _read(path, range_bytes=5 * len(line))
        # A cut behind a line end leaves that line where it was.
        self.assertEqual([len(each) for each in rows], [5, 5])
        self.assertEqual(lines, [5, 5])

    def test_row_groups(self):
        """Breaks if rows of a Parquet file get lost between groups."""
        path = self._folder / "records.parquet"
        table = pa.table(
            {
                "record_id": [f"r{i}" for i in range(10)],
                "price": list(range(10)),
            }
        )
        pq.write_table(table, path, row_group_size=3)
        rows, lines = _read(path, range_bytes=1)
        self.assertEqual([len(each) for each in rows], [3, 3, 3, 1])
        self.assertEqual(lines, [3, 3, 3, 1])
        self.assertEqual(
            _number_through(rows, lines), [(i + 1, f"r{i}") for i in range(10)]
        )
        (first, *_) = file_ranges.plan(
            [record_files.RecordFile(str(path), path.name)], "utf-8", 1
        )
        reader = file_ranges.RowReader(first, encoding="utf-8", fields=_FIELDS)
        list(reader)
        # Of the three rows that were read, not of all.
        self.assertEqual(reader.unknown_fields, {"price": 3})

    def test_what_is_not_cut(self):
        """Breaks if a quoted line end or half a letter begins a record."""
        path = self._folder / "records.csv"
        path.write_text('record_id,title\na,"x\ny"\nb,z\n')
        rows, _ = _read(path, range_bytes=1)
        self.assertEqual(rows, [[(2, "a"), (4, "b")]])
        path = self._folder / "wide.jsonl"
        # U+0A0A has the bytes of two line ends.
        text = json.dumps({"record_id": "\u0a0a"}, ensure_ascii=False)
        path.write_text(f"{text}\n", "utf-16")
        rows, _ = _read(path, "utf-16", range_bytes=1)
        self.assertEqual(rows, [[(1, "\u0a0a")]])


if __name__ == "__main__":
    unittest.main()
