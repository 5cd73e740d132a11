"""Small pictures in every format, depth, colour type and orientation.

Flat cells of 8 x 8 pixels, so that a JPEG keeps their colours.
"""

import io
import itertools
import struct
import zlib

import numpy as np
from PIL import Image

_HEIGHT, _WIDTH = 32, 48
# Depths and channels of each colour type: the PNG standard's table 11.1.
PNG_TYPES = {
    0: ((1, 2, 4, 8, 16), 1),
    2: ((8, 16), 3),
    3: ((1, 2, 4, 8), 1),
    4: ((8, 16), 2),
    6: ((8, 16), 4),
}
_ADAM7 = [
    (0, 0, 8, 8),
    (0, 4, 8, 8),
    (4, 0, 8, 4),
    (0, 2, 4, 4),
    (2, 0, 4, 2),
    (0, 1, 2, 2),
    (1, 0, 2, 1),
]


def cells(channels, levels=256, seed=0):
    """`[32, 48, channels]` whole numbers below `levels`."""
    rng = np.random.default_rng(seed)
    small = rng.integers(0, levels, (_HEIGHT // 8, _WIDTH // 8, channels))
    return np.kron(small, np.ones((8, 8, 1), int))


def rgb():
    return Image.fromarray(cells(3).astype(np.uint8))


def rgba():
    pixels = cells(4)
    pixels[:8, :8, 3], pixels[:8, 8:16, 3] = 0, 255
    return Image.fromarray(pixels.astype(np.uint8))


def encode(image, kind, **options):
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def exif(orientation, order="<", kind=3, count=1, before=b""):
    """Exif data with one entry for the orientation, behind `before`."""
    value = struct.pack(
        order + ("HH" if kind == 3 else "I"),
        orientation,
        *([0] if kind == 3 else []),
    )
    entries = before + struct.pack(order + "HHI", 0x112, kind, count) + value
    mark = b"II*\0" if order == "<" else b"MM\0*"
    return b"".join(
        [
            mark,
            struct.pack(order + "I", 8),
            struct.pack(order + "H", len(entries) // 12),
            entries,
            bytes(4),
        ]
    )


def segment(marker, content):
    """A JPEG segment."""
    return struct.pack(">BBH", 0xFF, marker, 2 + len(content)) + content


def with_segments(jpeg, *segments):
    """The JPEG with segments behind its start."""
    return b"".join([jpeg[:2], *segments, jpeg[2:]])


def chunk(kind, content):
    """A PNG chunk."""
    checksum = zlib.crc32(kind + content)
    return b"".join(
        [struct.pack(">I", len(content)), kind, content]
        + [struct.pack(">I", checksum)]
    )


def with_chunks(png, *chunks):
    """The PNG with chunks behind its header."""
    return b"".join([png[:33], *chunks, png[33:]])


def png(colour_type, depth, *, transparent=False, interlaced=False):
    """A PNG by hand; with `transparent`, a tRNS chunk."""
    channels = PNG_TYPES[colour_type][1]
    pixels = cells(channels, 2**depth, seed=depth)
    if depth == 16:
        # Two cells whose high bytes are equal: only one is the key colour.
        pixels[:8, 8:16] = pixels[:8, :8] ^ 1
    rows = []
    for y, x, dy, dx in _ADAM7 if interlaced else [(0, 0, 1, 1)]:
        for row in pixels[y::dy, x::dx]:
            bits = "".join(f"{value:0{depth}b}" for value in row.ravel())
            bits += "0" * (-len(bits) % 8)
            rows.append(b"\0" + int(bits, 2).to_bytes(len(bits) // 8))
    header = (_WIDTH, _HEIGHT, depth, colour_type, 0, 0, interlaced)
    data = b"\x89PNG\r\n\x1a\n" + chunk(
        b"IHDR", struct.pack(">IIBBBBB", *header)
    )
    if colour_type == 3:
        colours = np.random.default_rng(1).integers(0, 256, 3 * 2**depth)
        data += chunk(b"PLTE", bytes(colours.tolist()))
    if transparent:
        # Of two greys white, else nothing would be left.
        key = struct.pack(f">{channels}H", *pixels[0, 0] | (depth == 1))
        alphas = bytes([0, 128, 200][: 2**depth])
        data += chunk(b"tRNS", alphas if colour_type == 3 else key)
    compressed = zlib.compress(b"".join(rows))
    # In two chunks, as most writers cut them.
    data += chunk(b"IDAT", compressed[:9]) + chunk(b"IDAT", compressed[9:])
    return data + chunk(b"IEND", b"")


def bmp(depth, *, masks=(), top_down=False, colours=0):
    """A BMP by hand; with `masks` (red, green, blue, alpha) of version 4."""
    levels = 2 ** min(depth, 8)
    pixels = cells(max(1, depth // 8), levels, seed=depth)
    rows = []
    for row in pixels if top_down else pixels[::-1]:
        bits = "".join(f"{value:0{min(depth, 8)}b}" for value in row.ravel())
        rows.append(int(bits, 2).to_bytes(len(bits) // 8))
        rows[-1] += bytes(-len(rows[-1]) % 4)
    palette = b""
    if depth <= 8:
        palette = np.random.default_rng(1).integers(0, 256, 4 * levels)
        palette = bytes(palette.tolist())
    header_size = 108 if masks else 40
    header = struct.pack(
        "<IiiHHIIiiII",
        *(header_size, _WIDTH, -_HEIGHT if top_down else _HEIGHT, 1, depth),
        *(3 if masks else 0, 0, 0, 0, colours, 0),
    )
    if masks:
        header += struct.pack("<4I", *masks).ljust(68, b"\0")
    offset = 14 + header_size + len(palette)
    body = b"".join(rows)
    start = struct.pack("<2sIHHI", b"BM", offset + len(body), 0, 0, offset)
    return start + header + palette + body


def bmp_rle():
    """Eight bits, run-length encoded: each row one run of its own colour."""
    body = b"".join(bytes([_WIDTH, y // 8, 0, 0]) for y in range(_HEIGHT))
    plain = bytearray(bmp(8))
    plain[30:34] = struct.pack("<I", 1)
    return bytes(plain[: 54 + 1024]) + body + b"\0\1"


def cmyk_jpegs():
    """Four channels: as Pillow writes (Adobe marker), and in other ways."""
    data = encode(
        rgb().convert("CMYK"), "JPEG", quality=95, subsampling="4:4:4"
    )
    start = data.index(b"\xff\xee\x00\x0eAdobe")
    yield "CMYK, Adobe", data
    yield "CMYK, no Adobe", data[:start] + data[start + 16 :]
    ycck = bytearray(data)
    ycck[start + 15] = 2
    yield "YCCK, Adobe", bytes(ycck)


def gif_small_frame(*, transparent):
    """A first frame of 16 x 24 at (8, 8) on a canvas of 48 x 32."""
    frame = encode(rgb().crop((0, 0, 24, 16)).quantize(8), "GIF")
    data = bytearray(frame)
    data[6:10] = struct.pack("<HH", _WIDTH, _HEIGHT)
    image = data.index(b",\0\0\0\0\x18\0\x10\0")
    data[image + 1 : image + 5] = struct.pack("<HH", 8, 8)
    if transparent:
        control = b"!\xf9\x04\x01\0\0\x02\0"
        data[image:image] = control
    return bytes(data)


def gif_tables():
    """Names and bytes: fewer colours than pixels point at, and none."""
    data = encode(rgb().quantize(16), "GIF")
    flags, rest = data[10], data[13 + 3 * 16 :]
    assert flags & 7 == 3
    few = data[:10] + bytes([flags & 0xF8 | 1]) + data[11:25] + rest
    yield "few colours", few
    yield "no colours", data[:10] + b"\0" + data[11:13] + rest


def served_and_stored():
    """Name to bytes: what both a build and a graph take."""
    files = {}
    for colour_type, (depths, _) in PNG_TYPES.items():
        for depth, interlaced, transparent in itertools.product(
            depths, (False, True), (False, True)
        ):
            if transparent and colour_type in (4, 6):
                continue
            name = f"PNG type {colour_type}, {depth} bits"
            name += ", interlaced" * interlaced + ", tRNS" * transparent
            files[name] = png(
                colour_type,
                depth,
                transparent=transparent,
                interlaced=interlaced,
            )
    frames = [rgb(), rgb().transpose(Image.Transpose.ROTATE_180)]
    animation = {"save_all": True, "append_images": frames[1:]}
    palette = rgb().quantize(16)
    holes = rgb().quantize(16)
    holes.info["transparency"] = holes.getpixel((0, 0))
    grey = rgb().convert("L")
    # With all of the colours' pixels, else cells run into each other.
    quality = {"quality": 95, "subsampling": "4:4:4"}
    coded_rgb = encode(rgb(), "JPEG", keep_rgb=True, **quality)
    files |= {
        "APNG": encode(frames[0], "PNG", **animation),
        "JPEG": encode(rgb(), "JPEG", **quality),
        "JPEG, progressive": encode(rgb(), "JPEG", progressive=True, **quality),
        "JPEG, grey": encode(grey, "JPEG", **quality),
        "JPEG, RGB by Adobe's marker": coded_rgb,
        **{f"JPEG, {name}": data for name, data in cmyk_jpegs()},
        "GIF": encode(palette, "GIF"),
        "GIF, interlaced": encode(palette, "GIF", interlace=1),
        "GIF, not interlaced": encode(palette, "GIF", interlace=0),
        "GIF, transparent": encode(holes, "GIF"),
        "GIF, animated": encode(palette, "GIF", **animation),
        "GIF, grey": encode(grey, "GIF"),
        **{f"GIF, {name}": data for name, data in gif_tables()},
        "GIF, small frame": gif_small_frame(transparent=False),
        "GIF, small transparent frame": gif_small_frame(transparent=True),
        "WebP": encode(rgb(), "WEBP", quality=95),
        "WebP, lossless": encode(rgb(), "WEBP", lossless=True),
        "WebP, alpha": encode(rgba(), "WEBP", quality=95),
        "WebP, alpha, lossless": encode(
            rgba(), "WEBP", lossless=True, exact=True
        ),
        "WebP, animated": encode(frames[0], "WEBP", **animation, quality=95),
        "WebP, animated, alpha": encode(
            rgba(), "WEBP", **animation, lossless=True
        ),
        "WebP, ICC": encode(rgb(), "WEBP", icc_profile=b"none", quality=95),
        "BMP, 24 bits by Pillow": encode(rgb(), "BMP"),
        "BMP, grey by Pillow": encode(grey, "BMP"),
        "BMP, 1 bit by Pillow": encode(rgb().convert("1", dither=0), "BMP"),
        "BMP, 32 bits by Pillow": encode(rgba(), "BMP"),
        "BMP, 8 bits, 2 colours": bmp(8, colours=2),
        "BMP, alpha": bmp(32, masks=(0xFF0000, 0xFF00, 0xFF, 0xFF000000)),
        "BMP, masks": bmp(32, masks=(0xFF0000, 0xFF00, 0xFF, 0)),
    }
    for depth, top_down in itertools.product((1, 4, 8, 24, 32), (False, True)):
        name = f"BMP, {depth} bits" + ", top down" * top_down
        files[name] = bmp(depth, top_down=top_down)
    return files


def turned():
    """Name to bytes: every orientation in every format that has one."""
    files = {}
    jpeg = encode(rgb(), "JPEG", quality=95, subsampling="4:4:4")
    for orientation, order in itertools.product(range(1, 9), "<>"):
        data = exif(orientation, order)
        name = f"orientation {orientation}{order}"
        files |= {
            f"JPEG, {name}": with_segments(
                jpeg, segment(0xE1, b"Exif\0\0" + data)
            ),
            f"PNG, {name}": with_chunks(png(2, 8), chunk(b"eXIf", data)),
            f"WebP, {name}": encode(rgb(), "WEBP", lossless=True, exif=data),
            f"WebP, alpha, {name}": encode(
                rgba(), "WEBP", lossless=True, exif=b"Exif\0\0" + data
            ),
        }
    return files


def stored_only():
    """Name to bytes and the word by which a graph refuses it."""
    return {
        "TIFF": (encode(rgb(), "TIFF"), "TIFF"),
        "TIFF, 16 bits": (
            encode(
                Image.fromarray(cells(1, 65536)[..., 0].astype(np.uint16)),
                "TIFF",
            ),
            "TIFF",
        ),
        "AVIF": (encode(rgb(), "AVIF"), "AVIF"),
        "BMP, run-length": (bmp_rle(), "run-length"),
        "BMP, 16 bits": (bmp(16), "16 bits"),
    }
