"""Tests of the products: distinct, and as many pictures as the law says."""

import dataclasses
import unittest

import numpy as np

from beam_jobs.shop import products
from beam_jobs.shop import settings

_TYPES = [
    products.Type(f"T{number}", f"thing{number}", f"东{number}", "a/b")
    for number in range(120)
]


class ProductsTest(unittest.TestCase):
    def test_no_two_are_equal(self):
        """Breaks if two classes look the same, or one rank is given twice."""
        # 108 combinations for 100 SKUs.
        shop = settings.ShopConfig(
            num_skus=100,
            num_types=6,
            num_colours=3,
            num_brands=3,
            num_patterns=2,
        )
        goods = products.Products(shop, _TYPES)
        skus = [goods.sku(number) for number in range(100)]
        looks = {dataclasses.astuple(sku)[2:] for sku in skus}
        self.assertEqual(len(looks), 100)
        for look in looks:
            self.assertTrue(np.all(np.less(look, (6, 3, 3, 2))), look)
        self.assertEqual(sorted(sku.rank for sku in skus), list(range(100)))
        for sku in skus[:5]:
            self.assertEqual(goods.sku_of_rank(sku.rank), sku)

    def test_the_tail_shares_its_attributes_with_the_head(self):
        """Breaks if nothing could be learnt from the head.

        170 SKUs of the head have 40 brands, 10 colours and 6 patterns: each
        is there with near certainty; 120 types each with
        1 - (119 / 120)^170 = 0.76.
        """
        shop = settings.ShopConfig()
        goods = products.Products(shop, _TYPES)
        head = [goods.sku_of_rank(rank) for rank in range(170)]
        self.assertGreater(len({sku.brand for sku in head}), 35)
        self.assertEqual(len({sku.colour for sku in head}), 10)
        self.assertEqual(len({sku.pattern for sku in head}), 6)
        self.assertGreater(len({sku.type for sku in head}), 0.65 * 120)

    def test_class_sizes(self):
        """Breaks if the long tail is not the one that is documented."""
        shop = settings.ShopConfig()
        x = np.linspace(0, 1, 170)
        head = np.floor(100 - 60 * x + 1e-9)
        x = np.linspace(0, 1, 830)
        tail = np.floor(1 + 19 * (1 - x) ** 2 + 1e-9)
        sizes = [
            products.num_train_pictures(shop, rank) for rank in range(1000)
        ]
        self.assertEqual(sizes, [*head, *tail])
        self.assertEqual(
            sizes[:1] + sizes[169:171] + sizes[999:], [100, 40, 20, 1]
        )
        self.assertEqual(products.num_head(shop), 170)

    def test_all_head_or_all_tail(self):
        """Breaks if a shop without head or tail can't be made."""
        for share, expected in ((0.0, (20, 1)), (1.0, (100, 40))):
            shop = settings.ShopConfig(num_skus=100, head_share=share)
            self.assertEqual(
                (
                    products.num_train_pictures(shop, 0),
                    products.num_train_pictures(shop, 99),
                ),
                expected,
            )

    def test_new_skus(self):
        """Breaks if a classifier could learn what it is not to know, or all
        of that stands at one end of the ranks."""
        shop = settings.ShopConfig(new_sku_share=0.1)
        goods = products.Products(shop, _TYPES)
        new = [rank for rank in range(1000) if products.is_new(shop, rank)]
        self.assertEqual(len(new), 100)
        self.assertEqual(sum(rank < 170 for rank in new), 17)
        sku = goods.sku_of_rank(new[0])
        self.assertEqual(set(products.num_pictures(shop, sku).values()), {0})

    def test_numbers_of_type(self):
        """Breaks if other SKUs of a type are missed, or are of another."""
        shop = settings.ShopConfig(num_skus=300, num_brands=3)
        goods = products.Products(shop, _TYPES)
        rng = np.random.default_rng(0)
        expected = {
            number for number in range(300) if goods.sku(number).type == 7
        }
        self.assertTrue(expected)
        # 180 combinations of a type: all are looked at.
        self.assertEqual(set(goods.numbers_of_type(7, 300, rng)), expected)
        self.assertEqual(len(goods.numbers_of_type(7, 1, rng)), 1)

    def test_brands(self):
        """Breaks if two brands have one badge or one name."""
        shop = settings.ShopConfig(num_brands=400)
        brands = [products.brand(shop, index) for index in range(400)]
        self.assertEqual(len({each.letters for each in brands}), 400)
        self.assertEqual(len({each.name for each in brands}), 400)
        for each in brands:
            self.assertEqual(
                each.letters, (each.name[0] + each.name[2]).upper()
            )


class SettingsTest(unittest.TestCase):
    def test_says_what_does_not_fit(self):
        """Breaks if a shop is asked for that can't be, and nobody says so."""
        for changes, message in (
            ({"num_skus": 99}, "num_skus to be a whole number of 100 or more"),
            ({"num_skus": 288_001}, "at most 288,000.*received 288,001"),
            ({"min_noise_words": 5}, "max_noise_words of at least"),
            ({"head_to": 10}, "--head_to of at least --tail_from, 20"),
            ({"title_language": "french"}, "english, chinese, mixed"),
        ):
            with self.assertRaisesRegex(ValueError, message):
                settings.check(settings.ShopConfig(**changes))


if __name__ == "__main__":
    unittest.main()
