"""An uploaded photo: what it is, how large, which way up; and parts of it.

The bytes are checked by their header alone and passed to the model server,
which decodes them itself: nobody waits for the pixels twice. Only crops, and
photos so large that the model server would be long at them, are decoded here.
"""

import dataclasses
import io

import PIL.Image

from sicot_tf.data.decoding import picture_files
from sicot_tf.data.decoding import rgb_on_white
from sicot_tf.recognition.answers import Box

MAX_BYTES = 20 * 10**6
MAX_PIXELS = 50 * 10**6
# Above it the photo is reduced before it is sent, to shorter sides not below
# `_SHORTER_SIDE`: a model server holds a photo in float32 as it resizes it.
_LARGE_PIXELS = 4 * 10**6
# No model here takes larger pictures.
_SHORTER_SIDE = 640
# Name for Pillow, start, place and text of a second mark.
_FORMATS = (
    ("JPEG", picture_files.JPEG, 0, b""),
    ("PNG", picture_files.PNG, 0, b""),
    ("GIF", b"GIF8", 0, b""),
    ("BMP", b"BM", 0, b""),
    ("WEBP", b"RIFF", 8, b"WEBP"),
)
CONTENT_TYPES = {
    "JPEG": "image/jpeg",
    "PNG": "image/png",
    "GIF": "image/gif",
    "BMP": "image/bmp",
    "WEBP": "image/webp",
}
_ALLOWED = "JPEG, PNG, WebP, GIF or BMP"


class PhotoError(ValueError):
    """A photo that is not answered.

    Attributes:
        status: code of HTTP.
    """

    def __init__(self, status: int, sentence: str):
        super().__init__(sentence)
        self.status = status


@dataclasses.dataclass(frozen=True)
class Photo:
    """A photo whose header was checked.

    Attributes:
        data: the file as it came.
        kind: JPEG, PNG, WEBP, GIF or BMP.
        width: in pixels as one sees it, so after its Exif orientation.
        height: likewise.
        orientation: 1 to 8, as in Exif.
    """

    data: bytes
    kind: str
    width: int
    height: int
    orientation: int

    @property
    def is_large(self) -> bool:
        """Whether it is reduced before the model server gets it."""
        return self.width * self.height > _LARGE_PIXELS


def sniff(head: bytes) -> str | None:
    """The format by the first 16 bytes, whatever the file is called."""
    for kind, start, place, mark in _FORMATS:
        if head.startswith(start) and head[place:].startswith(mark):
            return kind
    return None


def read(
    data: bytes, *, max_bytes: int = MAX_BYTES, max_pixels: int = MAX_PIXELS
) -> Photo:
    """Checks a photo by its header; nothing is decoded.

    Raises:
        PhotoError: 400 if it is empty, 413 if it is too large, 415 if it is
            no picture, 422 if its header is damaged.
    """
    if not data:
        raise PhotoError(400, f"Expected a photo ({_ALLOWED}), received none.")
    if len(data) > max_bytes:
        raise too_many_bytes(max_bytes)
    kind = sniff(data[:16])
    if kind is None:
        raise PhotoError(
            415,
            f"Expected a {_ALLOWED} picture; the bytes are none. Save it as "
            "JPEG and send it again.",
        )
    try:
        with _open(data, kind) as image:
            width, height = image.size
    except PIL.Image.DecompressionBombError as error:
        raise _too_many_pixels(max_pixels, "many more") from error
    if width * height > max_pixels:
        raise _too_many_pixels(max_pixels, f"{width} x {height} pixels")
    orientation = picture_files.read_orientation(data)
    if orientation >= 5:
        width, height = height, width
    return Photo(data, kind, width, height, orientation)


def _too_many_pixels(max_pixels: int, received: str) -> PhotoError:
    return PhotoError(
        413,
        f"Expected at most {max_pixels / 1e6:g} megapixels, received "
        f"{received}. Send a smaller photo.",
    )


def too_many_bytes(max_bytes: int) -> PhotoError:
    """The refusal of a photo that is too large a file."""
    return PhotoError(
        413,
        f"Expected at most {max_bytes / 1e6:g} MB, received more. Send a "
        "smaller photo.",
    )


def damaged(reason: object = "") -> PhotoError:
    """The refusal of a photo that can't be decoded."""
    reason = f" ({reason})" if reason else ""
    return PhotoError(
        422, f"The photo is cut or damaged{reason}. Send the whole file again."
    )


def encode_whole(photo: Photo) -> bytes:
    """What the model server gets of the whole photo.

    The very bytes that came, unless the photo is a very large one.

    Raises:
        PhotoError: 422 if it can't be decoded.
    """
    if not photo.is_large:
        return photo.data
    return encode_crops(photo, [(0, 0, photo.width, photo.height)])[0]


def encode_crops(photo: Photo, boxes: list[Box]) -> list[bytes]:
    """Parts of the photo as BMP files, upright.

    BMP, since it takes no time to write or to read and loses nothing.

    Args:
        boxes: in pixels of the photo as one sees it.

    Raises:
        PhotoError: 422 if it can't be decoded.
    """
    shortest = min(
        min(right - left, bottom - top) for left, top, right, bottom in boxes
    )
    try:
        image = _decode(photo, max(1, shortest // _SHORTER_SIDE))
    # Pillow and its decoders raise much, also SyntaxError and struct.error.
    except Exception as error:
        raise damaged() from error
    x_scale = image.width / photo.width
    y_scale = image.height / photo.height
    return [
        _encode(
            image.crop(
                (
                    int(left * x_scale),
                    int(top * y_scale),
                    max(int(right * x_scale), int(left * x_scale) + 1),
                    max(int(bottom * y_scale), int(top * y_scale) + 1),
                )
            )
        )
        for left, top, right, bottom in boxes
    ]


def _open(data: bytes, kind: str) -> PIL.Image.Image:
    try:
        return PIL.Image.open(
            io.BytesIO(picture_files.without_metadata(data)), formats=[kind]
        )
    except PIL.Image.DecompressionBombError:
        raise
    except Exception as error:
        raise damaged() from error


def _decode(photo: Photo, reduced: int) -> PIL.Image.Image:
    """Upright RGB on white, the sides divided by `reduced` or less."""
    with _open(photo.data, photo.kind) as image:
        whole_width = image.width
        # JPEGs are decoded at 1/2, 1/4 or 1/8 at once.
        image.draft(None, (image.width // reduced, image.height // reduced))
        image = rgb_on_white.load(
            image, picture_files.without_metadata(photo.data)
        )
    rest = reduced * image.width // whole_width
    if rest > 1:
        image = image.reduce(rest)
    return picture_files.turn_upright(image, photo.orientation)


def _encode(image: PIL.Image.Image) -> bytes:
    output = io.BytesIO()
    image.save(output, "BMP")
    return output.getvalue()
