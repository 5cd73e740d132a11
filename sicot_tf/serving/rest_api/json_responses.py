"""Answers of the model server as the JSON text of TensorFlow Serving.

Numbers, line breaks and texts of errors are those of json_tensor.cc in
TensorFlow Serving, which prints with RapidJSON's PrettyWriter. NaN and
Infinity are written as such, which strict parsers of JSON do not take.
"""

import binascii
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any

import numpy as np
import rapidjson
from google.protobuf import json_format
from tensorflow.core.framework import tensor_pb2
from tensorflow.core.framework import types_pb2
from tensorflow_serving.apis import classification_pb2
from tensorflow_serving.apis import get_model_metadata_pb2
from tensorflow_serving.apis import get_model_status_pb2
from tensorflow_serving.apis import regression_pb2

from sicot_tf.serving.inference import tensors
from sicot_tf.serving.rest_api import json_values

_INTEGERS = (
    types_pb2.DT_INT8,
    types_pb2.DT_INT16,
    types_pb2.DT_INT32,
    types_pb2.DT_INT64,
    types_pb2.DT_UINT8,
    types_pb2.DT_UINT32,
    types_pb2.DT_UINT64,
)
# Text is kept with a character for each byte until the end: strings of a
# model need not be UTF-8, and go out as they are.
_BYTES = "latin-1"


def predictions_in_rows(
    outputs: Mapping[str, tensor_pb2.TensorProto],
) -> bytes:
    """`{"predictions": [..]}`, an element for each row of the outputs.

    Raises:
        tf.errors.InvalidArgumentError: if the outputs have no common size.
    """
    arrays = _to_arrays(outputs)
    num_rows = None
    for name, (_, array) in arrays.items():
        if not array.ndim:
            raise json_values.invalid(
                f"Tensor name: {name} has no shape information "
            )
        if num_rows not in (None, len(array)):
            raise json_values.invalid(
                f"Tensor name: {name} has inconsistent batch size: "
                f"{len(array)} expecting: {num_rows}"
            )
        num_rows = len(array)
    named = len(arrays) > 1
    columns = []
    for name, (datatype, array) in arrays.items():
        tokens = _to_tokens(name, datatype, array, array.ndim + 1 + named)
        # Lists inside a row stand in one line.
        for size in array.shape[:0:-1]:
            tokens = [f"[{', '.join(group)}]" for group in _by(tokens, size)]
        if not array.size:
            tokens = [_empty(array.shape[1:])] * num_rows
        columns.append(
            [f"\n            {_quote(name)}: {token}" for token in tokens]
            if named
            else tokens
        )
    if named:
        rows = [
            f"\n        {{{','.join(row)}\n        }}"
            for row in zip(*columns, strict=True)
        ]
        items = ",".join(rows)
    else:
        items = ", ".join(columns[0])
    end = "\n    " if items else ""
    return f'{{\n    "predictions": [{items}{end}]\n}}'.encode(_BYTES)


def outputs_in_columns(
    outputs: Mapping[str, tensor_pb2.TensorProto],
) -> bytes:
    """`{"outputs": ..}`: the value of the only output, or an object."""
    arrays = _to_arrays(outputs)
    named = len(arrays) > 1
    values = {}
    for name, (datatype, array) in arrays.items():
        level = 1 + named
        tokens = _to_tokens(name, datatype, array, level + array.ndim)
        for axis in reversed(range(array.ndim)):
            indent = "\n" + " " * 4 * (level + axis)
            tokens = [
                f"[{indent}    {f',{indent}    '.join(group)}{indent}]"
                for group in _by(tokens, array.shape[axis])
            ]
        if not array.size:
            tokens = [_empty(array.shape)]
        values[name] = tokens[0]
    if named:
        items = ",".join(
            f"\n        {_quote(name)}: {value}"
            for name, value in values.items()
        )
        text = f"{{{items}\n    }}"
    else:
        [text] = values.values()
    return f'{{\n    "outputs": {text}\n}}'.encode(_BYTES)


def classification(result: classification_pb2.ClassificationResult) -> bytes:
    """`{"results": [[["label", score], ..], ..]}`.

    Raises:
        tf.errors.InvalidArgumentError: if there is no result.
    """
    if not result.classifications:
        raise json_values.invalid(
            "Cannot convert empty ClassificationResults to JSON"
        )
    rows = []
    for row in result.classifications:
        scores = _decimals(np.float32([item.score for item in row.classes]))
        pairs = [
            f"[{_quote(item.label)}, {score}]"
            for item, score in zip(row.classes, scores, strict=True)
        ]
        rows.append(f"[{', '.join(pairs)}]")
    text = f'{{\n    "results": [{", ".join(rows)}\n    ]\n}}'
    return text.encode(_BYTES)


def regression(result: regression_pb2.RegressionResult) -> bytes:
    """`{"results": [value, ..]}`.

    Raises:
        tf.errors.InvalidArgumentError: if there is no result.
    """
    if not result.regressions:
        raise json_values.invalid(
            "Cannot convert empty RegressionResults to JSON"
        )
    values = _decimals(np.float32([item.value for item in result.regressions]))
    return f'{{\n    "results": [{", ".join(values)}]\n}}'.encode(_BYTES)


def metadata(
    response: get_model_metadata_pb2.GetModelMetadataResponse,
) -> bytes:
    """Model, version and signatures."""
    signatures = get_model_metadata_pb2.SignatureDefMap()
    response.metadata["signature_def"].Unpack(signatures)
    return (
        f'{{\n"model_spec":{_message_text(response.model_spec)},\n'
        f'"metadata": {{"signature_def": {_message_text(signatures)}}}\n}}\n'
    ).encode()


def status(response: get_model_status_pb2.GetModelStatusResponse) -> bytes:
    """State of each version."""
    return _message_text(response).encode()


def error(text: str) -> bytes:
    """`{"error": ".."}`."""
    return f'{{\n    "error": {_quote(text)}\n}}'.encode(_BYTES)


def _message_text(message: Any) -> str:
    """A message with all its fields, also those that have their default."""
    return json_format.MessageToJson(
        message,
        preserving_proto_field_name=True,
        always_print_fields_with_no_presence=True,
        indent=1,
        ensure_ascii=False,
    )


def _to_arrays(
    outputs: Mapping[str, tensor_pb2.TensorProto],
) -> dict[str, tuple[int, np.ndarray]]:
    """Element type and values by name; names in order."""
    if not outputs:
        raise json_values.invalid("Cannot convert empty tensor map to JSON")
    return {
        name: (proto.dtype, tensors.parse_tensor(name, proto))
        for name, proto in sorted(outputs.items())
    }


def _to_tokens(
    name: str, datatype: int, array: np.ndarray, level: int
) -> list[str]:
    """Each element as text; `level` is how many brackets are around it."""
    values = array.reshape(-1)
    if datatype in json_values.FLOATS:
        return _decimals(values)
    if datatype in _INTEGERS:
        return list(map(str, values.tolist()))
    if datatype == types_pb2.DT_BOOL:
        return ["true" if value else "false" for value in values.tolist()]
    if datatype == types_pb2.DT_STRING and name.endswith("_bytes"):
        indent = "\n" + " " * 4 * level
        return [
            f'{{{indent}    "b64": "'
            f'{binascii.b2a_base64(value, newline=False).decode()}"{indent}}}'
            for value in values
        ]
    if datatype == types_pb2.DT_STRING:
        return [_quote(value) for value in values]
    raise json_values.invalid(
        "Failed to write JSON value for tensor type: "
        f"{json_values.datatype_name(datatype)}"
    )


def _decimals(values: np.ndarray) -> list[str]:
    """Numbers as TensorFlow Serving writes them, always as decimals.

    Six digits if they are enough to read the same number again, else all.
    """
    tokens = ("%.6g " * len(values) % tuple(values.tolist())).split()
    read = np.array([float(token) for token in tokens], values.dtype)
    long = np.flatnonzero(read != values)
    form = "%.9g " if values.dtype == np.float32 else "%.17g "
    texts = (form * len(long) % tuple(values[long].tolist())).split()
    for i, text in zip(long.tolist(), texts, strict=True):
        tokens[i] = text
    names = {"nan": "NaN", "-nan": "NaN", "inf": "Infinity"}
    names["-inf"] = "-Infinity"
    return [
        token
        if "." in token or "e" in token
        else names.get(token) or f"{token}.0"
        for token in tokens
    ]


def _quote(text: str | bytes) -> str:
    """A JSON string; its characters are single bytes of UTF-8."""
    if type(text) is str:
        text = text.encode("utf-8", "replace")
    return rapidjson.dumps(text.decode(_BYTES), ensure_ascii=False)


def _by(tokens: list[str], size: int) -> list[Sequence[str]]:
    """Groups of `size` tokens; none if there are no tokens."""
    return [tokens[i : i + size] for i in range(0, len(tokens), size or 1)]


def _empty(shape: Sequence[int]) -> str:
    """Lists of a shape without any element."""
    text = "[]"
    for size in reversed(shape[: list(shape).index(0)] if 0 in shape else ()):
        text = f"[{', '.join([text] * size)}]"
    return text
