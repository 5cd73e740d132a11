import math
import unittest

from sicot_tf.recognition.stages import nearest_pictures
from sicot_tf.recognition.stages import sku_search


def _near(sku_id, distance):
    return nearest_pictures.Neighbour("p", sku_id, None, 0, distance)


class SkuSearchTest(unittest.TestCase):
    def test_shares(self):
        """Breaks if a SKU counts by how many pictures it has."""
        found = sku_search.shares(
            [_near("a", 0.5), _near("b", 1.0), _near("b", 1.0)], 2 * math.log(3)
        )
        # exp(-2 ln 3 * 0.5) = 1/3 of the nearest.
        self.assertEqual(list(found), ["a", "b"])
        self.assertAlmostEqual(found["a"], 0.75)
        self.assertAlmostEqual(found["b"], 0.25)
        self.assertEqual(sku_search.shares([], 3.0), {})

    def test_no_underflow(self):
        """Breaks if a large sharpness leaves nothing to divide by."""
        found = sku_search.shares([_near("a", 2.0), _near("b", 3.0)], 1e9)
        self.assertEqual(found, {"a": 1.0, "b": 0.0})

    def test_fuse(self):
        """Breaks if a SKU that the recogniser does not know can't come in."""
        ids, scores = sku_search.fuse(
            ["a", "b"], [0.5, 0.25], {"new": 0.75, "b": 0.25}, 0.5
        )
        self.assertEqual(ids, ["new", "a", "b"])
        self.assertEqual(scores, [0.375, 0.25, 0.25])

    def test_recogniser_alone(self):
        """Breaks if scores change where nothing was found or is wanted."""
        for search, weight in (({}, 0.5), ({"new": 1.0}, 0.0)):
            self.assertEqual(
                sku_search.fuse(["a"], [0.5], search, weight), (["a"], [0.5])
            )


if __name__ == "__main__":
    unittest.main()
