"""Damaged image files: a picture or a known reason, never anything else."""

import io
import random
import struct
import unittest
import warnings
import zlib

import numpy as np
from PIL import Image

from beam_jobs.pictures import stored_images
from sicot_tf.data import records

_NUM_MUTATIONS = 1000
_REASONS = {
    "empty_file",
    "not_an_image",
    "decode_error",
    "too_small",
    "too_many_pixels",
}
_MAX_PIXELS = 89_478_485


def _files():
    """Small files of every format: name to bytes."""
    rng = np.random.default_rng(0)
    pixels = np.kron(rng.integers(0, 256, (6, 8, 3)), np.ones((5, 5, 1)))
    image = Image.fromarray(pixels.astype(np.uint8))
    clear = image.convert("RGBA")
    clear.putalpha(image.convert("L"))
    exif = Image.Exif()
    exif[0x0112] = 6
    variants = {
        "jpeg": (image, "JPEG", {"exif": exif, "comment": b"a shop"}),
        "progressive jpeg": (image, "JPEG", {"progressive": True}),
        "cmyk": (image.convert("CMYK"), "JPEG", {}),
        "png": (clear, "PNG", {}),
        "palette": (image.quantize(16), "PNG", {"transparency": 3}),
        "16 bit": (image.convert("I;16"), "PNG", {}),
        "webp": (clear, "WEBP", {}),
        "gif": (image, "GIF", {"save_all": True, "append_images": [clear]}),
        "bmp": (image, "BMP", {}),
        "tiff": (image, "TIFF", {}),
        "packed tiff": (image, "TIFF", {"compression": "tiff_lzw"}),
        "avif": (image, "AVIF", {"speed": 10}),
    }
    files = {}
    for name, (variant, image_format, options) in variants.items():
        output = io.BytesIO()
        variant.save(output, image_format, **options)
        files[name] = output.getvalue()
    return files


def _mutate(data, others, rng):
    """One kind of damage that downloads and disks do."""
    damaged = bytearray(data)
    kind = rng.randrange(8)
    if kind == 0:
        for _ in range(rng.choice([1, 3, 30])):
            damaged[rng.randrange(len(damaged))] ^= 1 << rng.randrange(8)
    elif kind == 1:
        del damaged[rng.randrange(len(damaged)) :]
    elif kind == 2:
        length = rng.choice([2, 4, 12, 40])
        damaged[:length] = rng.choice(others)[:length]
    elif kind == 3:
        cut = rng.randrange(len(damaged))
        damaged[cut:] = rng.choice(others)[-rng.randrange(1, 200) :]
    elif kind == 4:
        _enlarge(damaged, rng)
    elif kind == 5:
        damaged += rng.randbytes(rng.randrange(1, 2000))
    elif kind == 6:
        start = rng.randrange(len(damaged))
        damaged[start : start + 64] = bytes(len(damaged[start : start + 64]))
    else:
        start = rng.randrange(len(damaged))
        del damaged[start : start + rng.randrange(1, 50)]
    return bytes(damaged)


def _enlarge(damaged, rng):
    """Writes a giant number over the width, wherever it is found."""
    giant = rng.choice([255, 30_000, 65_535])
    if damaged.startswith(b"\x89PNG"):
        damaged[16:24] = struct.pack(">II", giant, giant)
        # With the right checksum, so that the size is believed.
        damaged[29:33] = struct.pack(">I", zlib.crc32(damaged[12:29]))
        return
    for side in (struct.pack(">H", 40), struct.pack("<H", 40)):
        place = damaged.find(side)
        if place >= 0:
            order = ">" if side[0] == 0 else "<"
            damaged[place : place + 2] = struct.pack(f"{order}H", giant)


class FuzzImagesTest(unittest.TestCase):
    def _store(self, data):
        try:
            image = stored_images.to_stored_image(
                data,
                image_size=16,
                jpeg_quality=95,
                min_image_side=8,
                max_image_pixels=_MAX_PIXELS,
            )
        except records.RecordError as error:
            self.assertIn(error.reason, _REASONS)
            return error.reason
        with Image.open(io.BytesIO(image.jpeg)) as stored:
            stored.load()
            self.assertEqual((stored.format, stored.mode), ("JPEG", "RGB"))
            self.assertIn(min(stored.size), range(8, 17))
        return "stored"

    def test_whole_files_are_stored(self):
        """If it fails, the mutations below start from nothing."""
        for name, data in _files().items():
            with self.subTest(name):
                self.assertEqual(self._store(data), "stored")

    def test_mutations(self):
        """If it fails, one damaged file ends a job of millions."""
        rng = random.Random(0)
        files = list(_files().items())
        others = [data for _, data in files]
        outcomes = set()
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            for i in range(_NUM_MUTATIONS):
                name, data = files[i % len(files)]
                with self.subTest(f"{i}: {name}"):
                    outcomes.add(self._store(_mutate(data, others, rng)))
        # Pillow's too: one for each bad file floods the log.
        self.assertEqual([str(each.message) for each in caught], [])
        # Seldom or never: a file of no bytes, pictures that became smaller.
        self.assertLessEqual(
            {"stored", "not_an_image", "decode_error", "too_many_pixels"},
            outcomes,
        )


if __name__ == "__main__":
    unittest.main()
