"""Visual stream and classifier as one LiteRT model, float or 8-bit."""

import warnings
from collections.abc import Callable
from collections.abc import Iterator

import keras
import numpy as np
import tensorflow as tf
from tensorflow.python.framework import convert_to_constants

Scores = Callable[[tf.Tensor], dict[str, tf.Tensor]]


def make_scores(
    visual_stream: keras.Model, classifier: Callable[[tf.Tensor], tf.Tensor]
) -> Scores:
    """A function from pixels to what a phone is to answer.

    Returns:
        A function from `[batch, image_size, image_size, 3]`, 0 to 255, of any
        type, to `score` `[batch, num_classes]` float32, softmax.
    """

    def scores(image: tf.Tensor) -> dict[str, tf.Tensor]:
        pixels = tf.cast(image, tf.float32)
        features = visual_stream({"image": pixels}, training=False)
        logits = tf.cast(classifier(features), tf.float32)
        return {"score": tf.nn.softmax(logits)}

    return scores


def convert_float(scores: Scores, image_size: int) -> bytes:
    """A model of float32 weights: `image` `[1, size, size, 3]` uint8 in.

    Its one signature is `serving_default`, as is the 8-bit model's.
    """
    return _converter(scores, image_size, tf.uint8).convert()


def convert_int8(
    scores: Scores, image_size: int, pictures: np.ndarray
) -> bytes:
    """A model of 8-bit weights and activations; nothing in it is float.

    Pixels go in as they are, uint8; scores come out as float32, multiples of
    1/256.

    Args:
        pictures: `[n, image_size, image_size, 3]` uint8; the ranges of all
            activations are those that these have.
    """

    def representative() -> Iterator[list[np.ndarray]]:
        for number, picture in enumerate(pictures):
            pixels = picture.astype(np.float32)
            if not number:
                # So that the range of the input is 0 to 255 at any rate: the
                # scale is 1 then, and phones need not convert their pixels.
                pixels[0, 0], pixels[0, 1] = 0, 255
            yield [pixels[np.newaxis]]

    converter = _converter(scores, image_size, tf.float32)
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.representative_dataset = representative
    # An operation without an 8-bit form is an error, not left float.
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
    converter.inference_input_type = tf.uint8
    converter.inference_output_type = tf.float32
    with warnings.catch_warnings():
        # Warns that old ways to state the input's range were not taken.
        warnings.filterwarnings("ignore", "Statistics for quantized inputs")
        return converter.convert()


def _converter(
    scores: Scores, image_size: int, input_type: tf.DType
) -> tf.lite.TFLiteConverter:
    """Of one picture, with the weights as constants."""
    spec = tf.TensorSpec(
        [1, image_size, image_size, 3], input_type, name="image"
    )
    # Keras's variables would stay variables, which the calibration of
    # TensorFlow 2.21 can't read ("variable != nullptr").
    frozen = convert_to_constants.convert_variables_to_constants_v2(
        tf.function(scores, input_signature=[spec]).get_concrete_function()
    )
    module = tf.Module()
    module.answer = tf.function(
        lambda image: {"score": frozen(image)[0]}, input_signature=[spec]
    )
    return tf.lite.TFLiteConverter.from_concrete_functions(
        [module.answer.get_concrete_function()], module
    )
