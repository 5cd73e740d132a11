"""Asks a model server which products are on photos.

Works with `python -m sicot_tf.serve` and with tensorflow_model_server. As a
library it loads gRPC and protobuf only, not TensorFlow:

    with client.Client("localhost:8500", model_name="sicot") as server:
        [best, *others] = server.recognize([pathlib.Path("photo.jpg")])[0]
        print(best.sku_id, best.score, best.recognised)
"""

import argparse
import contextlib
import dataclasses
import io
import itertools
import json
import logging
import os
import pathlib
import re
import socket
import ssl
import threading
import typing
import urllib.parse
from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Iterator

from sicot_tf import command_line
from sicot_tf.serving.grpc_api import client_side
from sicot_tf.stores import locations

# gRPC and protobuf are imported by the functions that ask: --help does not.
if typing.TYPE_CHECKING:
    import grpc
    import PIL.Image

    from sicot_tf.catalogue import product_index

_log = logging.getLogger(__name__)
_PROBE_SECONDS = 3
# Products of a recognised SKU that the command shows.
_MAX_PRODUCTS = 3
# Predict changes nothing on a server, so it can be asked again. gRPC waits a
# random time of up to 0.1 s, then up to twice as long each time, within the
# deadline of the call; five attempts are its own limit.
_SERVICE_CONFIG = {
    # All the addresses of a name are used in turn.
    "loadBalancingConfig": [{"round_robin": {}}],
    "methodConfig": [
        {
            "name": [{}],
            "waitForReady": True,
            "retryPolicy": {
                "maxAttempts": 5,
                "initialBackoff": "0.1s",
                "maxBackoff": "2s",
                "backoffMultiplier": 2,
                "retryableStatusCodes": [
                    "UNAVAILABLE",
                    "RESOURCE_EXHAUSTED",
                    # A call that reaches a gRPC server in the moment it stops
                    # (https://github.com/grpc/grpc/issues/41785).
                    "CANCELLED",
                ],
            },
        }
    ],
}
# One line with the photo: others read the output by its lines.
_NOT_RECOGNISED = "not recognised; what comes closest:"
_EXAMPLES = """\
Exit code 1 if a photo could not be recognised; the others are still tried.

examples:
  python -m sicot_tf.client photo.jpg --model_name sicot
  python -m sicot_tf.client *.jpg --server localhost:8500 --top_k 3 \\
      --product_names runs/cotrain/classes.jsonl
  python -m sicot_tf.client photo.jpg --product_index index

http_proxy and https_proxy are not used; grpc_proxy is, but for localhost.
"""


@dataclasses.dataclass(frozen=True)
class Recognition:
    """One answer: a SKU and its softmax score.

    recognised: whether the model is sure enough of the picture, which is the
    same for all its answers; models of old exports always are.
    """

    sku_id: str
    score: float
    recognised: bool = True


class Client:
    """Asks one model of a server; to be shared by all threads of a program.

    A call that the server refuses for the moment (UNAVAILABLE,
    RESOURCE_EXHAUSTED), or cancels because it stops, is made up to five times
    within its deadline. Other errors are raised at once.
    """

    def __init__(
        self,
        server: str = "localhost:8500",
        *,
        model_name: str = "sicot",
        version: int | None = None,
        version_label: str | None = None,
        timeout: float = 10.0,
        num_channels: int = 1,
        credentials: "grpc.ChannelCredentials | None" = None,
    ):
        """Connects in the background.

        Args:
            server: `host:port` or `unix:path`. A name with several addresses
                (in Kubernetes: of a headless service) spreads the calls.
            model_name: the model's name on the server.
            version: of the model; the highest one if neither this nor
                `version_label` is given.
            version_label: as the server's configuration names it.
            timeout: seconds for a call, with all its attempts.
            num_channels: TCP connections, used in turn. One carries 100 calls
                at a time; more help with large pictures.
            credentials: `grpc.ssl_channel_credentials(...)` for TLS.

        Raises:
            ValueError: for a version and a label, no channels, or a server
                that is no such address.
        """
        if version is not None and version_label is not None:
            raise ValueError(
                "Expected a version or a version_label, received both: "
                f"{version} and {version_label!r}."
            )
        if num_channels < 1:
            raise ValueError(
                f"Expected num_channels of 1 or more, received {num_channels}."
            )
        messages = client_side.messages()
        spec = messages["ModelSpec"](
            name=model_name, signature_name="serving_default"
        )
        if version is not None:
            spec.version.value = version
        if version_label is not None:
            spec.version_label = version_label
        self._model_spec = spec
        self._timeout = timeout
        self._channels = [
            connect(server, credentials) for _ in range(num_channels)
        ]
        self._calls = itertools.cycle(
            channel.unary_unary(
                client_side.PREDICT,
                request_serializer=messages["PredictRequest"].SerializeToString,
                response_deserializer=messages["PredictResponse"].FromString,
            )
            for channel in self._channels
        )

    def __enter__(self) -> "Client":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Ends all connections, and with them the calls that still run."""
        for channel in self._channels:
            channel.close()

    def wait_until_ready(self, timeout: float) -> None:
        """Waits for a connection.

        Raises:
            TimeoutError: if there is none after `timeout` seconds.
        """
        import grpc

        try:
            grpc.channel_ready_future(self._channels[0]).result(timeout)
        except grpc.FutureTimeoutError as error:
            raise TimeoutError(
                f"No connection within {timeout:g} s."
            ) from error

    def recognize(
        self,
        images: "Iterable[bytes | os.PathLike | PIL.Image.Image]",
        *,
        top_k: int = 5,
        timeout: float | None = None,
    ) -> list[list[Recognition]]:
        """Recognises pictures in one request.

        Args:
            images: JPEG, PNG, GIF, BMP or WebP files as bytes or paths, or
                pictures of Pillow, which are sent as PNG.
            top_k: answers for each picture; the export has an upper limit.
            timeout: seconds for this call instead of the client's.

        Returns:
            For each picture its products, best first.

        Raises:
            grpc.RpcError: if the call fails; one bad picture fails all.
            OSError: if a file can't be read.
            TypeError: for anything else than a picture.
            ValueError: if a file is empty, or the model does not answer with
                products.
        """
        files = [_encode(image) for image in images]
        if not files:
            return []
        request = client_side.predict_request(self._model_spec, files)
        response = next(self._calls)(
            request, timeout=self._timeout if timeout is None else timeout
        )
        return [answers[:top_k] for answers in self._read(response, len(files))]

    def _read(
        self, response: typing.Any, num_pictures: int
    ) -> list[list[Recognition]]:
        """The answers for each picture."""
        outputs = {item.key: item.value for item in response.outputs}
        if not {"sku_id", "score"} <= outputs.keys():
            raise ValueError(
                f"Model {self._model_spec.name!r} answers with "
                f"{sorted(outputs)}, expected sku_id and score. Ask a model "
                "that sicot_tf.export wrote."
            )
        sku_ids = outputs["sku_id"].string_val
        # Servers may be told to send numbers as tensor_content.
        content = outputs["score"].tensor_content
        scores = outputs["score"].float_val or memoryview(content).cast("f")
        recognised = [True] * num_pictures
        if tensor := outputs.get("recognised"):
            content = memoryview(tensor.tensor_content).cast("?")
            recognised = tensor.bool_val or content
        num_answers = len(sku_ids) // num_pictures
        if (
            not num_answers
            or len(sku_ids) % num_pictures
            or len(recognised) != num_pictures
        ):
            raise ValueError(
                f"Model {self._model_spec.name!r} gave {len(sku_ids)} answers "
                f"for {num_pictures} pictures."
            )
        answers = zip(sku_ids, scores, strict=True)
        return [
            [
                Recognition(sku_id.decode("utf-8"), score, bool(is_sure))
                for sku_id, score in itertools.islice(answers, num_answers)
            ]
            for is_sure in recognised
        ]


def connect(
    server: str, credentials: "grpc.ChannelCredentials | None" = None
) -> "grpc.Channel":
    """A channel with a connection of its own, retries and no size limits.

    Raises:
        ValueError: if `server` is neither `host:port` nor `unix:path`.
    """
    import grpc

    client_side.check_server(server)
    options = [
        client_side.proxy_option(server),
        # A server that starts is found soon; by default the pauses between
        # attempts grow to 2 minutes.
        ("grpc.max_reconnect_backoff_ms", 5000),
        ("grpc.service_config", json.dumps(_SERVICE_CONFIG)),
        # gRPC does not repeat larger calls; its default is 256 KiB.
        ("grpc.per_rpc_retry_buffer_size", 2**31 - 1),
        # Channels to one address share a connection else.
        ("grpc.use_local_subchannel_pool", 1),
        ("grpc.max_receive_message_length", -1),
        ("grpc.max_send_message_length", -1),
    ]
    if credentials is None:
        return grpc.insecure_channel(server, options)
    return grpc.secure_channel(server, credentials, options)


def _encode(image: "bytes | os.PathLike | PIL.Image.Image") -> bytes:
    """The file of a picture."""
    if isinstance(image, bytes):
        return image
    if isinstance(image, os.PathLike):
        if content := pathlib.Path(image).read_bytes():
            return content
        raise ValueError("The file is empty.")
    if not hasattr(image, "save"):
        raise TypeError(
            "Expected bytes of a picture, a path or a picture of Pillow, "
            f"received {type(image).__name__}."
        )
    if image.mode in ("CMYK", "YCbCr", "LAB", "HSV"):
        image = image.convert("RGB")  # PNG has no such modes.
    output = io.BytesIO()
    # The server turns the picture by it.
    image.save(output, "PNG", exif=image.info.get("exif", b""))
    return output.getvalue()


@command_line.mistakes_in_a_sentence()
def main(argv: list[str] | None = None) -> None:
    """Prints the recognised products of each photo."""
    arguments = _parse_arguments(argv)
    names = {}
    if arguments.product_names:
        names = read_product_names(arguments.product_names)
    num_failed = 0
    sku_ids = set()
    with (
        _open_index(arguments.product_index) as lines_of_products,
        Client(
            arguments.server,
            model_name=arguments.model_name,
            timeout=arguments.timeout,
        ) as server,
    ):
        _wait_until_ready(server, arguments)
        for photo in arguments.photos:
            try:
                recognitions = _recognize(server, photo, arguments.top_k)
            except ValueError as error:
                _log.error("%s: %s", photo, error)
                num_failed += 1
                continue
            is_sure = all(item.recognised for item in recognitions)
            print(photo if is_sure else f"{photo}: {_NOT_RECOGNISED}")
            for item in recognitions:
                sku_ids.add(item.sku_id)
                name = names.get(item.sku_id, "")
                line = f"  {item.score:6.1%}  {item.sku_id}  {name}"
                print(line.rstrip())
                for line in lines_of_products(item.sku_id):
                    print(f"          {line}")
    if sku_ids and arguments.product_names and not sku_ids & names.keys():
        _log.warning(
            "%s knows none of these products. Take the classes.jsonl of the "
            "run that was exported.",
            arguments.product_names,
        )
    if num_failed:
        raise SystemExit(1)


@contextlib.contextmanager
def _open_index(
    place: locations.Location | None,
) -> Iterator[Callable[[str], list[str]]]:
    """From a SKU id to a line for each of its products, the newest first."""
    if place is None:
        yield lambda sku_id: []
        return
    from sicot_tf.catalogue import product_index
    from sicot_tf.data import generation_cache

    generation = generation_cache.local_generation(place)
    with product_index.ProductIndex(generation) as index:
        yield (
            lambda sku_id: (
                [
                    _describe(product)
                    for product in index.products_of(sku_id, _MAX_PRODUCTS)
                ]
                or ["no product in the index"]
            )
        )


def _describe(product: "product_index.Product") -> str:
    """Title and tags in a line."""
    line = " ".join(product.title.split()) or product.product_id
    if product.tags:
        line += f" [{', '.join(product.tags)}]"
    # As the catalogue of a generated shop says of itself.
    return line + " (generated)" * bool(product.attributes.get("generated"))


def _wait_until_ready(server: Client, arguments: argparse.Namespace) -> None:
    """Raises ValueError with what to start if nobody answers."""
    try:
        server.wait_until_ready(arguments.timeout)
    except TimeoutError as error:
        raise ValueError(
            why_not(arguments.server)
            or f"No model server answers at {arguments.server} within "
            f"{arguments.timeout:g} s. Start one:\n  python -m "
            f"sicot_tf.serve --model_name {arguments.model_name} "
            f"--model_base_path $PWD/saved_models/{arguments.model_name}"
        ) from error


def _recognize(server: Client, photo: str, top_k: int) -> list[Recognition]:
    """Raises ValueError with what is wrong with a photo."""
    import grpc

    try:
        [recognitions] = server.recognize([photo_path(photo)], top_k=top_k)
    except OSError as error:
        raise ValueError(error.strerror or str(error)) from error
    except grpc.RpcError as error:
        # Lines after the first name nodes of the graph, as do braces.
        details = (error.details() or "").partition("\n")[0]
        details = re.sub(r"\{\{.*?\}\} ", "", details)
        raise ValueError(f"{error.code().name}: {details}") from error
    return recognitions


def why_not(server: str) -> str:
    """Who answers at an address that speaks no plain gRPC; "" if unknown."""
    if server.partition(":")[0] in client_side.SCHEMES:
        return ""
    host, _, port = server.rpartition(":")
    address = host.strip("[]"), int(port)
    with contextlib.suppress(OSError):
        with socket.create_connection(address, _PROBE_SECONDS) as peer:
            peer.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
            if peer.recv(16).startswith(b"HTTP/1"):
                return (
                    f"{server} speaks HTTP/1, as the REST port of a model "
                    "server does. Give its gRPC port: --port of the server, "
                    "8500."
                )
    # Only asks whether there is TLS: nothing is sent over the connection.
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.set_alpn_protocols(["h2"])
    with contextlib.suppress(OSError):
        with socket.create_connection(address, _PROBE_SECONDS) as peer:
            with context.wrap_socket(peer):
                return (
                    f"{server} speaks TLS, this command does not. In Python: "
                    "client.Client(..., credentials="
                    "grpc.ssl_channel_credentials(...))."
                )
    return ""


def photo_path(text: str) -> pathlib.Path:
    """The file that a path or a file:// URL names.

    Raises:
        ValueError: for a URL of something that is no file here.
    """
    url = urllib.parse.urlsplit(text)
    if "://" not in text or pathlib.Path(text).exists():
        return pathlib.Path(text)
    if url.scheme != "file" or url.netloc not in ("", "localhost"):
        raise ValueError(
            f"Expected a file of this machine, received a URL of "
            f"{url.scheme}://{url.netloc}. Download the picture first, for "
            "example with curl -O."
        )
    return pathlib.Path(urllib.parse.unquote(url.path))


def read_product_names(path: pathlib.Path) -> dict[str, str]:
    """SKU id to name, from JSON Lines with `sku_id` and `sku_name`.

    A product without a name, or with null, has the name "".

    Raises:
        OSError: if the file can't be read.
        ValueError: if a line is no object with sku_id.
    """
    names = {}
    with path.open("rb") as lines:
        for number, line in enumerate(lines, start=1):
            try:
                record = json.loads(line)
                sku_id, name = record["sku_id"], record.get("sku_name")
                # On one line, whatever spaces it has.
                names[str(sku_id)] = " ".join(str(name or "").split())
            except (ValueError, KeyError, TypeError) as error:
                raise ValueError(
                    f"{path}, line {number}: expected a JSON object with "
                    "sku_id and sku_name, received "
                    f"{line.decode('utf-8', 'replace').strip()[:80]!r}."
                ) from error
    return names


def _parse_arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = command_line.ArgumentParser("sicot_tf.client", __doc__, _EXAMPLES)
    parser.add_argument(
        "photos",
        nargs="+",
        metavar="PHOTO",
        help="JPEG, PNG, GIF, BMP or WebP file, also as file:// URL",
    )
    parser.add_argument(
        "--server",
        default="localhost:8500",
        help="host:port or unix:path (localhost:8500)",
    )
    parser.add_argument(
        "--model_name", default="sicot", help="name on the server (sicot)"
    )
    parser.add_argument(
        "--top_k", type=int, default=5, help="products for each photo (5)"
    )
    parser.add_argument(
        "--product_names",
        type=pathlib.Path,
        help="JSON Lines with sku_id and sku_name, to print names",
    )
    parser.add_argument(
        "--product_index",
        type=locations.location,
        metavar="INDEX",
        help="what beam_jobs.build_product_index wrote, to print title and "
        f"tags of each product's newest {_MAX_PRODUCTS}",
    )
    parser.add_argument(
        "--timeout", type=float, default=10.0, help="seconds a photo (10)"
    )
    arguments = parser.parse_args(argv)
    if arguments.top_k < 1:
        parser.error(f"--top_k: expected 1 or more, got {arguments.top_k}")
    if not 0 < arguments.timeout < threading.TIMEOUT_MAX:
        parser.error(f"--timeout: expected seconds, got {arguments.timeout}")
    return arguments


if __name__ == "__main__":
    main()
