"""`picture_files.read_orientation` as TensorFlow ops, and the turn itself.

A served graph holds core ops only, and none of them reads Exif data. Files
without such data pay a search for the name, 5 to 15 microseconds.
"""

from collections.abc import Callable

import tensorflow as tf

from sicot_tf.data.decoding import byte_strings
from sicot_tf.data.decoding import picture_files

_ORIENTATION = 0x0112
_SHORT, _LONG = 3, 4

# Orientations that need a flip of rows, or of columns, after transposing.
FLIPPED_IN_Y = (3, 4, 7, 8)
FLIPPED_IN_X = (2, 3, 6, 7)

# From a position in a file: where the next segment starts, where the content
# looked for starts (-1: not in this segment), and whether to stop here.
_Step = Callable[[tf.Tensor], tuple[tf.Tensor, tf.Tensor, tf.Tensor]]


def read_jpeg(data: tf.Tensor) -> tf.Tensor:
    """Orientation of a JPEG, scalar string to scalar int64 from 1 to 8."""
    return tf.cond(
        byte_strings.contains(data, "Exif"),
        lambda: _read_jpeg_exif(data),
        lambda: tf.constant(1, tf.int64),
    )


@byte_strings.not_inlined
def _read_jpeg_exif(data: tf.Tensor) -> tf.Tensor:
    def step(position: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        head = byte_strings.read(data, position, 10)
        marker, length = head[1], byte_strings.big_endian(head[2:4])
        is_fill = (head[0] == 0xFF) & (marker == 0xFF)
        is_last = (head[0] != 0xFF) | (length < 2)
        is_last |= (marker == 0xD9) | (marker == 0xDA)
        is_exif = (marker == 0xE1) & tf.reduce_all(
            head[4:] == list(b"Exif\0\0")
        )
        return (
            position + tf.where(is_fill, tf.ones_like(length), 2 + length),
            tf.where(is_exif, position + 4, -1),
            is_last & ~is_fill,
        )

    return _parse_exif(_find(data, 2, step))


def read_png(data: tf.Tensor) -> tf.Tensor:
    """Orientation of a PNG, scalar string to scalar int64 from 1 to 8."""

    def step(position: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        kind = byte_strings.substr(data, position + 4, 4)
        length = byte_strings.read(data, position, 4)
        return (
            position + 12 + byte_strings.big_endian(length),
            tf.where(kind == b"eXIf", position + 8, -1),
            (kind == b"IDAT") | (kind == b"IEND"),
        )

    def read() -> tf.Tensor:
        first = len(picture_files.PNG)
        return _parse_exif(_find(data, first, step, trailer=4))

    return tf.cond(
        byte_strings.contains(data, "eXIf"),
        read,
        lambda: tf.constant(1, tf.int64),
    )


def read_webp(data: tf.Tensor) -> tf.Tensor:
    """Orientation of a WebP in the extended format (VP8X), as above."""
    flags = byte_strings.read(data, 20, 1)[0]
    return tf.cond(
        tf.bitwise.bitwise_and(flags, 8) != 0,
        lambda: _parse_exif(find_webp_chunk(data, [b"EXIF"])),
        lambda: tf.constant(1, tf.int64),
    )


def find_webp_chunk(data: tf.Tensor, kinds: list[bytes]) -> tf.Tensor:
    """Content of the first chunk of one of `kinds`; empty without one."""

    def step(position: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        kind = byte_strings.substr(data, position, 4)
        length = byte_strings.little_endian(
            byte_strings.read(data, position + 4, 4)
        )
        is_wanted = tf.reduce_any(kind == tf.constant(kinds))
        end = position + 8 + length
        # A chunk that is found ends here, the next starts on an even byte.
        padding = tf.where(is_wanted, tf.constant(0, tf.int64), length % 2)
        return (
            end + padding,
            tf.where(is_wanted, position + 8, -1),
            tf.constant(False),
        )

    return _find(data, 12, step)


@byte_strings.not_inlined
def turn(image: tf.Tensor, orientation: tf.Tensor) -> tf.Tensor:
    """`[height, width, 3]` as people see it; `orientation` as in Exif."""
    upright = tf.cond(
        orientation >= 5,
        lambda: tf.transpose(image, [1, 0, 2]),
        lambda: image,
    )
    for axis, orientations in enumerate((FLIPPED_IN_Y, FLIPPED_IN_X)):
        upright = tf.cond(
            tf.reduce_any(orientation == orientations),
            lambda upright=upright, axis=axis: tf.reverse(upright, [axis]),
            lambda upright=upright: upright,
        )
    return upright


def _find(
    data: tf.Tensor, first: int, step: _Step, *, trailer: int = 0
) -> tf.Tensor:
    """Walks over segments; the content of the first that is looked for."""
    size = tf.cast(tf.strings.length(data), tf.int64)

    def body(
        position: tf.Tensor, start: tf.Tensor, is_done: tf.Tensor
    ) -> tuple[tf.Tensor, ...]:
        del start, is_done  # Nothing has been found yet.
        following, start, is_last = step(position)
        start = tf.where(is_last, tf.constant(-1, tf.int64), start)
        is_done = is_last | (start >= 0) | (following >= size)
        return following, start, is_done

    end, start, _ = tf.while_loop(
        lambda position, start, is_done: ~is_done,
        body,
        (
            tf.constant(first, tf.int64),
            tf.constant(-1, tf.int64),
            tf.constant(False),
        ),
        maximum_iterations=picture_files.MAX_SEGMENTS,
    )
    return tf.where(
        start < 0,
        b"",
        byte_strings.substr(
            data, tf.maximum(start, 0), end - trailer - tf.maximum(start, 0)
        ),
    )


def _parse_exif(exif: tf.Tensor) -> tf.Tensor:
    """The orientation in Exif data, scalar string; 1 if it is not sound."""
    has_prefix = byte_strings.substr(exif, 0, 6) == b"Exif\0\0"
    exif = tf.strings.substr(exif, tf.where(has_prefix, 6, 0), 2**31 - 1)
    kind = byte_strings.substr(exif, 0, 4)
    is_little = kind == b"II*\0"
    is_sound = is_little | (kind == b"MM\0*")

    def number(values: tf.Tensor) -> tf.Tensor:
        return tf.where(
            is_little,
            byte_strings.little_endian(values),
            byte_strings.big_endian(values),
        )

    first = number(byte_strings.read(exif, 4, 4)) + 2
    space = tf.cast(tf.strings.length(exif), tf.int64) - first
    is_sound &= space >= 0
    count = tf.minimum(
        number(byte_strings.read(exif, first - 2, 2)), space // 12
    )
    count = tf.where(is_sound, count, 0)
    # A row of zeros is added: argmax needs at least one row.
    entries = tf.strings.join(
        [byte_strings.substr(exif, first, 12 * count), b"\0" * 12]
    )
    entries = tf.reshape(tf.io.decode_raw(entries, tf.uint8), [-1, 12])
    entries = tf.cast(entries, tf.int64)
    tags = number(entries[:, :2])
    entry = entries[tf.argmax(tags == _ORIENTATION)]
    kind = number(entry[2:4])
    value = tf.where(kind == _SHORT, number(entry[8:10]), number(entry[8:12]))
    is_sound &= (number(entry[:2]) == _ORIENTATION) & (number(entry[4:8]) == 1)
    is_sound &= (kind == _SHORT) | (kind == _LONG)
    is_sound &= (value >= 1) & (value <= 8)
    return tf.where(is_sound, value, 1)
