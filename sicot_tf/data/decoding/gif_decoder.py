"""GIF in a graph: the first frame on a white canvas.

TensorFlow decodes all frames before it looks at one, however large they are,
and fills what is transparent or uncovered with black. So a new file is made:
the first frame alone, without transparency, its colours changed.
"""

from collections.abc import Callable

import tensorflow as tf

from sicot_tf.data.decoding import byte_strings
from sicot_tf.data.decoding import image_decoders

# Extensions before the first frame (a browser's GIF has two or three), and
# runs of blocks of equal length, 20 microseconds each: all whole blocks of a
# frame are as many runs as it has 64 KB. So nothing takes half a second.
_MAX_EXTENSIONS = 40
_MAX_EXTENSION_RUNS = 500
_MAX_FRAME_RUNS = 5000
_LOOKAHEAD = 256
# The colours of a file without a table, as Pillow has them.
_GREYS = bytes(grey for grey in range(256) for _ in range(3))


@byte_strings.not_inlined
def decode_gif(data: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Pixels `[height, width, 3]` uint8, and orientation 1: GIF has no Exif."""
    head = byte_strings.read(data, 6, 7)
    content = tf.io.decode_raw(data, tf.uint8)
    # Reading beyond the end finds zeros, which are an empty block.
    content = tf.pad(content, [[0, _LOOKAHEAD + 16]])
    size = tf.strings.length(data)

    def at(position: tf.Tensor) -> tf.Tensor:
        return tf.cast(content[tf.minimum(position, size)], tf.int32)

    table_size = _table_size(tf.cast(head[4], tf.int32))
    frame, transparent = _find_frame(at, content, size, 13 + table_size)
    data = byte_strings.refuse_unless(
        at(frame) == 0x2C,
        "The GIF is damaged, or has no picture near its start.",
        data,
    )
    place = byte_strings.read(data, frame + 1, 9)
    left, top, width, height = tf.unstack(
        byte_strings.little_endian(tf.reshape(place[:8], [4, 2]))
    )
    flags = tf.cast(place[8], tf.int32)
    own_table_size = _table_size(flags)
    pixels = frame + 10 + own_table_size
    end = _skip_blocks(content, size, pixels + 1, _MAX_FRAME_RUNS)
    data = byte_strings.refuse_unless(
        end <= size, "The GIF is cut off or damaged.", data
    )
    # As Pillow: a frame that lies outside makes the canvas larger.
    canvas = byte_strings.little_endian(tf.reshape(head[:4], [2, 2]))
    canvas_width = tf.maximum(canvas[0], left + width)
    canvas_height = tf.maximum(canvas[1], top + height)
    data = image_decoders.check_size(canvas_height, canvas_width, data)

    has_own = own_table_size > 0
    table = tf.strings.substr(
        data,
        tf.where(has_own, frame + 10, 13),
        tf.where(has_own, own_table_size, table_size),
    )
    shape = tf.strings.substr(data, frame + 5, 4)
    is_interlaced = tf.bitwise.bitwise_and(flags, 0x40) != 0
    alone = tf.strings.join(
        [
            b"GIF89a",
            shape,
            b"\0\0\0,\0\0\0\0",
            shape,
            # Flags of a frame that has its own table of 256 colours.
            tf.where(is_interlaced, b"\xc7", b"\x87"),
            _colours(table, transparent),
            tf.strings.substr(data, pixels, end - pixels),
            b";",
        ]
    )
    image = tf.ensure_shape(tf.io.decode_gif(alone), [None, None, None, 3])[0]
    right = canvas_width - left - width
    bottom = canvas_height - top - height
    image = tf.pad(
        image,
        [[top, bottom], [left, right], [0, 0]],
        constant_values=tf.constant(255, tf.uint8),
    )
    return image, tf.constant(1, tf.int64)


def _table_size(flags: tf.Tensor) -> tf.Tensor:
    """Bytes of a colour table; 0 without one."""
    size = 3 * tf.bitwise.left_shift(2, tf.bitwise.bitwise_and(flags, 7))
    return tf.where(tf.bitwise.bitwise_and(flags, 0x80) != 0, size, 0)


def _find_frame(
    at: Callable[[tf.Tensor], tf.Tensor],
    content: tf.Tensor,
    size: tf.Tensor,
    first: tf.Tensor,
) -> tuple[tf.Tensor, tf.Tensor]:
    """Start of the first frame, and its transparent colour or -1."""

    def body(
        position: tf.Tensor, transparent: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor]:
        # An extension: 0x21, label, blocks. Label 0xF9 has one block: 4,
        # flags, two bytes of time, the transparent colour.
        is_control = at(position + 1) == 0xF9
        is_control &= tf.bitwise.bitwise_and(at(position + 3), 1) != 0
        transparent = tf.where(is_control, at(position + 6), transparent)
        end = _skip_blocks(content, size, position + 2, _MAX_EXTENSION_RUNS)
        return end, transparent

    return tf.while_loop(
        lambda position, transparent: at(position) == 0x21,
        body,
        (first, -1),
        maximum_iterations=_MAX_EXTENSIONS,
    )


def _skip_blocks(
    content: tf.Tensor, size: tf.Tensor, first: tf.Tensor, max_runs: int
) -> tf.Tensor:
    """Behind the empty block that ends a chain of them; or beyond `size`."""

    def body(position: tf.Tensor, _: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        step = tf.cast(content[position], tf.int32) + 1
        lengths = content[position : position + _LOOKAHEAD * step : step]
        is_equal = tf.cast(lengths == lengths[0], tf.int32)
        run = tf.reduce_sum(tf.math.cumprod(is_equal))
        is_end = step == 1
        position += tf.where(is_end, 1, run * step)
        return tf.minimum(position, size + 1), is_end | (position > size)

    end, is_whole = tf.while_loop(
        lambda position, is_done: ~is_done,
        body,
        (tf.minimum(first, size), tf.constant(False)),
        maximum_iterations=max_runs,
    )
    return tf.where(is_whole, end, size + 1)


def _colours(table: tf.Tensor, transparent: tf.Tensor) -> tf.Tensor:
    """A table of 256 colours in which the transparent one is white."""
    black = tf.strings.join([table, b"\0" * 768])
    table = tf.where(table == b"", _GREYS, tf.strings.substr(black, 0, 768))
    place = 3 * tf.maximum(transparent, 0)
    white = tf.strings.join(
        [
            tf.strings.substr(table, 0, place),
            b"\xff\xff\xff",
            tf.strings.substr(table, place + 3, 768),
        ]
    )
    return tf.where(transparent < 0, table, white)
