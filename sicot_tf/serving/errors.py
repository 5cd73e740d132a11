"""What a caller is told, as errors of TensorFlow, whose codes are gRPC's."""

import tensorflow as tf


def invalid(text: str) -> tf.errors.InvalidArgumentError:
    """The caller's request, flag or file is wrong."""
    return tf.errors.InvalidArgumentError(None, None, text)
