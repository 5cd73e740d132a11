"""Serves an exported model over TensorFlow Serving's gRPC API.

The highest version under --model_base_path is loaded, tried with the warm-up
requests stored with it, and only then the port opens: a port that answers
means a model that is ready.
"""

import argparse
import os
import pathlib
import select
import signal
import socket
import sys
from concurrent import futures

import grpc
import tensorflow as tf
from grpc_health.v1 import health
from grpc_health.v1 import health_pb2
from grpc_health.v1 import health_pb2_grpc
from tensorflow_serving.apis import model_service_pb2_grpc
from tensorflow_serving.apis import prediction_service_pb2_grpc

from sicot_tf.serving import servable
from sicot_tf.serving import services

# TensorFlow Serving's default of --grpc_max_threads.
_NUM_THREADS = 4 * (os.cpu_count() or 1)
_POLL_SECONDS = 1.0
# Below the 30 seconds after which Kubernetes kills.
_DRAIN_SECONDS = 20.0
# "" stands for the whole server; the other two are TensorFlow Serving's.
_HEALTH_NAMES = ("", "ModelService", "PredictionService")

_EPILOG = """\
The flags are those of tensorflow_model_server. This server does not look for
new versions after its start: to serve a newer one, start it again.
SIGTERM or Ctrl-C: health checks answer NOT_SERVING, no new request is
accepted, running ones have 20 seconds to end; exit code 0.

examples:
  python -m sicot_tf.serve --model_name sicot \\
      --model_base_path saved_models/sicot
  python -m sicot_tf.client photo.jpg --model_name sicot
"""


def main(argv: list[str] | None = None) -> None:
    """Loads, serves, and drains on SIGTERM."""
    arguments = _parse_arguments(argv)
    stop = _StopSignal()
    try:
        model = load_latest(
            arguments.model_name,
            arguments.model_base_path,
            enable_warmup=arguments.enable_model_warmup,
            stop=stop,
        )
        if model is None:
            return
        server, health_servicer = start(
            model,
            port=arguments.port,
            grpc_socket_path=arguments.grpc_socket_path,
        )
    except (
        OSError,
        RuntimeError,
        ValueError,
        tf.errors.OpError,
    ) as error:
        print(f"Failed to start server. Error: {error}", file=sys.stderr)
        # TensorFlow Serving's code, -1.
        raise SystemExit(255) from error
    _print_ready(arguments, model)
    stop.wait()
    health_servicer.enter_graceful_shutdown()
    print("Stopping: waiting for running requests to end.", flush=True)
    server.stop(_DRAIN_SECONDS).wait()
    print("Stopped.", flush=True)


def load_latest(
    name: str,
    base_path: pathlib.Path,
    *,
    enable_warmup: bool,
    stop: "_StopSignal",
) -> servable.Servable | None:
    """Loads the highest version; waits until there is one.

    Args:
        name: name of the model in requests.
        base_path: folder of versions.
        enable_warmup: whether to answer the stored requests first.
        stop: ends the waiting.

    Returns:
        The model, or None if `stop` was set before a version was there.

    Raises:
        OSError, tf.errors.OpError: if loading or a warm-up request fails.
    """
    while not stop.is_set():
        try:
            versions = servable.list_versions(base_path)
        except OSError as error:
            _print_to_log(
                f"Could not find base path {base_path} for servable {name} "
                f"with error {error}"
            )
        else:
            if versions:
                version = max(versions)
                return _load(name, version, versions[version], enable_warmup)
            _print_to_log(
                f"No versions of servable {name} found under base path "
                f"{base_path}. Did you forget to name your leaf directory as "
                "a number (eg. '/1/')?"
            )
        stop.wait(_POLL_SECONDS)
    return None


class _StopSignal:
    """Set by SIGTERM or SIGINT.

    Python runs handlers in the main thread only, and a signal that the kernel
    hands to another thread wakes no lock the main one sleeps on. The byte
    that the interpreter writes to a socket does, whichever thread it was.
    """

    def __init__(self):
        self._reader, writer = socket.socketpair()
        writer.setblocking(False)
        self._is_set = False
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._set)
        signal.set_wakeup_fd(writer.detach())

    def _set(self, *_: object) -> None:
        self._is_set = True

    def is_set(self) -> bool:
        return self._is_set

    def wait(self, seconds: float | None = None) -> None:
        """Returns once a signal came, or after the time."""
        if not self._is_set:
            select.select([self._reader], [], [], seconds)


def start(
    model: servable.Servable, *, port: int, grpc_socket_path: str
) -> tuple[grpc.Server, health.HealthServicer]:
    """Opens the port, the socket, or both, for a model that is ready.

    Args:
        model: what is served.
        port: TCP port on all interfaces; 0 opens none.
        grpc_socket_path: path of a UNIX socket; empty opens none.

    Raises:
        RuntimeError: if the port or the socket can't be had.
    """
    server = grpc.server(
        futures.ThreadPoolExecutor(_NUM_THREADS),
        options=[
            ("grpc.max_receive_message_length", -1),
            ("grpc.max_send_message_length", -1),
            # A second server on the port is a mistake, not a load balancer.
            ("grpc.so_reuseport", 0),
        ],
    )
    prediction_service_pb2_grpc.add_PredictionServiceServicer_to_server(
        services.PredictionService(model), server
    )
    model_service_pb2_grpc.add_ModelServiceServicer_to_server(
        services.ModelService(model), server
    )
    health_servicer = health.HealthServicer()
    for name in _HEALTH_NAMES:
        health_servicer.set(name, health_pb2.HealthCheckResponse.SERVING)
    health_pb2_grpc.add_HealthServicer_to_server(health_servicer, server)
    if port:
        server.add_insecure_port(f"0.0.0.0:{port}")
    if grpc_socket_path:
        server.add_insecure_port(f"unix:{grpc_socket_path}")
    server.start()
    return server, health_servicer


def _load(
    name: str, version: int, directory: pathlib.Path, enable_warmup: bool
) -> servable.Servable:
    """Loads one version and warms it up."""
    _print_to_log(f"Loading servable {name} version {version}: {directory}")
    model = servable.Servable(name, version, directory)
    if enable_warmup:
        num_requests = model.warm_up()
        _print_to_log(f"Warm-up requests answered: {num_requests}")
    return model


def _parse_arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m sicot_tf.serve",
        description=__doc__,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--port", type=int, default=8500, help="gRPC port (8500); 0: none"
    )
    parser.add_argument(
        "--grpc_socket_path",
        default="",
        help="also, or instead, listen on this UNIX socket",
    )
    parser.add_argument(
        "--model_name", default="default", help="name in requests (default)"
    )
    parser.add_argument(
        "--model_base_path",
        type=pathlib.Path,
        required=True,
        help="folder with one folder for each version",
    )
    parser.add_argument(
        "--enable_model_warmup",
        type=_parse_boolean,
        nargs="?",
        const=True,
        default=True,
        metavar="true|false",
        help="answer the requests stored with the model first (true)",
    )
    arguments = parser.parse_args(argv)
    if not arguments.port and not arguments.grpc_socket_path:
        parser.error("--port 0 needs a --grpc_socket_path to listen on")
    return arguments


def _parse_boolean(text: str) -> bool:
    """`--flag=false` as TensorFlow Serving writes it."""
    values = {"true": True, "1": True, "false": False, "0": False}
    if text.lower() not in values:
        raise argparse.ArgumentTypeError(
            f"expected true or false, received {text!r}"
        )
    return values[text.lower()]


def _print_ready(
    arguments: argparse.Namespace, model: servable.Servable
) -> None:
    addresses = []
    if arguments.grpc_socket_path:
        addresses.append(f"unix:{arguments.grpc_socket_path}")
    if arguments.port:
        addresses.append(f"0.0.0.0:{arguments.port}")
    address = addresses[-1].replace("0.0.0.0", "localhost")
    print(
        f"Running gRPC ModelServer at {' and '.join(addresses)}: "
        f"{model.name} version {model.version}\n"
        f"Try it: python -m sicot_tf.client PHOTO --server {address} "
        f"--model_name {model.name}",
        flush=True,
    )


def _print_to_log(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
