"""What a graph sees of a picture is what a build stores of the same file."""

import functools
import io
import itertools
import struct
import unittest

import numpy as np
import tensorflow as tf
from PIL import Image

from beam_jobs.pictures import stored_images
from sicot_tf.data import images
from sicot_tf.data import records
from sicot_tf.data.decoding import picture_files
from tests.helpers import picture_formats

_JPEG = picture_formats.encode(
    picture_formats.rgb(), "JPEG", quality=95, subsampling="4:4:4"
)


@functools.cache
def _graph():
    """Not of tf.test, which makes each test build the graph anew."""
    return tf.function(
        images.decode,
        input_signature=[tf.TensorSpec([], tf.string)],
        autograph=False,
    )


def _serve(data):
    return _graph()(tf.constant(data)).numpy().astype(int)


def _store(data, image_size=64):
    stored = stored_images.to_stored_image(
        data,
        image_size=image_size,
        jpeg_quality=95,
        min_image_side=1,
        max_image_pixels=10_000_000,
    )
    return stored.jpeg


def _stored_pixels(data):
    stored = images.decode_stored(tf.constant(_store(data)))
    return stored.numpy().astype(int)


class PictureContractTest(unittest.TestCase):
    def _assert_same(self, data, is_exact=True):
        served, stored = _serve(data), _stored_pixels(data)
        self.assertEqual(served.shape, stored.shape)
        distance = np.abs(served - stored)
        # Flat cells: at quality 95 the mean of 8 x 8 pixels is off by less
        # than 1, conversion to YCbCr and back by 2, once or twice. Where the
        # file is a lossy WebP, edges are none of the cells' and blur.
        self.assertLessEqual(distance[3::8, 3::8].max(), 6)
        self.assertLessEqual(distance.max(), 6 if is_exact else 24)
        self.assertGreater(np.ptp(stored), 10)

    def test_every_format_is_served_as_stored(self):
        """If it fails, a model answers for pictures unlike those it learnt."""
        for name, data in picture_formats.served_and_stored().items():
            with self.subTest(name):
                self._assert_same(data, not name.startswith("WebP"))

    def test_the_list_is_that_of_pillow(self):
        """If it fails, the list above misses a format that a build takes."""
        formats, modes = set(), set()
        files = picture_formats.served_and_stored()
        refused = picture_formats.stored_only()
        for data in [*files.values(), *(data for data, _ in refused.values())]:
            with Image.open(io.BytesIO(data)) as image:
                formats.add(image.format)
                modes.add(image.mode)
        self.assertEqual(formats, set(stored_images.FORMATS))
        self.assertEqual(
            modes, {"1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "I;16"}
        )

    def test_pixels_are_the_right_ones(self):
        """If it fails, both sides may be wrong in the same way."""
        colours = picture_formats.cells(3)
        alpha = np.asarray(picture_formats.rgba()).astype(int)
        on_white = alpha[..., :3] * alpha[..., 3:] + 255 * (
            255 - alpha[..., 3:]
        )
        files = picture_formats.served_and_stored()
        greys = picture_formats.cells(1, 2, seed=1) * 255
        for name, expected, tolerance in (
            ("WebP, lossless", colours, 0),
            ("WebP, alpha, lossless", on_white / 255, 1),
            ("BMP, 24 bits by Pillow", colours, 0),
            ("PNG type 0, 1 bits", greys.repeat(3, -1), 0),
            ("APNG", colours, 0),
            ("JPEG", colours, 6),
            ("JPEG, CMYK, no Adobe", colours, 6),
        ):
            with self.subTest(name):
                distance = np.abs(_serve(files[name]) - expected)
                self.assertLessEqual(distance.max(), tolerance)
        # The key colour is that of 16 bits: of two cells one is white.
        served = _serve(files["PNG type 2, 16 bits, tRNS"])
        self.assertEqual(served[0, 0].tolist(), [255] * 3)
        self.assertNotEqual(served[0, 8].tolist(), [255] * 3)
        # The frame of 24 x 16 at (8, 8) has white around it.
        served = _serve(files["GIF, small frame"])
        self.assertEqual(served.shape, (32, 48, 3))
        self.assertEqual(served[:8].min(), 255)
        self.assertLess(served[8:24, 8:32].min(), 200)
        self.assertEqual(served[24:].min(), 255)

    def test_every_orientation(self):
        """If it fails, phone photos are served lying, or are turned twice."""
        for name, data in picture_formats.turned().items():
            with self.subTest(name):
                self._assert_same(data)
        # 6: the left of the file comes on top.
        data = picture_formats.turned()["PNG, orientation 6<"]
        upright = _serve(picture_formats.png(2, 8))
        np.testing.assert_array_equal(_serve(data), np.rot90(upright, -1))

    def test_the_square_of_a_turned_picture(self):
        """If it fails, half a pixel depends on how the camera was held."""
        pixels = picture_formats.cells(3)[:31]  # 31 x 48: 17 pixels too wide.
        plain = Image.fromarray(pixels.astype(np.uint8))
        for orientation in range(1, 9):
            data = picture_formats.with_chunks(
                picture_formats.encode(plain, "PNG"),
                picture_formats.chunk(
                    b"eXIf", picture_formats.exif(orientation)
                ),
            )
            expected = images.resize_and_crop_center(_serve(data), 31)
            found = images.decode_for_inference(tf.constant(data), 31)
            np.testing.assert_allclose(found, expected, atol=0.01)

    def test_large_jpegs_are_turned_by_the_same_rule(self):
        """If it fails, small and large pictures of one phone differ."""
        large = picture_formats.rgb().resize((960, 640), 0)
        xmp = b'http://ns.adobe.com/xap/1.0/\0 tiff:Orientation="6"'
        for orientation in range(0, 10):
            data = picture_formats.with_segments(
                picture_formats.encode(large, "JPEG", quality=95),
                picture_formats.segment(0xE1, xmp),
                picture_formats.segment(
                    0xE1, b"Exif\0\0" + picture_formats.exif(orientation)
                ),
            )
            served = _serve(data)
            # Ten pixels of 20 are far from the borders of a cell.
            served = served[10::20, 10::20]
            stored = tf.io.decode_jpeg(_store(data, 32)).numpy().astype(int)
            self.assertEqual(served.shape, stored.shape)
            is_tall = 5 <= orientation <= 8
            self.assertEqual(served.shape[0] > served.shape[1], is_tall)
            middle = np.abs(served - stored)[3::8, 3::8]
            self.assertLessEqual(middle.max(), 8)

    def test_what_only_a_build_reads(self):
        """If it fails, a picture is served as garbage, or with no reason."""
        for name, (data, word) in picture_formats.stored_only().items():
            with self.subTest(name):
                self.assertGreater(np.ptp(_stored_pixels(data)), 100)
                with self.assertRaisesRegex(
                    tf.errors.InvalidArgumentError, f"{word}.*send"
                ):
                    _serve(data)

    def test_numbers_without_a_range_are_refused(self):
        """If it fails, a picture of floats from 0 to 1 is stored black."""
        for kind in (np.float32, np.int32):
            pixels = picture_formats.cells(1)[..., 0].astype(kind)
            data = picture_formats.encode(Image.fromarray(pixels), "TIFF")
            with self.assertRaisesRegex(records.RecordError, "received 32"):
                _store(data)


class HostileFilesTest(unittest.TestCase):
    """Bytes that claim much, or lead in circles."""

    def _assert_refused(self, files, text):
        for name, data in files.items():
            with self.subTest(name):
                with self.assertRaisesRegex(
                    tf.errors.InvalidArgumentError, text
                ):
                    _serve(data)

    def test_decompression_bombs(self):
        """If it fails, a few bytes fill the memory of a server."""
        lossless = bytearray(
            picture_formats.encode(picture_formats.rgb(), "WEBP", lossless=True)
        )
        lossless[21:25] = struct.pack("<I", 16382 | 16382 << 14)
        lossy = bytearray(picture_formats.encode(picture_formats.rgb(), "WEBP"))
        lossy[26:30] = struct.pack("<HH", 16383, 16383)
        extended = bytearray(
            picture_formats.encode(picture_formats.rgba(), "WEBP", exif=b"I")
        )
        self.assertEqual(extended[12:16], b"VP8X")
        extended[24:30] = b"\xff" * 6
        bmp, png = picture_formats.bmp(1), picture_formats.png(2, 8)
        bmp = bytearray(bmp)
        bmp[18:26] = struct.pack("<ii", 2**31 - 1, 1 - 2**24)
        self._assert_refused(
            {
                "WebP, lossless": bytes(lossless),
                "WebP": bytes(lossy),
                "WebP, extended": bytes(extended),
                "BMP": bytes(bmp),
                "PNG, sides beyond 31 bits": png[:16] + b"\xff" * 8 + png[24:],
                "GIF, a frame larger than the canvas": _gif(
                    _frame(0, 0, 65535, 65535)
                ),
                "GIF, a frame far away": _gif(_frame(60000, 60000, 4, 4)),
            },
            "at most 50,000,000 pixels",
        )

    def test_later_frames_of_a_gif_are_not_looked_at(self):
        """If it fails, 30 bytes behind a small frame ask for gigabytes."""
        data = picture_formats.gif_small_frame(transparent=False)
        bomb = data[:-1] + _frame(0, 0, 65535, 65535) + b";"
        np.testing.assert_array_equal(_serve(bomb), _serve(data))

    def test_endless_chains_end(self):
        """If it fails, one request holds a core for minutes.

        More blocks than a loop looks at, none as long as the one before.
        """
        odd = b"\1a\2bb" * 10_000 + b"\0"
        data = picture_formats.gif_small_frame(transparent=False)
        head = data.index(b",\x08\0\x08\0")
        comment = data[:head] + b"!\xfe" + odd + data[head:]
        self._assert_refused(
            {
                "comment": comment,
                "extensions": data[:head] + b"!\xfe\0" * 99 + data[head:],
                "cut off": data[:-4],
                "no frame": data[:head] + b";",
                "pixels": _gif(_frame(0, 0, 4, 4)[:-3] + odd),
            },
            "The GIF is",
        )
        # Of a build they cost no picture: nothing there takes long.
        self.assertEqual(_store(comment), _store(data))
        jpeg = picture_formats.with_segments(_JPEG, b"\xff\xe2\0\2" * 50_000)
        np.testing.assert_array_equal(_serve(jpeg), _serve(_JPEG))

    def test_cut_headers(self):
        """If it fails, an error is one that no client understands."""
        for data in picture_formats.served_and_stored().values():
            for size in (4, 15, 31):
                with self.assertRaises(tf.errors.InvalidArgumentError):
                    _serve(data[:size])

    def test_too_long_a_strip_has_its_reason(self):
        """If it fails, the job meets an error that nobody foresaw."""
        for size in ((70_000, 16), (3, 65_501), (70_000, 100)):
            data = picture_formats.encode(Image.new("L", size, 90), "PNG")
            with self.assertRaises(records.RecordError) as caught:
                _store(data, 98)
            self.assertEqual(caught.exception.reason, "too_long")
        # 70,000 x 100 to a shorter side of 50: 35,000 fit.
        _store(data, 50)


def _gif(*frames):
    """A canvas of 16 x 16 with two colours."""
    head = b"GIF89a" + struct.pack("<HH", 16, 16) + b"\x80\0\0"
    return b"".join([head, b"\0\0\0\xff\xff\xff", *frames, b";"])


def _frame(left, top, width, height):
    place = struct.pack("<HHHH", left, top, width, height)
    return b"," + place + b"\0" + b"\2\2\x4c\1\0"


class OrientationTest(unittest.TestCase):
    """Hostile and odd metadata: one answer everywhere, and the picture."""

    def _files(self):
        exif, segment = picture_formats.exif, picture_formats.segment
        ratio = b"\x04\x92\x0a\0\x01\0\0\0\xff\0\0\0"
        good = exif(6)
        blocks = {
            "bias -1/0": (exif(6, before=ratio), 6),
            "value 0": (exif(0), 1),
            "value 9": (exif(9), 1),
            "long": (exif(6, kind=4), 6),
            "long, big-endian": (exif(6, ">", kind=4), 6),
            "byte": (exif(6, kind=1), 1),
            "two values": (exif(6, count=2), 1),
            "twice": (exif(6, before=exif(3)[10:22]), 3),
            "no entries": (good[:8] + bytes(20), 1),
            "65,535 entries": (good[:8] + b"\xff\xff" + good[10:], 6),
            "cut in the entry": (good[:20], 1),
            "cut in the count": (good[:9], 1),
            "cut in the offset": (good[:6], 1),
            "offset far away": (good[:4] + b"\xff\xff\xff\xff" + good[8:], 1),
            "offset to itself": (good[:4] + bytes(4) + good[8:], 1),
            "wrong mark": (b"IM" + good[2:], 1),
            "empty": (b"", 1),
        }
        for name, (block, expected) in blocks.items():
            app1 = segment(0xE1, b"Exif\0\0" + block)
            yield name, picture_formats.with_segments(_JPEG, app1), expected
        app1 = segment(0xE1, b"Exif\0\0" + good)
        many = segment(0xE2, b"MPF\0") * (picture_files.MAX_SEGMENTS - 1)
        for name, parts, expected in (
            ("two segments", (app1, segment(0xE1, b"Exif\0\0" + exif(3))), 6),
            ("behind others", (segment(0xED, b"Photoshop"), app1), 6),
            ("behind XMP", (segment(0xE1, b"http://ns.ado"), app1), 6),
            ("behind fill bytes", (b"\xff\xff\xff", app1), 6),
            ("the last that is looked at", (many, app1), 6),
            ("too many segments", (many, segment(0xE2, b"MPF\0"), app1), 1),
            ("bad ICC", (segment(0xE2, b"ICC_PROFILE\0\1"), app1), 6),
            ("bad MPF", (segment(0xE2, b"MPF\0II*\0\xff\xff\xff\xff"),), 1),
            ("bad JFIF", (segment(0xE0, b"JFIF"), app1), 6),
            ("Photoshop", (segment(0xED, b"Photoshop 3.0\0" + b"8" * 9),), 1),
        ):
            yield name, picture_formats.with_segments(_JPEG, *parts), expected
        chunk = picture_formats.chunk
        plain = picture_formats.png(2, 8)
        text = chunk(
            b"zTXt", b"a\0\0" + picture_formats.zlib.compress(bytes(2**24))
        )
        for name, parts, expected in (
            ("eXIf", (chunk(b"eXIf", good),), 6),
            ("eXIf, with prefix", (chunk(b"eXIf", b"Exif\0\0" + good),), 6),
            ("eXIf, wrong checksum", (chunk(b"eXIf", good)[:-1] + b"\0",), 6),
            ("huge text", (text, chunk(b"eXIf", good)), 6),
            ("bad text", (chunk(b"iTXt", b"\xff"), chunk(b"tEXt", b"")), 1),
            ("bad gamma", (chunk(b"gAMA", b"\0"), chunk(b"pHYs", b"1")), 1),
            ("bad colours", (chunk(b"cHRM", b"\0"), chunk(b"iCCP", b"x")), 1),
            ("short tRNS", (chunk(b"tRNS", b"\0"),), 1),
            ("bad acTL", (chunk(b"acTL", b"\0"), chunk(b"fcTL", b"\0")), 1),
        ):
            data = picture_formats.with_chunks(plain, *parts)
            yield f"PNG, {name}", data, expected
        late = plain[:-12] + chunk(b"eXIf", good) + plain[-12:]
        yield "PNG, behind the pixels", late, 1

    def test_one_answer_and_no_picture_lost(self):
        """If it fails, odd metadata cost a picture, or turn it on one side."""
        upright = _serve(_JPEG)
        for name, data, expected in self._files():
            with self.subTest(name):
                self.assertEqual(picture_files.read_orientation(data), expected)
                served, stored = _serve(data), _stored_pixels(data)
                self.assertEqual(served.shape, stored.shape)
                self.assertLessEqual(np.abs(served - stored).max(), 6)
                if not name.startswith("PNG") and expected == 1:
                    np.testing.assert_array_equal(served, upright)

    def test_mutations_of_exif_data(self):
        """If it fails, the two readers of orientation are two rules."""
        rng = np.random.default_rng(0)
        file = picture_formats.turned()
        names = [
            name
            for name in file
            if "alpha" not in name and ("6<" in name or "3>" in name)
        ]
        num_turned = 0
        for number, name in zip(range(300), itertools.cycle(names)):
            data = bytearray(file[name])
            place = data.find(b"II*\0") + data.find(b"MM\0*") + 1
            for _ in range(rng.integers(1, 4)):
                near = rng.integers(place - 12, place + 26)
                data[near] = rng.choice([0, 1, 6, 0xFF, rng.integers(256)])
            data = bytes(data)
            expected = picture_files.read_orientation(data)
            with self.subTest(f"{number}: {name}"):
                try:
                    _, found = images._decode(tf.constant(data))
                except tf.errors.InvalidArgumentError:
                    continue
                self.assertEqual(found, expected)
                num_turned += expected != 1
        self.assertGreater(num_turned, 20)

    def test_stored_files_have_no_metadata(self):
        """If it fails, place and owner of a photo go into the data set."""
        film = b"ftypmp42"
        data = picture_formats.with_segments(
            _JPEG,
            picture_formats.segment(
                0xE1, b"Exif\0\0" + picture_formats.exif(1)
            ),
            picture_formats.segment(0xFE, b"taken at home"),
        )
        # Upright and small: its pixels are kept bit for bit, the rest goes.
        self.assertEqual(_store(data + film), _store(_JPEG))
        self.assertEqual(_store(_JPEG), _JPEG)


if __name__ == "__main__":
    unittest.main()
