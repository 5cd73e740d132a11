"""Tests of relevance and appeal: the truth that clicks are drawn from."""

import dataclasses
import math
import unittest

import numpy as np

from beam_jobs.shop import appeal
from beam_jobs.shop import catalogue
from beam_jobs.shop import poor_pictures
from beam_jobs.shop import products
from beam_jobs.shop import settings

_TYPES = [
    products.Type(f"T{number}", f"thing{number}", f"物品{number}", "a/b")
    for number in range(20)
]


class AppealTest(unittest.TestCase):
    def test_relevance(self):
        """Breaks if what does not fit is clicked, or what fits is not.

        Type .45, colour .15, brand .1, pattern .05.
        """
        sku = products.Sku(0, 0, type=1, colour=2, brand=3, pattern=4)
        other = dataclasses.replace(sku, number=1, colour=0, pattern=0)
        self.assertEqual(appeal.relevance(sku, sku), 0.95)
        self.assertAlmostEqual(appeal.relevance(sku, other), 0.55)
        nothing = products.Sku(2, 1, type=0, colour=0, brand=0, pattern=0)
        self.assertEqual(appeal.relevance(sku, nothing), 0)

    def test_appeal(self):
        """Breaks if an offer does not please as the summary says."""
        shop = settings.ShopConfig(
            num_skus=200,
            num_types=20,
            catalogue_pictures=2,
            poor_picture_share=0.5,
            new_sku_share=0.2,
        )
        goods = products.Products(shop, _TYPES)
        told = appeal.description()
        weights, found = told["weights"], []
        self.assertAlmostEqual(sum(weights.values()), 1)
        for number in range(200):
            sku = goods.sku(number)
            wrong = poor_pictures.kind(shop, number, 0)
            price = catalogue.price(goods, sku)
            sales = catalogue.sales(goods, sku)
            value = weights["sales"] * min(
                1, math.log(1 + sales) / math.log(1001)
            )
            value += weights["price"] * (
                1 - min(1, math.log(max(1, price)) / math.log(300))
            )
            value += weights["freshness"] * math.exp(
                -catalogue.age_days(goods, sku) / 180
            )
            value += (
                weights["quality"] * told["parts"]["quality"][wrong or "good"]
            )
            self.assertAlmostEqual(appeal.appeal(goods, sku), 0.1 + 0.9 * value)
            found.append(value)
        # Or there were nothing to learn.
        self.assertGreater(np.std(found), 0.08)


if __name__ == "__main__":
    unittest.main()
