"""What a program that asks a model server over gRPC needs, without TensorFlow.

Importing tensorflow_serving.apis would import TensorFlow: 3.5 s and 670 MB
instead of 0.1 s and 40 MB.
"""

import functools
import os
import re
import typing
from collections.abc import Sequence

from sicot_tf import protos

PREDICT = "/tensorflow.serving.PredictionService/Predict"
GET_MODEL_METADATA = "/tensorflow.serving.PredictionService/GetModelMetadata"
GET_MODEL_STATUS = "/tensorflow.serving.ModelService/GetModelStatus"
# `ModelVersionStatus.state` of a version that answers.
AVAILABLE = 30
# How gRPC writes addresses that are not host:port.
SCHEMES = ("unix", "unix-abstract", "dns", "ipv4", "ipv6", "vsock", "xds")
# TensorFlow Serving's messages, as far as they are used here.
MESSAGES = {
    "Int64Value": [("value", 1, "int64")],
    "ModelSpec": [
        ("name", 1, "string"),
        ("version", 2, "Int64Value"),
        ("signature_name", 3, "string"),
        ("version_label", 4, "string"),
    ],
    "Dim": [("size", 1, "int64")],
    "TensorShapeProto": [("dim", 2, "Dim*")],
    "TensorProto": [
        ("dtype", 1, "int32"),
        ("tensor_shape", 2, "TensorShapeProto"),
        ("tensor_content", 4, "bytes"),
        ("float_val", 5, "float*"),
        ("string_val", 8, "bytes*"),
        ("bool_val", 11, "bool*"),
    ],
    # An entry of a map is a message with a key and a value.
    "Tensor": [("key", 1, "string"), ("value", 2, "TensorProto")],
    "PredictRequest": [
        ("model_spec", 1, "ModelSpec"),
        ("inputs", 2, "Tensor*"),
        ("output_filter", 3, "string*"),
    ],
    "PredictResponse": [("outputs", 1, "Tensor*")],
    "GetModelStatusRequest": [("model_spec", 1, "ModelSpec")],
    "ModelVersionStatus": [("version", 1, "int64"), ("state", 2, "int32")],
    "GetModelStatusResponse": [
        ("model_version_status", 1, "ModelVersionStatus*")
    ],
    "GetModelMetadataRequest": [
        ("model_spec", 1, "ModelSpec"),
        ("metadata_field", 2, "string*"),
    ],
    "Any": [("type_url", 1, "string"), ("value", 2, "bytes")],
    "Metadata": [("key", 1, "string"), ("value", 2, "Any")],
    "GetModelMetadataResponse": [("metadata", 2, "Metadata*")],
    # What `Any` holds; of the signatures only the names are read.
    "Signature": [("key", 1, "string")],
    "SignatureDefMap": [("signature_def", 1, "Signature*")],
}
_DT_STRING = 7


@functools.cache
def messages() -> dict[str, type]:
    """The class of each message."""
    return protos.make_classes("sicot_tf", MESSAGES)


def predict_request(
    model_spec: typing.Any, images: Sequence[bytes]
) -> typing.Any:
    """A PredictRequest for a signature that takes `image_bytes`.

    There is no output_filter: not every model has every output.
    """
    request = messages()["PredictRequest"](model_spec=model_spec)
    tensor = request.inputs.add(key="image_bytes").value
    tensor.dtype = _DT_STRING
    tensor.tensor_shape.dim.add(size=len(images))
    tensor.string_val.extend(images)
    return request


def check_server(server: str) -> None:
    """Raises ValueError unless gRPC can reach such an address."""
    if server.partition(":")[0] in SCHEMES:
        return
    match = re.fullmatch(r"([^\s/:]+|\[[^\s/]+\]):([0-9]{1,5})", server)
    if not match or not 0 < int(match[2]) < 2**16:
        raise ValueError(
            "Expected the server's gRPC port as host:port, without http://, "
            f"or unix:path, received {server!r}. Its REST port is another one."
        )


def proxy_option(server: str) -> tuple[str, int]:
    """The channel option that says whether gRPC may ask a proxy.

    gRPC itself would send calls, even to localhost, through http_proxy, which
    is there for web pages and hardly lets gRPC through. Who means gRPC says
    grpc_proxy; no_proxy and no_grpc_proxy work as usual.
    """
    host = server.removeprefix("dns:").strip("/").rpartition(":")[0]
    is_local = host in ("localhost", "[::1]") or host.startswith("127.")
    uses_proxy = bool(os.environ.get("grpc_proxy")) and not is_local
    return "grpc.enable_http_proxy", int(uses_proxy)
