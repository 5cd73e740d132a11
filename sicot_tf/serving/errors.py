"""What a caller is told, as errors of TensorFlow, whose codes are gRPC's.

`errors.invalid("...")` spares the operation and the node that TensorFlow's
classes begin with, and that a server hasn't.
"""

import functools

import tensorflow as tf
from tensorflow.core.protobuf import error_codes_pb2


def _of(error_class: type[tf.errors.OpError]) -> functools.partial:
    return functools.partial(error_class, None, None)


cancelled = _of(tf.errors.CancelledError)
data_loss = _of(tf.errors.DataLossError)
failed_precondition = _of(tf.errors.FailedPreconditionError)
internal = _of(tf.errors.InternalError)
# The caller's request, flag or file is wrong.
invalid = _of(tf.errors.InvalidArgumentError)
not_found = _of(tf.errors.NotFoundError)
resource_exhausted = _of(tf.errors.ResourceExhaustedError)
unavailable = _of(tf.errors.UnavailableError)
unimplemented = _of(tf.errors.UnimplementedError)
# The caller's time is over.
timed_out = functools.partial(
    _of(tf.errors.DeadlineExceededError), "Timed out waiting for notification"
)
unknown = _of(tf.errors.UnknownError)


def code_name(code: int) -> str:
    """For example `INVALID_ARGUMENT`."""
    return error_codes_pb2.Code.Name(code)
