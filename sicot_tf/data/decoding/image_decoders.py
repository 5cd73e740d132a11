"""JPEG, PNG and WebP to what a build stores of them, but for the turn.

Only core TensorFlow ops. TensorFlow's own decoders differ from Pillow, with
which data sets are built, in transparency, palettes, CMYK and orientation.
Each function takes a scalar string, gives `[height, width, 3]` uint8, on white,
and the Exif orientation (scalar int64, 1 to 8), and raises
`tf.errors.InvalidArgumentError`.
"""

import tensorflow as tf

from sicot_tf.data.decoding import byte_strings
from sicot_tf.data.decoding import orientation

# Pictures above this are refused: decoded, one of them takes 150 MB, and
# 600 MB while it is resized.
MAX_PIXELS = 50_000_000

# An Adobe marker that says CMYK, inverted: so Pillow reads every JPEG of four
# channels, with or without the marker. A later one in the file overrules it.
_ADOBE = b"\xff\xee\x00\x0eAdobe\x00\x64\0\0\0\0\0"


def decode_jpeg(data: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Pixels and orientation of a JPEG, CMYK as well."""
    height, width, channels = tf.unstack(
        tf.io.extract_jpeg_shape(data, tf.int64), 3
    )
    data = check_size(height, width, data)
    data = tf.cond(
        channels == 4,
        lambda: tf.strings.join(
            [
                tf.strings.substr(data, 0, 2),
                _ADOBE,
                tf.strings.substr(data, 2, 2**31 - 1),
            ]
        ),
        lambda: data,
    )
    return tf.io.decode_jpeg(data, 3), orientation.read_jpeg(data)


@byte_strings.not_inlined
def decode_png(data: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Pixels and orientation of a PNG of any depth and colour type."""
    head = byte_strings.read(data, 16, 10)
    height = byte_strings.big_endian(head[4:8])
    data = check_size(height, byte_strings.big_endian(head[:4]), data)
    depth, colour_type = head[8], head[9]

    def deep() -> tf.Tensor:
        return tf.io.decode_png(data, 4)

    def palette() -> tf.Tensor:
        # Three channels, or four if there is transparency.
        return tf.io.decode_png(data, 0)

    def few_greys() -> tf.Tensor:
        # TensorFlow calls 1, 3 or 15 opaque. Real transparency is 0 or 255.
        pixels = tf.io.decode_png(data, 4)
        alpha = tf.where(pixels[..., 3:] == 0, pixels[..., 3:], 255)
        return tf.concat([pixels[..., :3], alpha], -1)

    kind = tf.where(colour_type == 3, 1, tf.where(depth < 8, 2, 0))
    pixels = tf.switch_case(kind, [deep, palette, few_greys])
    image = on_white(tf.ensure_shape(pixels, [None, None, None]))
    return image, orientation.read_png(data)


@byte_strings.not_inlined
def decode_webp(data: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Pixels and orientation of a WebP, of an animation its first frame."""
    little_endian = byte_strings.little_endian
    head = byte_strings.read(data, 0, 30)
    is_extended = tf.reduce_all(head[12:16] == list(b"VP8X"))
    has_flags = tf.bitwise.bitwise_and(head[20], [2, 16]) != 0
    is_animated, has_alpha = tf.unstack(is_extended & has_flags)
    # Where the pixels are: one chunk, or the first of many frames.
    pixels = byte_strings.read(
        orientation.find_webp_chunk(data, [b"VP8 ", b"VP8L", b"ANMF"]), 0, 10
    )
    is_lossless = ~is_animated & (pixels[0] == 0x2F)
    # Lossless: width - 1 and height - 1 in 14 bits each, then a bit for alpha.
    bits = little_endian(pixels[1:5])
    width = tf.where(
        is_lossless, bits % 2**14 + 1, little_endian(pixels[6:8]) % 2**14
    )
    height = tf.where(
        is_lossless,
        bits // 2**14 % 2**14 + 1,
        little_endian(pixels[8:10]) % 2**14,
    )
    canvas_width = little_endian(head[24:27]) + 1
    canvas_height = little_endian(head[27:30]) + 1
    data = check_size(
        tf.where(is_extended, canvas_height, height),
        tf.where(is_extended, canvas_width, width),
        data,
    )
    # TensorFlow takes the number of channels from the flags of an animation
    # but always writes four, and else wants to be told the right number. So
    # alpha is declared, for lossless pictures by themselves.
    has_four = tf.where(is_lossless, bits // 2**28 % 2 == 1, is_extended)
    declared = tf.cond(
        is_extended,
        lambda: tf.strings.join(
            [
                tf.strings.substr(data, 0, 20),
                tf.where(is_animated, b"\x12", b"\x10"),
                byte_strings.substr(data, 21, 2**31 - 1),
            ]
        ),
        lambda: data,
    )

    def decode(channels: int) -> tf.Tensor:
        image = tf.io.decode_image(declared, channels, expand_animations=False)
        return tf.ensure_shape(image, [None, None, channels])

    def four() -> tf.Tensor:
        image = decode(4)
        return tf.cond(
            is_animated & ~has_alpha,
            lambda: image[..., :3],
            lambda: on_white(image),
        )

    image = tf.cond(has_four, four, lambda: decode(3))
    return image, tf.cond(
        is_extended,
        lambda: orientation.read_webp(data),
        lambda: tf.constant(1, tf.int64),
    )


def check_size(
    height: tf.Tensor, width: tf.Tensor, data: tf.Tensor
) -> tf.Tensor:
    """`data`, unless a few kilobytes of it claim billions of pixels."""
    # Each side by itself first: the product of two 32-bit sides overflows.
    longest = tf.maximum(height, width)
    is_small = (longest <= MAX_PIXELS) & (height * width <= MAX_PIXELS)
    return byte_strings.refuse_unless(
        is_small, f"A picture may have at most {MAX_PIXELS:,} pixels.", data
    )


def on_white(pixels: tf.Tensor) -> tf.Tensor:
    """`[height, width, 3 or 4]` uint8 to three channels, as Pillow rounds."""
    colours = pixels[..., :3]

    def mixed() -> tf.Tensor:
        # At most 255 * 255 + 127, which uint16 holds.
        weight = tf.cast(pixels[..., 3:], tf.uint16)
        mixed = tf.cast(colours, tf.uint16) * weight + 255 * (255 - weight)
        return tf.cast((mixed + 127) // 255, tf.uint8)

    is_opaque = tf.reduce_all(pixels[..., 3:] == 255)
    return tf.cond(is_opaque, lambda: colours, mixed)
