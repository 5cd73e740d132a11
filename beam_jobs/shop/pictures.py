"""Pictures of products: a drawing on a label with a badge, as if photographed.

    drawing -> tint -> on the label's pattern -> badge -> turned, scaled
        -> over a gradient with other drawings cut into the border -> light

The type shows in the drawing, the colour in its tint, the pattern on the
label and the brand on the badge.
"""

import io
import math
from collections.abc import Sequence

import numpy as np
from PIL import Image

from beam_jobs.shop import chance
from beam_jobs.shop import drawings
from beam_jobs.shop import labels
from beam_jobs.shop import poor_pictures
from beam_jobs.shop import products
from beam_jobs.shop import settings

_QUALITY = 92
# Rec. 601, as in the luma of a JPEG.
_LUMA = np.array([0.299, 0.587, 0.114], np.float32)
# Of the cut-out, which is a label with its badge.
_DRAWING_SCALE = 0.78
_BADGE_SCALE = 0.36
# Of the scene of a query, in pictures: what is meant, turned, fits into it.
_MEANT_ROOM = 1.3


def tint(pixels: np.ndarray, colour: tuple[int, int, int]) -> np.ndarray:
    """Gives a drawing the hue of a colour and leaves it its luminance.

    Args:
        pixels: `[height, width, 4]` uint8.

    Returns:
        Pixels of the same form. What is nearly black or white stays so.
    """
    luma = pixels[..., :3].astype(np.float32) @ _LUMA
    chroma = np.array(colour, np.float32) - np.array(colour) @ _LUMA
    # No channel may leave its range, or the luminance would change.
    room = np.minimum(
        luma / max(1.0, -chroma.min()), (255 - luma) / max(1.0, chroma.max())
    )
    strength = np.minimum(1, room)[..., None]
    tinted = pixels.copy()
    tinted[..., :3] = np.rint(luma[..., None] + strength * chroma)
    return tinted


class Pictures:
    """Draws the pictures of a shop."""

    def __init__(self, shop: settings.ShopConfig, drawn: drawings.Drawings):
        self._shop = shop
        self._drawings = drawn
        self._size = shop.image_size

    def picture(
        self, sku: products.Sku, split: str, number: int
    ) -> tuple[bytes, str]:
        """One picture of a product.

        Returns:
            A JPEG, and the artist of all drawings in it.
        """
        rng = chance.generator(
            self._shop.seed, "picture", sku.number, split, number
        )
        artist = self._choose_artist(split, sku, rng)
        return self._photo(sku, artist, rng)[0], artist

    def catalogue_picture(
        self, sku: products.Sku, number: int = 0
    ) -> tuple[bytes, str]:
        """A picture in the catalogue, of a product alone.

        The main one, 0, is upright on white, the others are turned, half of
        them on a ground of colour. Some are poor, see `poor_pictures`.
        """
        purpose = ("catalogue", sku.number, *([number] if number else []))
        rng = chance.generator(self._shop.seed, *purpose)
        artist = self._choose_artist("train", sku, rng)
        size = self._size
        canvas = Image.new("RGB", (size, size), "white")
        if number and rng.random() < 0.5:
            canvas = _gradient(size, size, rng)
        scale = rng.uniform(0.6, 0.8) if number else 0.92
        product = self.cut_out(sku, artist, round(scale * size), rng)
        if number:
            _put(canvas, _turn(product, rng), (0, 0, size, size), rng)
        else:
            corner = (size - product.width) // 2
            canvas.paste(product, (corner, corner), product)
        wrong = poor_pictures.kind(self._shop, sku.number, number)
        return _jpeg(poor_pictures.spoil(canvas, wrong, sku.number)), artist

    def cut_out(
        self,
        sku: products.Sku,
        artist: str,
        size: int,
        rng: np.random.Generator,
    ) -> Image.Image:
        """A product without surroundings: `size` x `size` RGBA."""
        product = labels.label(sku.pattern, size, rng)
        side = round(_DRAWING_SCALE * size * rng.uniform(0.88, 1))
        pixels = self._drawings.of_type(artist, sku.type)
        colour = products.COLOURS[sku.colour][2]
        drawing = Image.fromarray(tint(pixels, colour)).resize(
            (side, side), Image.BILINEAR
        )
        left, top = (int(each) for each in rng.integers(0, size - side + 1, 2))
        product.alpha_composite(drawing, (left, top))
        side = max(8, round(_BADGE_SCALE * size))
        badge = labels.badge(self._shop, sku.brand).resize(
            (side, side), Image.BILINEAR
        )
        right, below = (int(each) for each in rng.integers(0, 2, 2))
        product.alpha_composite(
            badge, (right * (size - side), below * (size - side))
        )
        return product

    def scene(
        self, skus: Sequence[products.Sku], split: str, number: int
    ) -> tuple[bytes, list[str], list[list[int]]]:
        """A picture of at most six products that do not touch.

        Returns:
            A JPEG, three pictures wide and two high; the artist and the box
            (left, top, right, bottom) of each product. All else is by the
            first of the artists.
        """
        rng = chance.generator(self._shop.seed, "scene picture", number)
        size = self._size
        artists = [self._choose_artist(split, each, rng) for each in skus]
        canvas = _gradient(3 * size, 2 * size, rng)
        self._clutter(canvas, artists[0], rng)
        boxes = []
        for sku, artist, cell in zip(skus, artists, rng.permutation(6)):
            side = round(size * rng.uniform(0.5, 0.8))
            product = _turn(self.cut_out(sku, artist, side, rng), rng)
            left, top = int(cell % 3) * size, int(cell // 3) * size
            room = (left, top, left + size, top + size)
            boxes.append(_put(canvas, product, room, rng))
        return _jpeg(_photograph(canvas, rng)), artists, boxes

    def query_picture(
        self, skus: Sequence[products.Sku], split: str, number: int, kind: str
    ) -> tuple[bytes, list[str], list[list[int]]]:
        """The picture of a query: a photo, or a scene two pictures wide.

        Args:
            skus: at most four; the first is meant and the largest.
            kind: "photo", which has one product, or "scene".

        Returns:
            As `scene` does.
        """
        rng = chance.generator(self._shop.seed, "query picture", number)
        artists = [self._choose_artist(split, each, rng) for each in skus]
        if kind == "photo":
            jpeg, box = self._photo(skus[0], artists[0], rng)
            return jpeg, artists, [box]
        size = self._size
        canvas = _gradient(2 * size, 2 * size, rng)
        self._clutter(canvas, artists[0], rng)
        boxes = []
        rooms = _rooms(2 * size, round(_MEANT_ROOM * size), rng)
        for sku, artist, room in zip(skus, artists, rooms):
            least, most = (0.4, 0.54) if boxes else (0.85, 1.04)
            side = round(size * rng.uniform(least, most))
            product = _turn(self.cut_out(sku, artist, side, rng), rng)
            boxes.append(_put(canvas, product, room, rng))
        return _jpeg(_photograph(canvas, rng)), artists, boxes

    def _photo(
        self, sku: products.Sku, artist: str, rng: np.random.Generator
    ) -> tuple[bytes, list[int]]:
        """A photo of one product, and its box."""
        size = self._size
        canvas = _gradient(size, size, rng)
        self._clutter(canvas, artist, rng)
        scale = rng.uniform(0.68, 0.88)
        product = self.cut_out(sku, artist, round(scale * size), rng)
        box = _put(canvas, _turn(product, rng), (0, 0, size, size), rng)
        return _jpeg(_photograph(canvas, rng)), box

    def _choose_artist(
        self, split: str, sku: products.Sku, rng: np.random.Generator
    ) -> str:
        artists = self._drawings.artists(split, sku.type)
        return artists[rng.integers(len(artists))]

    def _clutter(
        self, canvas: Image.Image, artist: str, rng: np.random.Generator
    ) -> None:
        """Other drawings, cut by the border of the picture."""
        width, height = canvas.size
        for _ in range(rng.integers(2, 5)):
            side = round(self._size * rng.uniform(0.22, 0.4))
            drawing = Image.fromarray(
                self._drawings.any_of(artist, rng)
            ).resize((side, side), Image.BILINEAR)
            along, edge = rng.random(), rng.integers(4)
            x = (along * width, along * width, 0, width)[edge]
            y = (0, height, along * height, along * height)[edge]
            place = (round(x) - side // 2, round(y) - side // 2)
            canvas.paste(drawing, place, drawing)


def _rooms(
    width: int, largest: int, rng: np.random.Generator
) -> list[tuple[int, int, int, int]]:
    """Four boxes that fill a square, the largest first, in any corner."""
    x, y = (int(each) * (width - largest) for each in rng.integers(0, 2, 2))
    # What is left of it along each axis.
    columns = (largest, width) if x == 0 else (0, x)
    rows = (largest, width) if y == 0 else (0, y)
    others = [
        (columns[0], y, columns[1], y + largest),
        (x, rows[0], x + largest, rows[1]),
        (columns[0], rows[0], columns[1], rows[1]),
    ]
    order = rng.permutation(3)
    return [
        (x, y, x + largest, y + largest),
        *(others[each] for each in order),
    ]


def _gradient(width: int, height: int, rng: np.random.Generator) -> Image.Image:
    """From one colour to another, in any direction."""
    first, last = rng.uniform(60, 235, (2, 3)).astype(np.float32)
    angle = rng.uniform(0, 2 * math.pi)
    x = np.linspace(-1, 1, width, dtype=np.float32) * math.cos(angle)
    y = np.linspace(-1, 1, height, dtype=np.float32) * math.sin(angle)
    share = (x + y[:, None]) / (2 * math.sqrt(2)) + 0.5
    pixels = first + share[..., None] * (last - first)
    return Image.fromarray(pixels.astype(np.uint8))


def _turn(product: Image.Image, rng: np.random.Generator) -> Image.Image:
    """Turned a little, and no larger than what can be seen of it."""
    turned = product.rotate(rng.uniform(-14, 14), Image.BILINEAR, expand=True)
    return turned.crop(turned.getbbox())


def _put(
    canvas: Image.Image,
    product: Image.Image,
    room: tuple[int, int, int, int],
    rng: np.random.Generator,
) -> list[int]:
    """Pastes a product somewhere into a box; returns its own box."""
    left, top, right, bottom = room
    left += int(rng.integers(0, max(0, right - left - product.width) + 1))
    top += int(rng.integers(0, max(0, bottom - top - product.height) + 1))
    canvas.paste(product, (left, top), product)
    return [left, top, left + product.width, top + product.height]


def _photograph(canvas: Image.Image, rng: np.random.Generator) -> Image.Image:
    """Brightness, a cast of colour, and the noise of a camera."""
    light = rng.uniform(0.75, 1.2) * rng.uniform(0.92, 1.08, 3)
    pixels = np.asarray(canvas).astype(np.float32)
    noise = rng.standard_normal(pixels.shape, np.float32)
    pixels = pixels * light.astype(np.float32) + rng.uniform(2, 8) * noise
    return Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))


def _jpeg(picture: Image.Image) -> bytes:
    file = io.BytesIO()
    picture.save(file, "JPEG", quality=_QUALITY, subsampling=0)
    return file.getvalue()
