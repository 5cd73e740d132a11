"""Decoding, the evaluation crop, and augmentation by seed."""

import io

import numpy as np
import PIL.Image
import tensorflow as tf
from absl.testing import parameterized

from sicot_tf.data import images


def _encode(pixels, kind, mode=None):
    stream = io.BytesIO()
    PIL.Image.fromarray(pixels, mode).save(stream, kind)
    return stream.getvalue()


def _noise(height=24, width=24):
    rng = np.random.default_rng(0)
    return rng.integers(256, size=(height, width, 3), dtype=np.uint8)


class ImagesTest(tf.test.TestCase, parameterized.TestCase):
    def test_png_is_decoded_exactly(self):
        """Breaks if pixels are changed on the way."""
        pixels = _noise()
        self.assertAllEqual(images.decode(_encode(pixels, "PNG")), pixels)

    @parameterized.parameters("JPEG", "GIF", "BMP", "WEBP")
    def test_other_formats(self, kind):
        """Breaks if a format that photos come in is refused."""
        grey = np.full([8, 8, 3], 128, np.uint8)
        found = images.decode(_encode(grey, kind))
        self.assertAllClose(found, grey, atol=3)

    def test_transparent_pixels_are_white(self):
        """Breaks if cut-out products get a black background.

        Half transparent black on white: (0 * 128 + 255 * 127) / 255 = 127.
        """
        pixels = np.array(
            [[[10, 20, 30, 0], [0, 0, 0, 128], [10, 20, 30, 255]]], np.uint8
        )
        self.assertAllEqual(
            images.decode(_encode(pixels, "PNG")),
            [[[255, 255, 255], [127, 127, 127], [10, 20, 30]]],
        )

    @parameterized.parameters(b"", b"no picture", b"\x89PNG", b"\xff\xd8\xff")
    def test_other_bytes_are_an_invalid_argument(self, content):
        """Breaks if a broken upload is anything but INVALID_ARGUMENT."""
        with self.assertRaises(tf.errors.InvalidArgumentError):
            images.decode_for_inference(tf.constant(content), 8)

    @parameterized.parameters("PNG", "GIF", "JPEG")
    def test_a_decompression_bomb_is_refused(self, kind):
        """Breaks if a few bytes can fill the memory of a server."""
        stream = io.BytesIO()
        PIL.Image.new("1", (8000, 8000)).save(stream, kind)
        with self.assertRaisesRegex(
            tf.errors.InvalidArgumentError, "at most 50,000,000 pixels"
        ):
            images.decode_for_inference(tf.constant(stream.getvalue()), 8)

    @parameterized.parameters(b"\xff\x0a", b"\0\0\0\x0cJXL \r\n\x87\n")
    def test_jpeg_xl_is_refused(self, start):
        """Breaks if 100 bytes claim more memory than there is.

        Without the check these wait ten seconds for 30 GB, or crash.
        """
        decode = tf.function(lambda content: images.decode(content))
        for content in (start, start + bytes(range(100))):
            for function in (images.decode, decode):
                with self.assertRaisesRegex(
                    tf.errors.InvalidArgumentError, "JPEG XL pictures are not"
                ):
                    function(tf.constant(content))

    def test_the_largest_centred_square(self):
        """Breaks if evaluation looks at a corner, or squeezes the picture.

        A 4 x 8 picture whose columns are 0 to 7: the square is columns 2
        to 5; without resizing they stay as they are.
        """
        columns = np.broadcast_to(
            np.arange(8, dtype=np.uint8)[None, :, None], [4, 8, 3]
        )
        found = images.resize_and_crop_center(columns, 4)
        self.assertAllClose(
            found[..., 0], np.tile([2.0, 3.0, 4.0, 5.0], [4, 1]), atol=1e-5
        )

    def _augment(self, seed, kind="crop_flip"):
        return images.decode_for_training(
            tf.constant(_encode(_noise(), "PNG")),
            16,
            augmentation=kind,
            min_crop_area=0.3,
            seed=tf.constant(seed, tf.int64),
        )

    def test_augmentation_depends_on_its_seed_alone(self):
        """Breaks if a resumed run sees other crops."""
        self.assertAllEqual(self._augment([1, 2]), self._augment([1, 2]))
        self.assertNotAllClose(self._augment([1, 2]), self._augment([1, 3]))
        self.assertAllEqual(
            self._augment([1, 2], "none"),
            images.resize_and_crop_center(_noise(), 16),
        )

    def test_mirror_images_only_if_asked_for(self):
        """Breaks if crop mirrors, or crop_flip never does."""
        flipped = 0
        for seed in range(8):
            plain = self._augment([seed, 0], "crop")
            either = self._augment([seed, 0], "crop_flip")
            if not np.array_equal(plain, either):
                self.assertAllEqual(either, plain[:, ::-1])
                flipped += 1
        self.assertBetween(flipped, 1, 7)

    def test_the_whole_photo_for_localization(self):
        """Breaks if a heat map lies beside the photo that people see.

        2 x 4 pixels in a square of 4: as they are, and two rows repeated;
        turned by 6, a quarter clockwise, 4 x 2 and two columns repeated.
        """
        pixels = _noise(2, 4)
        turned = np.rot90(pixels, -1)
        exif = PIL.Image.Exif()
        exif[0x0112] = 6
        stream = io.BytesIO()
        PIL.Image.fromarray(pixels).save(stream, "PNG", exif=exif)
        last_row, last_column = pixels[-1:], turned[:, -1:]
        for data, whole, extents in (
            (
                _encode(pixels, "PNG"),
                np.concatenate([pixels, last_row, last_row]),
                (0.5, 1),
            ),
            (
                stream.getvalue(),
                np.concatenate([turned, last_column, last_column], axis=1),
                (1, 0.5),
            ),
        ):
            found = images.decode_for_localization(tf.constant(data), 2, 4)
            self.assertAllClose(found[1], whole, atol=1e-3)
            self.assertAllEqual(found[2], extents)
            self.assertAllEqual(
                found[0], images.decode_for_inference(tf.constant(data), 2)
            )
        # A longer side of twice the square: every two pixels become one.
        _, whole, extents = images.decode_for_localization(
            tf.constant(_encode(np.full([4, 8, 3], 9, np.uint8), "PNG")), 2, 4
        )
        self.assertAllClose(whole, np.full([4, 4, 3], 9), atol=1e-3)
        self.assertAllEqual(extents, (0.5, 1))

    def test_seeds_differ_by_seed_epoch_and_record(self):
        """Breaks if two of the three give the same crop."""
        found = {
            tuple(
                images.augmentation_seed(
                    seed, tf.constant(epoch), tf.constant(record)
                ).numpy()
            )
            for seed in (0, 1)
            for epoch in (0, 1)
            for record in ("a", "b")
        }
        self.assertLen(found, 8)


if __name__ == "__main__":
    tf.test.main()
