"""Damaged photos, and the status codes that may answer each.

Every function takes a `random.Random` and good photos, and returns the bytes
of an upload and the codes.
"""

import io
import struct
import zlib
from collections.abc import Sequence

import PIL.Image

from tests.helpers import picture_formats

_FORMATS = ("JPEG", "PNG", "GIF", "BMP", "WEBP")
_OTHER_FILES = (
    b"hello",
    b"<html><script>alert(1)</script></html>",
    b"<?xml version='1.0'?><svg xmlns='http://www.w3.org/2000/svg'/>",
    b"%PDF-1.7\n",
    b"II*\0" + bytes(40),
    b"\0\0\0\x18ftypheic" + bytes(40),
    b"\0\0\0\x1cftypavif" + bytes(40),
    b"PK\x03\x04" + bytes(40),
    b"\x1f\x8b\x08" + bytes(40),
    b"\0\0\0\x0cjP  \r\n\x87\n" + bytes(40),
    b"\xff\x0a" + bytes(40),
    b"GIF" + bytes(40),
    b"RIFF" + bytes(4) + b"WAVE" + bytes(40),
    b"\xef\xbb\xbf\xff\xd8\xff",
    b"/etc/passwd",
    b"https://example.com/photo.jpg",
    b"{}",
    b"\0",
)
_GIANTS = (7072, 50_000, 65_535)


def encode_good(size: tuple[int, int] = (48, 32)) -> dict[str, bytes]:
    """The same small picture in every format."""
    image = picture_formats.rgb().resize(size)
    return {kind: picture_formats.encode(image, kind) for kind in _FORMATS}


_GOOD = encode_good()


def good(rng, photos: Sequence[bytes]):
    """Undamaged."""
    return rng.choice([*photos, *_GOOD.values()]), {200}


def cut(rng, photos):
    """Ends too early: in the header, in the pixels, at the very end."""
    data = rng.choice([*photos, *_GOOD.values()])
    end = rng.randrange(1, len(data))
    statuses = {415, 422}
    if end > len(data) // 2:
        # Some decoders fill a rest with grey.
        statuses.add(200)
    return data[:end], statuses


def flipped(rng, photos):
    """Bits turned over, anywhere."""
    data = bytearray(rng.choice([*photos, *_GOOD.values()]))
    for _ in range(rng.choice([1, 1, 2, 5, 20, 200])):
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    # 413: a size that a bit has made giant.
    return bytes(data), {200, 413, 415, 422}


def spliced(rng, photos):
    """Parts of two files, parts twice, and noise in the middle."""
    one, other = (rng.choice([*photos, *_GOOD.values()]) for _ in range(2))
    start, end = sorted(rng.randrange(len(one)) for _ in range(2))
    middle = rng.choice(
        [other, other[: end - start], one[start:end] * 5]
        + [rng.randbytes(end - start), bytes(end - start)]
    )
    return one[:start] + middle + one[end:], {200, 413, 415, 422}


def noise(rng, _):
    """Noise, mostly behind the marks of a picture."""
    mark = rng.choice(
        [b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"GIF89a", b"GIF87a", b"BM"]
        + [b"RIFF\x40\0\0\0WEBP" + each for each in (b"VP8 ", b"VP8L", b"VP8X")]
    )
    if rng.random() < 0.2:
        return b"\0" + rng.randbytes(rng.randrange(200)), {415}
    return mark + rng.randbytes(rng.randrange(3000)), {413, 415, 422}


def other_files(rng, _):
    """Files that are no picture, or a picture of another format."""
    return rng.choice(_OTHER_FILES), {415}


def nothing(rng, _):
    """No bytes."""
    return b"", {400}


def giant(rng, _):
    """Small files whose headers say that they are giant."""
    side = rng.choice(_GIANTS)
    kind = rng.choice(_FORMATS)
    data = bytearray(_GOOD[kind])
    if kind == "PNG":
        data = _png(rng.choice([side, 2**31 - 1]), side)
    elif kind == "JPEG":
        place = max(data.find(b"\xff\xc0"), data.find(b"\xff\xc2"))
        data[place + 5 : place + 9] = struct.pack(">HH", side, side)
    elif kind == "GIF":
        data[6:10] = struct.pack("<HH", side, side)
    elif kind == "BMP":
        sides = (rng.choice([side, 2**31 - 1]), rng.choice([side, -side]))
        data[18:26] = struct.pack("<ii", *sides)
    else:
        size = struct.pack("<I", side - 1)[:3]
        chunk = b"VP8X" + struct.pack("<I", 10) + bytes(4) + size + size
        data[12:12] = chunk
        data[4:8] = struct.pack("<I", len(data) - 8)
    # A WebP of more than 16,384 pixels a side is none at all.
    return bytes(data), {413, 422} if kind in ("WEBP", "BMP") else {413}


def many_pixels(rng, _):
    """As many pixels as just may be, packed into a few bytes."""
    side = rng.choice([2100, 4000, 7071])
    return _png(side, side, whole=True), {200}


def odd_sizes(rng, _):
    """No pixels at all, one pixel, one row, one column."""
    kind = rng.choice(_FORMATS)
    if rng.random() < 0.4:
        width, height = rng.choice([(0, 5), (5, 0), (0, 0)])
        # Pillow and TensorFlow know what they refuse.
        return bytes(_png(width, height)), {422}
    size = rng.choice([(1, 1), (1, 900), (900, 1), (2, 1), (16_000, 1)])
    image = PIL.Image.new("RGB", size, "red")
    return picture_formats.encode(image, kind), {200}


def animated(rng, _):
    """Many frames; the first counts."""
    frames = [
        PIL.Image.new("RGB", (20, 20), (each % 256, 99, 5))
        for each in range(rng.choice([2, 30]))
    ]
    output = io.BytesIO()
    frames[0].save(
        output,
        rng.choice(["GIF", "WEBP", "PNG"]),
        save_all=True,
        append_images=frames[1:],
    )
    return output.getvalue(), {200}


def exif(rng, _):
    """Exif data that lie, in front of good pixels."""
    content = picture_formats.exif(
        rng.choice([0, 1, 3, 6, 8, 9, 65_535]),
        order=rng.choice("<>"),
        count=rng.choice([0, 1, 2, 2**32 - 1]),
    )
    if rng.random() < 0.5:
        content = content[: rng.randrange(len(content))]
    extra = picture_formats.segment(0xE1, b"Exif\0\0" + content)
    data = _GOOD["JPEG"]
    return data[:2] + extra * rng.choice([1, 1, 50]) + data[2:], {200}


def _png(width: int, height: int, *, whole: bool = False) -> bytes:
    """Black, of one bit a pixel; pixels are there only if `whole`."""
    rows = (1 + (width + 7) // 8) * height if whole else 100
    packer = zlib.compressobj(9)
    content = packer.compress(bytes(rows)) + packer.flush()

    def chunk(name, data):
        checksum = zlib.crc32(name + data)
        return (
            struct.pack(">I", len(data))
            + name
            + data
            + struct.pack(">I", checksum)
        )

    header = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", content)
        + chunk(b"IEND", b"")
    )


# How often each comes.
KINDS = {
    good: 12,
    cut: 20,
    flipped: 30,
    spliced: 15,
    noise: 10,
    other_files: 8,
    nothing: 3,
    giant: 12,
    many_pixels: 0.3,
    odd_sizes: 6,
    animated: 4,
    exif: 6,
}
