"""What Pillow has opened, as 8-bit RGB on white: `images.decode`'s other half.

Pillow leaves transparency in many forms, some of which it loses when it
converts; here all of them end white.
"""

import io

import numpy as np
from PIL import Image


def load(image: Image.Image, data: bytes) -> Image.Image:
    """Decodes the first frame of `image`, which was opened from `data`.

    Of 16 bits the high byte counts, as for libpng. A TIFF is not turned.

    Raises:
        ValueError: if its numbers have no known range, so no shade of grey.
        OSError, SyntaxError and others of Pillow: if it is damaged.
    """
    if image.format == "TIFF":
        # Pillow's own would turn the picture, by Exif data or XMP, and fail
        # where they are malformed.
        image.load_end = lambda: None
    # Of a GIF the first frame may be smaller than the picture.
    frame = image.tile[0].extents if image.format == "GIF" else None
    image.load()
    if image.mode in ("I", "F"):
        raise ValueError(
            "Expected at most 16 bits for each colour, received 32: save the "
            "picture with 8"
        )
    is_key = None
    if image.format == "PNG" and image.mode != "P":
        if "transparency" in image.info:
            is_key = _find_key_colour(image, data)
            del image.info["transparency"]
    rgb = _to_rgb(image)
    if is_key is not None:
        pixels = np.array(rgb)
        pixels[is_key] = 255
        return Image.fromarray(pixels)
    if frame is not None and frame != (0, 0, *rgb.size):
        white = Image.new("RGB", rgb.size, "white")
        white.paste(rgb.crop(frame), frame)
        return white
    return rgb


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I;16"):
        # Pillow's own conversion clips at 255.
        greys = (np.asarray(image) >> 8).astype(np.uint8)
        image = Image.fromarray(greys)
    if image.has_transparency_data:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(white, image)
    # Pillow copies the picture even when there is nothing to convert.
    return image if image.mode == "RGB" else image.convert("RGB")


def _find_key_colour(image: Image.Image, data: bytes) -> np.ndarray:
    """`[height, width]` bool: where a grey or RGB PNG has its tRNS colour.

    The colour has the depth of the file, Pillow's pixels have 8 bits.
    """
    depth = data[24]
    key = np.array(image.info["transparency"]) & (2**depth - 1)
    if depth < 8:
        key = key * 255 // (2**depth - 1)
    pixels = np.asarray(image.convert("L") if image.mode == "1" else image)
    if image.mode != "RGB":
        return pixels == key
    if depth == 16:
        # Little-endian units of big-endian numbers: the low bytes.
        low = Image.open(io.BytesIO(data), formats=["PNG"])
        low.tile = [low.tile[0]._replace(args="RGB;16L")]
        pixels = pixels.astype(np.uint16) << 8 | np.asarray(low)
    return (pixels == key).all(-1)
