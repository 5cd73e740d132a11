"""BMP in a graph, for TensorFlow's own decoder knows no palettes."""

import tensorflow as tf

from sicot_tf.data.decoding import byte_strings
from sicot_tf.data.decoding import image_decoders

_UNCOMPRESSED, _BIT_FIELDS = 0, 3
# Where red, green, blue and alpha lie in a pixel, as nearly all files have it.
_MASKS = (0xFF0000, 0xFF00, 0xFF)
_ALPHA_MASK = 0xFF000000


@byte_strings.not_inlined
def decode_bmp(data: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Pixels `[height, width, 3]` uint8, and orientation 1: BMP has no Exif."""
    head = byte_strings.read(data, 0, 70)

    def number(start: int, size: int = 4) -> tf.Tensor:
        return byte_strings.little_endian(head[start : start + size])

    offset, header_size, width = number(10), number(14), number(18)
    # A negative height: the rows are stored from top to bottom.
    is_top_down = head[25] == 0xFF
    height = tf.where(is_top_down, 2**32 - number(22), number(22))
    depth, compression = number(28, 2), number(30)
    masks = tf.stack([number(54), number(58), number(62)])
    alpha_mask = tf.where(header_size >= 56, number(66), 0)
    has_alpha = (compression == _BIT_FIELDS) & (alpha_mask == _ALPHA_MASK)
    is_plain = (compression == _UNCOMPRESSED) & tf.reduce_any(
        depth == [1, 4, 8, 24, 32]
    )
    is_masked = (compression == _BIT_FIELDS) & (depth == 32)
    is_masked &= tf.reduce_all(masks == tf.constant(_MASKS, tf.int64))
    is_masked &= has_alpha | (alpha_mask == 0)
    data = byte_strings.refuse_unless(
        (header_size >= 40) & (is_plain | is_masked),
        "BMP pictures that are run-length encoded, of 16 bits, of OS/2 or with "
        "unusual bit masks are not supported; send them as PNG.",
        data,
    )
    data = image_decoders.check_size(height, width, data)
    row_size = (width * depth + 31) // 32 * 4
    size = tf.cast(tf.strings.length(data), tf.int64)
    is_whole = (width > 0) & (height > 0)
    is_whole &= (offset >= 14 + header_size) & (offset <= size)
    is_whole &= offset + height * row_size <= size
    data = byte_strings.refuse_unless(
        is_whole, "The BMP is cut off or damaged.", data
    )
    rows = byte_strings.substr(data, offset, height * row_size)
    rows = tf.reshape(tf.io.decode_raw(rows, tf.uint8), [height, row_size])
    rows = tf.cond(is_top_down, lambda: rows, lambda: rows[::-1])

    image = tf.cond(
        depth <= 8,
        lambda: _indexed_pixels(
            rows, byte_strings.read(data, 14 + header_size, 1024), width, depth
        ),
        lambda: _direct_pixels(rows, width, depth, has_alpha),
    )
    image = tf.ensure_shape(image, [None, None, 3])
    return image, tf.constant(1, tf.int64)


def _indexed_pixels(
    rows: tf.Tensor, table: tf.Tensor, width: tf.Tensor, depth: tf.Tensor
) -> tf.Tensor:
    """`[height, row_size]` bytes and a palette to pixels."""
    # A file with fewer than 256 colours never points behind them.
    table = tf.cast(tf.reshape(table, [256, 4]), tf.uint8)
    # Each byte holds some pixels, the first in its highest bits.
    bits = tf.maximum(depth, 1)  # 0 in a file that was refused above.
    shifts = tf.cast(tf.range(8 - bits, -1, -bits), tf.uint8)
    mask = tf.bitwise.left_shift(tf.constant(1, tf.int64), bits) - 1
    indices = tf.bitwise.bitwise_and(
        tf.bitwise.right_shift(rows[..., tf.newaxis], shifts),
        tf.cast(mask, tf.uint8),
    )
    height, row_size = tf.unstack(tf.shape(rows, tf.int64))
    indices = tf.reshape(indices, [height, row_size * 8 // bits])
    indices = indices[:, :width]
    return tf.gather(table, tf.cast(indices, tf.int32))[..., 2::-1]


def _direct_pixels(
    rows: tf.Tensor, width: tf.Tensor, depth: tf.Tensor, has_alpha: tf.Tensor
) -> tf.Tensor:
    """`[height, row_size]` bytes of three or four a pixel to pixels."""
    channels = depth // 8
    pixels = rows[:, : width * channels]
    pixels = tf.reshape(pixels, [tf.shape(rows, tf.int64)[0], width, channels])
    colours = pixels[..., 2::-1]
    return tf.cond(
        has_alpha,
        lambda: image_decoders.on_white(
            tf.concat([colours, pixels[..., 3:]], -1)
        ),
        lambda: colours,
    )
