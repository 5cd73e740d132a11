"""Tests of poor pictures: each is poor in its own way."""

import dataclasses
import unittest

import numpy as np
from PIL import Image

from beam_jobs.shop import poor_pictures
from beam_jobs.shop import settings


class PoorPicturesTest(unittest.TestCase):
    def test_kinds(self):
        """Breaks if more or fewer pictures are poor than told.

        400 pictures at 0.3: 120 with a deviation of 9.2; 40 of each kind.
        """
        shop = settings.ShopConfig(catalogue_pictures=4, poor_picture_share=0.3)
        kinds = [
            poor_pictures.kind(shop, sku, picture)
            for sku in range(100)
            for picture in range(4)
        ]
        self.assertAlmostEqual(400 - kinds.count(None), 120, delta=42)
        for wrong in ("blurred", "small", "banner"):
            self.assertAlmostEqual(kinds.count(wrong), 40, delta=27)
        alone = dataclasses.replace(shop, catalogue_pictures=1)
        self.assertEqual(
            {poor_pictures.kind(alone, sku, 0) for sku in range(100)}, {None}
        )

    def test_spoil(self):
        """Breaks if a picture that should be poor is as good as before."""
        rng = np.random.default_rng(0)
        sharp = Image.fromarray(rng.integers(0, 255, (60, 60, 3), np.uint8))
        self.assertIs(poor_pictures.spoil(sharp, None, 0), sharp)
        blurred = np.asarray(poor_pictures.spoil(sharp, "blurred", 0))
        self.assertLess(blurred.std(), 0.5 * np.asarray(sharp).std())
        # 0.4 of 60.
        self.assertEqual(poor_pictures.spoil(sharp, "small", 0).size, (24, 24))
        lettered = np.asarray(poor_pictures.spoil(sharp, "banner", 1))
        np.testing.assert_array_equal(lettered[:40], np.asarray(sharp)[:40])
        np.testing.assert_array_equal(lettered[58, 2], (225, 20, 20))
        self.assertGreater(lettered[46:].min(-1).max(), 200)


if __name__ == "__main__":
    unittest.main()
