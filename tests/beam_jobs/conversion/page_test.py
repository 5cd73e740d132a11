"""Tests of the sentences of the page, and that the page is harmless."""

import pathlib
import tempfile

from absl.testing import absltest

from beam_jobs.conversion import page
from beam_jobs.conversion import report
from tests.helpers import html_pages

_COUNTS = {
    "visit": 1000,
    "impression": 800,
    "click": 300,
    "trade": 50,
    "without_visit": 7,
    "trade_without_visit": 3,
    "in_two_variants": 0,
    "events_without_visit": 11,
    "recognised_impressions": 600,
    "other_impressions": 200,
    "recognised_clicks": 250,
    "other_clicks": 20,
}


def _describe(shares=None, baseline="a", other="b", **changes):
    """Two variants on one day; the changes are of the second."""
    group = {baseline: dict(_COUNTS), other: _COUNTS | changes}
    counts = {
        "files": 1,
        "rejected": 2,
        "events": 5000,
        "duplicates": 4,
        "robots": 5,
        "robot_events": 6,
        "variants": [baseline, other],
        "period": group,
        "days": {"2026-03-02": group},
    }
    described = report.describe(counts, baseline, shares)
    return described | {"max_events_per_day": 1000}


class PageTest(absltest.TestCase):
    def test_findings(self):
        """Breaks if the sentence says more, or less, than the numbers: they
        are those of significance_test."""
        self.assertEqual(
            page.findings(_describe(trade=70)),
            [
                "b against a: conversion +40.0 % relative (95 % interval "
                "-1.6 % to +99.1 %, p = 0.060): no difference is shown."
            ],
        )
        (sentence,) = page.findings(_describe(trade=90))
        self.assertEndsWith(
            sentence,
            "p < 0.001): a difference, if this is the end that was planned.",
        )
        (sentence,) = page.findings(_describe(trade=0))
        self.assertEndsWith(sentence, "too few trades for a comparison.")

    def test_warnings(self):
        """Breaks if nobody is told that visitors were lost on one side: 1,000
        and 800 of halves, chi-square 22."""
        shares = {"a": 0.5, "b": 0.5}
        self.assertEmpty(page.warnings(_describe(shares)))
        first, second = page.warnings(
            _describe(shares, visit=800, in_two_variants=1)
        )
        self.assertRegex(first, "shares .* in the whole period, 2026-03-02:")
        self.assertStartsWith(second, "1 visitor had two variants")

    def test_page(self):
        """Breaks if a name becomes markup, the page loads something, or a
        plot is missing."""
        described = _describe(other=html_pages.ATTACK, trade=0)
        with tempfile.TemporaryDirectory() as folder:
            folder = pathlib.Path(folder)
            page.write_page(folder, described)
            text = (folder / "report.html").read_text("utf-8")
        # Finding, period, answers, day.
        html_pages.assert_harmless(self, text, times=4)
        texts = html_pages.Page(text).texts
        # 0 of 1,000: 3.841459 / 1003.841459.
        self.assertEqual(texts.count("0.00 % (0.00 to 0.38)"), 2)
        self.assertEqual(texts.count("75.0 %"), 2)
        self.assertLen(html_pages.Page(text).sources, 3)

    def test_one_variant(self):
        """Breaks if a shop without a test gets no report."""
        counts = _describe()
        for group in (counts["period"], *counts["days"].values()):
            del group["variants"]["b"]
        counts["variants"] = ["a"]
        with tempfile.TemporaryDirectory() as folder:
            page.write_page(pathlib.Path(folder), counts)
        self.assertEmpty(page.findings(counts))


if __name__ == "__main__":
    absltest.main()
