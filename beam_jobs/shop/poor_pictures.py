"""Poor pictures of a catalogue: blurred, small, or with a banner of text.

Which pictures are poor follows from seed, SKU and picture alone, so that a
method which measures their quality can be held against the truth.
"""

from PIL import Image
from PIL import ImageDraw
from PIL import ImageFilter
from PIL import ImageFont

from beam_jobs.shop import chance
from beam_jobs.shop import settings

# How good a picture is; None: nothing is wrong with it.
QUALITIES = {None: 1.0, "banner": 0.5, "small": 0.3, "blurred": 0.1}
_KINDS = ("blurred", "small", "banner")
_WORDS = ("SALE", "-50%", "NEW", "HOT", "FREE")
# Of the side of a picture.
_BLUR_RADIUS = 0.04
_SMALL_SHARE = 0.4
_BANNER_SHARE = 0.26


def kind(shop: settings.ShopConfig, sku: int, picture: int) -> str | None:
    """What is wrong with a catalogue picture: a key of `QUALITIES`.

    Where a product has one picture, that one is good.
    """
    if shop.catalogue_pictures == 1:
        return None
    rng = chance.generator(shop.seed, "poor picture", sku, picture)
    if rng.random() >= shop.poor_picture_share:
        return None
    return _KINDS[rng.integers(len(_KINDS))]


def spoil(picture: Image.Image, wrong: str | None, word: int) -> Image.Image:
    """A picture with what is wrong with it.

    Args:
        word: which word stands on a banner, any number.

    Returns:
        An RGB picture of the same size, but a small one is smaller.
    """
    side = min(picture.size)
    if wrong == "blurred":
        return picture.filter(ImageFilter.GaussianBlur(_BLUR_RADIUS * side))
    if wrong == "small":
        width, height = (
            max(8, round(_SMALL_SHARE * each)) for each in picture.size
        )
        return picture.resize((width, height), Image.BOX)
    if wrong == "banner":
        return _with_banner(picture, _WORDS[word % len(_WORDS)])
    return picture


def _with_banner(picture: Image.Image, text: str) -> Image.Image:
    picture = picture.copy()
    width, height = picture.size
    pen = ImageDraw.Draw(picture)
    top = round((1 - _BANNER_SHARE) * height)
    pen.rectangle((0, top, width, height), (225, 20, 20))
    font = ImageFont.load_default(0.8 * (height - top))
    pen.text((width / 2, (top + height) / 2), text, "white", font, "mm")
    return picture
