"""Tests of the pictures: every attribute of a product shows in them."""

import dataclasses
import io
import pathlib
import tempfile
import unittest

import numpy as np
from PIL import Image

from beam_jobs.readers import emoji_packages
from beam_jobs.shop import drawings
from beam_jobs.shop import pictures
from beam_jobs.shop import products
from beam_jobs.shop import queries
from beam_jobs.shop import scenes
from beam_jobs.shop import settings
from tests.helpers import fake_emoji_packages

_LUMA = np.array([0.299, 0.587, 0.114])


def _pixels(jpeg):
    with Image.open(io.BytesIO(jpeg)) as picture:
        return np.asarray(picture).astype(np.float64)


def _chroma(pixels):
    return pixels[..., :3] - (pixels[..., :3] @ _LUMA)[..., None]


class TintTest(unittest.TestCase):
    def test_keeps_the_luminance(self):
        """Breaks if a dark drawing gets light, or black turns into colour."""
        rng = np.random.default_rng(0)
        pixels = rng.integers(0, 256, (8, 8, 4)).astype(np.uint8)
        pixels[0, 0, :3], pixels[0, 1, :3] = 0, 255
        for _, _, colour in products.COLOURS:
            tinted = pictures.tint(pixels, colour)
            np.testing.assert_allclose(
                tinted[..., :3] @ _LUMA, pixels[..., :3] @ _LUMA, atol=1
            )
            np.testing.assert_array_equal(tinted[..., 3], pixels[..., 3])
            np.testing.assert_array_equal(tinted[0, 0, :3], 0)
            np.testing.assert_array_equal(tinted[0, 1, :3], 255)

    def test_gives_the_hue(self):
        """Breaks if a drawing does not get the colour that titles name.

        On grey of the colour's own luminance the tint is the colour.
        """
        for name, _, colour in products.COLOURS:
            grey = np.full((1, 1, 4), round(np.array(colour) @ _LUMA), np.uint8)
            np.testing.assert_allclose(
                pictures.tint(grey, colour)[0, 0, :3],
                colour,
                atol=2,
                err_msg=name,
            )


class PicturesTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = pathlib.Path(
            cls.enterClassContext(tempfile.TemporaryDirectory())
        )
        node_modules = fake_emoji_packages.write(cls.folder)
        cls.types, drawn = drawings.choose_types(node_modules, 0)
        drawings.keep_drawings(cls.folder / "drawn", cls.types, drawn, 32)
        cls.drawn = drawings.Drawings(cls.folder / "drawn")
        cls.shop = settings.ShopConfig(image_size=48, num_types=6)
        cls.goods = products.Products(cls.shop, cls.types)
        cls.pictures = pictures.Pictures(cls.shop, cls.drawn)
        cls.sku = products.Sku(0, 0, type=1, colour=0, brand=2, pattern=0)

    def test_types(self):
        """Breaks if flags or red apples are sold, or another seed gives the
        same assortment."""
        names = sorted(each.name for each in self.types)
        things = fake_emoji_packages.THINGS
        self.assertEqual(names, sorted(name for _, name, *_ in things))
        pear = next(each for each in self.types if each.name == "pear")
        self.assertEqual(pear.name_zh, "梨")
        self.assertEqual(pear.category, "food-drink/food-fruit")
        node_modules = self.folder / "node_modules"
        orders = {
            tuple(drawings.choose_types(node_modules, seed)[0])
            for seed in range(4)
        }
        self.assertGreater(len(orders), 1)

    def test_artists(self):
        """Breaks if an artist's drawings are on both sides of the split, or
        one artist draws all pictures of a split."""
        seen = {}
        for split in ("train", "val", "test"):
            expected = {
                name
                for name, source in emoji_packages.SOURCES.items()
                if source.split == split
            }
            self.assertEqual(set(self.drawn.artists(split, 3)), expected)
            seen[split] = {
                self.pictures.picture(self.sku, split, number)[1]
                for number in range(40)
            }
            self.assertEqual(seen[split], expected)

    def test_drawing(self):
        """Breaks if an artist's drawing is kept at another's place.

        The hammer fills the upper 4 of 9 rows, 14 of 32.
        """
        hammer = next(
            place
            for place, each in enumerate(self.types)
            if each.name == "hammer"
        )
        pixels = self.drawn.of_type("openmoji", hammer)
        self.assertEqual(pixels.shape, (32, 32, 4))
        # #a50, opaque, and nothing below.
        np.testing.assert_array_equal(pixels[5, 16], [0xAA, 0x55, 0, 255])
        self.assertEqual(pixels[20:, :, 3].max(), 0)

    def test_the_number_decides(self):
        """Breaks if a picture depends on those that were drawn before it."""
        first = self.pictures.picture(self.sku, "train", 3)
        other = self.pictures.picture(self.sku, "train", 4)
        anew = pictures.Pictures(self.shop, self.drawn)
        self.assertEqual(anew.picture(self.sku, "train", 3), first)
        self.assertNotEqual(other[0], first[0])

    def test_colour_shows(self):
        """Breaks if the colour can't be seen in a cut-out.

        The chroma of the drawing, averaged, points where the colour's does.
        """
        rng = np.random.default_rng(0)
        for colour in (0, 1, 2, 3):
            sku = dataclasses.replace(self.sku, type=0, colour=colour)
            cut_out = np.asarray(
                self.pictures.cut_out(sku, "openmoji", 48, rng)
            ).astype(np.float64)
            # The middle: badges are in the corners.
            middle = _chroma(cut_out[18:30, 18:30]).mean((0, 1))
            wanted = _chroma(np.array(products.COLOURS[colour][2], float))
            cosine = middle @ wanted / np.linalg.norm(middle)
            self.assertGreater(cosine / np.linalg.norm(wanted), 0.9, colour)

    def test_pattern_and_brand_show(self):
        """Breaks if two SKUs that differ in one attribute look the same."""
        rng = np.random.default_rng
        for change in (
            {"pattern": 3},
            {"brand": 3},
            {"colour": 1},
            {"type": 2},
        ):
            one, other = (
                np.asarray(self.pictures.cut_out(sku, "openmoji", 48, rng(0)))
                for sku in (
                    self.sku,
                    dataclasses.replace(self.sku, **change),
                )
            )
            different = np.abs(one.astype(int) - other).max(-1) > 40
            self.assertGreater(different.mean(), 0.02, change)

    def test_catalogue_picture(self):
        """Breaks if the catalogue shows a photo with a background."""
        jpeg, artist = self.pictures.catalogue_picture(self.sku)
        pixels = _pixels(jpeg)
        self.assertEqual(pixels.shape, (48, 48, 3))
        self.assertGreater(pixels[[0, 0, -1, -1], [0, -1, 0, -1]].min(), 240)
        self.assertEqual(emoji_packages.SOURCES[artist].split, "train")

    def test_more_catalogue_pictures(self):
        """Breaks if more pictures change the main one, or are all alike."""
        shop = dataclasses.replace(
            self.shop, catalogue_pictures=9, poor_picture_share=0
        )
        several = pictures.Pictures(shop, self.drawn)
        self.assertEqual(
            several.catalogue_picture(self.sku),
            self.pictures.catalogue_picture(self.sku),
        )
        white = 0
        for number in range(1, 9):
            jpeg, artist = several.catalogue_picture(self.sku, number)
            self.assertEqual(emoji_packages.SOURCES[artist].split, "train")
            corners = _pixels(jpeg)[[0, 0, -1, -1], [0, -1, 0, -1]]
            white += bool((corners > 240).all(-1).sum() >= 2)
        self.assertTrue(0 < white < 8, white)

    def test_queries(self):
        """Breaks if another product than the meant one is the largest, or an
        artist of another split drew it."""
        seen = set()
        for number in range(40):
            asked = queries.query(self.goods, number)
            jpeg, row = queries.draw(self.pictures, asked)
            height, width, _ = _pixels(jpeg).shape
            self.assertEqual(row["objects"][0]["sku_id"], row["sku_id"])
            self.assertEqual(row["objects"][0]["box"], row["box"])
            covered = np.zeros((height, width), int)
            areas = []
            for each in row["objects"]:
                x_min, y_min, x_max, y_max = each["box"]
                self.assertTrue(0 <= x_min < x_max <= width)
                self.assertTrue(0 <= y_min < y_max <= height)
                covered[y_min:y_max, x_min:x_max] += 1
                areas.append((x_max - x_min) * (y_max - y_min))
                source = emoji_packages.SOURCES[each["source"]]
                self.assertEqual(source.split, row["split"])
            self.assertEqual(covered.max(), 1)
            self.assertEqual(areas[0], max(areas))
            if row["kind"] == "photo":
                self.assertEqual((width, height), (48, 48))
                self.assertEqual(len(areas), 1)
            else:
                self.assertEqual((width, height), (96, 96))
            seen.add((row["kind"], len(areas)))
        self.assertEqual(
            seen, {("photo", 1), *(("scene", size) for size in range(1, 5))}
        )

    def test_scenes(self):
        """Breaks if a box is beside its product, or two products touch."""
        sizes = set()
        for number in range(30):
            jpeg, row = scenes.scene(self.goods, self.pictures, number)
            height, width, _ = _pixels(jpeg).shape
            self.assertEqual((width, height), (144, 96))
            covered = np.zeros((height, width), int)
            for each in row["objects"]:
                x_min, y_min, x_max, y_max = each["box"]
                self.assertTrue(0 <= x_min < x_max <= width)
                self.assertTrue(0 <= y_min < y_max <= height)
                covered[y_min:y_max, x_min:x_max] += 1
                source = emoji_packages.SOURCES[each["source"]]
                self.assertEqual(source.split, row["split"])
            self.assertEqual(covered.max(), 1)
            sizes.add(len(row["objects"]))
        self.assertEqual(sizes, {1, 2, 3, 4})

    def test_boxes_are_tight(self):
        """Breaks if a box holds less, or much more, than the product.

        The product of a plain label is what two scenes differ in that have
        the same chance but another pattern.
        """
        one, other = (
            self.pictures.scene(
                [dataclasses.replace(self.sku, pattern=pattern)], "test", 5
            )
            for pattern in (0, 3)
        )
        self.assertEqual(one[2], other[2])
        different = np.abs(_pixels(one[0]) - _pixels(other[0])).max(-1) > 30
        rows, columns = np.nonzero(different)
        x_min, y_min, x_max, y_max = one[2][0]
        found = [columns.min(), rows.min(), columns.max(), rows.max()]
        self.assertGreaterEqual(found[0], x_min - 1)
        self.assertGreaterEqual(found[1], y_min - 1)
        self.assertLess(found[2], x_max + 1)
        self.assertLess(found[3], y_max + 1)
        area = (found[2] - found[0]) * (found[3] - found[1])
        self.assertGreater(area, 0.6 * (x_max - x_min) * (y_max - y_min))


if __name__ == "__main__":
    unittest.main()
