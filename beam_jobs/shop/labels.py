"""Labels and badges: a product's pattern and its brand, as they are drawn."""

import functools

import numpy as np
from PIL import Image
from PIL import ImageDraw
from PIL import ImageFont

from beam_jobs.shop import chance
from beam_jobs.shop import products
from beam_jobs.shop import settings

_BADGE_SIZE = 96
_NUM_SHAPES = 5


def label(pattern: int, size: int, rng: np.random.Generator) -> Image.Image:
    """A pale rounded square with a pattern of a darker tone."""
    pale = rng.uniform(215, 250, 3)
    colours = np.array([pale, pale - rng.uniform(60, 90)]).astype(np.uint8)
    shift = rng.integers(0, size, 2)
    pixels = np.empty((size, size, 4), np.uint8)
    pixels[..., :3] = colours[
        pattern_mask(pattern, size, tuple(shift.tolist()))
    ]
    pixels[..., 3] = _rounded_square(size)
    return Image.fromarray(pixels)


def pattern_mask(pattern: int, size: int, shift: tuple[int, int]) -> np.ndarray:
    """`[size, size]`: 1 where the pattern is dark, else 0."""
    period = max(6, size // 5)
    x = (np.arange(size) + shift[0])[None, :] % period
    y = (np.arange(size) + shift[1])[:, None] % period
    half = period / 2
    dark = {
        "plain": np.zeros((1, 1), bool),
        "striped": x < half,
        "dotted": (x - half) ** 2 + (y - half) ** 2 < (0.32 * period) ** 2,
        "checked": (x < half) ^ (y < half),
        "banded": y < half,
        "diagonal": (x + y) % period < half,
    }[products.PATTERNS[pattern][0]]
    return np.broadcast_to(dark, (size, size)).astype(np.intp)


@functools.lru_cache(maxsize=256)
def _rounded_square(size: int) -> np.ndarray:
    mask = Image.new("L", (2 * size, 2 * size))
    ImageDraw.Draw(mask).rounded_rectangle(
        (0, 0, 2 * size - 1, 2 * size - 1), size // 4, fill=255
    )
    return np.asarray(mask.resize((size, size), Image.BOX))


@functools.lru_cache(maxsize=512)
def badge(shop: settings.ShopConfig, brand: int) -> Image.Image:
    """A brand's badge: a shape in its colour with two letters."""
    rng = chance.generator(shop.seed, "badge", brand)
    size = _BADGE_SIZE
    # Neighbours by the golden ratio are far apart in hue.
    hue = int(255 * (brand * 0.618034 % 1))
    colour = Image.new("HSV", (1, 1), (hue, 215, int(rng.integers(110, 235))))
    fill = colour.convert("RGB").getpixel((0, 0))
    picture = Image.new("RGBA", (size, size))
    pen = ImageDraw.Draw(picture)
    ends = {"fill": fill, "outline": "white", "width": 4}
    middle, reach = size / 2, size / 2 - 1
    kind = int(rng.integers(_NUM_SHAPES))
    if kind == 0:
        pen.ellipse((1, 1, size - 2, size - 2), **ends)
    elif kind == 1:
        pen.rounded_rectangle((6, 6, size - 7, size - 7), 10, **ends)
    else:
        sides = (4, 6, 8)[kind - 2]
        pen.regular_polygon(
            (middle, middle, reach), sides, 45 * (sides == 4), fill, "white", 4
        )
    font = ImageFont.load_default(size * 0.46)
    letters = products.brand(shop, brand).letters
    pen.text((middle, middle), letters, "white", font, "mm", stroke_width=1)
    return picture
