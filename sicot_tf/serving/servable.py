"""One version of a SavedModel, run the way TensorFlow Serving runs it.

Requests and answers are TensorFlow Serving's own messages; codes and texts
of errors are those of its predict_util.cc. Nothing here knows of gRPC.
"""

import pathlib
import re

import numpy as np
import tensorflow as tf
from google.protobuf import message
from tensorflow.core.framework import tensor_pb2
from tensorflow.core.protobuf import meta_graph_pb2

# Private, and worth it: `Session.run` turns a double into the declared float
# without a word, checks shapes by rules of its own and rewrites the texts of
# errors. setup.py pins TensorFlow to one release for it.
from tensorflow.python.client import pywrap_tf_session
from tensorflow_serving.apis import predict_pb2
from tensorflow_serving.apis import prediction_log_pb2

WARMUP_FILE = pathlib.PurePath("assets.extra", "tf_serving_warmup_requests")
_MAX_WARMUP_RECORDS = 1000
_INIT_SIGNATURE = "__saved_model_init_op"

# Fields of TensorProto that TensorFlow Serving answers with; clients in
# other languages read them without a helper library.
_VALUE_FIELDS = {
    tf.bool: "bool_val",
    tf.float32: "float_val",
    tf.float64: "double_val",
    tf.int8: "int_val",
    tf.int16: "int_val",
    tf.int32: "int_val",
    tf.int64: "int64_val",
    tf.string: "string_val",
    tf.uint8: "int_val",
    tf.uint16: "int_val",
    tf.uint32: "uint32_val",
    tf.uint64: "uint64_val",
}


def list_versions(base_path: pathlib.Path) -> dict[int, pathlib.Path]:
    """Children of `base_path` that are versions: names that are integers.

    As in TensorFlow Serving `0007` is version 7, and of two names of the same
    version the alphabetically later one counts.

    Raises:
        OSError: if the folder can't be read.
    """
    versions = {}
    for child in sorted(base_path.iterdir()):
        # What absl::SimpleAtoi accepts; int() would take 1_000 too.
        if re.fullmatch(r"\s*[+-]?[0-9]+\s*", child.name, re.ASCII):
            version = int(child.name)
            if -(2**63) <= version < 2**63:
                versions[version] = child
    return versions


class Servable:
    """A loaded version of a model; any number of threads may use it.

    Args:
        name: the model's name, repeated in answers.
        version: its version number.
        directory: the SavedModel.

    Raises:
        OSError, tf.errors.OpError: if the SavedModel can't be loaded.
    """

    def __init__(self, name: str, version: int, directory: pathlib.Path):
        self.name = name
        self.version = version
        self.directory = directory
        graph = tf.Graph()
        with graph.as_default():
            self._session = tf.compat.v1.Session(graph=graph)
            meta_graph = tf.compat.v1.saved_model.loader.load(
                self._session, [tf.saved_model.SERVING], str(directory)
            )
            # Tells the C++ session of all nodes; after it nothing is added.
            self._session._extend_graph()
        graph.finalize()
        self.signatures = dict(meta_graph.signature_def)
        # Feed and fetch addresses by tensor name, looked up once.
        self._outputs_by_name = {
            info.name: graph.get_tensor_by_name(info.name)._as_tf_output()
            for key, signature in self.signatures.items()
            if key != _INIT_SIGNATURE
            for infos in (signature.inputs, signature.outputs)
            for info in infos.values()
        }

    def predict(
        self,
        request: predict_pb2.PredictRequest,
        timeout_seconds: float | None = None,
    ) -> predict_pb2.PredictResponse:
        """Runs one signature.

        Raises:
            tf.errors.OpError: the subclass is the status code, the message
                the text of TensorFlow Serving.
        """
        key = (
            request.model_spec.signature_name
            or tf.saved_model.DEFAULT_SERVING_SIGNATURE_DEF_KEY
        )
        if key not in self.signatures or key == _INIT_SIGNATURE:
            raise tf.errors.FailedPreconditionError(
                None, None, f'Serving signature key "{key}" not found.'
            )
        signature = self.signatures[key]
        _check_input_names(signature, request)
        feeds = {
            self._outputs_by_name[info.name]: _parse_tensor(
                alias, request.inputs[alias]
            )
            for alias, info in sorted(signature.inputs.items())
        }
        aliases = _output_aliases(signature, request)
        infos = [signature.outputs[alias] for alias in aliases]
        fetches = [self._outputs_by_name[info.name] for info in infos]

        values = self._run(feeds, fetches, timeout_seconds)

        response = predict_pb2.PredictResponse()
        response.model_spec.name = request.model_spec.name
        response.model_spec.signature_name = key
        response.model_spec.version.value = self.version
        for alias, info, value in zip(aliases, infos, values, strict=True):
            response.outputs[alias].CopyFrom(_make_tensor(info.dtype, value))
        return response

    def warm_up(self) -> int:
        """Answers the requests stored with the model; returns their number.

        Raises:
            tf.errors.OpError: if one fails, or the file is no TFRecord file.
        """
        path = self.directory / WARMUP_FILE
        if not path.exists():
            return 0
        num_records = 0
        try:
            for record in tf.data.TFRecordDataset(str(path)):
                num_records += 1
                if num_records > _MAX_WARMUP_RECORDS:
                    raise tf.errors.InvalidArgumentError(
                        None,
                        None,
                        "Number of warmup records exceeds the maximum "
                        f"({_MAX_WARMUP_RECORDS}) at {path}",
                    )
                self.predict(_parse_warmup_record(record.numpy(), path))
        except tf.errors.DataLossError as error:
            raise tf.errors.DataLossError(
                None,
                None,
                f"{error.message}. Please verify your warmup data is in "
                "TFRecord format.",
            ) from error
        return num_records

    def _run(
        self,
        feeds: dict[object, np.ndarray],
        fetches: list[object],
        timeout_seconds: float | None,
    ) -> list[object]:
        """One run of the session; releases the interpreter lock."""
        options = None
        if timeout_seconds is not None:
            # 0 would mean: no limit.
            milliseconds = max(1, int(timeout_seconds * 1000))
            options = pywrap_tf_session.TF_NewBufferFromString(
                tf.compat.v1.RunOptions(
                    timeout_in_ms=milliseconds
                ).SerializeToString()
            )
        try:
            return pywrap_tf_session.TF_SessionRun_wrapper(
                self._session._session, options, feeds, fetches, [], None
            )
        finally:
            if options is not None:
                pywrap_tf_session.TF_DeleteBuffer(options)


def _check_input_names(
    signature: meta_graph_pb2.SignatureDef, request: predict_pb2.PredictRequest
) -> None:
    """Raises unless the request's inputs are exactly the signature's."""
    expected = sorted(signature.inputs)
    received = sorted(request.inputs)
    if len(received) != len(expected):
        extra = ",".join(sorted(set(received) - set(expected)))
        missing = ",".join(sorted(set(expected) - set(received)))
        raise tf.errors.InvalidArgumentError(
            None,
            None,
            f"input size does not match signature: {len(received)}!="
            f"{len(expected)} len({{{','.join(received)}}}) != "
            f"len({{{','.join(expected)}}}). Sent extra: {{{extra}}}. "
            f"Missing but required: {{{missing}}}.",
        )
    for alias in expected:
        if alias not in request.inputs:
            raise tf.errors.InvalidArgumentError(
                None,
                None,
                f"Signature input alias: {alias}(feed name: "
                f"{signature.inputs[alias].name}) not found in request and no "
                "default value provided. Inputs expected to be in the request "
                f"{{{','.join(received)}}}, or default input alias set: ",
            )


def _output_aliases(
    signature: meta_graph_pb2.SignatureDef, request: predict_pb2.PredictRequest
) -> list[str]:
    """Names of the wanted outputs; without a filter all of them."""
    aliases = []
    for alias in request.output_filter:
        if alias not in signature.outputs:
            raise tf.errors.InvalidArgumentError(
                None,
                None,
                f"output tensor alias not found in signature: {alias} Outputs "
                "expected to be in the set "
                f"{{{','.join(sorted(signature.outputs))}}}.",
            )
        if alias in aliases:
            raise tf.errors.InvalidArgumentError(
                None, None, f"duplicate output tensor alias: {alias}"
            )
        aliases.append(alias)
    return aliases or sorted(signature.outputs)


def _parse_tensor(alias: str, proto: tensor_pb2.TensorProto) -> np.ndarray:
    """The array in a TensorProto, by the C++ parser of TensorFlow.

    Unlike `tf.make_ndarray` it treats values that are too few, too many or
    out of range as TensorFlow Serving does, and reads `float_val` 25 times
    faster.
    """
    try:
        dtype = tf.as_dtype(proto.dtype)
        if dtype in (tf.resource, tf.variant):
            raise TypeError(f"{dtype} holds no values")
        return tf.io.parse_tensor(proto.SerializeToString(), dtype).numpy()
    except (tf.errors.OpError, TypeError) as error:
        raise tf.errors.InvalidArgumentError(
            None, None, f"tensor parsing error: {alias}"
        ) from error


def _make_tensor(datatype: int, value: object) -> tensor_pb2.TensorProto:
    """A TensorProto with typed values, as TensorFlow Serving answers."""
    dtype = tf.as_dtype(datatype)
    array = np.asarray(value, dtype.as_numpy_dtype)
    if dtype not in _VALUE_FIELDS:
        return tf.make_tensor_proto(array, dtype)
    proto = tensor_pb2.TensorProto(
        dtype=datatype, tensor_shape=tf.TensorShape(array.shape).as_proto()
    )
    getattr(proto, _VALUE_FIELDS[dtype]).extend(array.ravel().tolist())
    return proto


def _parse_warmup_record(
    record: bytes, path: pathlib.Path
) -> predict_pb2.PredictRequest:
    """The request in one warm-up record."""
    try:
        log = prediction_log_pb2.PredictionLog.FromString(record)
    except message.DecodeError as error:
        raise tf.errors.InvalidArgumentError(
            None, None, f"Failed to parse warmup record: {record} from {path}"
        ) from error
    kind = log.WhichOneof("log_type")
    if kind != "predict_log":
        raise tf.errors.UnimplementedError(
            None, None, f"Unsupported log_type for warmup: {kind}"
        )
    return log.predict_log.request
