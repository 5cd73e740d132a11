"""The calls of TensorFlow Serving's REST interface: a path and a body to JSON.

Paths and codes are those of http_rest_api_util.cc and http_rest_api_handler.cc
of TensorFlow Serving. Nothing here knows of sockets.
"""

import contextlib
import re
import time
import urllib.parse
from collections.abc import Callable
from collections.abc import Iterator
from typing import Any

import tensorflow as tf
from tensorflow_serving.apis import classification_pb2
from tensorflow_serving.apis import get_model_metadata_pb2
from tensorflow_serving.apis import get_model_status_pb2
from tensorflow_serving.apis import model_pb2
from tensorflow_serving.apis import predict_pb2
from tensorflow_serving.apis import regression_pb2

from sicot_tf.serving import errors
from sicot_tf.serving import server_core
from sicot_tf.serving.rest_api import json_examples
from sicot_tf.serving.rest_api import json_responses
from sicot_tf.serving.rest_api import json_tensors
from sicot_tf.serving.rest_api import json_values

_VERSION = rb"(?:(?:/versions/(\d+))|(?:/labels/([^/:]+)))?"
_POST_PATH = re.compile(
    rb"/v1/models/([^/:]+)" + _VERSION + rb":(classify|regress|predict)",
    re.IGNORECASE,
)
_GET_PATH = re.compile(
    rb"/v1/models(?:/([^/:]+))?" + _VERSION + rb"(?:/(metadata))?",
    re.IGNORECASE,
)
_REQUESTS = {
    "predict": predict_pb2.PredictRequest,
    "classify": classification_pb2.ClassificationRequest,
    "regress": regression_pb2.RegressionRequest,
}


class RestCalls:
    """Answers requests below `/v1/`; any number of threads may ask.

    Args:
        core: answers what the JSON stands for.
        count: told model and code of each request that `core` does not count.
    """

    def __init__(
        self, core: server_core.ServerCore, count: Callable[[str, str], object]
    ):
        self._core = core
        self._count = count

    def answer(
        self, method: str, path: bytes, body: bytes, deadline: float | None
    ) -> bytes:
        """The JSON that answers a request; raises `tf.errors.OpError`.

        Args:
            method: of HTTP.
            path: as sent, without the query.
            body: as JSON.
            deadline: of `time.monotonic`; nobody waits longer; None: for ever.
        """
        with self.counting_errors(path):
            call, model_spec = _parse_path(method, path)
            if method != "POST":
                content = self._get(model_spec, call)
                self._count(model_spec.name, "OK")
                return content
            request = _REQUESTS[call](model_spec=model_spec)
            in_rows = self._fill(request, body)
        seconds = None if deadline is None else deadline - time.monotonic()
        response = getattr(self._core, call)(
            request, timeout_seconds=seconds, entrypoint="REST"
        )
        if call == "classify":
            return json_responses.classification(response.result)
        if call == "regress":
            return json_responses.regression(response.result)
        if in_rows:
            return json_responses.predictions_in_rows(response.outputs)
        return json_responses.outputs_in_columns(response.outputs)

    def _fill(self, request: Any, body: bytes) -> bool:
        """Fills in what the body says; tells whether it came in rows."""
        # The values can be a hundred times as large as the tensors: no name
        # keeps them.
        if isinstance(request, predict_pb2.PredictRequest):
            return json_tensors.fill_predict_request(
                json_values.parse(body), request, self._input_types
            )
        json_examples.fill_examples(json_values.parse(body), request)
        return False

    def _get(self, model_spec: model_pb2.ModelSpec, call: str) -> bytes:
        if call == "metadata":
            request = get_model_metadata_pb2.GetModelMetadataRequest(
                model_spec=model_spec, metadata_field=["signature_def"]
            )
            answer = self._core.get_model_metadata(request)
            return json_responses.metadata(answer)
        request = get_model_status_pb2.GetModelStatusRequest(
            model_spec=model_spec
        )
        return json_responses.status(self._core.get_model_status(request))

    @contextlib.contextmanager
    def counting_errors(self, path: bytes) -> Iterator[None]:
        """Around what happens before `core` counts."""
        try:
            yield
        except Exception as error:
            code = "INTERNAL"
            if isinstance(error, tf.errors.OpError):
                code = errors.code_name(error.error_code)
            elif isinstance(error, MemoryError):
                code = "RESOURCE_EXHAUSTED"
            self._count(model_name(path), code)
            raise

    def _input_types(self, model_spec: model_pb2.ModelSpec) -> dict[str, int]:
        """Element types of a signature's inputs by name."""
        key = (
            model_spec.signature_name
            or tf.saved_model.DEFAULT_SERVING_SIGNATURE_DEF_KEY
        )
        with self._core.manager.use(model_spec) as servable:
            if key not in servable.signatures:
                raise errors.invalid(
                    f'Serving signature name: "{key}" not found in signature '
                    "def"
                )
            inputs = servable.signatures[key].inputs
            return {name: info.dtype for name, info in inputs.items()}


def model_name(path: bytes) -> str:
    """The model that a path asks for; empty if it names none."""
    match = _POST_PATH.fullmatch(path) or _GET_PATH.fullmatch(path)
    return urllib.parse.unquote((match and match[1]) or b"")


def _parse_path(method: str, path: bytes) -> tuple[str, model_pb2.ModelSpec]:
    """The call ("" for the status); and model, version and label."""
    # HTTP has no GET without HEAD; the server leaves the body out.
    paths = {"POST": _POST_PATH, "GET": _GET_PATH, "HEAD": _GET_PATH}
    match = paths[method].fullmatch(path) if method in paths else None
    call = ((match and match[4]) or b"").decode()
    # In capitals a path fits, but no call is meant.
    if match is None or (method == "POST" and call not in _REQUESTS):
        text = path.decode("utf-8", "replace")
        raise errors.invalid(f"Malformed request: {method} {text}")
    name, version, label, _ = match.groups()
    if not name:
        raise errors.invalid("Missing model name in request.")
    model_spec = model_pb2.ModelSpec(name=urllib.parse.unquote(name))
    if version:
        # Python reads no more than 4300 digits.
        digits = version.lstrip(b"0") or b"0"
        if len(digits) > 19 or int(digits) >= 2**63:
            raise errors.invalid(
                f"Failed to convert version: {version.decode()} to numeric."
            )
        model_spec.version.value = int(digits)
    if label:
        model_spec.version_label = urllib.parse.unquote(label)
    return call, model_spec
