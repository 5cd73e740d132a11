"""Encoded pictures to the squares the model sees, for training and serving.

Only core TensorFlow ops: the exported graph decodes with the same functions.
"""

import tensorflow as tf

from sicot_tf.data.decoding import bmp_decoder
from sicot_tf.data.decoding import byte_strings
from sicot_tf.data.decoding import gif_decoder
from sicot_tf.data.decoding import image_decoders
from sicot_tf.data.decoding import orientation
from sicot_tf.data.decoding import picture_files

# What people send by mistake: name, place of the mark, the mark.
_OTHER_FORMATS = (
    ("TIFF", 0, b"II*\0"),
    ("TIFF", 0, b"MM\0*"),
    ("HEIF or AVIF", 4, b"ftyp"),
    ("HEIC", 4, b"ftyphei"),
    ("AVIF", 4, b"ftypavi"),
    ("JPEG XL", 0, b"\xff\x0a"),
    ("JPEG XL", 4, b"JXL "),
    ("JPEG 2000", 4, b"jP  "),
    ("JPEG 2000", 0, b"\xff\x4f\xff\x51"),
)
# Aspect ratios of the usual random resized crop (Szegedy et al., 2015).
_CROP_ASPECT_RATIOS = (3 / 4, 4 / 3)


def decode(image_bytes: tf.Tensor) -> tf.Tensor:
    """Decodes JPEG, PNG, GIF, BMP or WebP to what a build stores of it.

    The picture is turned as its Exif data say, transparent pixels become
    white, of an animation the first frame is taken. `stored_images` does the
    same with Pillow and OpenCV.

    Args:
        image_bytes: scalar string.

    Returns:
        `[height, width, 3]` uint8.

    Raises:
        tf.errors.InvalidArgumentError: if the bytes are no such picture, or
            one of more than `image_decoders.MAX_PIXELS`.
    """
    image, turned = _decode(image_bytes)
    return tf.cond(
        turned == 1, lambda: image, lambda: orientation.turn(image, turned)
    )


def decode_stored(image_bytes: tf.Tensor) -> tf.Tensor:
    """`decode` of the JPEGs in a data set, which a build has turned.

    Args:
        image_bytes: scalar string.

    Returns:
        `[height, width, 3]` uint8.
    """
    image = tf.io.decode_image(image_bytes, 3, expand_animations=False)
    image.set_shape([None, None, 3])
    return image


def resize_and_crop_center(
    image: tf.Tensor,
    image_size: int,
    *,
    round_up: tf.Tensor | tuple[int, int] = (0, 0),
) -> tf.Tensor:
    """The largest centred square, resized with antialiasing.

    Args:
        image: `[height, width, 3]`, any numeric type.
        image_size: side of the result in pixels.
        round_up: `[2]` int32; 1 where the border above, or on the left, gets
            the larger half of an odd number of pixels.

    Returns:
        `[image_size, image_size, 3]` float32, 0 to 255.
    """
    shape = tf.shape(image)
    side = tf.minimum(shape[0], shape[1])
    top = (shape[0] - side + round_up[0]) // 2
    left = (shape[1] - side + round_up[1]) // 2
    square = tf.slice(image, [top, left, 0], [side, side, 3])
    return _resize(square, image_size)


def decode_for_inference(image_bytes: tf.Tensor, image_size: int) -> tf.Tensor:
    """What the served model sees of a picture: a square of `decode`'s.

    Args:
        image_bytes: scalar string.
        image_size: side of the result in pixels.

    Returns:
        `[image_size, image_size, 3]` float32, 0 to 255.
    """
    image, turned = _decode(image_bytes)
    return _turned_square(image, turned, image_size)


def decode_for_localization(
    image_bytes: tf.Tensor, image_size: int, whole_size: int
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """What the served model sees of a picture, and the whole of it.

    Args:
        image_bytes: scalar string.
        image_size: side of the square that `decode_for_inference` gives.
        whole_size: side of the other square in pixels.

    Returns:
        The first square; the second, `[whole_size, whole_size, 3]` float32, 0
        to 255, with the whole picture in its upper left corner, its last rows
        and columns repeated to the borders; and the shares of the second
        square's height and width that the picture fills, `[2]` float32.
    """
    image, turned = _decode(image_bytes)
    square = _turned_square(image, turned, image_size)
    return square, *_fit_whole(image, whole_size, turned)


def decode_whole(
    image_bytes: tf.Tensor, whole_size: int
) -> tuple[tf.Tensor, tf.Tensor]:
    """The last two of `decode_for_localization`: the whole of a picture."""
    image, turned = _decode(image_bytes)
    return _fit_whole(image, whole_size, turned)


def fit_whole(image: tf.Tensor, whole_size: int) -> tuple[tf.Tensor, tf.Tensor]:
    """`decode_whole` of `[height, width, 3]` pixels, as `decode` gives them."""
    return _fit_whole(image, whole_size, tf.constant(1, tf.int64))


def _fit_whole(
    image: tf.Tensor, whole_size: int, turned: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor]:
    """A square with the whole picture, turned last, and its extents."""
    shape = tf.cast(tf.shape(image)[:2], tf.float32)
    sides = tf.round(shape * (whole_size / tf.reduce_max(shape)))
    sides = tf.maximum(tf.cast(sides, tf.int32), 1)
    whole = orientation.turn(
        tf.image.resize(image, sides, method="bilinear", antialias=True), turned
    )
    sides = tf.shape(whole)[:2]
    for axis in (0, 1):
        nearest = tf.minimum(tf.range(whole_size), sides[axis] - 1)
        whole = tf.gather(whole, nearest, axis=axis)
    whole = tf.ensure_shape(whole, [whole_size, whole_size, 3])
    return whole, tf.cast(sides, tf.float32) / whole_size


def _turned_square(
    image: tf.Tensor, turned: tf.Tensor, image_size: int
) -> tf.Tensor:
    """The centred square of what `_decode` gives, as people see it."""
    # Turned last: a whole photo takes longer to turn than to decode. Of an
    # odd border the larger half stays where it is when the picture is upright.
    is_flipped = [
        tf.reduce_any(turned == axis) for axis in ((3, 4, 6, 7), (2, 3, 7, 8))
    ]
    square = resize_and_crop_center(
        image, image_size, round_up=tf.cast(is_flipped, tf.int32)
    )
    square = tf.cond(
        turned == 1, lambda: square, lambda: orientation.turn(square, turned)
    )
    return tf.ensure_shape(square, [image_size, image_size, 3])


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
        image_bytes: scalar string, a picture as a build stores it.
        image_size: side of the result in pixels.
        augmentation: `none`, `crop`, or `crop_flip`.
        min_crop_area: smallest crop as a share of the picture's area.
        seed: `[2]` int64; see `augmentation_seed`.

    Returns:
        `[image_size, image_size, 3]` float32, 0 to 255.
    """
    image = decode_stored(image_bytes)
    if augmentation == "none":
        return resize_and_crop_center(image, image_size)
    crop_seed, flip_seed = tf.unstack(
        tf.random.experimental.stateless_split(seed, 2)
    )
    begin, size, _ = tf.image.stateless_sample_distorted_bounding_box(
        tf.shape(image),
        # Without marked objects TensorFlow takes any window of the right area.
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


def _decode(image_bytes: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """`[height, width, 3]` uint8 not yet turned, and the Exif orientation."""
    # Python bytes would be a constant of the graph, traced anew each time.
    image_bytes = tf.convert_to_tensor(image_bytes, tf.string)
    is_jpeg = byte_strings.substr(image_bytes, 0, 3) == picture_files.JPEG
    # Nearly all pictures are JPEG, so they pass no other check.
    image, turned = tf.cond(
        is_jpeg,
        lambda: image_decoders.decode_jpeg(image_bytes),
        lambda: _decode_other(image_bytes),
    )
    image.set_shape([None, None, 3])
    return image, turned


@byte_strings.not_inlined
def _decode_other(image_bytes: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    head = byte_strings.read(image_bytes, 0, 12)

    def starts(prefix: bytes, place: int = 0) -> tf.Tensor:
        found = head[place : place + len(prefix)]
        return tf.reduce_all(found == list(prefix))

    formats = [
        (starts(picture_files.PNG), image_decoders.decode_png),
        (starts(b"GIF8"), gif_decoder.decode_gif),
        (starts(b"BM"), bmp_decoder.decode_bmp),
        (starts(b"RIFF") & starts(b"WEBP", 8), image_decoders.decode_webp),
        (True, _refuse),
    ]
    is_format = tf.cast([is_it for is_it, _ in formats], tf.int32)
    return tf.switch_case(
        tf.argmax(is_format, output_type=tf.int32),
        [lambda decode=decode: decode(image_bytes) for _, decode in formats],
    )


def _refuse(image_bytes: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Says what the bytes are; never gives the picture it is to return.

    TensorFlow would read JPEG XL, and take all memory that its header asks
    for: a hundred bytes hold up a server for ten seconds, or end it.
    """
    head = byte_strings.read(image_bytes, 0, 12)
    message = tf.constant(
        "Expected a JPEG, PNG, GIF, BMP or WebP picture; the bytes are none."
    )
    for name, place, prefix in _OTHER_FORMATS:
        is_it = tf.reduce_all(head[place : place + len(prefix)] == list(prefix))
        message = tf.where(
            is_it,
            f"{name} pictures are not supported; send JPEG, PNG, GIF, BMP or "
            "WebP.",
            message,
        )
    byte_strings.refuse_unless(tf.constant(False), message, image_bytes)
    return tf.zeros([0, 0, 3], tf.uint8), tf.constant(1, tf.int64)
