import unittest

from sicot_tf.catalogue import vectors
from sicot_tf.recognition import nearest_products


def _hits(*found):
    return [vectors.Hit(name, 0, similarity) for name, similarity in found]


def _names(hits):
    return [each.product_id for each in hits]


class InCategoryTest(unittest.TestCase):
    def test_keeps_what_looks_more_alike(self):
        """Breaks if a wrong category hides an exact match."""
        everywhere = _hits(("exact", 1.0), ("in", 0.8), ("other", 0.7))
        within = _hits(("in", 0.8), ("far", 0.1))
        self.assertEqual(
            _names(nearest_products.in_category(everywhere, within)),
            ["exact", "in", "far"],
        )

    def test_without_products(self):
        """Breaks if a category that nobody has leaves nothing."""
        everywhere = _hits(("a", 1.0))
        self.assertEqual(
            nearest_products.in_category(everywhere, []), everywhere
        )


if __name__ == "__main__":
    unittest.main()
