"""Tests of ids and texts: exact, and the same from every format."""

import decimal
import io
import json
import unittest

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from beam_jobs.records import field_values
from beam_jobs.records import raw_records
from sicot_tf.data import records


def _id(value):
    return field_values.identifier({"sku_id": value}, "sku_id")


def _from_parquet(column):
    """Ids as the job takes them, or the reason of the reject."""
    file = io.BytesIO()
    pq.write_table(pa.table({"sku_id": column}), file)
    return _ids(file.getvalue(), "x.parquet")


def _ids(data, name):
    ids = []
    for _, row, content in raw_records.read_rows(
        io.BytesIO(data), name, fields={"sku_id"}
    ):
        try:
            if isinstance(row, records.RecordError):
                raise row
            # Rows travel as JSON.
            row = json.loads(content)
            ids.append(field_values.identifier(row, "sku_id"))
        except records.RecordError as error:
            ids.append(error.reason)
    return ids


class IdentifierTest(unittest.TestCase):
    def test_whole_numbers(self):
        """Broken: one class becomes two, by how its number was held."""
        for value in (100, 100.0, "100", "100.0"):
            self.assertEqual(_id(value), "100")
        for value in (0, 0.0, -0.0, "0.0", "-0.0"):
            self.assertEqual(_id(value), "0")
        self.assertEqual(_id(-5.0), "-5")
        self.assertEqual(_id("-5.0"), "-5")
        # The last integer that a float holds with all before it.
        self.assertEqual(_id(2.0**53), "9007199254740992")
        self.assertEqual(_id("9007199254740992.0"), "9007199254740992")
        self.assertEqual(_id(10**400), "1" + "0" * 400)

    def test_texts_stay(self):
        """Broken: ids are changed that only look like numbers."""
        for value in ("007", "1.50", "1.00", "1e5", "12E3", "007.0", ".0",
                      "1.0.0", "v1.0", "1,0", "nan", "NULL", " 7", "100.",
                      "+1.0", "1_0.0", "١.0"):  # fmt: skip
            self.assertEqual(_id(value), value)
        for value in (None, "", float("nan")):
            self.assertIsNone(_id(value))

    def test_what_has_lost_digits_is_refused(self):
        """Broken: products are mixed up that differ in the last digits."""
        for value in (1234567890123456789.0, 2.0**54, 1e22, -1e300, "1e+22",
                      "9007199254740994.0", "1234567890123456768.0",
                      "1.2345678901234568e+18", "1.23457E+18"):  # fmt: skip
            with self.assertRaisesRegex(records.RecordError, "digits are lost"):
                _id(value)

    def test_other_types_are_refused(self):
        """Broken: True, a list or bytes become the name of a class."""
        for value in (True, 1.5, float("inf"), b"s0", ["a"], {}, "a\nb",
                      "a\rb", "a\0b", "a\ud800"):  # fmt: skip
            with self.assertRaises(records.RecordError) as caught:
                _id(value)
            self.assertEqual(caught.exception.reason, "bad_field")

    def test_every_type_of_parquet(self):
        """Broken: the type of a column decides what a class is called."""
        for kind in (pa.int8(), pa.int32(), pa.int64(), pa.uint64(),
                     pa.float32(), pa.float64(), pa.decimal128(20, 0),
                     pa.decimal128(22, 2), pa.decimal256(50, 0)):  # fmt: skip
            column = pa.array([7, None, 100]).cast(kind)
            self.assertEqual(_from_parquet(column), ["7", None, "100"])
        for kind in (pa.string(), pa.large_string(), pa.binary(),
                     pa.large_binary(),
                     pa.dictionary(pa.int32(), pa.string())):  # fmt: skip
            column = pa.array(["007", None, "A-1"]).cast(kind)
            self.assertEqual(_from_parquet(column), ["007", None, "A-1"])
        self.assertEqual(
            _from_parquet(pa.array([2**64 - 1], pa.uint64())), [f"{2**64 - 1}"]
        )
        exact = decimal.Decimal("12345678901234567890123456789012345678")
        self.assertEqual(_from_parquet(pa.array([exact])), [str(exact)])
        self.assertEqual(
            _from_parquet(pa.array([b"s0", b"\xff"])), ["s0", "bad_encoding"]
        )
        # 2 ** 24 + 1 is no float of 32 bits.
        column = pa.array([16777216.0, 16777218.0], pa.float32())
        self.assertEqual(_from_parquet(column), ["16777216", "bad_field"])
        for kind in (pa.date32(), pa.timestamp("ns"), pa.time64("us")):
            column = pa.array([86_400], pa.int64())
            if kind == pa.date32():
                column = column.cast(pa.int32())
            self.assertEqual(_from_parquet(column.cast(kind)), ["bad_field"])
        self.assertEqual(_from_parquet(pa.array([True])), ["bad_field"])

    def test_pandas_writes_one_set(self):
        """Broken: the classes depend on the format a data frame was saved in.

        pandas makes 100.0 of 100 beside nulls, also in CSV.
        """
        for values, expected in (
            ([7, 100], ["7", "100"]),
            ([7, None, 100], ["7", None, "100"]),
            (["007", "1.50", "A-1", "1e5"], ["007", "1.50", "A-1", "1e5"]),
            ([12, "A-1"], ["12", "A-1"]),
            # Above 2 ** 53 floats differ from what they were.
            ([1234567890123456789, None], ["bad_field", None]),
            ([1234567890123456789], ["1234567890123456789"]),
        ):
            frame = pd.DataFrame({"sku_id": values, "title": "x"})
            with self.subTest(values):
                data = frame.to_csv(index=False).encode()
                self.assertEqual(_ids(data, "x.csv"), expected)
                data = "".join(
                    json.dumps({"sku_id": value}) + "\n"
                    for value in frame["sku_id"]
                )
                self.assertEqual(_ids(data.encode(), "x.jsonl"), expected)
                if values == [12, "A-1"]:
                    continue  # Parquet has no such column.
                data = frame.to_parquet(index=False)
                self.assertEqual(_ids(data, "x.parquet"), expected)


if __name__ == "__main__":
    unittest.main()
