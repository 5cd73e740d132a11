"""Tests of the click log: its places, its bots, and what pleases."""

import collections
import itertools
import math
import unittest

from beam_jobs.shop import appeal
from beam_jobs.shop import catalogue
from beam_jobs.shop import clicks
from beam_jobs.shop import products
from beam_jobs.shop import settings

_TYPES = [
    products.Type(f"T{number}", f"thing{number}", f"物品{number}", "a/b")
    for number in range(20)
]
_NUM_PAGES = 600


class ClicksTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        shop = settings.ShopConfig(
            num_skus=200,
            num_types=20,
            num_clicks=_NUM_PAGES,
            bot_share=0.1,
            double_click_share=0.2,
        )
        cls.goods = products.Products(shop, _TYPES)
        cls.pages = [clicks.page(cls.goods, each) for each in range(_NUM_PAGES)]

    def test_examination(self):
        """Breaks if the probabilities of the places are not 1 / k."""
        for place, share in enumerate(clicks.examination(), 1):
            self.assertAlmostEqual(share, 1 / place)

    def test_clicks_of_people(self):
        """Breaks if clicks do not follow the stated law.

        A click at place k has probability 1 / k * relevance * appeal; over
        all pages the counts of a place are a sum of such chances.
        """
        expected, variance, found = [0.0] * 10, [0.0] * 10, [0] * 10
        for page in self.pages:
            if page.is_bot:
                continue
            self.assertEqual(len(set(page.shown)), 10)
            for place, sku in enumerate(page.shown):
                chance = appeal.relevance(page.query.sku, sku)
                chance *= appeal.appeal(self.goods, sku) / (place + 1)
                expected[place] += chance
                variance[place] += chance * (1 - chance)
            for place in {place for place, _ in page.clicks}:
                found[place] += 1
        for place in range(10):
            self.assertAlmostEqual(
                found[place],
                expected[place],
                delta=4.5 * math.sqrt(variance[place]) + 1,
            )

    def test_bots(self):
        """Breaks if a bot clicks as people do, or is one of hundreds.

        600 pages and 120 people: 4.5 pages each; 60 pages of 2 bots.
        """
        names = clicks.bots(self.goods.shop)
        self.assertEqual(len(names), 2)
        pages = collections.Counter(page.visitor for page in self.pages)
        for name in names:
            self.assertGreater(pages.pop(name), 15)
        self.assertLess(max(pages.values()), 15)
        for page in self.pages:
            self.assertEqual(page.is_bot, page.visitor in names)
            places = sorted({place for place, _ in page.clicks})
            if page.visitor == names[0]:
                self.assertEqual(places, list(range(10)))
            elif page.visitor == names[1]:
                self.assertEqual(places, [0])

    def test_double_clicks(self):
        """Breaks if a click is twice there more often than told, or the
        second comes so late that a customer may have meant it."""
        num_clicks = num_double = 0
        for page in self.pages:
            again = [
                later - sooner
                for (place, sooner), (other, later) in itertools.pairwise(
                    page.clicks
                )
                if place == other
            ]
            self.assertEqual(len(again), page.num_double)
            for seconds in again:
                self.assertTrue(0 < seconds < 2)
            num_double += len(again)
            num_clicks += len(page.clicks) - len(again)
        deviation = math.sqrt(0.2 * 0.8 / num_clicks)
        self.assertAlmostEqual(
            num_double / num_clicks, 0.2, delta=4.5 * deviation
        )

    def test_pages_are_of_people_and_no_bots(self):
        """Breaks if a log that is to be clean is not."""
        shop = settings.ShopConfig(
            num_skus=200, num_types=20, bot_share=0, double_click_share=0
        )
        goods = products.Products(shop, _TYPES)
        self.assertEqual(clicks.bots(shop), [])
        for number in range(40):
            page = clicks.page(goods, number)
            self.assertEqual((page.is_bot, page.num_double), (False, 0))

    def test_rows(self):
        """Breaks if a row is not what the contract of click logs says."""
        seen = set()
        for page in self.pages:
            rows = clicks.rows(page, "q.jpg")
            seen.add(min(2, len(page.clicks)))
            self.assertEqual(len(rows), max(1, len(page.clicks)))
            shown = [catalogue.product_id(each) for each in page.shown]
            for row in rows:
                self.assertEqual(row["query_id"], page.query.query_id)
                self.assertEqual(row["shown"], shown)
                self.assertRegex(
                    row["time"], r"\A2026-03-[0-3]\dT[\d:]{8}\.\d{3}Z\Z"
                )
                if row["clicked"] is None:
                    self.assertIsNone(row["position"])
                    self.assertEqual(page.clicks, [])
                else:
                    place = row["position"] - 1
                    self.assertEqual(shown[place], row["clicked"])
            times = [row["time"] for row in rows]
            self.assertEqual(times, sorted(times))
        self.assertEqual(seen, {0, 1, 2})

    def test_lists_have_what_is_alike(self):
        """Breaks if only the product itself is of the type that is asked for.

        200 SKUs of 20 types: nine others on average, of which at most eight
        stand for choice.
        """
        alike = [
            sum(sku.type == page.query.sku.type for sku in page.shown)
            for page in self.pages
        ]
        self.assertGreater(sum(alike) / _NUM_PAGES, 4)


if __name__ == "__main__":
    unittest.main()
