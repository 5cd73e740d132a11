import pathlib
import tempfile
import unittest

from sicot_tf.recognition.stages import sku_categories
from tests.helpers import tiny_index

PRODUCTS = (
    ("shop/1", "cola", "drink"),
    ("shop/2", "cup", "drink"),
    ("shop/3", "cup", "kitchen"),
    ("shop/4", "cup", "kitchen"),
    ("shop/5", "cup", None),
    ("shop/6", "odd", None),
)


class SkuCategoriesTest(unittest.TestCase):
    def test_shares(self):
        """Broken: a SKU of several categories counts in one of them, or whole
        in each, or a product without category takes from the others."""
        with tempfile.TemporaryDirectory() as folder:
            index = pathlib.Path(folder)
            generation = tiny_index.write(index, "a", PRODUCTS)
            categories = sku_categories.SkuCategories(generation)
        self.assertEqual(categories.of("cola"), {"drink": 1.0})
        self.assertEqual(
            categories.of("cup"), {"drink": 1 / 3, "kitchen": 2 / 3}
        )
        self.assertEqual(categories.of("odd"), {})
        self.assertEqual(categories.of("unknown"), {})
        self.assertEqual(categories.names, {"drink", "kitchen"})


if __name__ == "__main__":
    unittest.main()
