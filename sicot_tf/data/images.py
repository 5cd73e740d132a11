"""Encoded pictures to the squares the model sees, for training and serving.

Only core TensorFlow ops: the exported graph decodes with the same functions.
"""

import tensorflow as tf

from sicot_tf.data import bmp_decoder
from sicot_tf.data import byte_strings
from sicot_tf.data import gif_decoder
from sicot_tf.data import image_decoders
from sicot_tf.data import picture_files

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
    head = byte_strings.read(image_bytes, 0, 12)

    def starts(prefix: bytes, place: int = 0) -> tf.Tensor:
        found = head[place : place + len(prefix)]
        return tf.reduce_all(found == list(prefix))

    def decode_other() -> tf.Tensor:
        formats = [
            (starts(picture_files.PNG), image_decoders.decode_png),
            (starts(b"GIF8"), gif_decoder.decode_gif),
            (starts(b"BM"), bmp_decoder.decode_bmp),
            (starts(b"RIFF") & starts(b"WEBP", 8), image_decoders.decode_webp),
            (True, _refuse),
        ]
        return tf.switch_case(
            tf.argmax([is_it for is_it, _ in formats], output_type=tf.int32),
            [
                lambda decode=decode: decode(image_bytes)
                for _, decode in formats
            ],
        )

    # Nearly all are JPEG.
    image = tf.cond(
        starts(picture_files.JPEG),
        lambda: image_decoders.decode_jpeg(image_bytes),
        decode_other,
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


def _refuse(image_bytes: tf.Tensor) -> tf.Tensor:
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
    return tf.zeros([0, 0, 3], tf.uint8)
