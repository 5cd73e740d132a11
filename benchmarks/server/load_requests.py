"""The requests of a load test, and the two entrances of a server.

Requests are records of TensorFlow Serving's prediction log, as warm-up files
hold them, until an entrance turns them into bytes.
"""

import base64
import http.client
import json
import pathlib
import re
import urllib.parse
from collections.abc import Callable
from collections.abc import Iterator
from collections.abc import Sequence

import grpc
import numpy as np
import tensorflow as tf
from google.protobuf import json_format
from tensorflow.core.framework import tensor_pb2
from tensorflow.core.protobuf import meta_graph_pb2
from tensorflow_serving.apis import get_model_metadata_pb2
from tensorflow_serving.apis import predict_pb2
from tensorflow_serving.apis import prediction_log_pb2
from tensorflow_serving.apis import prediction_service_pb2_grpc

from sicot_tf import client
from sicot_tf.serving.grpc_api import client_side

# So many different requests of random tensors are made.
_NUM_RANDOM = 8
_METHODS = {
    "predict_log": "Predict",
    "classify_log": "Classify",
    "regress_log": "Regress",
    "multi_inference_log": "MultiInference",
}
_CHANNEL_OPTIONS = [
    # A connection for each channel.
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.enable_retries", 0),
    ("grpc.max_receive_message_length", -1),
    ("grpc.max_send_message_length", -1),
]

# What is sent: the path of a gRPC method or of a URL, and the bytes.
Request = tuple[str, bytes]
# Sends one; "" or what went wrong, beginning with the code.
Call = Callable[[Request], str]


def read_warmup_file(
    path: pathlib.Path,
) -> Iterator[prediction_log_pb2.PredictionLog]:
    """The records of a TFRecord file, as TensorFlow Serving reads them.

    Raises:
        FileNotFoundError: if there is no such file.
        tf.errors.OpError: if it can't be read or is damaged.
    """
    if not tf.io.gfile.exists(str(path)):
        raise FileNotFoundError(f"{path}: No such file")
    for record in tf.data.TFRecordDataset(str(path)):
        yield prediction_log_pb2.PredictionLog.FromString(record.numpy())


def photo_requests(
    photos: Sequence[bytes],
    signature: meta_graph_pb2.SignatureDef,
    *,
    signature_name: str,
    batch_size: int,
) -> Iterator[prediction_log_pb2.PredictionLog]:
    """As many requests as photos, each with `batch_size` that follow it.

    Raises:
        ValueError: if the signature takes anything but one input of strings.
    """
    inputs = signature.inputs
    names = [name for name in inputs if inputs[name].dtype == tf.string]
    if len(inputs) != 1 or not names:
        raise ValueError(
            "Expected a signature with one input of strings for photos, "
            f"received {_describe_inputs(signature)}. Choose another one with "
            "--signature_name, or leave the photos away for random tensors."
        )
    for first in range(len(photos)):
        batch = [
            photos[(first + offset) % len(photos)]
            for offset in range(batch_size)
        ]
        tensor = tf.make_tensor_proto(batch, tf.string)
        yield _predict_log({names[0]: tensor}, signature_name)


def random_requests(
    signature: meta_graph_pb2.SignatureDef,
    *,
    signature_name: str,
    batch_size: int,
    shapes: dict[str, list[int]],
) -> Iterator[prediction_log_pb2.PredictionLog]:
    """Random numbers, the same ones each time, in the signature's shapes.

    Args:
        signature: with inputs of numbers or booleans.
        signature_name: goes into the requests.
        batch_size: first dimension where the signature leaves it open.
        shapes: of inputs with other open dimensions.

    Raises:
        ValueError: if an input is of strings or has open dimensions.
    """
    random = np.random.default_rng(0)
    for name in shapes:
        if name not in signature.inputs:
            raise ValueError(
                f"Expected an input of {_describe_inputs(signature)}, received "
                f"a shape for {name!r}."
            )
    for _ in range(_NUM_RANDOM):
        tensors = {}
        for name, info in sorted(signature.inputs.items()):
            shape = shapes.get(name) or _shape(name, info, batch_size)
            dtype = tf.as_dtype(info.dtype)
            if dtype == tf.string:
                raise ValueError(
                    f"Input {name!r} is of strings, which can't be made up. "
                    "Give photos or a --warmup_file."
                )
            if dtype == tf.bool or dtype.is_integer:
                # Also every uint8; small enough for most tables of numbers.
                high = 256 if dtype == tf.uint8 else 2
                values = random.integers(0, high, shape)
            else:
                values = random.uniform(0, 1, shape)
            array = np.asarray(values).astype(dtype.as_numpy_dtype)
            tensors[name] = tf.make_tensor_proto(array)
        yield _predict_log(tensors, signature_name)


def _shape(
    name: str, info: meta_graph_pb2.TensorInfo, batch_size: int
) -> list[int]:
    """The signature's shape with its first dimension filled in."""
    sizes = [dim.size for dim in info.tensor_shape.dim]
    if sizes and sizes[0] == -1:
        sizes[0] = batch_size
    if -1 in sizes or info.tensor_shape.unknown_rank:
        known = ",".join("?" if size == -1 else str(size) for size in sizes)
        raise ValueError(
            f"Input {name!r} has open dimensions ({known or 'any'}). Give its "
            f"shape, for example --shape {name}=1,224,224,3."
        )
    return sizes


def _predict_log(
    tensors: dict[str, tensor_pb2.TensorProto],
    signature_name: str,
) -> prediction_log_pb2.PredictionLog:
    request = predict_pb2.PredictRequest()
    request.model_spec.signature_name = signature_name
    for name, tensor in tensors.items():
        request.inputs[name].CopyFrom(tensor)
    return prediction_log_pb2.PredictionLog(
        predict_log=prediction_log_pb2.PredictLog(request=request)
    )


class GrpcServer:
    """A server's gRPC entrance: `host:port` or `unix:path`."""

    def __init__(self, address: str, model_name: str, timeout: float):
        client_side.check_server(address)
        self._address = address
        self._options = [*_CHANNEL_OPTIONS, client_side.proxy_option(address)]
        self._model_name = model_name
        self._timeout = timeout

    def signatures(self) -> dict[str, meta_graph_pb2.SignatureDef]:
        """The model's signatures.

        Raises:
            OSError: if the server does not give them.
        """
        request = get_model_metadata_pb2.GetModelMetadataRequest(
            metadata_field=["signature_def"]
        )
        request.model_spec.name = self._model_name
        with grpc.insecure_channel(self._address, self._options) as channel:
            stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
            try:
                response = stub.GetModelMetadata(
                    request, timeout=self._timeout, wait_for_ready=True
                )
            except grpc.RpcError as error:
                said = client.why_not(self._address) or _describe(error)
                raise OSError(said) from error
        signatures = get_model_metadata_pb2.SignatureDefMap()
        response.metadata["signature_def"].Unpack(signatures)
        return dict(signatures.signature_def)

    def encode(self, log: prediction_log_pb2.PredictionLog) -> Request:
        """The request of a log; any of the four kinds."""
        kind = log.WhichOneof("log_type")
        if kind not in _METHODS:
            raise ValueError(
                f"Expected one of {', '.join(_METHODS)}, received {kind}."
            )
        request = getattr(log, kind).request
        if kind == "multi_inference_log":
            for task in request.tasks:
                task.model_spec.name = self._model_name
        else:
            request.model_spec.name = self._model_name
        return (
            f"/tensorflow.serving.PredictionService/{_METHODS[kind]}",
            request.SerializeToString(),
        )

    def open_connection(self) -> tuple[Call, Callable[[], None]]:
        """A way to ask over a new connection, and what closes it."""
        channel = grpc.insecure_channel(self._address, self._options)
        methods = {
            # Without (de)serializers: bytes in, bytes out.
            path: channel.unary_unary(path)
            for path in (
                f"/tensorflow.serving.PredictionService/{method}"
                for method in _METHODS.values()
            )
        }

        def call(request: Request) -> str:
            path, content = request
            try:
                methods[path](content, timeout=self._timeout)
            except grpc.RpcError as error:
                return _describe(error)
            return ""

        return call, channel.close


class RestServer:
    """A server's REST entrance: `http://host:port`, or https."""

    def __init__(self, url: str, model_name: str, timeout: float):
        parts = urllib.parse.urlsplit(url)
        if not re.fullmatch(
            r"[^\s/:]+(:[0-9]+)?|\[.+\](:[0-9]+)?", parts.netloc
        ):
            raise ValueError(f"Expected http://host:port, received {url!r}.")
        self._connection = (
            http.client.HTTPSConnection
            if parts.scheme == "https"
            else http.client.HTTPConnection
        )
        self._host = parts.netloc
        name = urllib.parse.quote(model_name, safe="")
        self._path = f"{parts.path.rstrip('/')}/v1/models/{name}"
        self._timeout = timeout

    def signatures(self) -> dict[str, meta_graph_pb2.SignatureDef]:
        """The model's signatures.

        Raises:
            OSError: if the server does not give them.
        """
        connection = self._connection(self._host, timeout=self._timeout)
        try:
            connection.request("GET", f"{self._path}/metadata")
            response = connection.getresponse()
            content = response.read()
        except http.client.HTTPException as error:
            raise OSError(
                f"{error!r}: no HTTP/1. Is it the gRPC port? Then leave out "
                "http://."
            ) from error
        finally:
            connection.close()
        if response.status != 200:
            raise OSError(_describe_answer(response.status, content))
        metadata = json.loads(content)["metadata"]["signature_def"]
        metadata.pop("@type", None)
        signatures = get_model_metadata_pb2.SignatureDefMap()
        json_format.ParseDict(metadata, signatures, ignore_unknown_fields=True)
        return dict(signatures.signature_def)

    def encode(self, log: prediction_log_pb2.PredictionLog) -> Request:
        """A Predict request as columns of JSON."""
        if log.WhichOneof("log_type") != "predict_log":
            raise ValueError(
                "Expected Predict requests for a REST server, received "
                f"{log.WhichOneof('log_type')}. Give the gRPC port."
            )
        request = log.predict_log.request
        body = {
            "inputs": {
                name: _to_json(tf.make_ndarray(tensor))
                for name, tensor in request.inputs.items()
            }
        }
        if request.model_spec.signature_name:
            body["signature_name"] = request.model_spec.signature_name
        return f"{self._path}:predict", json.dumps(body).encode()

    def open_connection(self) -> tuple[Call, Callable[[], None]]:
        """A way to ask over a new connection, and what closes it."""
        connection = self._connection(self._host, timeout=self._timeout)

        def call(request: Request) -> str:
            path, content = request
            try:
                connection.request("POST", path, content)
                response = connection.getresponse()
                answer = response.read()
            except (OSError, http.client.HTTPException) as error:
                # The next request opens it again.
                connection.close()
                return repr(error)
            if response.status != 200:
                return _describe_answer(response.status, answer)
            return ""

        return call, connection.close


def connect(
    server: str, model_name: str, timeout: float
) -> GrpcServer | RestServer:
    """The entrance: REST for a URL, else gRPC; `timeout` in seconds.

    Raises:
        ValueError: if `server` is neither.
    """
    if server.startswith(("http://", "https://")):
        return RestServer(server, model_name, timeout)
    return GrpcServer(server, model_name, timeout)


def _to_json(values: np.ndarray) -> object:
    """Nested lists; strings in base64."""
    if values.dtype == object:
        encode = np.frompyfunc(
            lambda value: {"b64": base64.b64encode(value).decode()}, 1, 1
        )
        values = np.asarray(encode(values), object)
    return values.tolist()


def _describe(error: grpc.RpcError) -> str:
    """Code and first line; the lines after it name nodes of the graph."""
    return f"{error.code().name}: {error.details().partition(chr(10))[0]}"


def _describe_answer(status: int, content: bytes) -> str:
    """Status of HTTP and first line of TensorFlow Serving's error."""
    try:
        text = json.loads(content)["error"]
    except (ValueError, KeyError, TypeError):
        text = content.decode("utf-8", "replace")
    return f"{status}: {text.partition(chr(10))[0]}"


def _describe_inputs(signature: meta_graph_pb2.SignatureDef) -> str:
    return ", ".join(
        f"{name} ({tf.as_dtype(info.dtype).name})"
        for name, info in sorted(signature.inputs.items())
    )
