"""Tests of the click log: the bias of its places is the one it states."""

import collections
import dataclasses
import math
import unittest

from beam_jobs.shop import catalogue
from beam_jobs.shop import clicks
from beam_jobs.shop import products
from beam_jobs.shop import settings
from beam_jobs.shop import titles

_TYPES = [
    products.Type(f"T{number}", f"thing{number}", f"物品{number}", "a/b")
    for number in range(20)
]


class ClicksTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        shop = settings.ShopConfig(num_skus=200, num_types=20)
        cls.goods = products.Products(shop, _TYPES)
        cls.ids = {
            catalogue.product_id(cls.goods.sku(number)): cls.goods.sku(number)
            for number in range(200)
        }

    def test_examination(self):
        """Breaks if the probabilities of the places are not 1 / k."""
        places = clicks.examination()
        self.assertAlmostEqual(sum(places), 1)
        for place, share in enumerate(places, 1):
            self.assertAlmostEqual(share, places[0] / place)

    def test_attraction(self):
        """Breaks if what does not fit is clicked, or what fits is not.

        Type .45, colour .15, brand .1, pattern .05.
        """
        sku = products.Sku(0, 0, type=1, colour=2, brand=3, pattern=4)
        other = dataclasses.replace(sku, number=1, colour=0, pattern=0)
        self.assertEqual(clicks.attraction(sku, sku), 0.95)
        self.assertAlmostEqual(clicks.attraction(sku, other), 0.55)
        nothing = products.Sku(2, 1, type=0, colour=0, brand=0, pattern=0)
        self.assertEqual(clicks.attraction(sku, nothing), 0)

    def test_events(self):
        """Breaks if clicks do not follow the stated law.

        A click at place k has probability examination[k] * attraction; over
        all queries the counts of a place are a sum of such chances.
        """
        places = clicks.examination()
        expected, variance = [0.0] * 10, [0.0] * 10
        found, asked = [0] * 10, collections.Counter()
        for number in range(600):
            query, picture, row = clicks.event(self.goods, number)
            asked[query.rank < 20] += 1
            self.assertIn(picture, range(5))
            shown = [self.ids[each] for each in row["shown"]]
            self.assertEqual(len(set(shown)), 10)
            for place, each in enumerate(shown):
                chance = places[place] * clicks.attraction(query, each)
                expected[place] += chance
                variance[place] += chance * (1 - chance)
            if row["position"]:
                found[row["position"] - 1] += 1
                self.assertEqual(
                    row["shown"][row["position"] - 1], row["clicked"]
                )
            else:
                self.assertIsNone(row["clicked"])
        for place in range(10):
            self.assertAlmostEqual(
                found[place],
                expected[place],
                delta=4.5 * math.sqrt(variance[place]) + 1,
            )
        # log(21) / log(201) = 0.57 of the queries ask for a tenth of the SKUs.
        self.assertAlmostEqual(asked[True] / 600, 0.574, delta=0.09)

    def test_prices(self):
        """Breaks if a price is free, odd, or not the SKU's own."""
        names = titles.Titles(self.goods)
        prices = []
        for sku in list(self.ids.values())[:50]:
            row = catalogue.record(self.goods, names, sku, "x.jpg")
            self.assertRegex(f"{row['price']:.2f}", r"\A[0-9]+\.[49]9\Z")
            prices.append(row["price"])
            self.assertEqual(
                row, catalogue.record(self.goods, names, sku, "x.jpg")
            )
        self.assertGreater(len(set(prices)), 20)


if __name__ == "__main__":
    unittest.main()
