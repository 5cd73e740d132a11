"""Raw image files to the checked, resized JPEGs that a data set stores."""

import dataclasses
import io
import math
import warnings
from collections.abc import Sequence

import cv2
import numpy as np
from PIL import Image

from sicot_tf.data import records
from sicot_tf.data.decoding import picture_files
from sicot_tf.data.decoding import rgb_on_white

# Pillow's readers that need no outside program (EPS would start Ghostscript).
FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF")

# libjpeg's limit.
_MAX_SIDE = 65_500

_REDUCED_COLOR = {
    2: cv2.IMREAD_REDUCED_COLOR_2,
    4: cv2.IMREAD_REDUCED_COLOR_4,
    8: cv2.IMREAD_REDUCED_COLOR_8,
}
# One thread: jobs run one process a core.
cv2.setNumThreads(1)

# For `perceptual_hashes`: cosines of 0 to 15 half waves over 32 cells, in
# 1024ths, and the pairs of them from coarse to fine without the mean.
_CELLS = 32
_WAVES = np.round(
    1024
    * np.cos(np.outer(np.arange(16), np.arange(_CELLS) + 0.5) * np.pi / _CELLS)
)
_ORDER = np.transpose(
    sorted(np.ndindex(16, 16), key=lambda pair: (sum(pair), pair))[1:97]
)
# What a wave of one grey level adds up to; twice that along one axis.
_ONE_LEVEL = (1024 * _CELLS / 2) ** 2


@dataclasses.dataclass(frozen=True)
class StoredImage:
    """What is stored of a picture, and by what similar ones are found.

    Attributes:
        jpeg: the bytes to store.
        hashes: 128 bits as two whole numbers, see `perceptual_hashes`.
    """

    jpeg: bytes
    hashes: tuple[int, int]


def to_stored_image(
    data: bytes,
    *,
    image_size: int,
    jpeg_quality: int,
    min_image_side: int,
    max_image_pixels: int,
    box: Sequence[float] | None = None,
) -> StoredImage:
    """Decodes an image file, checks it and gives the JPEG to store.

    The whole file is decoded, so a truncated one is found. The picture is
    turned upright (EXIF), the first frame of an animation taken, transparency
    laid on white, everything made 8-bit RGB: what `images.decode` gives of the
    same file. Other metadata are neither looked at nor stored, ICC profiles
    neither. An upright, sequential RGB JPEG that is small enough is returned
    as it came, without them. Equal input and versions of Pillow and OpenCV
    give equal bytes.

    Args:
        data: the bytes of the file.
        image_size: the shorter side is reduced to this many pixels; smaller
            images keep their size.
        jpeg_quality: of re-encoded images, 1 to 100.
        min_image_side: smallest shorter side in pixels.
        max_image_pixels: largest width x height, checked before decoding.
        box: `[x_min, y_min, x_max, y_max]` in pixels of the upright picture;
            the image is cropped to it.

    Raises:
        records.RecordError: `empty_file`, `not_an_image`, `decode_error`,
            `too_small`, `too_many_pixels`, `too_long` or `bad_box`.
    """
    if not data:
        raise records.RecordError("empty_file", "The image file is empty.")
    with warnings.catch_warnings():
        # Damaged TIFF tags would each log a line.
        warnings.simplefilter("ignore")
        image, as_it_came = _decode(
            data, image_size, min_image_side, max_image_pixels, box
        )
    if as_it_came is not None:
        return StoredImage(as_it_came, perceptual_hashes(image))
    if box is not None:
        image = _crop(image, box, min_image_side)
        _check_length(image.size, image_size)
    image = _shrink(image, image_size)
    return StoredImage(_encode(image, jpeg_quality), perceptual_hashes(image))


def perceptual_hashes(image: Image.Image) -> tuple[int, int]:
    """Hashes that change little when a picture is encoded or scaled anew.

    The picture is reduced to 32 x 32 cells of brightness and of the two
    colour differences, each taken apart into waves (two-dimensional DCT). A
    bit says whether the amplitude of a wave is above one grey level: the
    coarsest 96 of brightness, 16 of each colour difference, without which
    things that only differ in colour have one hash. The level keeps noise on
    plain backgrounds out of the bits. Equal on every machine: only whole
    numbers are added, all below 2 ** 53.

    Of 3,000 drawings of 64 pixels, at most 4 bits differ in 99 % of the
    copies encoded at quality 75, all of half the size and 93 % of those 5 %
    brighter; in 11 of a million pairs of different things, half of them of
    plain shapes with fewer than 20 bits set.

    Args:
        image: RGB.

    Returns:
        The 64 bits of the coarsest waves of brightness, then those of its
        next 32 and of the colours.
    """
    cells = image.resize((_CELLS, _CELLS), Image.Resampling.BOX)
    # [channel, y, x]; the mean is the wave that is left out, so 128 of the
    # colour differences needs no subtraction.
    cells = np.asarray(cells.convert("YCbCr"), np.float64).transpose(2, 0, 1)
    amplitudes = _WAVES @ cells @ _WAVES.T
    ordered = amplitudes[:, _ORDER[0], _ORDER[1]] > _ONE_LEVEL
    bits = np.concatenate([ordered[0], ordered[1, :16], ordered[2, :16]])
    high, low = np.packbits(bits).view(">u8").tolist()
    return high, low


def _decode(
    data: bytes,
    image_size: int,
    min_image_side: int,
    max_image_pixels: int,
    box: Sequence[float] | None,
) -> tuple[Image.Image, bytes | None]:
    """The whole picture, and the file where it can be stored as it came."""
    pixels_only = picture_files.without_metadata(data)
    image = open_header(pixels_only)
    _check_size(image, min_image_side, max_image_pixels)
    if box is None:
        _check_length(image.size, image_size)
    # Pillow turns an AVIF by its own boxes, which it gives as Exif data.
    is_avif = image.format == "AVIF"
    orientation = picture_files.read_orientation(
        image.info.get("exif", b"") if is_avif else data
    )
    fits = min(image.size) <= image_size
    can_keep = image.format == "JPEG" and box is None
    try:
        if can_keep and image.mode in ("RGB", "L") and not fits:
            image = _decode_reduced(pixels_only, image.size, image_size)
        elif (
            can_keep
            and image.mode == "RGB"
            and orientation == 1
            and picture_files.is_sequential_jpeg(pixels_only)
        ):
            image.load()
            return image, pixels_only
        else:
            image = rgb_on_white.load(image, pixels_only)
    except Exception as error:  # Pillow's readers raise whatever they meet.
        raise records.RecordError(
            "decode_error", f"{type(error).__name__}: {error}"
        ) from error
    return picture_files.turn_upright(image, orientation), None


def _decode_reduced(
    data: bytes, size: tuple[int, int], image_size: int
) -> Image.Image:
    """An RGB JPEG, its shorter side reduced to `image_size`.

    OpenCV takes 0.67 of the time of Pillow's draft mode and LANCZOS, and is as
    near to the filter alone (`benchmarks/jobs/image_decoders.py`). With and
    without vector instructions it gives equal bytes.
    """
    # libjpeg itself shrinks by 2, 4 or 8; never below the target.
    flag = cv2.IMREAD_COLOR
    for factor in _REDUCED_COLOR:
        if min(size) // factor >= image_size:
            flag = _REDUCED_COLOR[factor]
    flag |= cv2.IMREAD_IGNORE_ORIENTATION
    pixels = cv2.imdecode(np.frombuffer(data, np.uint8), flag)
    # Of data that are damaged but whole, libjpeg writes a line to stderr.
    if pixels is None:
        raise ValueError("the file is cut off or damaged")
    height, width, _ = pixels.shape
    scale = image_size / min(height, width)
    pixels = cv2.resize(
        pixels,
        (round(width * scale), round(height * scale)),
        interpolation=cv2.INTER_AREA,
    )
    return Image.fromarray(cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB))


def open_header(data: bytes) -> Image.Image:
    """A picture that is not decoded yet; its metadata shall be off.

    Raises:
        records.RecordError: `not_an_image`, `decode_error`, `too_many_pixels`.
    """
    try:
        return Image.open(io.BytesIO(data), formats=FORMATS)
    except Image.UnidentifiedImageError as error:
        raise records.RecordError(
            "not_an_image",
            f"The file starts with {data[:8]!r}, which is none of "
            f"{', '.join(FORMATS)}.",
        ) from error
    # Pillow's own limit: twice 89,478,485 pixels.
    except Image.DecompressionBombError as error:
        raise records.RecordError("too_many_pixels", str(error)) from error
    except Exception as error:  # As in `_decode`.
        raise records.RecordError(
            "decode_error", f"{type(error).__name__}: {error}"
        ) from error


def _check_size(
    image: Image.Image, min_image_side: int, max_image_pixels: int
) -> None:
    width, height = image.size
    if width * height > max_image_pixels:
        raise records.RecordError(
            "too_many_pixels",
            f"The image is {width} x {height}; at most {max_image_pixels} "
            "pixels are decoded.",
        )
    if min(width, height) < min_image_side:
        raise records.RecordError(
            "too_small",
            f"The image is {width} x {height}; the shorter side must have at "
            f"least {min_image_side} pixels.",
        )


def _check_length(size: tuple[int, int], image_size: int) -> None:
    shorter, longer = min(size), max(size)
    stored = round(longer * min(1, image_size / shorter))
    if stored > _MAX_SIDE:
        raise records.RecordError(
            "too_long",
            f"The image is {size[0]} x {size[1]}; a JPEG of it would have "
            f"{stored} pixels on its longer side, and {_MAX_SIDE} are the "
            "most. Crop it, or cut it in parts.",
        )


def _crop(
    image: Image.Image, box: Sequence[float], min_image_side: int
) -> Image.Image:
    x_min, y_min, x_max, y_max = box
    width, height = image.size
    if not (0 <= x_min < x_max <= width and 0 <= y_min < y_max <= height):
        raise records.RecordError(
            "bad_box",
            f"Expected 0 <= min < max inside the image of {width} x {height} "
            f"pixels, received {list(box)}.",
        )
    # Whole pixels around the box.
    image = image.crop(
        (
            math.floor(x_min),
            math.floor(y_min),
            math.ceil(x_max),
            math.ceil(y_max),
        )
    )
    _check_size(image, min_image_side, image.width * image.height)
    return image


def _shrink(image: Image.Image, image_size: int) -> Image.Image:
    """Reduces the shorter side to `image_size`; never enlarges."""
    shorter = min(image.size)
    if shorter <= image_size:
        return image
    size = tuple(round(side * image_size / shorter) for side in image.size)
    # The gap lets Pillow average whole pixels first, for speed; at 3 the
    # result is nearly that of the filter alone (Pillow's documentation).
    return image.resize(size, Image.Resampling.LANCZOS, reducing_gap=3.0)


def _encode(image: Image.Image, jpeg_quality: int) -> bytes:
    # Otherwise Pillow copies comments of the original.
    image.info = {}
    output = io.BytesIO()
    # 4:4:4: at this size half the colour resolution blurs prints and logos.
    image.save(output, "JPEG", quality=jpeg_quality, subsampling="4:4:4")
    return output.getvalue()
