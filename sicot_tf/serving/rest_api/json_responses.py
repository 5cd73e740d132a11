"""Answers of the model server as JSON, in the forms of TensorFlow Serving.

NaN and Infinity are written as such, which strict parsers of JSON do not
take. Floats have as many digits as it takes to read the same number again.
What JSON has no form for raises `tf.errors.InvalidArgumentError`.
"""

import base64
from collections.abc import Mapping
from typing import Any

import numpy as np
import orjson
from google.protobuf import json_format
from tensorflow.core.framework import tensor_pb2
from tensorflow.core.framework import types_pb2
from tensorflow_serving.apis import classification_pb2
from tensorflow_serving.apis import get_model_metadata_pb2
from tensorflow_serving.apis import get_model_status_pb2
from tensorflow_serving.apis import regression_pb2

from sicot_tf.serving import errors
from sicot_tf.serving.inference import tensors
from sicot_tf.serving.rest_api import json_values

_NOT_FINITE = {
    "nan": orjson.Fragment(b"NaN"),
    "inf": orjson.Fragment(b"Infinity"),
    "-inf": orjson.Fragment(b"-Infinity"),
}


def predictions_in_rows(
    outputs: Mapping[str, tensor_pb2.TensorProto],
) -> bytes:
    """`{"predictions": [..]}`, an element for each row of the outputs."""
    values = _to_values(outputs)
    num_rows = set()
    for name, proto in outputs.items():
        if not proto.tensor_shape.dim:
            raise errors.invalid(f"Output {name} is a scalar: it has no rows")
        num_rows.add(proto.tensor_shape.dim[0].size)
    if len(num_rows) > 1:
        raise errors.invalid(
            f"Tensors {', '.join(values)} have inconsistent batch sizes: "
            f"{sorted(num_rows)}"
        )
    if len(values) == 1:
        [rows] = values.values()
    else:
        rows = [
            dict(zip(values, row, strict=True))
            for row in zip(*values.values(), strict=True)
        ]
    return _dump({"predictions": rows})


def outputs_in_columns(
    outputs: Mapping[str, tensor_pb2.TensorProto],
) -> bytes:
    """`{"outputs": ..}`: the value of the only output, or an object."""
    values = _to_values(outputs)
    if len(values) == 1:
        [values] = values.values()
    return _dump({"outputs": values})


def classification(result: classification_pb2.ClassificationResult) -> bytes:
    """`{"results": [[["label", score], ..], ..]}`."""
    if not result.classifications:
        raise errors.invalid(
            "Cannot convert empty ClassificationResults to JSON"
        )
    rows = []
    for row in result.classifications:
        scores = _floats(np.float32([item.score for item in row.classes]))
        labels = [item.label for item in row.classes]
        rows.append(list(zip(labels, scores, strict=True)))
    return _dump({"results": rows})


def regression(result: regression_pb2.RegressionResult) -> bytes:
    """`{"results": [value, ..]}`."""
    if not result.regressions:
        raise errors.invalid("Cannot convert empty RegressionResults to JSON")
    values = np.float32([item.value for item in result.regressions])
    return _dump({"results": _floats(values)})


def metadata(
    response: get_model_metadata_pb2.GetModelMetadataResponse,
) -> bytes:
    """Model, version and signatures."""
    signatures = get_model_metadata_pb2.SignatureDefMap()
    response.metadata["signature_def"].Unpack(signatures)
    document = {
        "model_spec": _message(response.model_spec),
        "metadata": {"signature_def": _message(signatures)},
    }
    return _dump(document, orjson.OPT_INDENT_2)


def status(response: get_model_status_pb2.GetModelStatusResponse) -> bytes:
    """State of each version."""
    return _dump(_message(response), orjson.OPT_INDENT_2)


def error(text: str) -> bytes:
    """`{"error": ".."}`."""
    return _dump({"error": text.encode("utf-8", "replace").decode()})


def _dump(document: Any, options: int = 0) -> bytes:
    return orjson.dumps(document, option=options | orjson.OPT_SERIALIZE_NUMPY)


def _message(message: Any) -> dict[str, Any]:
    """A message with all its fields, also those that have their default."""
    return json_format.MessageToDict(
        message,
        preserving_proto_field_name=True,
        always_print_fields_with_no_presence=True,
    )


def _to_values(outputs: Mapping[str, tensor_pb2.TensorProto]) -> dict[str, Any]:
    """What orjson writes, by name; names in order."""
    if not outputs:
        raise errors.invalid("Cannot convert empty tensor map to JSON")
    return {
        name: _to_value(name, proto) for name, proto in sorted(outputs.items())
    }


def _to_value(name: str, proto: tensor_pb2.TensorProto) -> Any:
    array = tensors.parse_tensor(name, proto)
    if proto.dtype in json_values.FLOATS:
        return _floats(array)
    if proto.dtype == types_pb2.DT_STRING:
        if name.endswith("_bytes"):
            return _map(_as_base64, array)
        return _map(lambda value: value.decode("utf-8", "replace"), array)
    if proto.dtype in (*json_values.INTEGERS, types_pb2.DT_BOOL):
        return array if array.ndim else array[()]
    raise errors.invalid(
        "Failed to write JSON value for tensor type: "
        f"{types_pb2.DataType.Name(proto.dtype)}"
    )


def _floats(array: np.ndarray) -> Any:
    """Of NaN orjson itself makes null."""
    if not np.isfinite(array).all():
        return _map(lambda value: _NOT_FINITE.get(str(value), value), array)
    return array if array.ndim else array[()]


def _map(function: Any, array: np.ndarray) -> Any:
    """Nested lists of what `function` makes of each element."""
    values = np.empty(array.shape, object)
    values.reshape(-1)[:] = [function(value) for value in array.reshape(-1)]
    return values.tolist()


def _as_base64(value: bytes) -> dict[str, str]:
    return {"b64": base64.b64encode(value).decode()}
