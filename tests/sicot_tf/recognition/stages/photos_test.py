import io

import numpy as np
import PIL.Image
from absl.testing import absltest
from absl.testing import parameterized

from sicot_tf.data.decoding import picture_files
from sicot_tf.recognition.stages import photos
from tests.helpers import picture_formats

_WIDTH, _HEIGHT = 48, 32


def _picture(kind, size=(_WIDTH, _HEIGHT), **options):
    """A picture whose left half is red."""
    image = PIL.Image.new("RGB", size, "white")
    image.paste("red", (0, 0, size[0] // 2, size[1]))
    return picture_formats.encode(image, kind, **options)


def _exif(orientation):
    return b"Exif\0\0" + picture_formats.exif(orientation)


def _pixels(bmp):
    image = PIL.Image.open(io.BytesIO(bmp), formats=["BMP"])
    return np.asarray(image).astype(int)


class ReadTest(parameterized.TestCase):
    @parameterized.parameters("JPEG", "PNG", "WEBP", "GIF", "BMP")
    def test_formats_by_content(self, kind):
        """Breaks if a format is refused, or its header misread."""
        photo = photos.read(_picture(kind))
        self.assertEqual(
            (photo.kind, photo.width, photo.height), (kind, _WIDTH, _HEIGHT)
        )

    @parameterized.parameters(*range(1, 9))
    def test_size_is_that_of_the_turned_picture(self, orientation):
        """Breaks if boxes are in pixels of a picture that nobody sees."""
        data = _picture("JPEG", exif=_exif(orientation))
        photo = photos.read(data)
        # 5 to 8 lie on their side.
        expected = (_HEIGHT, _WIDTH) if orientation > 4 else (_WIDTH, _HEIGHT)
        self.assertEqual((photo.width, photo.height), expected)

    @parameterized.named_parameters(
        ("nothing", b"", 400),
        ("text", b"<html></html>", 415),
        ("heic", b"\0\0\0\x18ftypheic" + bytes(20), 415),
        ("tiff", b"II*\0" + bytes(20), 415),
        ("svg", b"<svg xmlns='http://www.w3.org/2000/svg'/>", 415),
        ("riff that is no webp", b"RIFF\0\0\0\0WAVE" + bytes(20), 415),
        ("only a start", b"\xff\xd8\xff\xe0", 422),
        ("cut header", _picture("PNG")[:20], 422),
        ("webp of nothing", b"RIFF\0\0\0\0WEBP", 422),
    )
    def test_refusals(self, data, status):
        """Breaks if what is no photo ends in a traceback, or with a code
        that blames somebody else."""
        with self.assertRaises(photos.PhotoError) as caught:
            photos.read(data)
        self.assertEqual(caught.exception.status, status)
        self.assertRegex(str(caught.exception), r"^[A-Z].*\.$")

    def test_limits(self):
        """Breaks if a limit is one off, or a bomb is unpacked to see it."""
        data = _picture("PNG")
        photos.read(data, max_bytes=len(data), max_pixels=_WIDTH * _HEIGHT)
        for limit in (
            {"max_bytes": len(data) - 1},
            {"max_pixels": _WIDTH * _HEIGHT - 1},
        ):
            with self.assertRaises(photos.PhotoError) as caught:
                photos.read(data, **limit)
            self.assertEqual(caught.exception.status, 413)
        # A header that claims 2^31 - 1 pixels a side; there are none.
        bomb = bytearray(data)
        bomb[16:24] = bytes.fromhex("7fffffff7fffffff")
        with self.assertRaises(photos.PhotoError) as caught:
            photos.read(bytes(bomb))
        self.assertIn(caught.exception.status, (413, 422))


class EncodeTest(parameterized.TestCase):
    def test_whole_photo_is_the_same_bytes(self):
        """Breaks if each photo is encoded anew, which takes time and loses
        what the model was trained on."""
        data = _picture("JPEG", exif=_exif(6))
        self.assertIs(photos.encode_whole(photos.read(data)), data)

    @parameterized.parameters(1, 6)
    def test_large_photo_is_reduced(self, orientation):
        """Breaks if a model server has to hold 12 megapixels in float32, or
        the reduced photo lies on its side."""
        data = _picture("JPEG", (4000, 3000), exif=_exif(orientation))
        pixels = _pixels(photos.encode_whole(photos.read(data)))
        # 3000 // 640 = 4: sides divided by 4.
        expected = (750, 1000) if orientation == 1 else (1000, 750)
        self.assertEqual(pixels.shape[:2], expected)
        red, white = pixels[5, 5], pixels[-5, -5]
        np.testing.assert_allclose(red, [255, 0, 0], atol=3)
        np.testing.assert_allclose(white, [255, 255, 255], atol=3)

    @parameterized.parameters(*range(1, 9))
    def test_crop_is_of_what_one_sees(self, orientation):
        """Breaks if the crop of a turned photo shows another part."""
        stored = picture_formats.rgb()
        seen = picture_files.turn_upright(stored, orientation)
        data = picture_formats.encode(stored, "PNG", exif=_exif(orientation))
        box = (5, 3, 20, 30)
        [crop] = photos.encode_crops(photos.read(data), [box])
        np.testing.assert_array_equal(_pixels(crop), np.asarray(seen.crop(box)))

    @parameterized.parameters(
        *sorted(picture_formats.served_and_stored().items())
    )
    def test_crops_of_every_format(self, _, data):
        """Breaks if a kind of picture that the model reads has no crops."""
        photo = photos.read(data)
        box = (0, 0, photo.width // 2, photo.height)
        [crop] = photos.encode_crops(photo, [box])
        self.assertEqual(
            _pixels(crop).shape, (photo.height, photo.width // 2, 3)
        )

    def test_cut_photo(self):
        """Breaks if half a photo is recognised, or ends in a traceback."""
        data = picture_formats.encode(picture_formats.rgb(), "PNG")
        photo = photos.read(data[: len(data) // 2])
        with self.assertRaises(photos.PhotoError) as caught:
            photos.encode_crops(photo, [(0, 0, 9, 9)])
        self.assertEqual(caught.exception.status, 422)


if __name__ == "__main__":
    absltest.main()
