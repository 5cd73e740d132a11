"""Encoded pictures to the squares the model sees, for training and serving.

Only core TensorFlow ops: the exported graph decodes with the same functions.
"""

import tensorflow as tf

# Pictures above this are refused: decoded, one of them takes 150 MB, and
# 600 MB while it is resized.
MAX_PIXELS = 50_000_000
# Aspect ratios of the usual random resized crop (Szegedy et al., 2015).
_CROP_ASPECT_RATIOS = (3 / 4, 4 / 3)


def decode(image_bytes: tf.Tensor) -> tf.Tensor:
    """Decodes JPEG, PNG, GIF, BMP or WebP; transparent pixels become white.

    Args:
        image_bytes: scalar string.

    Returns:
        `[height, width, 3]` uint8.

    Raises:
        tf.errors.InvalidArgumentError: if the bytes are no such picture, or
            one of more than `MAX_PIXELS`.
    """
    # Padded: an error about a cut header would quote its bytes, which no
    # client can read.
    header = tf.strings.substr(
        tf.strings.join([image_bytes, b"\0" * 24]), 0, 24
    )
    is_png = tf.strings.substr(header, 0, 4) == b"\x89PNG"
    is_jpeg = tf.strings.substr(header, 0, 3) == b"\xff\xd8\xff"
    is_gif = tf.strings.substr(header, 0, 3) == b"GIF"

    # A few kilobytes can claim billions of pixels: look before decoding. BMP
    # is not compressed, and a WebP picture ends at 16,383 x 16,383.
    def png_pixels() -> tf.Tensor:
        return _header_pixels(header, 16, tf.int32, little_endian=False)

    def gif_pixels() -> tf.Tensor:
        return _header_pixels(header, 6, tf.uint16, little_endian=True)

    def jpeg_pixels() -> tf.Tensor:
        shape = tf.io.extract_jpeg_shape(image_bytes, tf.int64)
        return shape[0] * shape[1]

    num_pixels = tf.case(
        [(is_png, png_pixels), (is_jpeg, jpeg_pixels), (is_gif, gif_pixels)],
        default=lambda: tf.constant(0, tf.int64),
        exclusive=True,
    )
    check = tf.debugging.assert_less_equal(
        num_pixels,
        tf.constant(MAX_PIXELS, tf.int64),
        message=f"A picture may have at most {MAX_PIXELS:,} pixels.",
    )
    # TensorFlow reads it too, and takes all memory that its header asks for: a
    # hundred bytes hold up a server for ten seconds, or end it.
    is_jpeg_xl = tf.logical_or(
        tf.strings.substr(header, 0, 2) == b"\xff\x0a",
        tf.strings.substr(header, 4, 4) == b"JXL ",
    )
    format_check = tf.debugging.assert_equal(
        is_jpeg_xl, False, message="JPEG XL pictures are not supported."
    )
    checks = [c for c in (check, format_check) if c is not None]
    # Eagerly the checks have been made; in a graph they are ops to wait for.
    with tf.control_dependencies(checks):
        image_bytes = tf.identity(image_bytes)
    image = tf.cond(
        is_png,
        lambda: _decode_png(image_bytes),
        lambda: tf.io.decode_image(image_bytes, 3, expand_animations=False),
    )
    image.set_shape([None, None, 3])
    return image


def resize_and_crop_center(image: tf.Tensor, image_size: int) -> tf.Tensor:
    """The largest centred square, resized with antialiasing.

    Args:
        image: `[height, width, 3]`, any numeric type.
        image_size: side of the result in pixels.

    Returns:
        `[image_size, image_size, 3]` float32, 0 to 255.
    """
    shape = tf.shape(image)
    side = tf.minimum(shape[0], shape[1])
    top = (shape[0] - side) // 2
    left = (shape[1] - side) // 2
    square = tf.slice(image, [top, left, 0], [side, side, 3])
    return _resize(square, image_size)


def decode_for_inference(image_bytes: tf.Tensor, image_size: int) -> tf.Tensor:
    """What evaluation and the served model see of a picture.

    Args:
        image_bytes: scalar string.
        image_size: side of the result in pixels.

    Returns:
        `[image_size, image_size, 3]` float32, 0 to 255.
    """
    return resize_and_crop_center(decode(image_bytes), image_size)


def decode_for_training(
    image_bytes: tf.Tensor,
    image_size: int,
    *,
    augmentation: str,
    min_crop_area: float,
    seed: tf.Tensor,
) -> tf.Tensor:
    """Decodes a picture and augments it as a function of `seed` alone.

    Args:
        image_bytes: scalar string.
        image_size: side of the result in pixels.
        augmentation: `none`, `crop`, or `crop_flip`.
        min_crop_area: smallest crop as a share of the picture's area.
        seed: `[2]` int64; see `augmentation_seed`.

    Returns:
        `[image_size, image_size, 3]` float32, 0 to 255.
    """
    image = decode(image_bytes)
    if augmentation == "none":
        return resize_and_crop_center(image, image_size)
    crop_seed, flip_seed = tf.unstack(
        tf.random.experimental.stateless_split(seed, 2)
    )
    begin, size, _ = tf.image.stateless_sample_distorted_bounding_box(
        tf.shape(image),
        # No objects are marked: any window of the right area will do.
        bounding_boxes=tf.constant([[[0.0, 0.0, 1.0, 1.0]]]),
        seed=crop_seed,
        min_object_covered=0.0,
        aspect_ratio_range=_CROP_ASPECT_RATIOS,
        area_range=(min_crop_area, 1.0),
        max_attempts=10,
    )
    image = _resize(tf.slice(image, begin, size), image_size)
    if augmentation == "crop_flip":
        image = tf.image.stateless_random_flip_left_right(image, flip_seed)
    return image


def augmentation_seed(
    seed: int, epoch: tf.Tensor, record_id: tf.Tensor
) -> tf.Tensor:
    """The `[2]` int64 seed of one record in one epoch.

    It depends on nothing else, so that any worker that draws the record, in
    a run that was resumed or not, sees the same crop.
    """
    record = tf.strings.to_hash_bucket_fast(record_id, 2**62)
    return tf.stack([record, tf.cast(epoch, tf.int64) + (seed << 32)])


def _resize(image: tf.Tensor, image_size: int) -> tf.Tensor:
    """`[height, width, 3]` to a float32 square, bilinear with antialiasing."""
    image = tf.image.resize(
        image, [image_size, image_size], method="bilinear", antialias=True
    )
    return tf.ensure_shape(image, [image_size, image_size, 3])


def _decode_png(image_bytes: tf.Tensor) -> tf.Tensor:
    """A PNG on a white background: `[height, width, 3]` uint8."""
    pixels = tf.io.decode_png(image_bytes, 4)
    colours, alpha = pixels[..., :3], pixels[..., 3:]

    def on_white() -> tf.Tensor:
        # At most 255 * 255 + 127, which uint16 holds.
        weight = tf.cast(alpha, tf.uint16)
        mixed = tf.cast(colours, tf.uint16) * weight + 255 * (255 - weight)
        return tf.cast((mixed + 127) // 255, tf.uint8)

    is_opaque = tf.reduce_all(alpha == 255)
    return tf.cond(is_opaque, lambda: colours, on_white)


def _header_pixels(
    header: tf.Tensor,
    offset: int,
    dtype: tf.DType,
    *,
    little_endian: bool,
) -> tf.Tensor:
    """Width times height from two neighbouring numbers of a header."""
    sides = tf.strings.substr(header, offset, 2 * dtype.size)
    sides = tf.io.decode_raw(sides, dtype, little_endian=little_endian)
    return tf.reduce_prod(tf.cast(sides, tf.int64))
