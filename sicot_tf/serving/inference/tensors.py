"""Arrays out of TensorProtos and into them, as TensorFlow Serving does it.

Values that are too few, too many or of another size than the shape are treated
as `Tensor::FromProto` of TensorFlow treats them.
"""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf
from google.protobuf import message
from google.protobuf.internal import encoder
from tensorflow.core.framework import tensor_pb2
from tensorflow.core.framework import types_pb2

from sicot_tf.serving import errors

# A shape can promise more than was sent: the last value then stands for all
# that are missing. A few bytes must not be able to take all memory.
_MAX_REPEATED_ELEMENTS = 1 << 24

# More typed values than this are read in C++, fewer in Python: there a number
# costs 30 nanoseconds, but the call of C++ 50 microseconds.
_MAX_PYTHON_VALUES = 1000
_VALUE_FIELDS = {
    types_pb2.DT_BOOL: "bool_val",
    types_pb2.DT_DOUBLE: "double_val",
    types_pb2.DT_FLOAT: "float_val",
    types_pb2.DT_INT8: "int_val",
    types_pb2.DT_INT16: "int_val",
    types_pb2.DT_INT32: "int_val",
    types_pb2.DT_INT64: "int64_val",
    types_pb2.DT_STRING: "string_val",
    types_pb2.DT_UINT8: "int_val",
    types_pb2.DT_UINT16: "int_val",
    types_pb2.DT_UINT32: "uint32_val",
    types_pb2.DT_UINT64: "uint64_val",
}
_NUMPY_TYPES = {
    datatype: np.dtype(tf.as_dtype(datatype).as_numpy_dtype)
    for datatype in (
        types_pb2.DT_BFLOAT16,
        types_pb2.DT_COMPLEX64,
        types_pb2.DT_COMPLEX128,
        types_pb2.DT_HALF,
        *_VALUE_FIELDS,
    )
}
# Types whose `tensor_content` is the array's memory.
_PLAIN_TYPES = _NUMPY_TYPES.keys() - {types_pb2.DT_BOOL, types_pb2.DT_STRING}
# Packed numbers are written as a field of bytes is.
_PACKED_FIELDS = {
    types_pb2.DT_FLOAT: encoder.BytesEncoder(
        tensor_pb2.TensorProto.FLOAT_VAL_FIELD_NUMBER, False, False
    ),
    types_pb2.DT_DOUBLE: encoder.BytesEncoder(
        tensor_pb2.TensorProto.DOUBLE_VAL_FIELD_NUMBER, False, False
    ),
}


def parse_tensor(alias: str, proto: tensor_pb2.TensorProto) -> np.ndarray:
    """The array in `proto`; strings as `bytes` in an array of objects.

    Arrays may share the memory of `proto` and may be read-only. Raises
    tf.errors.InvalidArgumentError, which names `alias`, if the parts of `proto`
    contradict each other.
    """
    try:
        shape = _parse_shape(proto)
        size = math.prod(shape)
        # Read once: every access copies it.
        content = proto.tensor_content
        if proto.dtype in _PLAIN_TYPES and (content or not size):
            dtype = _NUMPY_TYPES[proto.dtype]
            if not size:
                return np.empty(shape, dtype)
            # Raises if the size differs from the shape's.
            return np.frombuffer(content, dtype).reshape(shape)
        if proto.dtype in _VALUE_FIELDS and not content:
            values = getattr(proto, _VALUE_FIELDS[proto.dtype])
            is_string = proto.dtype == types_pb2.DT_STRING
            if is_string or size <= _MAX_PYTHON_VALUES:
                return _parse_values(proto.dtype, values, shape)
        # All other types and forms by TensorFlow's parser in C++.
        dtype = tf.as_dtype(proto.dtype)
        if dtype in (tf.resource, tf.variant) or dtype.base_dtype != dtype:
            raise TypeError(f"{dtype} holds no values")
        parsed = tf.io.parse_tensor(proto.SerializeToString(), dtype)
        return parsed.numpy().reshape(shape)
    except (
        message.DecodeError,
        tf.errors.OpError,
        TypeError,
        ValueError,
    ) as error:
        raise errors.invalid(f"tensor parsing error: {alias}") from error


def fill_tensor(
    proto: tensor_pb2.TensorProto,
    datatype: int,
    value: object,
    *,
    as_content: bool = False,
) -> None:
    """Writes typed values into an empty `proto`, as TensorFlow Serving does.

    Args:
        proto: filled.
        datatype: element of the enumeration `DataType`.
        value: array, or what can be made one.
        as_content: bytes in `tensor_content` rather than typed values;
            strings stay typed, as no client in Python reads them otherwise.
    """
    array = np.asarray(value, tf.as_dtype(datatype).as_numpy_dtype)
    proto.dtype = datatype
    proto.tensor_shape.SetInParent()
    for size in array.shape:
        proto.tensor_shape.dim.add(size=size)
    if not array.size:
        return
    if as_content and datatype != types_pb2.DT_STRING:
        proto.tensor_content = array.tobytes()
    elif datatype in _PACKED_FIELDS:
        # On the wire the field is the array's memory: a hundredth of the time
        # that `extend` takes for a picture.
        parts = []
        _PACKED_FIELDS[datatype](parts.append, array.tobytes(), None)
        proto.MergeFromString(b"".join(parts))
    elif datatype in _VALUE_FIELDS:
        getattr(proto, _VALUE_FIELDS[datatype]).extend(array.ravel().tolist())
    elif datatype in (types_pb2.DT_HALF, types_pb2.DT_BFLOAT16):
        proto.half_val.extend(array.view(np.uint16).ravel().tolist())
    else:
        proto.CopyFrom(tf.make_tensor_proto(array, datatype))


def _parse_shape(proto: tensor_pb2.TensorProto) -> tuple[int, ...]:
    """The shape, if TensorFlow accepts it and the memory exists."""
    if proto.tensor_shape.unknown_rank:
        raise ValueError("the rank is unknown")
    shape = tuple(dim.size for dim in proto.tensor_shape.dim)
    num_elements = 1
    for size in shape:
        num_elements *= size
        if size < 0 or num_elements >= 2**63:
            raise ValueError(f"no tensor has the shape {shape}")
    if num_elements > _MAX_REPEATED_ELEMENTS and (
        num_elements > proto.ByteSize()
    ):
        raise ValueError(f"too few values for the shape {shape}")
    return shape


def _parse_values(
    datatype: int, values: Sequence[Any], shape: tuple[int, ...]
) -> np.ndarray:
    """Typed values; the last stands for all that are missing."""
    size = math.prod(shape)
    dtype = _NUMPY_TYPES[datatype]
    if len(values) == size and not dtype.hasobject:
        return np.array(values, dtype).reshape(shape)
    values = values[:size]
    array = np.full(size, b"" if dtype.hasobject else 0, dtype)
    array[: len(values)] = values
    if values:
        array[len(values) :] = values[-1]
    return array.reshape(shape)
