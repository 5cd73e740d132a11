"""Errors of the model server: TensorFlow's classes are the status codes.

`raise errors.not_found("No such model.")` spares the operation and the node
that these classes begin with and that a server hasn't.
"""

import functools

import tensorflow as tf
from tensorflow.core.protobuf import error_codes_pb2

cancelled = functools.partial(tf.errors.CancelledError, None, None)
deadline_exceeded = functools.partial(
    tf.errors.DeadlineExceededError,
    None,
    None,
    "Timed out waiting for notification",
)
failed_precondition = functools.partial(
    tf.errors.FailedPreconditionError, None, None
)
internal = functools.partial(tf.errors.InternalError, None, None)
invalid_argument = functools.partial(tf.errors.InvalidArgumentError, None, None)
not_found = functools.partial(tf.errors.NotFoundError, None, None)
resource_exhausted = functools.partial(
    tf.errors.ResourceExhaustedError, None, None
)
unavailable = functools.partial(tf.errors.UnavailableError, None, None)
unimplemented = functools.partial(tf.errors.UnimplementedError, None, None)
unknown = functools.partial(tf.errors.UnknownError, None, None)


def code_name(code: int) -> str:
    """For example `INVALID_ARGUMENT`."""
    return error_codes_pb2.Code.Name(code)
