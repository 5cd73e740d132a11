"""Tests of reading record files and of the contract of raw records."""

import gzip
import io
import json
import unittest

import pyarrow as pa
import pyarrow.parquet as pq

from beam_jobs.records import raw_records
from beam_jobs.records import reject_reasons
from sicot_tf.data import records

_RECORD = {
    "record_id": "r1",
    "image": "images/1.jpg",
    "sku_id": "A",
    "title": "Red bag",
}
_PARSED = {
    **_RECORD,
    "sku_name": None,
    "description": None,
    "tags": [],
    "category": None,
    "box": None,
    "split": None,
    "group": None,
    "source": None,
    "lang": None,
    "license": None,
}


def _read(data, name):
    return list(raw_records.read_rows(io.BytesIO(data), name))


class ReadRowsTest(unittest.TestCase):
    def test_json_lines(self):
        """If it fails, lines are lost or rejects name the wrong line."""
        data = b'\xef\xbb\xbf{"a": 1}\r\n\n  {"a": "\xe4\xb8\xad"}'
        expected = [
            (1, {"a": 1}, '{"a": 1}'),
            (3, {"a": "中"}, '{"a": "中"}'),
        ]
        self.assertEqual(_read(data, "x.jsonl"), expected)
        self.assertEqual(_read(gzip.compress(data), "x.jsonl.gz"), expected)

    def test_broken_json_lines(self):
        """If it fails, one broken line hides the lines behind it."""
        lines = [
            b'{"a": 1',
            b"[1, 2]",
            b'{"a": "\xff"}',
            b"[" * 100_000,
            b'{"a": 1}',
        ]
        rows = _read(b"\n".join(lines), "x.jsonl")
        self.assertEqual([line for line, _, _ in rows], [1, 2, 3, 4, 5])
        for _, row, _ in rows[:4]:
            self.assertIsInstance(row, records.RecordError)
        self.assertEqual(
            [row.reason for _, row, _ in rows[:4]],
            ["bad_json", "bad_json", "bad_encoding", "bad_json"],
        )
        self.assertEqual(json.loads(rows[0][2]), '{"a": 1')
        self.assertEqual(rows[4][1], {"a": 1})

    def test_content_of_lone_surrogates_can_be_written(self):
        """If it fails, rejects.jsonl can't be written for such a record."""
        ((_, _, content),) = _read(b'{"a": "\\ud800"}', "x.jsonl")
        self.assertEqual(content, '{"a": "\\ud800"}')
        content.encode("utf-8")

    def test_csv(self):
        """If it fails, quoted cells or line ends break rows."""
        data = b'a,b\r\n1,"two\nlines"\r\n\r\n2,\xff\r\n3\r\n4,5,6\r\n7,8\r\n'
        rows = _read(data, "x.csv")
        # Line 2 spans two lines; the stray byte spoils its own record.
        self.assertEqual(
            [(line, row) for line, row, _ in rows if isinstance(row, dict)],
            [
                (2, {"a": "1", "b": "two\nlines"}),
                (8, {"a": "7", "b": "8"}),
            ],
        )
        self.assertEqual(
            [(line, row.reason) for line, row, _ in rows if line in (5, 6, 7)],
            [(5, "bad_encoding"), (6, "bad_field"), (7, "bad_field")],
        )

    def test_parquet(self):
        """If it fails, Parquet rows differ from the JSON they came from."""
        table = pa.Table.from_pylist(
            [{"a": 1, "box": [1.0, 2.0]}, {"a": None, "box": None}]
        )
        output = io.BytesIO()
        pq.write_table(table, output)
        self.assertEqual(
            [
                (line, row)
                for line, row, _ in _read(output.getvalue(), "x.parquet")
            ],
            [
                (1, {"a": 1, "box": [1.0, 2.0]}),
                (2, {"a": None, "box": None}),
            ],
        )

    def test_other_endings_are_refused(self):
        """If it fails, a spreadsheet is read as JSON Lines."""
        with self.assertRaisesRegex(ValueError, "xlsx"):
            _read(b"", "x.xlsx")


class ParseRecordTest(unittest.TestCase):
    def _assert_rejected(self, reason, changes, **options):
        with self.assertRaises(records.RecordError) as caught:
            raw_records.parse_record({**_RECORD, **changes}, **options)
        self.assertEqual(caught.exception.reason, reason)
        self.assertIn(reason, reject_reasons.OF_DATASET)

    def test_the_smallest_record(self):
        """If it fails, optional fields are no longer optional."""
        self.assertEqual(raw_records.parse_record(_RECORD), _PARSED)

    def test_every_field(self):
        """If it fails, a field of the contract is lost."""
        optional = {
            "sku_name": "bag",
            "description": "a bag",
            "tags": ["red", "leather"],
            "category": "bags",
            "box": [0, 1, 2.5, 3],
            "split": "test",
            "group": "session-1",
            "source": "shop",
            "lang": "en",
            "license": "CC0",
        }
        self.assertEqual(set(optional), set(records.OPTIONAL_FIELDS))
        self.assertEqual(
            raw_records.parse_record({**_RECORD, **optional}),
            {**_RECORD, **optional},
        )

    def test_values_as_csv_and_parquet_write_them(self):
        """If it fails, the same set gives other classes from another format."""
        for sku_id in (123, 123.0, "123"):
            row = {
                **_RECORD,
                "sku_id": sku_id,
                "sku_name": float("nan"),
                "category": "",
                "source": None,
                "split": "validation",
                "tags": "red|leather|",
                "box": "[0, 1, 2, 3]",
            }
            self.assertEqual(
                raw_records.parse_record(row),
                {
                    **_PARSED,
                    "sku_id": "123",
                    "split": "val",
                    "tags": ["red", "leather"],
                    "box": [0, 1, 2, 3],
                },
            )

    def test_title_may_be_empty_but_not_absent(self):
        """If it fails, pictures without titles can't be stored."""
        for title in ("", None):
            parsed = raw_records.parse_record({**_RECORD, "title": title})
            self.assertEqual(parsed["title"], "")
        row = {key: _RECORD[key] for key in ("record_id", "image", "sku_id")}
        with self.assertRaises(records.RecordError) as caught:
            raw_records.parse_record(row)
        self.assertEqual(caught.exception.reason, "missing_field")

    def test_title_of_another_column(self):
        """If it fails, --title_field reads the wrong language."""
        parsed = raw_records.parse_record(
            {**_RECORD, "title_zh": "红包"}, title_field="title_zh", strict=True
        )
        self.assertEqual(parsed["title"], "红包")
        self._assert_rejected("missing_field", {}, title_field="title_zh")

    def test_surrogates(self):
        """If it fails, such a title crashes the writer, or an id is changed."""
        parsed = raw_records.parse_record({**_RECORD, "title": "a\ud800b"})
        self.assertEqual(parsed["title"], "a\ufffdb")
        self._assert_rejected("bad_field", {"sku_id": "a\ud800"})

    def test_rejects(self):
        """If it fails, records that break the contract reach training."""
        for name in ("record_id", "image", "sku_id"):
            self._assert_rejected("missing_field", {name: ""})
            self._assert_rejected("missing_field", {name: "  "})
            self._assert_rejected("missing_field", {name: None})
            self._assert_rejected("bad_field", {name: ["x"]})
            self._assert_rejected("bad_field", {name: True})
            self._assert_rejected("bad_field", {name: 1.5})
            self._assert_rejected("bad_field", {name: "a\nb"})
        self._assert_rejected("bad_field", {"tags": [1.5]})
        self._assert_rejected("unknown_split", {"split": "dev"})
        for box in ([1, 2, 3], [2, 0, 1, 1], [0, 0, 1, float("inf")],
                    [0, 0, 1, float("nan")], [0, 0, True, 1], "x", 7,
                    ["0", "0", "1", "1"], [-1, 0, 1, 1]):  # fmt: skip
            self._assert_rejected("bad_box", {"box": box})

    def test_unknown_fields_matter_only_when_strict(self):
        """If it fails, extra columns are rejected, or --strict does nothing."""
        raw_records.parse_record({**_RECORD, "price": 3})
        self._assert_rejected("unknown_field", {"price": 3}, strict=True)


class PathAndSplitTest(unittest.TestCase):
    def test_resolve_image(self):
        """If it fails, images are looked for in the wrong place."""
        for image, path in {
            "a/b.jpg": "/data/a/b.jpg",
            "/other/b.jpg": "/other/b.jpg",
            "gs://bucket/b.jpg": "gs://bucket/b.jpg",
        }.items():
            self.assertEqual(raw_records.resolve_image("/data", image), path)
        self.assertEqual(
            raw_records.resolve_image("gs://bucket/set", "b.jpg"),
            "gs://bucket/set/b.jpg",
        )


if __name__ == "__main__":
    unittest.main()
