import unittest

import numpy as np

from sicot_tf.catalogue import product_index
from sicot_tf.recognition import wishes
from sicot_tf.recognition.nearest_products import Found
from sicot_tf.recognition.search import results


def _found(name, similarity, price=None, tags=(), category="fruit"):
    product = product_index.Product(
        *(name, name, name, ["a.jpg"], list(tags), category),
        {"price": price},
        None,
    )
    return Found(product, 0, similarity)


def _names(found):
    return [each.product.product_id for each in found]


class _ByPrice:
    """The cheapest first, as a trained ranker might say."""

    def scores(self, similarities, product_ids):
        self.asked = similarities, product_ids
        return np.array([-len(each) for each in product_ids], np.float64)


class ResultsTest(unittest.TestCase):
    def test_filters(self):
        """Breaks if a bound is left out, prices as texts are not read, or a
        product without price is in a range."""
        found = [
            _found("a", 0.9, "2.50", ["red", "new"]),
            _found("b", 0.8, 3, ["red"]),
            _found("c", 0.7, "free", ["red", "new"]),
            _found("d", 0.6, True),
            _found("e", 0.5, float("nan")),
        ]
        for parameters, expected in (
            ({}, "abcde"),
            ({"min_price": 2.5, "max_price": 3}, "ab"),
            ({"max_price": 2.5}, "a"),
            ({"min_price": -1}, "ab"),
            ({"tags": "new, red"}, "ac"),
            ({"tags": " , "}, "abcde"),
            ({"tags": "new", "min_price": 0}, "a"),
        ):
            with self.subTest(parameters):
                kept = results.keep(found, wishes.Results(**parameters))
                self.assertEqual(_names(kept), list(expected))

    def test_order(self):
        """Breaks if the ranker is asked where it is not wanted, or does not
        get all candidates."""
        found = [_found("xxx", 0.9), _found("y", 0.8), _found("zz", 0.7)]
        ranker = _ByPrice()
        ordered, ordered_by = results.order(found, ranker, "quality")
        self.assertEqual(_names(ordered), ["y", "zz", "xxx"])
        self.assertEqual(ordered_by, "quality")
        np.testing.assert_allclose(ranker.asked[0], [0.9, 0.8, 0.7])
        for asked, wanted in ((ranker, "similarity"), (None, "quality")):
            ordered, ordered_by = results.order(found, asked, wanted)
            self.assertEqual(_names(ordered), ["xxx", "y", "zz"])
            self.assertEqual(ordered_by, "similarity")
        self.assertEqual(results.order([], ranker, "quality")[0], [])

    def test_facets(self):
        """Breaks if a product counts twice or a missing value counts."""
        found = results.facets(
            [
                _found("a", 0.9, 5, ["red", "red", "new"]),
                _found("b", 0.8, "2", ["red"], category=None),
                _found("c", 0.8, None, [], "leaf"),
            ]
        )
        self.assertEqual(found.categories, {"fruit": 1, "leaf": 1})
        self.assertEqual(found.tags, {"red": 2, "new": 1})
        self.assertEqual((found.min_price, found.max_price), (2, 5))
        nothing = results.facets([])
        self.assertEqual((nothing.min_price, nothing.max_price), (None, None))

    def test_page(self):
        """Breaks if a page starts elsewhere than the last one ended, or a
        picture that a product has no longer is an error."""
        found = [_found(name, 0.5) for name in "abcde"]
        for number, expected in ((1, "ab"), (2, "cd"), (3, "e"), (4, "")):
            page = results.page(
                found,
                wishes.Results(page=number, page_size=2),
                lambda product_id, place, image: f"{product_id}/{place}",
            )
            ids = [each.product.product_id for each in page]
            self.assertEqual(ids, list(expected))
        gone = Found(found[0].product, 3, 1.0001)
        [page] = results.page([gone], wishes.Results(), lambda *_: "url")
        self.assertEqual((page.picture, page.similarity), (None, 1.0))


if __name__ == "__main__":
    unittest.main()
