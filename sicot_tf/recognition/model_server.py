"""Asks a model server, asynchronously: TensorFlow Serving or our own.

gRPC alone, no TensorFlow. Every call names the version of the model, so that
all answers of a request come from the same one.
"""

import asyncio
import dataclasses
import functools
import json
import logging
import re
from collections.abc import Sequence
from typing import Any

import grpc
import grpc.aio
import numpy as np

from sicot_tf.serving.grpc_api import client_side

_log = logging.getLogger(__name__)
_RECOGNITION, _LOCALIZATION = "recognition", "localization"
# Of the branch that was trained for search, where an export has one.
SEARCH = "search"
# Of exports before there was `recognition`.
_OLD_RECOGNITION, _EMBEDDING = "serving_default", "embedding"
_DTYPES = {1: np.float32, 10: np.bool_}
# Predict changes nothing, so it can be asked again within its time.
_SERVICE_CONFIG = {
    "loadBalancingConfig": [{"round_robin": {}}],
    "methodConfig": [
        {
            "name": [{}],
            "retryPolicy": {
                "maxAttempts": 3,
                "initialBackoff": "0.05s",
                "maxBackoff": "0.5s",
                "backoffMultiplier": 2,
                # A server that stops cancels calls
                # (https://github.com/grpc/grpc/issues/41785).
                "retryableStatusCodes": ["UNAVAILABLE", "CANCELLED"],
            },
        }
    ],
}
_CODES = {
    grpc.StatusCode.INVALID_ARGUMENT: 422,
    grpc.StatusCode.DEADLINE_EXCEEDED: 504,
    grpc.StatusCode.INTERNAL: 502,
    grpc.StatusCode.UNKNOWN: 502,
}


class ModelServerError(RuntimeError):
    """The model server gave no answer.

    Attributes:
        status: code of HTTP that tells it: 422 if the photo is to blame, 502,
            503 or 504 if it is the server.
        details: what the server says, for the log.
    """

    def __init__(self, status: int, sentence: str, details: str = ""):
        super().__init__(sentence)
        self.status = status
        self.details = details


@dataclasses.dataclass(frozen=True)
class Recognition:
    """What the model says of one picture.

    Attributes:
        sku_ids: `[k]`, best first.
        scores: `[k]`, calibrated probabilities.
        recognised: whether the best score reaches the model's threshold.
        embedding: `[dim]` float32, or None.
        words: words that the model sees, with their probabilities.
    """

    sku_ids: list[str]
    scores: list[float]
    recognised: bool
    embedding: np.ndarray | None
    words: list[tuple[str, float]]


@dataclasses.dataclass(frozen=True)
class Embedded:
    """What is looked for of one picture.

    Attributes:
        vector: `[dim]` float32 of length 1.
        box: x_min, y_min, x_max, y_max in shares of the picture, which the
            model looked at.
    """

    vector: np.ndarray
    box: tuple[float, float, float, float]


class ModelServer:
    """One connection to a model server, for all requests of a process."""

    def __init__(self, address: str, *, timeout: float = 10.0):
        """Connects in the background; needs a running event loop.

        Args:
            address: `host:port` or `unix:path`.
            timeout: seconds for a call, with all its attempts.

        Raises:
            ValueError: if it is no such address.
        """
        client_side.check_server(address)
        self.address = address
        self._timeout = timeout
        self._channel = grpc.aio.insecure_channel(
            address,
            [
                client_side.proxy_option(address),
                # A server that starts again is found soon.
                ("grpc.initial_reconnect_backoff_ms", 200),
                ("grpc.max_reconnect_backoff_ms", 1000),
                ("grpc.service_config", json.dumps(_SERVICE_CONFIG)),
                ("grpc.per_rpc_retry_buffer_size", 2**31 - 1),
                ("grpc.max_receive_message_length", -1),
                ("grpc.max_send_message_length", -1),
            ],
        )
        self._signatures: dict[tuple[str, int], frozenset[str]] = {}

    async def close(self) -> None:
        """Ends the connection."""
        await self._channel.close()

    async def versions(self, model_name: str) -> set[int]:
        """Versions that answer now; none if the server has no such model.

        Raises:
            ModelServerError: if it can't be asked.
        """
        request = self._message("GetModelStatusRequest")
        request.model_spec.name = model_name
        try:
            response = await self._call(
                client_side.GET_MODEL_STATUS,
                request,
                "GetModelStatusResponse",
            )
        except ModelServerError as error:
            if getattr(error.__cause__, "code", lambda: None)() == (
                grpc.StatusCode.NOT_FOUND
            ):
                return set()
            raise
        return {
            each.version
            for each in response.model_version_status
            if each.state == client_side.AVAILABLE
        }

    async def signatures(self, model_name: str, version: int) -> frozenset[str]:
        """Names of a version's signatures; asked once.

        Raises:
            ModelServerError: if it can't be asked.
        """
        key = model_name, version
        if key not in self._signatures:
            request = self._message("GetModelMetadataRequest")
            request.model_spec.CopyFrom(self._model_spec(*key, ""))
            request.metadata_field.append("signature_def")
            response = await self._call(
                client_side.GET_MODEL_METADATA,
                request,
                "GetModelMetadataResponse",
            )
            [metadata] = response.metadata
            found = client_side.messages()["SignatureDefMap"].FromString(
                metadata.value.value
            )
            names = frozenset(each.key for each in found.signature_def)
            self._signatures[key] = names
            for missing, instead in (
                (_RECOGNITION, f"{_OLD_RECOGNITION} and {_EMBEDDING}"),
                (_LOCALIZATION, "the whole photo"),
            ):
                if missing not in names:
                    _log.warning(
                        "Version %d of %s has no signature %s: %s instead. "
                        "Export it again.",
                        *(version, model_name, missing, instead),
                    )
        return self._signatures[key]

    async def recognise(
        self, model_name: str, version: int, pictures: Sequence[bytes]
    ) -> list[Recognition]:
        """What the model says of each picture, in one call.

        Raises:
            ModelServerError: if there is no answer; one bad picture fails all.
        """
        names = await self.signatures(model_name, version)
        ask = functools.partial(self._predict, model_name, version)
        if _RECOGNITION in names:
            outputs = await ask(_RECOGNITION, pictures)
        else:
            signatures = [_OLD_RECOGNITION]
            signatures += [_EMBEDDING] * (_EMBEDDING in names)
            answers = await asyncio.gather(
                *(ask(signature, pictures) for signature in signatures)
            )
            outputs = {
                name: value for each in answers for name, value in each.items()
            }
        return _to_recognitions(outputs, len(pictures))

    async def localise(
        self, model_name: str, version: int, picture: bytes
    ) -> np.ndarray | None:
        """`[h, w]` float32 heat map; None if the model can't tell.

        Raises:
            ModelServerError: if there is no answer.
        """
        if _LOCALIZATION not in await self.signatures(model_name, version):
            return None
        outputs = await self._predict(
            model_name, version, _LOCALIZATION, [picture]
        )
        return outputs["heat_map"][0]

    async def embed(
        self, model_name: str, version: int, pictures: Sequence[bytes]
    ) -> list[Embedded]:
        """What the branch that was trained for search says of each picture.

        Raises:
            ModelServerError: if there is no answer; one bad picture fails all.
        """
        outputs = await self._predict(model_name, version, SEARCH, pictures)
        if not {"embedding", "box"} <= outputs.keys():
            raise ModelServerError(
                502,
                f"The model answers with {sorted(outputs)}, expected embedding "
                "and box: it is none that sicot_tf.export wrote.",
            )
        return [
            Embedded(embedding, tuple(map(float, box)))
            for embedding, box in zip(outputs["embedding"], outputs["box"])
        ]

    async def _predict(
        self,
        model_name: str,
        version: int,
        signature: str,
        pictures: Sequence[bytes],
    ) -> dict[str, np.ndarray]:
        request = client_side.predict_request(
            self._model_spec(model_name, version, signature), pictures
        )
        response = await self._call(
            client_side.PREDICT, request, "PredictResponse"
        )
        return {item.key: _to_array(item.value) for item in response.outputs}

    async def _call(self, method: str, request: Any, answer: str) -> Any:
        call = self._channel.unary_unary(
            method,
            request_serializer=type(request).SerializeToString,
            response_deserializer=client_side.messages()[answer].FromString,
        )
        try:
            return await call(request, timeout=self._timeout)
        except grpc.aio.AioRpcError as error:
            raise _to_error(error) from error

    @staticmethod
    def _message(name: str) -> Any:
        return client_side.messages()[name]()

    @staticmethod
    def _model_spec(name: str, version: int, signature: str) -> Any:
        spec = client_side.messages()["ModelSpec"](
            name=name, signature_name=signature
        )
        spec.version.value = version
        return spec


def _to_array(tensor: Any) -> np.ndarray:
    """Values of a TensorProto; strings as an array of bytes objects."""
    shape = [dim.size for dim in tensor.tensor_shape.dim]
    if tensor.string_val:
        values = np.empty(len(tensor.string_val), object)
        values[:] = tensor.string_val
        return values.reshape(shape)
    dtype = _DTYPES.get(tensor.dtype, np.float32)
    if tensor.tensor_content:
        return np.frombuffer(tensor.tensor_content, dtype).reshape(shape)
    values = tensor.bool_val if dtype is np.bool_ else tensor.float_val
    return np.array(values, dtype).reshape(shape)


def _to_recognitions(
    outputs: dict[str, np.ndarray], num_pictures: int
) -> list[Recognition]:
    if not {"sku_id", "score"} <= outputs.keys():
        raise ModelServerError(
            502,
            f"The model answers with {sorted(outputs)}, expected sku_id and "
            "score: it is none that sicot_tf.export wrote.",
        )
    recognised = outputs.get("recognised", np.ones(num_pictures, bool))
    embeddings = outputs.get("embedding", [None] * num_pictures)
    nothing = np.empty((num_pictures, 0))
    words = outputs.get("word", nothing)
    probabilities = outputs.get("word_probability", nothing)
    return [
        Recognition(
            sku_ids=[each.decode("utf-8") for each in outputs["sku_id"][i]],
            scores=outputs["score"][i].tolist(),
            recognised=bool(recognised[i]),
            embedding=embeddings[i],
            words=[
                (word.decode("utf-8"), float(probability))
                for word, probability in zip(words[i], probabilities[i])
            ],
        )
        for i in range(num_pictures)
    ]


def _to_error(error: grpc.aio.AioRpcError) -> ModelServerError:
    """What the caller of the service gets to know."""
    code = error.code()
    status = _CODES.get(code, 503)
    # Lines after the first name nodes of the graph, as do braces.
    details = (error.details() or "").partition("\n")[0]
    details = re.sub(r"\{\{.*?\}\} ", "", details)
    # Of a sentence in the graph: `assertion failed: [The GIF is cut off.]`.
    details = re.sub(r"assertion failed: \[(.*?)\]", r"\1", details)
    if status == 422:
        sentence = f"The photo can't be decoded: {details.rstrip('. ')}."
    elif status == 504:
        sentence = "The model did not answer in time. Try again later."
    else:
        sentence = (
            f"The model server does not answer ({code.name}). Try again later."
        )
    return ModelServerError(status, sentence, f"{code.name}: {details}")
