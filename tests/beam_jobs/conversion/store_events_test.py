"""Tests of what is read of files of events, and what is put aside."""

import gzip
import json
import pathlib
import tempfile

import pyarrow.parquet as pq
from absl.testing import absltest

from beam_jobs.conversion import store_events

_GOOD = (
    '{"event_id":"e","time":"2026-03-02T23:30:00-01:00","event":"click",'
    '"visitor":"v","variant":"a","recognised":false,"ip":"192.0.2.7"}'
)


class StoreFileTest(absltest.TestCase):
    def _store(self, content, name="x.jsonl"):
        with tempfile.TemporaryDirectory() as folder:
            folder = pathlib.Path(folder)
            path = folder / name
            path.write_bytes(content)
            store = store_events.StoreFileFn(str(folder))
            list(store.process((3, str(path).encode(), name)))
            part = store_events.part_files(folder, 3)
            lines = part["rejects"].read_text("utf-8").splitlines()
            return (
                pq.read_table(part["events"]).to_pylist(),
                [json.loads(line) for line in lines],
            )

    def test_columns(self):
        """Breaks if an event is counted on the day of the sender's clock, or
        an id stays in the parts."""
        rows, rejects = self._store(f"\n{_GOOD}\n".encode())
        self.assertEmpty(rejects)
        (row,) = rows
        self.assertEqual(row["day"].isoformat(), "2026-03-03")
        # Half past midnight of that day.
        self.assertEqual(row["time"] % (86_400 * 10**6), 1_800 * 10**6)
        self.assertEqual(row["place"], (3 << 36) + 2)
        self.assertEqual(
            (row["event"], row["variant"], row["recognised"], row["robot"]),
            (2, "a", False, False),
        )
        self.assertIsInstance(row["visitor"], int)

    def test_gzip(self):
        """Breaks if compressed logs can't be read."""
        rows, _ = self._store(gzip.compress(_GOOD.encode()), "x.jsonl.gz")
        self.assertLen(rows, 1)

    def test_rejects(self):
        """Breaks if a bad line ends the job, has no place or reason, or takes
        an address into the report."""
        lines = [
            _GOOD,
            _GOOD.replace('"v"', '"someone@example.org"'),
            '["someone@example.org"]',
            '"someone@example.org"',
            _GOOD.replace("click", "view"),
            '{"event_id":',
            '{"event_id":"someone@example.org \xff"}',
        ]
        rows, rejects = self._store("\n".join(lines).encode("latin-1"))
        self.assertLen(rows, 1)
        self.assertEqual(
            [(each["file"], each["line"]) for each in rejects],
            [("x.jsonl", line) for line in range(2, 8)],
        )
        self.assertEqual(
            [each["reason"] for each in rejects],
            [
                "bad_event",
                "bad_json",
                "bad_json",
                "bad_event",
                "bad_json",
                "bad_encoding",
            ],
        )
        self.assertIn("'view'", rejects[3]["message"])
        self.assertNotIn("example.org", json.dumps(rejects))


if __name__ == "__main__":
    absltest.main()
