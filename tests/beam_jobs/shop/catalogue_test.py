"""Tests of catalogue records: prices, sales and days of listing."""

import unittest

import numpy as np

from beam_jobs.shop import catalogue
from beam_jobs.shop import products
from beam_jobs.shop import settings
from beam_jobs.shop import titles

_TYPES = [
    products.Type(f"T{number}", f"thing{number}", f"物品{number}", "a/b")
    for number in range(20)
]


class CatalogueTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        shop = settings.ShopConfig(
            num_skus=200, num_types=20, new_sku_share=0.1
        )
        cls.goods = products.Products(shop, _TYPES)
        cls.skus = [cls.goods.sku(number) for number in range(200)]

    def test_records(self):
        """Breaks if a price is free, odd, or not the SKU's own."""
        names = titles.Titles(self.goods)
        prices = []
        for sku in self.skus[:50]:
            row = catalogue.record(self.goods, names, sku, ["x.jpg"])
            self.assertRegex(f"{row['price']:.2f}", r"\A[0-9]+\.[49]9\Z")
            self.assertEqual((row["image"], "images" in row), ("x.jpg", False))
            self.assertEqual(
                catalogue.sku_of(self.goods, row["product_id"]), sku
            )
            prices.append(row["price"])
            self.assertEqual(
                row, catalogue.record(self.goods, names, sku, ["x.jpg"])
            )
        self.assertGreater(len(set(prices)), 20)
        row = catalogue.record(self.goods, names, sku, ["x.jpg", "y.jpg"])
        self.assertEqual(
            (row["image"], row["images"]), ("x.jpg", ["x.jpg", "y.jpg"])
        )

    def test_sales_and_age(self):
        """Breaks if what is new is old, or sales do not follow the ranks."""
        ages = {True: [], False: []}
        for sku in self.skus:
            is_new = products.is_new(self.goods.shop, sku.rank)
            ages[is_new].append(catalogue.age_days(self.goods, sku))
        self.assertEqual(len(ages[True]), 20)
        self.assertTrue(1 <= min(ages[True]) <= max(ages[True]) <= 30)
        self.assertTrue(31 <= min(ages[False]) <= max(ages[False]) <= 1095)
        sales = [
            catalogue.sales(self.goods, self.goods.sku_of_rank(rank))
            for rank in range(200)
        ]
        self.assertGreaterEqual(min(sales), 0)
        self.assertGreater(np.median(sales[:20]), 2 * np.median(sales[100:]))


if __name__ == "__main__":
    unittest.main()
