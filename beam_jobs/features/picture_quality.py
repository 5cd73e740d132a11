"""How good a catalogue picture is, measured from its pixels alone.

sharpness         variance of the Laplacian of brightness, scaled so that
                  the longer side has 256 pixels
picture_side      the shorter side in pixels, as the file has it
background_share  of the border: as bright as near white, or all of one
                  colour
text_share        of the area: inside of lines of three or more regions
                  that look like letters (MSER); no reading, so a row of
                  buttons counts too and handwriting does not
"""

import warnings

import cv2
import numpy as np
from PIL import Image

from beam_jobs.pictures import stored_images
from sicot_tf.data import records
from sicot_tf.data.decoding import image_decoders
from sicot_tf.data.decoding import picture_files
from sicot_tf.data.decoding import rgb_on_white

NAMES = ("sharpness", "picture_side", "background_share", "text_share")

_SIDE = 256
_BORDER = 0.06
_NEAR_WHITE = 240
# Levels by which the pixels of a plain border may differ from its median.
_PLAIN = 12
# Letters: heights in shares of the shorter side, widths in heights, and how
# much of their box they fill.
_HEIGHTS = (0.06, 0.35)
_WIDTHS = (0.1, 1.6)
_FILLS = (0.15, 0.95)
_LEAST_LETTERS = 3
# Narrower strips have no room for a line.
_LEAST_SIDE = 16


def measure(data: bytes) -> dict[str, float]:
    """The measures of a picture's file; keys are `NAMES`.

    Raises:
        records.RecordError: `empty_file`, `not_an_image`, `too_many_pixels`
            or `decode_error`.
    """
    image = _decode(data)
    pixels = np.asarray(image)
    height, width = pixels.shape[:2]
    scale = _SIDE / max(height, width)
    scaled = cv2.resize(
        pixels,
        (max(1, round(scale * width)), max(1, round(scale * height))),
        interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC,
    )
    grey = cv2.cvtColor(scaled, cv2.COLOR_RGB2GRAY)
    return {
        "sharpness": float(cv2.Laplacian(grey, cv2.CV_64F).var()),
        "picture_side": float(min(height, width)),
        "background_share": background_share(scaled),
        "text_share": text_share(grey),
    }


def background_share(pixels: np.ndarray) -> float:
    """Share of the border that is near white, or of one colour.

    Args:
        pixels: `[height, width, 3]` uint8.
    """
    height, width = pixels.shape[:2]
    depth = max(1, round(_BORDER * min(height, width)))
    is_border = np.ones((height, width), bool)
    is_border[depth : height - depth, depth : width - depth] = False
    border = pixels[is_border].astype(np.int16)
    white = (border >= _NEAR_WHITE).all(1)
    plain = (np.abs(border - np.median(border, 0)) <= _PLAIN).all(1)
    return float(max(white.mean(), plain.mean()))


def text_share(grey: np.ndarray) -> float:
    """Share of the area inside of lines of letters.

    Args:
        grey: `[height, width]` uint8.
    """
    height, width = grey.shape
    side = min(height, width)
    if side < _LEAST_SIDE:
        return 0.0
    detector = cv2.MSER_create(
        delta=8,
        min_area=max(10, side * side // 2000),
        max_area=side * side // 8,
    )
    regions, boxes = detector.detectRegions(grey)
    letters = []
    for region, (left, top, wide, high) in zip(regions, boxes):
        fill = len(region) / (wide * high)
        if (
            _HEIGHTS[0] <= high / side <= _HEIGHTS[1]
            and _WIDTHS[0] <= wide / high <= _WIDTHS[1]
            and _FILLS[0] <= fill <= _FILLS[1]
        ):
            letters.append((left, top, wide, high))
    covered = np.zeros((height, width), bool)
    for line in _lines(letters):
        left, top = line[:, :2].min(0)
        right, bottom = (line[:, :2] + line[:, 2:]).max(0)
        covered[top:bottom, left:right] = True
    return float(covered.mean())


def _lines(letters: list[tuple[int, int, int, int]]) -> list[np.ndarray]:
    """Boxes of about the same height, side by side: `[n, 4]` each."""
    left = sorted(set(letters))
    found = []
    while left:
        first = left.pop(0)
        line = [first]
        for box in list(left):
            end = max(each[0] + each[2] for each in line)
            if (
                abs(box[3] - first[3]) <= 0.25 * first[3]
                and abs(box[1] - first[1]) <= 0.25 * first[3]
                and box[0] >= line[-1][0] + 0.6 * line[-1][2]
                and box[0] - end <= first[3]
            ):
                line.append(box)
        if len(line) >= _LEAST_LETTERS:
            found.append(np.array(line))
            left = [box for box in left if box not in line]
    return found


def _decode(data: bytes) -> Image.Image:
    """The upright picture, on white, in RGB."""
    if not data:
        raise records.RecordError("empty_file", "The image file is empty.")
    pixels_only = picture_files.without_metadata(data)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        image = stored_images.open_header(pixels_only)
        if image.width * image.height > image_decoders.MAX_PIXELS:
            raise records.RecordError(
                "too_many_pixels",
                f"The picture is {image.width} x {image.height}; at most "
                f"{image_decoders.MAX_PIXELS} pixels are decoded.",
            )
        try:
            return rgb_on_white.load(image, pixels_only)
        except Exception as error:  # Pillow's readers raise what they meet.
            raise records.RecordError(
                "decode_error", f"{type(error).__name__}: {error}"
            ) from error
