"""The calls of TensorFlow Serving's REST interface: a path and a body to JSON.

Paths, codes and texts of errors are those of http_rest_api_util.cc and
http_rest_api_handler.cc of TensorFlow Serving. Nothing here knows of sockets.
"""

import contextlib
import re
import time
import urllib.parse
from collections.abc import Callable
from collections.abc import Iterator

import tensorflow as tf
from tensorflow.core.protobuf import error_codes_pb2
from tensorflow_serving.apis import classification_pb2
from tensorflow_serving.apis import get_model_metadata_pb2
from tensorflow_serving.apis import get_model_status_pb2
from tensorflow_serving.apis import model_pb2
from tensorflow_serving.apis import predict_pb2
from tensorflow_serving.apis import regression_pb2

from sicot_tf.serving import server_core
from sicot_tf.serving.rest_api import json_examples
from sicot_tf.serving.rest_api import json_responses
from sicot_tf.serving.rest_api import json_tensors
from sicot_tf.serving.rest_api import json_values

_POST_PATH = re.compile(
    rb"/v1/models/([^/:]+)(?:(?:/versions/(\d+))|(?:/labels/([^/:]+)))?"
    rb":(classify|regress|predict)",
    re.IGNORECASE,
)
_GET_PATH = re.compile(
    rb"/v1/models(?:/([^/:]+))?(?:(?:/versions/(\d+))|(?:/labels/([^/:]+)))?"
    rb"(?:/(metadata))?",
    re.IGNORECASE,
)


class RestCalls:
    """Answers requests below `/v1/`; any number of threads may ask.

    Args:
        core: answers what the JSON stands for.
        max_depth: JSON nested deeper is refused.
        count: told model and code of each request that `core` does not count.
    """

    def __init__(
        self,
        core: server_core.ServerCore,
        max_depth: int = json_values.MAX_DEPTH,
        count: Callable[[str, str], object] = lambda name, code: None,
    ):
        self._core = core
        self._max_depth = max_depth
        self._count = count

    def answer(
        self, method: str, path: bytes, body: bytes, deadline: float | None
    ) -> bytes:
        """The JSON that answers a request.

        Args:
            method: of HTTP.
            path: as sent, without the query.
            body: as JSON.
            deadline: time of `time.monotonic` after which nobody waits; None
                for no such time.

        Raises:
            tf.errors.OpError: with the text of TensorFlow Serving.
        """
        if method == "POST" and (match := _POST_PATH.fullmatch(path)):
            with self._counting_errors(model_name(path)):
                model_spec = _parse_model_spec(match)
            # In capitals the path fits but no call is meant.
            if match[4] == b"predict":
                return self._predict(model_spec, body, deadline)
            if match[4] == b"classify":
                return self._classify(model_spec, body, deadline)
            if match[4] == b"regress":
                return self._regress(model_spec, body, deadline)
        with self._counting_errors(model_name(path)):
            # HTTP has no GET without HEAD; the server leaves the body out.
            if method in ("GET", "HEAD") and (
                match := _GET_PATH.fullmatch(path)
            ):
                model_spec = _parse_model_spec(match)
                if not model_spec.name:
                    raise json_values.invalid("Missing model name in request.")
                is_metadata = match[4] == b"metadata"
                answer = self._metadata if is_metadata else self._status
                content = answer(model_spec)
                self._count(model_spec.name, "OK")
                return content
            raise json_values.invalid(
                f"Malformed request: {method} {path.decode('utf-8', 'replace')}"
            )

    def _predict(
        self,
        model_spec: model_pb2.ModelSpec,
        body: bytes,
        deadline: float | None,
    ) -> bytes:
        request = predict_pb2.PredictRequest(model_spec=model_spec)
        with self._counting_errors(model_spec.name):
            document = json_values.parse(body, self._max_depth)
            in_rows = json_tensors.fill_predict_request(
                document,
                request,
                lambda key: self._input_types(model_spec, key),
            )
        # The values can be a hundred times as large as the tensors.
        del document
        response = self._core.predict(
            request,
            timeout_seconds=_seconds_left(deadline),
            entrypoint="REST",
        )
        if in_rows:
            return json_responses.predictions_in_rows(response.outputs)
        return json_responses.outputs_in_columns(response.outputs)

    def _classify(
        self,
        model_spec: model_pb2.ModelSpec,
        body: bytes,
        deadline: float | None,
    ) -> bytes:
        request = classification_pb2.ClassificationRequest(
            model_spec=model_spec
        )
        with self._counting_errors(model_spec.name):
            document = json_values.parse(body, self._max_depth)
            json_examples.fill_examples(document, request)
        response = self._core.classify(
            request,
            timeout_seconds=_seconds_left(deadline),
            entrypoint="REST",
        )
        return json_responses.classification(response.result)

    def _regress(
        self,
        model_spec: model_pb2.ModelSpec,
        body: bytes,
        deadline: float | None,
    ) -> bytes:
        request = regression_pb2.RegressionRequest(model_spec=model_spec)
        with self._counting_errors(model_spec.name):
            document = json_values.parse(body, self._max_depth)
            json_examples.fill_examples(document, request)
        response = self._core.regress(
            request,
            timeout_seconds=_seconds_left(deadline),
            entrypoint="REST",
        )
        return json_responses.regression(response.result)

    def _metadata(self, model_spec: model_pb2.ModelSpec) -> bytes:
        request = get_model_metadata_pb2.GetModelMetadataRequest(
            model_spec=model_spec, metadata_field=["signature_def"]
        )
        return json_responses.metadata(self._core.get_model_metadata(request))

    def _status(self, model_spec: model_pb2.ModelSpec) -> bytes:
        request = get_model_status_pb2.GetModelStatusRequest(
            model_spec=model_spec
        )
        return json_responses.status(self._core.get_model_status(request))

    @contextlib.contextmanager
    def _counting_errors(self, name: str) -> Iterator[None]:
        """Around what happens before `core` counts."""
        try:
            yield
        except tf.errors.OpError as error:
            self._count(name, error_codes_pb2.Code.Name(error.error_code))
            raise
        except MemoryError:
            self._count(name, "RESOURCE_EXHAUSTED")
            raise
        except Exception:
            self._count(name, "INTERNAL")
            raise

    def _input_types(
        self, model_spec: model_pb2.ModelSpec, key: str
    ) -> dict[str, int]:
        """Element types of a signature's inputs by name."""
        key = key or tf.saved_model.DEFAULT_SERVING_SIGNATURE_DEF_KEY
        with self._core.manager.use(model_spec) as servable:
            if key not in servable.signatures:
                raise json_values.invalid(
                    f'Serving signature name: "{key}" not found in signature '
                    "def"
                )
            inputs = servable.signatures[key].inputs
            return {name: info.dtype for name, info in inputs.items()}


def model_name(path: bytes) -> str:
    """The model that a path asks for; empty if it names none."""
    match = _POST_PATH.fullmatch(path) or _GET_PATH.fullmatch(path)
    return urllib.parse.unquote((match and match[1]) or b"")


def _parse_model_spec(match: re.Match[bytes]) -> model_pb2.ModelSpec:
    """Model, version and label of a path that fits."""
    model_spec = model_pb2.ModelSpec()
    name, version, label, _ = match.groups()
    if name:
        model_spec.name = urllib.parse.unquote(name)
    if version:
        # Python reads no more than 4300 digits.
        digits = version.lstrip(b"0") or b"0"
        if len(digits) > 19 or int(digits) >= 2**63:
            raise json_values.invalid(
                f"Failed to convert version: {version.decode()} to numeric."
            )
        model_spec.version.value = int(digits)
    if label:
        model_spec.version_label = urllib.parse.unquote(label)
    return model_spec


def _seconds_left(deadline: float | None) -> float | None:
    return None if deadline is None else deadline - time.monotonic()
