"""Asks a model server which products are on photos.

Works with `python -m sicot_tf.serve` and with tensorflow_model_server.
"""

import argparse
import dataclasses
import json
import pathlib
import sys
from collections.abc import Sequence

import grpc
import tensorflow as tf
from tensorflow_serving.apis import predict_pb2
from tensorflow_serving.apis import prediction_service_pb2_grpc

_EPILOG = """\
Exit code 1 if a photo could not be recognised; the others are still tried.

examples:
  python -m sicot_tf.client photo.jpg --model_name sicot
  python -m sicot_tf.client *.jpg --server localhost:8500 --top_k 3 \\
      --product_names dataset/classes.jsonl
"""


@dataclasses.dataclass(frozen=True)
class Recognition:
    """One answer: a SKU and its softmax score."""

    sku_id: str
    score: float


def main(argv: list[str] | None = None) -> None:
    """Prints the recognised products of each photo."""
    arguments = _parse_arguments(argv)
    names = {}
    if arguments.product_names:
        try:
            names = read_product_names(arguments.product_names)
        except (OSError, ValueError) as error:
            raise SystemExit(f"--product_names: {error}") from error
    num_failed = 0
    with connect(arguments.server) as channel:
        try:
            grpc.channel_ready_future(channel).result(arguments.timeout)
        except grpc.FutureTimeoutError as error:
            raise SystemExit(
                f"No model server answers at {arguments.server} within "
                f"{arguments.timeout:g} s. Start one:\n  python -m "
                f"sicot_tf.serve --model_name {arguments.model_name} "
                f"--model_base_path saved_models/{arguments.model_name}"
            ) from error
        for photo in arguments.photos:
            try:
                [recognitions] = recognize(
                    channel,
                    [photo.read_bytes()],
                    model_name=arguments.model_name,
                    top_k=arguments.top_k,
                    timeout=arguments.timeout,
                )
            except OSError as error:
                print(f"{photo}: {error.strerror}", file=sys.stderr)
                num_failed += 1
            except grpc.RpcError as error:
                # Lines after the first name nodes of the graph.
                details = error.details().partition("\n")[0]
                print(
                    f"{photo}: {error.code().name}: {details}", file=sys.stderr
                )
                num_failed += 1
            else:
                print(photo)
                for item in recognitions:
                    name = names.get(item.sku_id, "")
                    line = f"  {item.score:6.1%}  {item.sku_id}  {name}"
                    print(line.rstrip())
    if num_failed:
        raise SystemExit(1)


def connect(server: str) -> grpc.Channel:
    """A channel to `host:port` or `unix:path` without limits of size."""
    return grpc.insecure_channel(
        server,
        options=[
            ("grpc.max_receive_message_length", -1),
            ("grpc.max_send_message_length", -1),
        ],
    )


def recognize(
    channel: grpc.Channel,
    images: Sequence[bytes],
    *,
    model_name: str = "sicot",
    top_k: int = 5,
    timeout: float = 10.0,
) -> list[list[Recognition]]:
    """Recognises encoded pictures in one request.

    Args:
        channel: see `connect`; a server that is still starting is waited for.
        images: JPEG, PNG, GIF, BMP or WebP files.
        model_name: the model's name on the server.
        top_k: answers for each picture; the server has an upper limit.
        timeout: seconds for the whole call.

    Returns:
        For each picture its products, best first.

    Raises:
        grpc.RpcError: if the call fails; one bad picture fails all.
    """
    if not images:
        return []
    request = predict_pb2.PredictRequest()
    request.model_spec.name = model_name
    request.model_spec.signature_name = "serving_default"
    request.inputs["image_bytes"].CopyFrom(
        tf.make_tensor_proto(list(images), tf.string, [len(images)])
    )
    request.output_filter.extend(["sku_id", "score"])
    stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
    response = stub.Predict(request, timeout=timeout, wait_for_ready=True)
    sku_ids = tf.make_ndarray(response.outputs["sku_id"])
    scores = tf.make_ndarray(response.outputs["score"])
    return [
        [
            Recognition(sku_id.decode("utf-8"), float(score))
            for sku_id, score in zip(row_ids, row_scores, strict=True)
        ][:top_k]
        for row_ids, row_scores in zip(sku_ids, scores, strict=True)
    ]


def read_product_names(path: pathlib.Path) -> dict[str, str]:
    """SKU id to name, from JSON Lines with `sku_id` and `sku_name`.

    Raises:
        OSError: if the file can't be read.
        ValueError: if a line is no object with both fields.
    """
    names = {}
    with path.open(encoding="utf-8") as lines:
        for number, line in enumerate(lines, start=1):
            try:
                record = json.loads(line)
                names[record["sku_id"]] = record["sku_name"]
            except (ValueError, KeyError, TypeError) as error:
                raise ValueError(
                    f"{path}, line {number}: expected a JSON object with "
                    f"sku_id and sku_name, received {line.strip()[:80]!r}."
                ) from error
    return names


def _parse_arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m sicot_tf.client",
        description=__doc__,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "photos",
        type=pathlib.Path,
        nargs="+",
        metavar="PHOTO",
        help="JPEG, PNG, GIF, BMP or WebP file",
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
        "--timeout", type=float, default=10.0, help="seconds a photo (10)"
    )
    arguments = parser.parse_args(argv)
    if arguments.top_k < 1:
        parser.error(f"--top_k: expected 1 or more, got {arguments.top_k}")
    return arguments


if __name__ == "__main__":
    main()
