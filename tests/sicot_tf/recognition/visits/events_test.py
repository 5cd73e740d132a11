"""Tests of the contract of events and of the log of them."""

import datetime
import json
import pathlib
import subprocess
import sys
import tempfile
import threading

from absl.testing import absltest
from absl.testing import parameterized

from sicot_tf.recognition.visits import events

# 2026-11-27, 22:04:05 UTC.
_NOW = 1795817045.0
_ROW = {
    "event_id": "e1",
    "time": "2026-11-27T23:04:05.5+01:00",
    "event": "click",
    "visitor": "3f2a",
    "variant": "new",
    "sku_id": "包",
    "recognised": True,
    "model_version": 3,
}
# Appends until the disk is full, then once more after there is room.
_FULL_DISK = """
import logging, resource, sys
from sicot_tf.recognition.visits import events
row = {"event_id": "e", "time": "2026-11-27T22:00:00Z", "event": "visit",
       "visitor": "v", "variant": "a"}
log = events.EventLog(sys.argv[1], clock=lambda: 1795817045.0)
resource.setrlimit(resource.RLIMIT_FSIZE, (250, 10_000))
print([log.write(events.parse(row)) for _ in range(5)], log.num_dropped)
resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000))
print(log.write(events.parse(row)))
log.close()
"""
_KILLED = """
import os, signal, sys
from sicot_tf.recognition.visits import events
log = events.EventLog(sys.argv[1])
log.write(events.parse({"event_id": "e", "time": "2026-11-27T22:00:00Z",
    "event": "visit", "visitor": "v", "variant": "a"}))
os.kill(os.getpid(), signal.SIGKILL)
"""


class ParseTest(parameterized.TestCase):
    def test_fields(self):
        """Breaks if a field is lost, or a time keeps the clock of a shop."""
        event = events.parse(_ROW)
        self.assertEqual(
            event.time,
            datetime.datetime(2026, 11, 27, 22, 4, 5, 500_000, datetime.UTC),
        )
        self.assertEqual((event.sku_id, event.recognised), ("包", True))
        self.assertFalse(event.robot)
        again = json.loads(event.to_json())
        self.assertEqual(again["time"], "2026-11-27T22:04:05.500000Z")
        self.assertNotIn("request_id", again)
        self.assertEqual(events.parse(again), event)

    def test_similar_products(self):
        """Breaks if the log can't say what was shown, and clicked where."""
        row = {
            **_ROW,
            "product_id": "shop/包",
            "position": 21,
            "shown": ["shop/包", "shop/b"],
        }
        event = events.parse(row)
        self.assertEqual(event.shown, ("shop/包", "shop/b"))
        again = json.loads(event.to_json())
        self.assertEqual(
            (again["product_id"], again["position"]), ("shop/包", 21)
        )
        self.assertEqual(events.parse(again), event)

    @parameterized.parameters(
        ("position", 0),
        ("position", "1"),
        ("shown", []),
        ("shown", "shop/a"),
        ("shown", [""]),
        ("shown", ["p"] * 101),
        ("shown", [None]),
        ("product_id", "p" * 257),
    )
    def test_refuses_what_is_no_place(self, field, value):
        """Breaks if a click log is made of rows that mean nothing."""
        with self.assertRaisesRegex(ValueError, f"`{field}`"):
            events.parse({**_ROW, field: value})

    def test_drops_other_fields(self):
        """Breaks if what tells who a visitor is gets into the log."""
        row = {**_ROW, "ip": "192.0.2.7", "user_agent": "Mozilla/5.0"}
        self.assertEqual(events.parse(row), events.parse(_ROW))

    @parameterized.parameters(
        "192.0.2.7",
        "192-0-2-7",
        "2001:db8::1",
        "someone@example.org",
        "https://example.org/someone",
        "",
        "x" * 65,
        None,
        17,
    )
    def test_refuses_visitor(self, visitor):
        """Breaks if an address is taken for an opaque id, or an error, which
        goes into logs, repeats it."""
        with self.assertRaisesRegex(ValueError, r"`visitor`.*\.\Z") as caught:
            events.parse({**_ROW, "visitor": visitor})
        if visitor and visitor != 17:
            self.assertNotIn(visitor, str(caught.exception))

    @parameterized.parameters("1234567", "1.2.3", "a-1.2.3.4", "3f2a~B_9")
    def test_takes_opaque_visitor(self, visitor):
        """Breaks if ids that only resemble an address are refused."""
        self.assertEqual(
            events.parse({**_ROW, "visitor": visitor}).visitor, visitor
        )

    @parameterized.parameters(
        ("time", "2026-11-27T22:04:05"),
        ("time", "yesterday"),
        ("time", "0001-01-01T00:00:00+14:00"),
        ("time", 1795817045),
        ("event", "view"),
        ("event", None),
        ("event", ["visit"]),
        ("event_id", ""),
        ("variant", "a b"),
        ("sku_id", 7),
        ("sku_id", ""),
        ("recognised", 1),
        ("model_version", True),
        ("model_version", 2**63),
        ("robot", "no"),
        ("request_id", "x" * 257),
    )
    def test_refuses_field(self, field, value):
        """Breaks if a mistyped field is counted as something."""
        with self.assertRaisesRegex(ValueError, rf"\AExpected `{field}`.*\.\Z"):
            events.parse({**_ROW, field: value})

    def test_refuses_no_object(self):
        """Breaks if a list ends in a traceback."""
        with self.assertRaisesRegex(ValueError, "JSON object, received list"):
            events.parse(["visit"])


class EventLogTest(parameterized.TestCase):
    def setUp(self):
        super().setUp()
        self._temporary = tempfile.TemporaryDirectory()
        self.addCleanup(self._temporary.cleanup)
        self._folder = pathlib.Path(self._temporary.name) / "events"
        self._now = _NOW

    def _log(self, **settings):
        return events.EventLog(
            self._folder, clock=lambda: self._now, **settings
        )

    def _names(self):
        return sorted(path.name for path in self._folder.iterdir())

    def _ids(self, pattern="*.jsonl"):
        return [
            json.loads(line)["event_id"]
            for path in sorted(self._folder.glob(pattern))
            for line in path.read_text("utf-8").splitlines()
        ]

    def test_finished_with_its_hour(self):
        """Breaks if a reader of *.jsonl meets a file that still grows."""
        log = self._log()
        self.assertTrue(log.write(events.parse(_ROW)))
        (name,) = self._names()
        self.assertRegex(name, r"\Aevents-20261127T22-.+-\d+-0\.jsonl\.open\Z")
        log.rotate()
        self.assertEqual(self._names(), [name])
        self._now += 3_600
        log.rotate()
        self.assertEqual(self._names(), [name.removesuffix(".open")])
        log.write(events.parse(_ROW))
        log.close()
        self.assertRegex(self._names()[1], r"\Aevents-20261127T23-")

    def test_finished_with_its_size(self):
        """Breaks if a file grows past its size, or if the file of the same
        hour is overwritten."""
        line = len(events.parse(_ROW).to_json()) + 1
        log = self._log(max_bytes=2 * line)
        for number in range(5):
            log.write(events.parse({**_ROW, "event_id": f"{number:02}"}))
        log.close()
        sizes = [p.stat().st_size for p in sorted(self._folder.iterdir())]
        self.assertEqual(sizes, [2 * line, 2 * line, line])
        self.assertEqual(self._ids(), ["00", "01", "02", "03", "04"])

    def test_threads(self):
        """Breaks if threads write into each other's lines."""
        log = self._log(max_bytes=5_000)

        def write(thread):
            for number in range(100):
                row = {**_ROW, "event_id": f"{thread}-{number}"}
                log.write(events.parse(row))

        threads = [
            threading.Thread(target=write, args=(each,)) for each in range(8)
        ]
        for each in threads:
            each.start()
        for each in threads:
            each.join()
        log.close()
        self.assertCountEqual(
            self._ids(), [f"{t}-{n}" for t in range(8) for n in range(100)]
        )

    def test_full_disk(self):
        """Breaks if a full disk fails a request, fills the log as well, or
        leaves half a line in front of the next one."""
        ended = subprocess.run(
            [sys.executable, "-c", _FULL_DISK, str(self._folder)],
            capture_output=True,
            text=True,
            check=True,
        )
        # A line has 105 bytes: two fit into 250, the third in part.
        self.assertEqual(
            ended.stdout, "[True, True, False, False, False] 3\nTrue\n"
        )
        self.assertEqual(ended.stderr.count("Events can't be written"), 1)
        self.assertEqual(self._ids(), ["e"] * 3)

    def test_killed(self):
        """Breaks if what a killed process wrote is lost, or its half line
        spoils a finished file."""
        subprocess.run([sys.executable, "-c", _KILLED, str(self._folder)])
        (left,) = self._folder.glob("*.open")
        with left.open("a") as file:
            file.write('{"event_id": "hal')
        self._log()
        self.assertEqual(self._names(), [left.name.removesuffix(".open")])
        self.assertEqual(self._ids(), ["e"])

    def test_leaves_open_files_of_others(self):
        """Breaks if a process takes the file of one that still runs."""
        log = self._log()
        log.write(events.parse(_ROW))
        other = self._log()
        other.write(events.parse(_ROW))
        log.write(events.parse(_ROW))
        self.assertLen(list(self._folder.glob("*.open")), 2)
        log.close()
        other.close()
        self.assertEqual(self._ids(), ["e1"] * 3)

    def test_retention(self):
        """Breaks if events are kept for longer than said, or if files of
        others are removed."""
        self._folder.mkdir()
        for name in (
            "events-20261120T21-h-1-0.jsonl",
            "events-20261120T22-h-1-0.jsonl",
            "events-notes.jsonl",
        ):
            (self._folder / name).write_text("{}\n")
        self._log(keep_days=None)
        self.assertLen(self._names(), 3)
        self._log(keep_days=7)
        self.assertEqual(
            self._names(),
            ["events-20261120T22-h-1-0.jsonl", "events-notes.jsonl"],
        )

    @parameterized.parameters({"max_bytes": 0}, {"keep_days": 0})
    def test_refuses(self, **settings):
        """Breaks if a mistyped setting removes all events."""
        with self.assertRaisesRegex(ValueError, "of 1 or more"):
            self._log(**settings)


if __name__ == "__main__":
    absltest.main()
