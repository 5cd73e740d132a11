"""Tests of reading Parquet: what is not used costs and breaks nothing."""

import datetime
import io
import unittest

import pyarrow as pa
import pyarrow.parquet as pq

from beam_jobs.records import parquet_rows
from beam_jobs.records import raw_records
from sicot_tf.data import records


def _file(columns, **settings):
    file = io.BytesIO()
    pq.write_table(pa.table(columns), file, **settings)
    file.seek(0)
    return file


def _read(columns, **settings):
    rows = raw_records.read_rows(_file(columns), "x.parquet", **settings)
    return [row for _, row, _ in rows]


# Text by its type alone.
_NOT_TEXT = pa.StringArray.from_buffers(
    2, pa.py_buffer(b"\0\0\0\0\2\0\0\0\3\0\0\0"), pa.py_buffer(b"ok\xfc")
)


class ParquetRowsTest(unittest.TestCase):
    def test_unused_columns_are_counted_but_not_read(self):
        """Broken: a column nobody uses ends the job, or fills the memory."""
        unknown = raw_records.collections.Counter()
        columns = {
            "sku_id": ["a", "b"],
            "seller": _NOT_TEXT,
            "created": pa.array([1, 2**62], pa.timestamp("ns")),
            "jpg": [b"\xff", None],
        }
        rows = _read(columns, fields={"sku_id"}, unknown=unknown)
        # Their names are for --strict.
        names = ("seller", "created", "jpg")
        for row, sku_id in zip(rows, "ab", strict=True):
            self.assertEqual(row, {"sku_id": sku_id, **dict.fromkeys(names)})
        self.assertEqual(unknown, dict.fromkeys(names, 2))

    def test_a_damaged_page_of_an_unused_column(self):
        """Broken: bytes nobody needs make a file unreadable."""
        filler = "x" * 999
        file = _file(
            {"sku_id": ["a", "b"], "note": [filler, filler]},
            compression="none",
            use_dictionary=False,
        )
        data = bytearray(file.getvalue())
        start = data.index(b"x" * 999) - 4
        data[start : start + 4] = b"\xff\xff\xff\x7f"
        rows = raw_records.read_rows(
            io.BytesIO(data), "x.parquet", fields={"sku_id"}
        )
        self.assertEqual([row["sku_id"] for _, row, _ in rows], ["a", "b"])

    def test_a_value_spoils_its_own_row(self):
        """Broken: one value that is no text ends the job."""
        for column in (
            _NOT_TEXT,
            pa.array([b"ok", b"\xfc"]),
            _NOT_TEXT.dictionary_encode(),
            pa.ListArray.from_arrays([0, 1, 2], _NOT_TEXT),
        ):
            rows = list(
                raw_records.read_rows(
                    _file({"sku_id": ["a", "b"], "note": column}), "x.parquet"
                )
            )
            self.assertIn(rows[0][1]["note"], ("ok", ["ok"]))
            self.assertIsInstance(rows[1][1], records.RecordError)
            self.assertEqual(rows[1][1].reason, "bad_encoding")
            self.assertEqual(rows[1][2], '{"sku_id": "b", "note": null}')

    def test_times(self):
        """Broken: what is read depends on whether pandas is installed."""
        nanoseconds = 1_700_000_000_123_456_789
        (row,) = _read({"at": pa.array([nanoseconds], pa.timestamp("ns"))})
        self.assertEqual(
            row["at"], datetime.datetime(2023, 11, 14, 22, 13, 20, 123456)
        )
        # Beyond year 9999.
        rows = _read({"at": pa.array([0, 2**62], pa.timestamp("ms"))})
        self.assertEqual(rows[0]["at"], datetime.datetime(1970, 1, 1))
        self.assertEqual(rows[1].reason, "bad_field")

    def test_batches_are_small_where_rows_are_large(self):
        """Broken: 1024 pictures are in memory at once."""
        file = _file(
            {"a": [bytes([i]) * (1 << 20) for i in range(20)], "b": range(20)},
            use_dictionary=False,
        )
        parquet = parquet_rows.open_file(file)
        # 8 MiB at once: 7 rows, since each has a few bytes of its own.
        for columns, expected in ((["a", "b"], 7), (["b"], 1024)):
            num_rows = parquet_rows._rows_at_once(parquet, 0, columns)
            self.assertEqual(num_rows, expected)

    def test_no_used_column(self):
        """Broken: rows without a field of the contract vanish."""
        rows = _read({"a": [1, 2]}, fields={"sku_id"})
        self.assertEqual(rows, [{"a": None}, {"a": None}])
        with self.assertRaisesRegex(ValueError, "columns named sku_id"):
            _read({"a": [1]}, needed=["sku_id"])
        self.assertEqual(_read({"sku_id": pa.array([], pa.string())}), [])


if __name__ == "__main__":
    unittest.main()
