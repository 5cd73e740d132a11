"""Tests of the way from image files to stored JPEG bytes."""

import io
import struct
import zlib

import numpy as np
import tensorflow as tf
from PIL import Image

from beam_jobs.pictures import stored_images
from sicot_tf.data import records

_RED, _BLUE = (200, 30, 30), (30, 30, 200)


def _encode(image, image_format, **options):
    output = io.BytesIO()
    image.save(output, image_format, **options)
    return output.getvalue()


def _two_colours(width=40, height=20):
    """Left half red, right half blue."""
    image = Image.new("RGB", (width, height), _RED)
    image.paste(_BLUE, (width // 2, 0, width, height))
    return image


def _store(data, **changes):
    settings = {
        "image_size": 16,
        "jpeg_quality": 95,
        "min_image_side": 8,
        "max_image_pixels": 10_000,
    }
    return stored_images.to_stored_image(data, **{**settings, **changes}).jpeg


def _pixels(jpeg):
    """As the training pipeline decodes it: `[height, width, 3]`."""
    return tf.io.decode_jpeg(jpeg).numpy().astype(int)


class ToStoredJpegTest(tf.test.TestCase):
    def _assert_rejected(self, reason, data, **changes):
        with self.assertRaises(records.RecordError) as caught:
            _store(data, **changes)
        self.assertEqual(caught.exception.reason, reason)

    def _assert_colour(self, pixel, colour):
        self.assertAllClose(pixel, colour, atol=6)

    def test_shorter_side_and_aspect(self):
        """If it fails, stored images are distorted or too large."""
        pixels = _pixels(_store(_encode(_two_colours(40, 20), "PNG")))
        # 40 x 20 with the shorter side reduced to 16: 32 x 16.
        self.assertEqual(pixels.shape, (16, 32, 3))
        self._assert_colour(pixels[8, 4], _RED)
        self._assert_colour(pixels[8, 28], _BLUE)

    def test_small_images_are_not_enlarged(self):
        """If it fails, bytes are spent on pixels that hold nothing."""
        pixels = _pixels(_store(_encode(_two_colours(12, 10), "PNG")))
        self.assertEqual(pixels.shape, (10, 12, 3))

    def test_reduced_decoding_of_large_jpeg(self):
        """If it fails, libjpeg's own scaling lost the size or the picture."""
        image = _two_colours(400, 240)
        pixels = _pixels(
            _store(_encode(image, "JPEG"), max_image_pixels=400 * 240)
        )
        # 240 to 16; 400 * 16 / 240 = 26.7, libjpeg's steps allow 26 to 28.
        self.assertEqual(pixels.shape[0], 16)
        self.assertBetween(pixels.shape[1], 26, 28)
        self._assert_colour(pixels[8, 4], _RED)
        self._assert_colour(pixels[8, 22], _BLUE)

    def test_reduced_decoding_that_ends_at_the_size(self):
        """If it fails, the large file itself is stored: 4 times the bytes."""
        # libjpeg halves 64 x 32 while decoding: nothing is left to resize.
        pixels = _pixels(_store(_encode(_two_colours(64, 32), "JPEG")))
        self.assertEqual(pixels.shape, (16, 32, 3))

    def test_every_mode_becomes_rgb(self):
        """If it fails, a kind of file breaks training or changes its look."""
        image = _two_colours()
        grey = np.asarray(image.convert("L")).astype(np.uint16)
        for name, data in {
            "palette": _encode(image.quantize(), "PNG"),
            "grey": _encode(image.convert("L"), "PNG"),
            "grey, 16 bit": _encode(Image.fromarray(grey * 257), "PNG"),
            "cmyk": _encode(image.convert("CMYK"), "JPEG", quality=95),
            "bilevel": _encode(image.convert("1"), "PNG"),
            "webp": _encode(image, "WEBP", lossless=True),
            "bmp": _encode(image, "BMP"),
            "tiff": _encode(image, "TIFF"),
            "avif": _encode(image, "AVIF", quality=95),
            "gif": _encode(image, "GIF"),
        }.items():
            with self.subTest(name):
                pixels = _pixels(_store(data))
                self.assertEqual(pixels.shape, (16, 32, 3))
                if name == "bilevel":
                    continue
                left, right = pixels[8, 4], pixels[8, 28]
                if name.startswith("grey"):
                    # ITU-R 601: .299 R + .587 G + .114 B.
                    self._assert_colour(left, [81] * 3)
                    self._assert_colour(right, [49] * 3)
                else:
                    self.assertAllClose(left, _RED, atol=16)
                    self.assertAllClose(right, _BLUE, atol=16)

    def test_transparency_lies_on_white(self):
        """If it fails, cut-out product shots get black backgrounds."""
        image = Image.new("RGBA", (16, 16), (0, 0, 0, 0))
        image.paste((*_RED, 255), (0, 0, 8, 16))
        image.paste((0, 0, 0, 128), (8, 8, 16, 16))
        for data in (_encode(image, "PNG"), _encode(image, "WEBP")):
            pixels = _pixels(_store(data))
            self.assertAllClose(pixels[8, 3], _RED, atol=16)
            self._assert_colour(pixels[3, 12], [255] * 3)
            # Half transparent black: 255 * (1 - 128 / 255) = 127.
            self._assert_colour(pixels[12, 12], [127] * 3)

    def test_exif_rotation_is_applied_and_removed(self):
        """If it fails, phone photos lie on their side."""
        exif = Image.Exif()
        exif[0x0112] = 6  # Turn by 90 degrees clockwise to see it upright.
        stored = _store(_encode(_two_colours(16, 12), "JPEG", exif=exif))
        pixels = _pixels(stored)
        # Left (red) comes to the top.
        self.assertEqual(pixels.shape, (16, 12, 3))
        self.assertAllClose(pixels[2, 6], _RED, atol=16)
        self.assertAllClose(pixels[13, 6], _BLUE, atol=16)
        self.assertEmpty(Image.open(io.BytesIO(stored)).getexif())

    def test_exif_rotation_of_a_large_jpeg(self):
        """If it fails, photos of telephones are stored lying on their side."""
        exif = Image.Exif()
        exif[0x0112] = 6  # As above.
        stored = _store(_encode(_two_colours(160, 60), "JPEG", exif=exif))
        pixels = _pixels(stored)
        # The left half of the file comes on top; 60 wide becomes 16.
        self.assertEqual(pixels.shape[1], 16)
        self._assert_colour(pixels[4, 8], _RED)
        self._assert_colour(pixels[38, 8], _BLUE)
        self.assertEmpty(Image.open(io.BytesIO(stored)).getexif())

    def test_large_grey_and_damaged_jpegs(self):
        """If it fails, grey photos are lost, or cut-off ones stored."""
        data = _encode(_two_colours(160, 60).convert("L"), "JPEG")
        self.assertEqual(_pixels(_store(data)).shape[2], 3)
        self._assert_rejected("decode_error", data[:-100])

    def test_first_frame_of_an_animation(self):
        """If it fails, animations are rejected or another frame is taken."""
        frames = [Image.new("RGB", (16, 16), c) for c in (_RED, _BLUE)]
        data = _encode(
            frames[0], "GIF", save_all=True, append_images=frames[1:]
        )
        self._assert_colour(_pixels(_store(data))[8, 8], _RED)

    def test_box_is_cropped(self):
        """If it fails, the wrong part of a shop scene is learnt."""
        data = _encode(_two_colours(40, 20), "PNG")
        pixels = _pixels(_store(data, box=[20, 2.5, 32, 12.5]))
        # x 20 to 32, y floor(2.5) = 2 to ceil(12.5) = 13: 12 x 11, all blue.
        self.assertEqual(pixels.shape, (11, 12, 3))
        self._assert_colour(pixels.mean((0, 1)), _BLUE)

    def test_box_applies_to_a_large_jpeg_in_its_own_pixels(self):
        """If it fails, scaled decoding moved the box."""
        data = _encode(_two_colours(400, 240), "JPEG", quality=95)
        pixels = _pixels(
            _store(data, box=[200, 0, 400, 240], max_image_pixels=96_000)
        )
        self._assert_colour(pixels.mean((0, 1)), _BLUE)

    def test_bad_boxes(self):
        """If it fails, boxes beyond the image give padding or a crash."""
        data = _encode(_two_colours(40, 20), "PNG")
        self._assert_rejected("bad_box", data, box=[0, 0, 41, 20])
        self._assert_rejected("bad_box", data, box=[5, 5, 5, 20])
        self._assert_rejected("too_small", data, box=[0, 0, 40, 7])

    def test_fitting_jpeg_passes_unchanged(self):
        """If it fails, good files lose quality by a second encoding."""
        image = _two_colours(20, 12)
        plain = _encode(image, "JPEG", quality=80)
        self.assertEqual(_store(plain), plain)
        for data in (
            _encode(image, "JPEG", progressive=True),
            _encode(image, "JPEG", comment=b"taken at home"),
            _encode(image.convert("L"), "JPEG"),
        ):
            stored = _store(data)
            self.assertNotEqual(stored, data)
            info = Image.open(io.BytesIO(stored)).info
            self.assertNotIn("progressive", info)
            self.assertNotIn("comment", info)
            self.assertEqual(_pixels(stored).shape, (12, 20, 3))

    def test_hashes_of_copies_and_of_others(self):
        """If it fails, copies are missed or other pictures taken for them."""
        rng = np.random.default_rng(0)
        cells = rng.integers(0, 256, (2, 6, 8, 3)).astype(np.uint8)
        image, other = (
            Image.fromarray(each).resize((128, 96), Image.Resampling.BICUBIC)
            for each in cells
        )
        red, green, blue = image.split()
        variants = {
            "re-encoded": _encode(image, "JPEG", quality=75),
            "half": _encode(image.resize((64, 48)), "PNG"),
            "darker": _encode(image.point(lambda level: level * 0.95), "PNG"),
            "other": _encode(other, "PNG"),
            "other colours": _encode(
                Image.merge("RGB", (blue, green, red)), "PNG"
            ),
        }
        settings = {
            "image_size": 256,
            "jpeg_quality": 95,
            "min_image_side": 8,
            "max_image_pixels": 100_000,
        }
        original = stored_images.to_stored_image(
            _encode(image, "PNG"), **settings
        ).hashes
        for name, data in variants.items():
            with self.subTest(name):
                hashes = stored_images.to_stored_image(data, **settings).hashes
                distance = sum(
                    (x ^ y).bit_count()
                    for x, y in zip(original, hashes, strict=True)
                )
                if name.startswith("other"):
                    self.assertGreater(distance, 10)
                else:
                    self.assertLessEqual(distance, 3)

    def test_equal_input_gives_equal_bytes(self):
        """If it fails, two builds of one data set differ."""
        data = _encode(_two_colours(), "PNG")
        self.assertEqual(_store(data), _store(data))

    def test_unusable_files(self):
        """If it fails, one bad file ends the job or enters the set."""
        jpeg = _encode(_two_colours(), "JPEG")
        png = _encode(_two_colours(), "PNG")
        self._assert_rejected("empty_file", b"")
        self._assert_rejected("not_an_image", b"<html>404</html>")
        self._assert_rejected("decode_error", jpeg[:-200])
        self._assert_rejected("decode_error", png[: len(png) // 2])
        one_pixel = _encode(Image.new("RGB", (1, 1)), "PNG")
        self._assert_rejected("too_small", one_pixel)
        self._assert_rejected("too_many_pixels", png, max_image_pixels=799)

    def test_decompression_bombs_are_not_decoded(self):
        """If it fails, a few bytes take gigabytes of memory."""
        # Headers alone: 12,000 x 12,000 is our limit's case, 30,000 x 30,000
        # that of Pillow, which refuses to open it.
        for side in (12_000, 30_000):
            header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
            chunk = b"IHDR" + header
            bomb = b"\x89PNG\r\n\x1a\n" + struct.pack(">I", len(header))
            bomb += chunk + struct.pack(">I", zlib.crc32(chunk))
            bomb += struct.pack(">I", 0) + b"IDAT" + bytes(4)
            with self.subTest(side):
                self._assert_rejected(
                    "too_many_pixels", bomb, max_image_pixels=89_478_485
                )


if __name__ == "__main__":
    tf.test.main()
