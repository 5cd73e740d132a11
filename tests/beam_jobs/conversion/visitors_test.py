"""Tests of what is counted: literal events, each with its place in a table."""

import json
import pathlib
import tempfile

from absl.testing import absltest

from beam_jobs.conversion import store_events
from beam_jobs.conversion import visitors

_NAMES = ("event_id", "time", "event", "visitor", "variant")


class CountTest(absltest.TestCase):
    def _count(self, *files, max_events_per_day=10):
        """Each file is a list of events, each a text of `_NAMES` and more."""
        with tempfile.TemporaryDirectory() as folder:
            folder = pathlib.Path(folder)
            store = store_events.StoreFileFn(str(folder))
            parts = []
            for number, lines in enumerate(files):
                path = folder / f"{number}.jsonl"
                rows = []
                for line in lines:
                    values = line.split(" ")
                    row = dict(zip(_NAMES, values, strict=False))
                    row |= json.loads("".join(values[5:]) or "{}")
                    row["time"] = f"2026-03-{row['time']}:00Z"
                    rows.append(json.dumps(row) + "\n")
                path.write_text("".join(rows))
                list(store.process((number, str(path).encode(), path.name)))
                parts.append(store_events.part_files(folder, number)["events"])
            (folder / "spill").mkdir()
            return visitors.count(
                parts,
                folder / "spill",
                max_events_per_day=max_events_per_day,
                memory_megabytes=100,
            )

    def _assert_counts(self, counts, **expected):
        found = {name: number for name, number in counts.items() if number}
        self.assertEqual(found, expected)

    def test_each_visitor_once(self):
        """Breaks if visits or trades are counted instead of visitors, or the
        days are summed: one visitor of two days with three trades."""
        counts = self._count(
            [
                "1 02T10:00 visit v a",
                "2 02T10:01 visit v a",
                "3 02T10:02 trade v a",
                "4 02T10:03 trade v a",
                "5 03T10:00 visit v a",
                "6 03T10:01 trade v a",
                "7 03T10:02 visit w b",
            ]
        )
        self._assert_counts(counts["period"]["a"], visit=1, trade=1)
        self._assert_counts(counts["period"]["b"], visit=1)
        self._assert_counts(counts["days"]["2026-03-02"]["a"], visit=1, trade=1)
        self._assert_counts(counts["days"]["2026-03-02"]["b"])
        self._assert_counts(counts["days"]["2026-03-03"]["b"], visit=1)

    def test_first_variant(self):
        """Breaks if a visitor's variant is that of the first line, or of the
        day where the period asks: the first by time has b on day 2, a on 3."""
        counts = self._count(
            [
                "1 02T10:00 visit v a",
                "2 02T09:00 impression v b",
                "3 03T08:00 visit v a",
                "4 03T09:00 trade v a",
            ]
        )
        day = counts["days"]["2026-03-02"]
        self._assert_counts(day["b"], visit=1, impression=1, in_two_variants=1)
        self._assert_counts(day["a"])
        self._assert_counts(counts["days"]["2026-03-03"]["a"], visit=1, trade=1)
        self._assert_counts(
            counts["period"]["b"],
            visit=1,
            impression=1,
            trade=1,
            in_two_variants=1,
        )

    def test_another_variant_each_day(self):
        """Breaks if a visitor who changed overnight is not told of, or is told
        of on days with one variant."""
        counts = self._count(["1 02T10:00 visit v b", "2 03T10:00 visit v a"])
        self._assert_counts(counts["period"]["b"], visit=1, in_two_variants=1)
        self._assert_counts(counts["days"]["2026-03-02"]["b"], visit=1)
        self._assert_counts(counts["days"]["2026-03-03"]["a"], visit=1)

    def test_equal_times(self):
        """Breaks if the variant depends on chance where times are equal: the
        first file counts, then the first line."""
        for _ in range(3):
            counts = self._count(
                ["1 02T10:00 visit v b", "2 02T10:00 visit v a"],
                ["3 02T10:00 visit v a"],
            )
            self.assertEqual(counts["period"]["b"]["visit"], 1)

    def test_duplicates(self):
        """Breaks if an event that was sent twice, in two files, counts twice:
        a click rate of 200 %."""
        click = '2 02T10:01 click v a {"recognised":true}'
        counts = self._count(["1 02T10:00 visit v a", click], [click])
        self.assertEqual((counts["events"], counts["duplicates"]), (3, 1))
        self._assert_counts(
            counts["period"]["a"], visit=1, click=1, recognised_clicks=1
        )

    def test_robots(self):
        """Breaks if robots are visitors, if their other days stay, or if the
        limit itself makes a robot."""
        counts = self._count(
            [
                '1 02T10:00 visit marked a {"robot":true}',
                "2 03T10:00 visit marked a",
                *(f"3-{n} 02T10:00 visit busy a" for n in range(3)),
                "4 03T10:00 visit busy a",
                *(f"5-{n} 02T10:00 visit limit a" for n in range(2)),
            ],
            max_events_per_day=2,
        )
        self.assertEqual((counts["robots"], counts["robot_events"]), (2, 6))
        self._assert_counts(counts["period"]["a"], visit=1)

    def test_without_visit(self):
        """Breaks if trades without a visit raise the conversion."""
        counts = self._count(
            [
                "1 02T10:00 visit v a",
                "2 02T10:00 trade w a",
                "3 02T10:01 click w a",
            ]
        )
        self._assert_counts(
            counts["period"]["a"],
            visit=1,
            without_visit=1,
            trade_without_visit=1,
            events_without_visit=2,
        )

    def test_answers(self):
        """Breaks if answers of unknown outcome count for one of both."""
        counts = self._count(
            [
                "1 02T10:00 visit v a",
                '2 02T10:01 impression v a {"recognised":true}',
                '3 02T10:02 impression v a {"recognised":false}',
                '4 02T10:02 click v a {"recognised":false}',
                "5 02T10:02 impression v a",
            ]
        )
        self._assert_counts(
            counts["period"]["a"],
            visit=1,
            impression=1,
            click=1,
            recognised_impressions=1,
            other_impressions=1,
            other_clicks=1,
        )

    def test_too_many_variants(self):
        """Breaks if a visitor's id in the field of the variant fills a page
        with thousands of rows."""
        with self.assertRaisesRegex(ValueError, "at most 128 variants"):
            self._count([f"{n} 02T10:00 visit v a{n}" for n in range(129)])


if __name__ == "__main__":
    absltest.main()
