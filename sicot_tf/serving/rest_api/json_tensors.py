"""Tensors of a Predict request out of TensorFlow Serving's two JSON forms.

Rows are `{"instances": [..]}`, columns `{"inputs": ..}`. Lists are converted
whole; only of what does not fit the place is looked for.
"""

import itertools
from collections.abc import Callable
from collections.abc import Mapping
from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow.core.framework import types_pb2
from tensorflow_serving.apis import model_pb2
from tensorflow_serving.apis import predict_pb2

from sicot_tf.serving import errors
from sicot_tf.serving.inference import tensors
from sicot_tf.serving.rest_api import json_values

_KINDS = {
    **dict.fromkeys(json_values.FLOATS, {float, int}),
    **dict.fromkeys(json_values.INTEGERS, {int}),
    types_pb2.DT_BOOL: {bool},
    types_pb2.DT_STRING: {str, dict},
}


def fill_predict_request(
    document: dict[str, Any],
    request: predict_pb2.PredictRequest,
    get_input_types: Callable[[model_pb2.ModelSpec], Mapping[str, int]],
) -> bool:
    """Fills in signature and inputs; tells whether they came in rows.

    Args:
        document: of `json_values.parse`.
        request: filled.
        get_input_types: for example `{"x": types_pb2.DT_FLOAT}` of the
            signature that is named; what it raises goes through.

    Raises:
        tf.errors.OpError: if the document does not fit the signature.
    """
    json_values.fill_signature_name(document, request)
    types = dict(sorted(get_input_types(request.model_spec).items()))
    if not types:
        key = request.model_spec.signature_name or "DEFAULT"
        raise errors.invalid(f"Failed to get input map for signature: {key}")
    in_rows = "instances" in document
    if in_rows == ("inputs" in document):
        raise json_values.about(
            document, "Expecting one of the keys 'inputs' and 'instances'"
        )
    if in_rows:
        columns = _columns_of_rows(document["instances"], types)
    else:
        columns = _columns(document["inputs"], types)
    for name, value in columns.items():
        try:
            array = _to_array(value, types[name])
        except tf.errors.OpError as error:
            # In rows TensorFlow Serving has one code for all of them.
            kind = tf.errors.InvalidArgumentError if in_rows else type(error)
            text = f"Failed to process '{name}': {error.message}"
            raise kind(None, None, text) from None
        tensors.fill_tensor(
            request.inputs[name],
            types[name],
            array,
            as_content=types[name] != types_pb2.DT_STRING,
        )
    return in_rows


def _is_named(value: Any) -> bool:
    """Whether `value` is an object with inputs rather than base64."""
    return type(value) is dict and not json_values.is_base64(value)


def _columns_of_rows(
    rows: Any, types: Mapping[str, int]
) -> dict[str, list[Any]]:
    """For each input the list of its values in all rows."""
    if type(rows) is not list or not rows:
        raise json_values.about(
            rows, "is no list with values, as 'instances' is"
        )
    named = _is_named(rows[0])
    if not named and len(types) > 1:
        raise errors.invalid(
            "instances is a plain list, but expecting list of objects with "
            f"the keys {','.join(types)}"
        )
    for i, row in enumerate(rows):
        if _is_named(row) != named or (named and row.keys() != types.keys()):
            wanted = f"an object with the keys {','.join(types)}"
            raise json_values.about(
                row,
                f"is item {i} of 'instances': expecting "
                + (wanted if named else "a value or list"),
            )
    if not named:
        return {next(iter(types)): rows}
    return {name: [row[name] for row in rows] for name in types}


def _columns(value: Any, types: Mapping[str, int]) -> dict[str, Any]:
    """The value of each input; values of other names are not looked at."""
    if not _is_named(value):
        if len(types) > 1:
            raise errors.invalid(
                "inputs is a plain value/list, but expecting an object with "
                f"the keys {','.join(types)}"
            )
        return {next(iter(types)): value}
    for name in types:
        if name not in value:
            raise errors.invalid(
                f"Missing named input: {name} in 'inputs' object."
            )
    return {name: value[name] for name in types}


def _to_array(value: Any, datatype: int) -> np.ndarray:
    """The array that nested lists stand for.

    Raises:
        tf.errors.OpError: if it is ragged, or a value of another type.
    """
    leaves, shape = _flatten(value)
    dtype = tf.as_dtype(datatype)
    kinds = _KINDS.get(datatype)
    if kinds is None:
        raise errors.unimplemented(
            f"Conversion of JSON Value to type: {dtype.name}"
        )
    if not kinds.issuperset(map(type, leaves)):
        wrong = next(leaf for leaf in leaves if type(leaf) not in kinds)
        raise _wrong_type(wrong, dtype)
    if datatype in json_values.FLOATS:
        # As GetDouble() and a cast in json_tensor.cc: 16777217 is 16777216 for
        # float32, 1e39 is infinite.
        with np.errstate(over="ignore"):
            array = np.array(leaves, np.float64).astype(dtype.as_numpy_dtype)
    elif datatype in json_values.INTEGERS:
        least, most = json_values.INTEGERS[datatype]
        for value in (min(leaves), max(leaves)) if leaves else ():
            if not least <= value <= most:
                raise _wrong_type(value, dtype)
        wide = np.uint64 if least == 0 else np.int64
        array = np.array(leaves, wide).astype(dtype.as_numpy_dtype)
    elif datatype == types_pb2.DT_STRING:
        array = np.empty(len(leaves), object)
        array[:] = [json_values.to_bytes(leaf) for leaf in leaves]
    else:
        array = np.array(leaves, bool)
    return array.reshape(shape)


def _flatten(value: Any) -> tuple[list[Any], list[int]]:
    """What is no list, in order, and the sizes of the lists around it."""
    shape = []
    leaves = [value]
    while leaves and type(leaves[0]) is list:
        size = len(leaves[0])
        if set(map(type, leaves)) != {list} or set(map(len, leaves)) != {size}:
            wrong = next(
                leaf
                for leaf in leaves
                if type(leaf) is not list or len(leaf) != size
            )
            raise json_values.about(
                wrong,
                f"Expecting a list of {size} at level {len(shape)}, as the "
                "first one is",
            )
        shape.append(size)
        leaves = list(itertools.chain.from_iterable(leaves))
    return leaves, shape


def _wrong_type(value: Any, dtype: tf.DType) -> Exception:
    return json_values.about(value, f"is not of expected type: {dtype.name}")
