"""Two thousand damaged record files: every line ends in one place."""

import collections
import io
import json
import random
import re
import unittest

import pyarrow as pa
import pyarrow.parquet as pq

from beam_jobs.records import raw_records
from beam_jobs.records import reject_reasons
from sicot_tf.data import records

_FIELDS = raw_records.known_fields("title")
_NAMES = ["record_id", "image", "sku_id", "title", "note"]
_CELLS = (
    "red bag", "", '"', '""', '"""', '"a"', '"a', 'a"', '"a"b', ",", ",,",
    '27" inch', '"27 inch, black', "\\", '\\"', "\n", "\r", "\r\n", '"a\nb"',
    '"a\r\n\r\nb"', "\0", "\u2028", "\x85", "\x1c", "红包", "é", "\ufeff",
    "nan", "1.0", "007", "x,y,z,w", '"\nr1,i,s,t,n\n"', "x" * 2000,
)  # fmt: skip
_STRAY = (b"", b"", b"\xff", b"\xe9", b"\xba\xec", b"\xed\xa0\x80", b"\xfe")
_VALUES = (
    None, True, 1, 1.0, 1.5, -0.0, 2**53 + 2.0, 2**70, 10**400, float("nan"),
    float("inf"), "", "a", "\ud83d", "\udce9", "a\nb", [], [1], {"a": {}},
    [[[]]], "1.0", "1e+22", "x" * 2000,
)  # fmt: skip
_ARRAYS = (
    pa.array(["a", None, ""]),
    pa.array([b"a", b"\xff", None]),
    pa.array([1.0, 2.0**60, None]),
    pa.array([1, 2**62, None]),
    pa.array([1, 2**62, None], pa.timestamp("ns")),
    pa.array([1, 2**62, None], pa.timestamp("us")),
    pa.array([1.5, 2.0**30, None], pa.float32()),
    pa.array(["a", "b", None]).dictionary_encode(),
    pa.array([[1], None, [2, 3]]),
    pa.array([{"a": b"\xff"}, None, {"a": b"b"}]),
    pa.nulls(3),
    pa.StringArray.from_buffers(
        3,
        pa.py_buffer(b"\0\0\0\0\1\0\0\0\2\0\0\0\3\0\0\0"),
        pa.py_buffer(b"a\xffb"),
    ),
)


def _csv(rng):
    end = rng.choice(("\n", "\r\n"))
    lines = [",".join(_NAMES)]
    for i in range(rng.randint(1, 12)):
        cells = [f"r{i}", "../0.png", "s", "title", "n"]
        for _ in range(rng.choice((0, 0, 1, 2))):
            cells[rng.randrange(5)] = rng.choice(_CELLS)
        if rng.random() < 0.1:
            cells = cells[: rng.randint(0, 5)]
        lines.append(",".join(cells))
    data = end.join(lines).encode() + rng.choice((b"", end.encode()))
    return _damage(data, data.index(b"note") + 6, rng)


def _json_lines(rng):
    lines = []
    for i in range(rng.randint(0, 12)):
        row = {
            "record_id": f"r{i}",
            "image": "../0.png",
            "sku_id": "s",
            "title": "t",
        }
        for _ in range(rng.choice((0, 1, 2))):
            name = rng.choice([*row, "note", "\ud83d", "a.b"])
            row[name] = rng.choice(_VALUES)
        text = json.dumps(row, ensure_ascii=rng.random() < 0.5)
        lines.append(text.encode("utf-8", "surrogatepass"))
        lines += rng.choice(([], [], [b""], [b"  "], [b"{"], [b"[" * 5000]))
    return _damage(rng.choice((b"\n", b"\r\n")).join(lines), 0, rng)


def _damage(data, start, rng):
    data = bytearray(data)
    for _ in range(rng.choice((0, 0, 1, 3))):
        place = rng.randint(min(start, len(data)), len(data))
        stray = rng.choice(_STRAY)
        data[place : place + rng.choice((0, len(stray)))] = stray
    return bytes(data)


def _parquet(rng):
    columns = {
        name: pa.concat_arrays([rng.choice(_ARRAYS)] * 2)
        for name in [*_NAMES, "a.b", ""]
        if rng.random() < 0.8
    }
    file = io.BytesIO()
    pq.write_table(pa.table(columns), file, row_group_size=4)
    return file.getvalue(), 6 if columns else 0


class DamagedRecordFilesTest(unittest.TestCase):
    def _read(self, data, name, fields):
        """Rows of a file; each can be parsed, or told why not."""
        rows = list(
            raw_records.read_rows(io.BytesIO(data), name, fields=fields)
        )
        reasons = collections.Counter()
        for _, row, content in rows:
            content.encode()  # Any file can hold it.
            if isinstance(row, records.RecordError):
                reasons[row.reason] += 1
                continue
            try:
                raw_records.parse_record(json.loads(content))
                reasons[None] += 1
            except records.RecordError as error:
                reasons[error.reason] += 1
        self._assert_known(reasons)
        return rows

    def _assert_known(self, reasons):
        unknown = reasons.keys() - reject_reasons.OF_DATASET.keys() - {None}
        self.assertEqual(unknown, set())

    def test_csv(self):
        """Broken: a line of some CSV is lost, or counted twice."""
        for seed in range(1350):
            rng = random.Random(seed)
            data = _csv(rng)
            # As the reader decodes: stray bytes are no line ends.
            text = data.decode("utf-8", "surrogateescape")
            lines = re.split("\r\n|\r|\n", text)
            covered = []
            for line, row, content in self._read(data, "x.csv", None):
                num_lines = 1
                if not isinstance(row, records.RecordError):
                    cells = "".join(row.values())
                    self.assertEqual(list(row), _NAMES)
                    num_lines += len(re.findall("\r\n|\r|\n", cells))
                elif row.reason == "bad_encoding" and content[0] == "{":
                    cells = "".join(json.loads(content).values())
                    num_lines += len(re.findall("\r\n|\r|\n", cells))
                covered += range(line, line + num_lines)
            self.assertEqual(len(set(covered)), len(covered), data)
            left = set(range(2, len(lines) + 1)) - set(covered)
            self.assertEqual({lines[n - 1] for n in left} - {""}, set(), data)
            # Which fields are used decides nothing about lines.
            self.assertEqual(
                [line for line, _, _ in self._read(data, "x.csv", _FIELDS)],
                [line for line, _, _ in self._read(data, "x.csv", None)],
            )

    def test_json_lines(self):
        """Broken: a line of JSON is lost, or ends the job."""
        for seed in range(500):
            data = _json_lines(random.Random(seed))
            expected = [
                number
                for number, line in enumerate(data.split(b"\n"), 1)
                if line.strip()
            ]
            for fields in (None, _FIELDS):
                read = self._read(data, "x.jsonl", fields)
                lines = [line for line, _, _ in read]
                self.assertEqual(lines, expected, data)

    def test_parquet(self):
        """Broken: a value of some type ends the job."""
        for seed in range(150):
            data, num_rows = _parquet(random.Random(seed))
            for fields in (None, _FIELDS):
                read = self._read(data, "x.parquet", fields)
                lines = [line for line, _, _ in read]
                self.assertEqual(lines, list(range(1, num_rows + 1)), seed)


if __name__ == "__main__":
    unittest.main()
