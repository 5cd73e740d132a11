"""Tests of the whole report: files of events to numbers, page and rejects."""

import contextlib
import csv
import io
import json
import pathlib
import tempfile

from absl.testing import absltest

from beam_jobs import conversion_report
from benchmarks.jobs import generated_events
from sicot_tf import files
from tests.helpers import mistakes


class ConversionReportTest(absltest.TestCase):
    def setUp(self):
        super().setUp()
        temporary = tempfile.TemporaryDirectory()
        self.addCleanup(temporary.cleanup)
        self._folder = pathlib.Path(temporary.name)
        self._output = self._folder / "report"

    def _run(self, *more):
        told = io.StringIO()
        with contextlib.redirect_stdout(told):
            conversion_report.main(
                [
                    *("--events", str(self._folder / "*.jsonl")),
                    *("--output", str(self._output), *more),
                ]
            )
        return told.getvalue()

    def test_generated_events(self):
        """Breaks if any number of any day differs from the count by
        dictionaries, over robots, duplicates, times out of order, visitors
        with two variants and bad lines."""
        known = generated_events.write_events(
            self._folder, 5000, num_days=5, max_events_per_day=40, seed=3
        )
        told = self._run("--max_events_per_day", "40", "--baseline", "new")
        report = files.read_json(self._output / "report.json")
        expected = generated_events.count_by_sets(
            self._folder.glob("*.jsonl"), 40
        )
        self.assertEmpty(generated_events.differences(report, expected))
        self.assertEqual(report["duplicates"], known["duplicates"])
        self.assertEqual(report["rejected"], known["bad"])
        # What makes the comparison one that can fail.
        of_period = report["period"]["variants"].values()
        for name in ("in_two_variants", "trade_without_visit", "trade"):
            self.assertGreater(sum(row[name] for row in of_period), 0)
        self.assertGreater(report["robots"], 5)
        lines = (self._output / "rejects.jsonl").read_text().splitlines()
        self.assertLen(lines, known["bad"])
        table = (self._output / "report.csv").read_text("utf-8")
        rows = list(csv.DictReader(io.StringIO(table)))
        self.assertLen(rows, (5 + 1) * 2)
        self.assertEqual(
            [int(row["visit"]) for row in rows if row["day"] == "period"],
            [row["visit"] for row in of_period],
        )
        self.assertIn("current against new: conversion", told)

        # Equal events give equal bytes, and replace the earlier report.
        before = (self._output / "report.html").read_bytes()
        self._run("--max_events_per_day", "40", "--baseline", "new")
        self.assertEqual((self._output / "report.html").read_bytes(), before)

    def test_mistakes(self):
        """Breaks if a mistake is a traceback, or files of others are lost."""
        with mistakes.assert_told(self, "No record file matches"):
            self._run()
        events = self._folder / "events.jsonl"
        events.write_text('{"event": "view"}\n')
        with mistakes.assert_told(self, "none that can be used.*'view'"):
            self._run()
        row = {"event_id": "e", "time": "2026-03-02T10:00:00Z"}
        row |= {"event": "visit", "visitor": "v", "variant": "a"}
        events.write_text(json.dumps(row))
        with mistakes.assert_told(self, "--baseline among a, received 'c'"):
            self._run("--baseline", "c")
        with mistakes.assert_told(self, "each variant once"):
            self._run("--shares", "a")
        with mistakes.assert_told(self, "--max_events_per_day: expected 1"):
            self._run("--max_events_per_day", "0")
        self._output.mkdir()
        (self._output / "mine.txt").touch()
        with mistakes.assert_told(self, "absent or an earlier report"):
            self._run()
        self.assertTrue((self._output / "mine.txt").exists())


if __name__ == "__main__":
    absltest.main()
