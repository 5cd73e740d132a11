"""Tensors of a Predict request out of TensorFlow Serving's two JSON forms.

Rows are `{"instances": [..]}`, columns `{"inputs": ..}`. What is good is
converted by whole lists; what is not is searched a second time, value by
value, for the error that json_tensor.cc of TensorFlow Serving reports.
"""

import itertools
import math
from collections.abc import Callable
from collections.abc import Mapping
from typing import Any
from typing import NoReturn

import numpy as np
import tensorflow as tf
from tensorflow.core.framework import types_pb2
from tensorflow_serving.apis import predict_pb2

from sicot_tf.serving.inference import tensors
from sicot_tf.serving.rest_api import json_values

# Range of the literals. As in TensorFlow Serving the narrow types take any
# int32, of which TensorFlow keeps the low bits.
_INT32 = (-(2**31), 2**31 - 1)
_INTEGERS = {
    types_pb2.DT_INT8: _INT32,
    types_pb2.DT_INT16: _INT32,
    types_pb2.DT_INT32: _INT32,
    types_pb2.DT_UINT8: _INT32,
    types_pb2.DT_INT64: (-(2**63), 2**63 - 1),
    types_pb2.DT_UINT32: (0, 2**32 - 1),
    types_pb2.DT_UINT64: (0, 2**64 - 1),
}

# Element types of a signature's inputs by name; given the signature's name.
GetInputTypes = Callable[[str], Mapping[str, int]]


def fill_predict_request(
    document: dict[str, Any],
    request: predict_pb2.PredictRequest,
    get_input_types: GetInputTypes,
) -> bool:
    """Fills in signature and inputs; tells whether they came in rows.

    Args:
        document: of `json_values.parse`.
        request: filled.
        get_input_types: for example `{"x": types_pb2.DT_FLOAT}` of a
            signature; what it raises goes through.

    Raises:
        tf.errors.OpError: if the document does not fit the signature.
    """
    json_values.fill_signature_name(document, request)
    key = request.model_spec.signature_name
    types = dict(sorted(get_input_types(key).items()))
    if not types:
        raise json_values.invalid(
            f"Failed to get input map for signature: {key or 'DEFAULT'}"
        )
    in_rows = "instances" in document
    if in_rows:
        instances = _checked_instances(document)
        columns = _columns_of_rows(instances, types)
    elif "inputs" in document:
        columns = _columns(document["inputs"], types)
    else:
        raise json_values.invalid("Missing 'inputs' or 'instances' key")
    for name, value in columns.items():
        try:
            array = _to_array(value, types[name])
        except json_values.DoesNotFit:
            if in_rows:
                _raise_error_of_rows(instances, types)
            _raise_error(value, _shape(value), types[name], 0)
            raise
        tensors.fill_tensor(
            request.inputs[name],
            types[name],
            array,
            as_content=types[name] != types_pb2.DT_STRING,
        )
    return in_rows


def _checked_instances(document: dict[str, Any]) -> list[Any]:
    """The rows, of which there is at least one."""
    if "inputs" in document:
        raise json_values.format_error(
            document,
            "Not formatted correctly expecting only one of 'inputs' or "
            "'instances' keys to exist ",
        )
    if type(document["instances"]) is not list:
        raise json_values.format_error(
            document, "Excepting 'instances' to be an list/array"
        )
    if not document["instances"]:
        raise json_values.format_error(
            document, "No values in 'instances' array"
        )
    return document["instances"]


def _is_named(value: Any) -> bool:
    """Whether `value` is an object with inputs rather than base64."""
    return type(value) is dict and not json_values.is_base64(value)


def _columns_of_rows(
    instances: list[Any], types: Mapping[str, int]
) -> dict[str, list[Any]]:
    """For each input the list of its values in all rows."""
    if type(instances[0]) is not dict and len(types) > 1:
        raise json_values.invalid(
            "instances is a plain list, but expecting list of objects as "
            "multiple input tensors required as per tensorinfo_map"
        )
    if not _is_named(instances[0]):
        if any(map(_is_named, instances)):
            _raise_error_of_rows(instances, types)
        return {next(iter(types)): instances}
    if not all(
        _is_named(row) and row.keys() == types.keys() for row in instances
    ):
        _raise_error_of_rows(instances, types)
    return {name: [row[name] for row in instances] for name in types}


def _columns(value: Any, types: Mapping[str, int]) -> dict[str, Any]:
    """The value of each input; values of other names are not looked at."""
    if not _is_named(value):
        if len(types) > 1:
            raise json_values.invalid(
                "inputs is a plain value/list, but expecting an object as "
                "multiple input tensors required as per tensorinfo_map"
            )
        return {next(iter(types)): value}
    for name in types:
        if name not in value:
            raise json_values.invalid(
                f"Missing named input: {name} in 'inputs' object."
            )
    return {name: value[name] for name in types}


def _to_array(value: Any, datatype: int) -> np.ndarray:
    """The array that nested lists stand for.

    Raises:
        json_values.DoesNotFit: if it is ragged, or a value of another type.
    """
    shape = []
    leaves = [value]
    while leaves and type(leaves[0]) is list:
        shape.append(len(leaves[0]))
        if set(map(type, leaves)) != {list} or len(set(map(len, leaves))) > 1:
            raise json_values.DoesNotFit
        leaves = list(itertools.chain.from_iterable(leaves))
    dtype = tf.as_dtype(datatype).as_numpy_dtype
    kinds = set(map(type, leaves))
    if not leaves:
        array = np.empty(0, dtype)
    elif datatype in json_values.FLOATS and kinds <= {float, int}:
        # As GetDouble() and a cast in json_tensor.cc: 16777217 is 16777216 for
        # float32, 1e39 is infinite. What no double holds (1e400, 400 digits)
        # RapidJSON has refused before.
        with np.errstate(over="ignore"):
            array = np.array(leaves, np.float64).astype(dtype)
    elif datatype in _INTEGERS and kinds == {int}:
        least, most = _INTEGERS[datatype]
        if min(leaves) < least or max(leaves) > most:
            raise json_values.DoesNotFit
        wide = np.uint64 if least == 0 else np.int64
        array = np.array(leaves, wide).astype(dtype)
    elif datatype == types_pb2.DT_BOOL and kinds == {bool}:
        array = np.array(leaves, bool)
    elif datatype == types_pb2.DT_STRING and kinds <= {str, dict}:
        array = np.empty(len(leaves), object)
        array[:] = [json_values.to_bytes(leaf) for leaf in leaves]
    else:
        raise json_values.DoesNotFit
    return array.reshape(shape)


def _raise_error_of_rows(
    instances: list[Any], types: Mapping[str, int]
) -> None:
    """Raises for the first part of `instances` that does not fit."""
    named = _is_named(instances[0])
    shapes = {}
    for i, row in enumerate(instances):
        if _is_named(row) != named:
            raise json_values.invalid(
                f"Expecting object but got list at item {i} of input list"
                if named
                else f"Expecting value/list but got object at item {i} of "
                "input list"
            )
        items = row.items() if named else [(next(iter(types)), row)]
        for name, value in items:
            try:
                _raise_error_of_instance(name, value, types, shapes)
            except tf.errors.UnimplementedError as error:
                _raise_wrapped(i, named, name, "UNIMPLEMENTED", error)
            except tf.errors.InvalidArgumentError as error:
                _raise_wrapped(i, named, name, "INVALID_ARGUMENT", error)
        if named and row.keys() != types.keys():
            raise json_values.invalid(
                f"Failed to process element: {i} of 'instances' list. JSON "
                f"object: {json_values.to_text(row)} keys must be equal to: "
                f"{','.join(types)}"
            )


def _raise_wrapped(
    i: int, named: bool, name: str, code: str, error: tf.errors.OpError
) -> NoReturn:
    key = f" key: {name}" if named else ""
    raise json_values.invalid(
        f"Failed to process element: {i}{key} of 'instances' list. "
        f"Error: {code}: {error.message}"
    ) from None


def _raise_error_of_instance(
    name: str,
    value: Any,
    types: Mapping[str, int],
    shapes: dict[str, list[int]],
) -> None:
    """Raises if an input of a row does not fit itself or the rows before."""
    if name not in types:
        raise json_values.invalid(
            f"JSON object: does not have named input: {name}"
        )
    shape = _shape(value)
    _raise_error(value, shape, types[name], 0)
    expected = shapes.setdefault(name, shape)
    if math.prod(shape) != math.prod(expected):
        raise json_values.invalid(
            f"Expecting tensor size: {math.prod(expected)} but got: "
            f"{math.prod(shape)}"
        )
    if shape != expected:
        raise json_values.invalid(
            f"Expecting shape [{','.join(map(str, expected))}] but got: "
            f"[{','.join(map(str, shape))}]"
        )


def _shape(value: Any) -> list[int]:
    """Sizes along the first elements, which all others must have too."""
    shape = []
    while type(value) is list:
        shape.append(len(value))
        value = value[0] if value else None
    return shape


def _raise_error(
    value: Any, shape: list[int], datatype: int, level: int
) -> None:
    """Raises for the first part of `value` that does not fit.

    Calls itself for each level, of which `json_values.parse` allows a few.
    """
    if type(value) is list:
        if level >= len(shape):
            raise json_values.invalid(
                f"Encountered list at unexpected level: {level} expected < "
                f"{len(shape)}"
            )
        if len(value) != shape[level]:
            raise json_values.invalid(
                f"Encountered list at unexpected size: {len(value)} at level: "
                f"{level} expected size: {shape[level]}"
            )
        for element in value:
            _raise_error(element, shape, datatype, level + 1)
    elif level != len(shape):
        raise json_values.format_error(
            value,
            f"found at incorrect level: {level + 1} in the JSON DOM. "
            f"Expected at level: {len(shape)}",
        )
    elif datatype == types_pb2.DT_STRING and type(value) is dict:
        if not json_values.is_base64(value):
            raise json_values.format_error(
                value, "not formatted correctly for base64 data"
            )
        try:
            json_values.to_bytes(value)
        except json_values.DoesNotFit:
            raise json_values.invalid("Unable to base64 decode") from None
    elif not _has_type(value, datatype):
        raise json_values.format_error(
            value,
            f"Type: {json_values.type_text(value)} is not of expected type: "
            f"{json_values.datatype_name(datatype)}",
        )


def _has_type(value: Any, datatype: int) -> bool:
    """Whether a value that is no list may be an element of a tensor.

    Raises:
        tf.errors.OpError: if it is of the type but can't be converted.
    """
    kind = type(value)
    if datatype in json_values.FLOATS:
        return kind in (int, float)
    if datatype in _INTEGERS:
        least, most = _INTEGERS[datatype]
        return kind is int and least <= value <= most
    if datatype == types_pb2.DT_BOOL:
        return kind is bool
    if datatype == types_pb2.DT_STRING:
        return kind is str
    if kind is dict:
        return False
    raise tf.errors.UnimplementedError(
        None,
        None,
        f"Conversion of JSON Value: {json_values.to_text(value)} to type: "
        f"{json_values.datatype_name(datatype)}",
    )
