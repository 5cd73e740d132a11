"""What a picture's file says besides its pixels, and the file without it.

One rule for build and serving: a picture is turned as the Exif data of its
file say, and nothing else of its metadata counts. XMP is not read: it repeats
the orientation, browsers and OpenCV pass it over, and a graph can't parse it.
`orientation.py` is the same reader as TensorFlow ops.
"""

import itertools
import re
from collections.abc import Iterator

from PIL import Image

# Segments or chunks in which Exif data are looked for: in a graph each takes
# 20 microseconds. Cameras write them first.
MAX_SEGMENTS = 1000

PNG = b"\x89PNG\r\n\x1a\n"
JPEG = b"\xff\xd8\xff"

_ORIENTATION = 0x0112
_SHORT, _LONG = 3, 4
_METHODS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_FILL, _START_OF_SCAN, _END_OF_IMAGE = 0xFF, 0xDA, 0xD9
# Application segments, comments and fill bytes.
_JPEG_EXTRAS = frozenset({*range(0xE0, 0xF0), 0xFE, _FILL})
# But for the two that say what the colours mean, as libjpeg takes them: marker,
# start, smallest size.
_COLOUR_SEGMENTS = ((0xE0, b"JFIF\0", 14), (0xEE, b"Adobe", 12))
# In the pixels of a JPEG, 0xFF is followed by 0 or is a restart marker.
_NEXT_MARKER = re.compile(rb"\xff[^\x00\xff\xd0-\xd7]", re.DOTALL)
# Bytes of a PNG's tRNS chunk for grey and RGB; otherwise libpng ignores it.
_COLOUR_KEY_BYTES = {0: 2, 2: 6}


def read_orientation(data: bytes) -> int:
    """How to turn a picture: 1 (leave it) to 8, as in Exif.

    Whatever is missing or malformed means 1: of the first Exif data before the
    pixels (JPEG, PNG) or in the file (WebP), the first orientation tag, if it
    is one SHORT or LONG from 1 to 8. Bare Exif data and TIFF files are read,
    too.
    """
    if data.startswith(JPEG):
        return _parse_exif(_find_in_jpeg(data))
    if data.startswith(PNG):
        return _parse_exif(_find_in_png(data))
    if data.startswith(b"RIFF") and data[8:12] == b"WEBP":
        return _parse_exif(_find_in_webp(data))
    return _parse_exif(data)


def turn_upright(image: Image.Image, orientation: int) -> Image.Image:
    """The picture as people see it; `orientation` as in Exif."""
    method = _METHODS.get(orientation)
    return image if method is None else image.transpose(method)


def without_metadata(data: bytes) -> bytes:
    """The same pixels, of JPEG, PNG, GIF and AVIF without what is none.

    So that nothing there can cost the picture, nor be stored with it. Bytes
    behind the end of the picture go as well (a phone's film). Where a file is
    damaged the rest is kept: its decoder shall tell.
    """
    if data.startswith(JPEG):
        return _strip_jpeg(data)
    if data.startswith(PNG):
        return _strip_png(data)
    if data[4:8] == b"ftyp":
        return _strip_avif(data)
    if data.startswith(b"GIF8"):
        return _strip_gif(data)
    if data.startswith(b"BM"):
        return _strip_bmp(data)
    return data


def is_sequential_jpeg(data: bytes) -> bool:
    """Whether every decoder reads it: not progressive, not arithmetic."""
    frames = {0xC0, 0xC1}
    return any(marker in frames for marker, _, _ in _walk_jpeg(data))


def _walk_jpeg(data: bytes) -> Iterator[tuple[int, int, int]]:
    """Marker, start and end of segments, until the end or what is none.

    Pixels belong to the segment before them. Fill bytes come one by one.
    """
    position = 2
    while position + 1 < len(data) and data[position] == 0xFF:
        marker = data[position + 1]
        if marker == _FILL:
            end = position + 1
        elif marker == _END_OF_IMAGE:
            yield marker, position, position + 2
            return
        else:
            length = int.from_bytes(data[position + 2 : position + 4])
            if length < 2:
                return
            end = position + 2 + length
        if marker == _START_OF_SCAN:
            found = _NEXT_MARKER.search(data, end)
            end = found.start() if found else len(data)
        yield marker, position, end
        position = end


def _find_in_jpeg(data: bytes) -> bytes:
    segments = itertools.islice(_walk_jpeg(data), MAX_SEGMENTS)
    for marker, start, end in segments:
        if marker in (_START_OF_SCAN, _END_OF_IMAGE):
            break
        if marker == 0xE1 and data[start + 4 : start + 10] == b"Exif\0\0":
            return data[start + 4 : end]
    return b""


def _find_in_png(data: bytes) -> bytes:
    position = len(PNG)
    for _ in range(MAX_SEGMENTS):
        length = int.from_bytes(data[position : position + 4])
        kind = data[position + 4 : position + 8]
        if len(kind) < 4 or kind in (b"IDAT", b"IEND"):
            break
        if kind == b"eXIf":
            return data[position + 8 : position + 8 + length]
        position += 12 + length
    return b""


def _find_in_webp(data: bytes) -> bytes:
    # Only the extended format has metadata; libwebp wants the flag, too.
    if data[12:16] != b"VP8X" or not data[20:21] or not data[20] & 8:
        return b""
    position = 12
    for _ in range(MAX_SEGMENTS):
        kind = data[position : position + 4]
        length = int.from_bytes(data[position + 4 : position + 8], "little")
        if len(kind) < 4:
            break
        if kind == b"EXIF":
            return data[position + 8 : position + 8 + length]
        position += 8 + length + length % 2
    return b""


def _parse_exif(exif: bytes) -> int:
    exif = exif.removeprefix(b"Exif\0\0")
    if exif[:4] not in (b"II*\0", b"MM\0*"):
        return 1
    order = "little" if exif.startswith(b"II") else "big"

    def number(start: int, size: int) -> int:
        return int.from_bytes(exif[start : start + size], order)

    first = number(4, 4) + 2
    if first > len(exif):
        return 1
    # What is cut off is not looked at.
    count = min(number(first - 2, 2), (len(exif) - first) // 12)
    for entry in range(first, first + 12 * count, 12):
        if number(entry, 2) != _ORIENTATION:
            continue
        kind = number(entry + 2, 2)
        if number(entry + 4, 4) != 1 or kind not in (_SHORT, _LONG):
            return 1
        value = number(entry + 8, 2 if kind == _SHORT else 4)
        return value if 1 <= value <= 8 else 1
    return 1


def _strip_jpeg(data: bytes) -> bytes:
    kept, marker, rest = [data[:2]], None, 2
    for marker, start, rest in _walk_jpeg(data):
        segment = data[start:rest]
        if marker not in _JPEG_EXTRAS or any(
            marker == each
            and segment[4:].startswith(prefix)
            and len(segment) >= 4 + size
            for each, prefix, size in _COLOUR_SEGMENTS
        ):
            kept.append(segment)
    if marker != _END_OF_IMAGE:
        kept.append(data[rest:])
    return b"".join(kept)


def _strip_png(data: bytes) -> bytes:
    """Leaves critical chunks and, if libpng takes it, transparency."""
    kept, position = [PNG], len(PNG)
    colour_type = data[25:26]
    num_colours, has_transparency = 0, False
    while position + 12 <= len(data):
        length = int.from_bytes(data[position : position + 4])
        kind = data[position + 4 : position + 8]
        end = position + 12 + length
        if end > len(data):
            break
        is_needed = not kind[0] & 0x20  # Critical: a capital letter.
        if kind == b"PLTE":
            num_colours = length // 3
        elif kind == b"tRNS" and not has_transparency:
            if colour_type == b"\3":
                is_needed = 0 < length <= num_colours
            else:
                is_needed = length == _COLOUR_KEY_BYTES.get(data[25])
            has_transparency = is_needed
        if is_needed:
            kept.append(data[position:end])
        position = end
        if kind == b"IEND":
            return b"".join(kept)
    return b"".join([*kept, data[position:]])


def _strip_gif(data: bytes) -> bytes:
    """Leaves out comments, in which Pillow's time grows with the square."""
    has_table, size = data[10:11] >= b"\x80", 0
    if has_table:
        size = 3 * 2 ** (data[10] % 8 + 1)
    position = 13 + size
    kept = [data[:position]]
    while data[position : position + 1] == b"!":
        start, is_control = (
            position,
            data[position + 1 : position + 2] == b"\xf9",
        )
        position += 2
        while position < len(data) and data[position]:
            position += 1 + data[position]
        position += 1
        if is_control:
            kept.append(data[start:position])
    return b"".join([*kept, data[position:]])


def _strip_avif(data: bytes) -> bytes:
    """Hides Exif data from a reader that fails if they are malformed."""
    start = int.from_bytes(data[:4])
    end = start + int.from_bytes(data[start : start + 4])
    if data[start + 4 : start + 8] != b"meta":
        return data
    boxes = data[start:end].replace(b"Exif", b"skip")
    return b"".join([data[:start], boxes, data[end:]])


def _strip_bmp(data: bytes) -> bytes:
    """Hides the number of colours, which Pillow takes for the depth."""
    header_size = int.from_bytes(data[14:18], "little")
    if header_size < 40 or int.from_bytes(data[28:30], "little") > 8:
        return data
    return b"".join([data[:46], bytes(4), data[50:]])
