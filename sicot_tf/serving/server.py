"""The model server as one process: models, gRPC, REST, and their end.

`run` builds the parts, opens the ports once all models are available, and
drains on SIGTERM. The flags are described in `sicot_tf.serve`.
"""

import argparse
import contextlib
import math
import os
import pathlib
import re
import resource
import sys
import threading
import time
from typing import Any
from typing import Protocol

import tensorflow as tf
from tensorflow_serving.apis import get_model_status_pb2
from tensorflow_serving.apis import model_pb2
from tensorflow_serving.config import model_server_config_pb2

from sicot_tf.serving import metrics as metrics_lib
from sicot_tf.serving import request_log as request_log_lib
from sicot_tf.serving import server_core
from sicot_tf.serving import serving_config
from sicot_tf.serving.grpc_api import grpc_server as grpc_server_lib
from sicot_tf.serving.inference import batching
from sicot_tf.serving.rest_api import rest_server as rest_server_lib
from sicot_tf.serving.rest_api.app import make_app
from sicot_tf.serving.versions import loading
from sicot_tf.serving.versions import model_manager

# With the default of --drain_seconds not above the 30 seconds after which
# Kubernetes kills.
_FINISH_SECONDS = 15.0
_CLOSE_SECONDS = 5.0
_MAX_OPEN_FILES = 2**16
_MAX_THREADS_FOR_BATCHES = 256
_MONITORING_PATH = "/monitoring/prometheus/metrics"


class StopSignal(Protocol):
    """What tells the server to end."""

    def is_set(self) -> bool: ...

    def wait(self, seconds: float | None = None) -> None: ...


def run(arguments: argparse.Namespace, stop: StopSignal) -> int:
    """Serves until `stop` is set; returns the exit code.

    Args:
        arguments: the parsed flags of `sicot_tf.serve`.
        stop: SIGTERM or SIGINT came.
    """
    with contextlib.ExitStack() as stack:
        try:
            return _serve(arguments, stop, stack)
        except (OSError, RuntimeError, ValueError) as error:
            text = str(error)
        except tf.errors.OpError as error:
            text = f"{loading.code_name(error)}: {error.message}"
        print(
            f"Failed to start server. Error: {text}",
            file=sys.stderr,
            flush=True,
        )
        # TensorFlow Serving's code, -1.
        return 255


def _serve(
    arguments: argparse.Namespace,
    stop: StopSignal,
    stack: contextlib.ExitStack,
) -> int:
    """Body of `run`."""
    _check_flags(arguments)
    _raise_file_limit()
    metrics = metrics_lib.Metrics(num_restarts=arguments.num_restarts)
    # All that can be wrong is read before models are loaded for minutes.
    config = _model_config(arguments)
    credentials = grpc_server_lib.read_credentials(arguments.ssl_config_file)
    channel_arguments = grpc_server_lib.parse_channel_arguments(
        arguments.grpc_channel_arguments
    )
    monitoring_path = _monitoring_path(arguments.monitoring_config_file)
    batching_parameters = loading.read_batching_parameters(arguments)
    scheduler = None
    if batching_parameters is not None:
        scheduler = batching.BatchScheduler(
            batching_parameters, on_batch=metrics.record_batch
        )
    manager = model_manager.ModelManager(
        loading.make_load(arguments, scheduler, metrics),
        file_system_poll_wait_seconds=arguments.file_system_poll_wait_seconds,
        max_num_load_retries=arguments.max_num_load_retries,
        load_retry_interval_seconds=arguments.load_retry_interval_micros / 1e6,
        num_load_threads=max(1, arguments.num_load_threads),
        allow_version_labels_for_unavailable_models=(
            arguments.allow_version_labels_for_unavailable_models
        ),
        unload_when_empty=arguments.unload_when_empty,
        incomplete_version_seconds=(
            arguments.incomplete_version_seconds or math.inf
        ),
        fail_if_no_model_versions_found=(
            arguments.fail_if_no_model_versions_found
        ),
    )
    # No load may run while the interpreter ends.
    stack.callback(manager.close, _CLOSE_SECONDS)
    request_log = None
    if arguments.request_log_dir:
        request_log = request_log_lib.RequestLog(
            pathlib.Path(arguments.request_log_dir),
            sampling_rate=arguments.request_log_sampling_rate,
            record=metrics.record_request_log,
        )
        stack.callback(request_log.close)
    core = server_core.ServerCore(
        manager,
        metrics=metrics,
        request_log=request_log,
        serialize_as_tensor_content=(
            arguments.enable_serialization_as_tensor_content
        ),
        check_method_names=arguments.enable_signature_method_name_check,
    )
    manager.set_config(config)
    if not manager.wait_until_available(stop):
        return 0

    is_draining = threading.Event()
    grpc_server = grpc_server_lib.GrpcServer(
        core,
        num_threads=_num_threads(arguments, batching_parameters),
        channel_arguments=channel_arguments,
    )
    if arguments.port:
        grpc_server.listen(f"0.0.0.0:{arguments.port}", credentials)
    if arguments.grpc_socket_path:
        grpc_server.listen(f"unix:{arguments.grpc_socket_path}", credentials)
    rest_server = None
    if _has_rest(arguments):
        app = make_app(
            core,
            cors=arguments.rest_api_enable_cors_support,
            timeout_seconds=arguments.rest_api_timeout_in_ms / 1e3,
            monitoring_path=monitoring_path,
            metrics=metrics,
            num_threads=arguments.rest_api_num_threads or None,
            readiness=lambda: (
                not is_draining.is_set() and manager.is_available()
            ),
        )
        rest_server = rest_server_lib.RestServer(
            app,
            arguments.rest_api_port,
            int(_FINISH_SECONDS),
            idle_seconds=arguments.rest_api_idle_timeout_in_ms / 1e3,
            receive_seconds=arguments.rest_api_receive_timeout_in_ms / 1e3,
            max_connections=arguments.rest_api_max_connections,
            record=metrics.record_rest_response,
        )
    grpc_server.start()
    if rest_server is not None:
        rest_server.start()
    if arguments.model_config_file_poll_wait_seconds > 0:
        manager.watch_config_file(
            arguments.model_config_file,
            arguments.model_config_file_poll_wait_seconds,
        )
    _print_ready(arguments, manager)

    stop.wait()
    is_draining.set()
    grpc_server.refuse_health()
    if rest_server is not None:
        rest_server.drain()
    print(
        f"Stopping: requests are taken for {arguments.drain_seconds:g} more "
        "seconds, then running ones end. A second signal ends at once.",
        flush=True,
    )
    time.sleep(arguments.drain_seconds)
    waits = [grpc_server.stop(_FINISH_SECONDS)]
    if rest_server is not None:
        waits.append(rest_server.stop())
    deadline = time.monotonic() + _FINISH_SECONDS + 1
    for wait in waits:
        wait(max(0.0, deadline - time.monotonic()))
    print("Stopped.", flush=True)
    return 0


def _check_flags(arguments: argparse.Namespace) -> None:
    """Raises if flags contradict each other, or no port has the number."""
    for name in ("port", "rest_api_port"):
        port = getattr(arguments, name)
        # gRPC would take 99999 for 34463.
        if not 0 <= port <= 65535:
            raise tf.errors.InvalidArgumentError(
                None,
                None,
                f"Expected --{name} from 1 to 65535, or 0 for none, received "
                f"{port}.",
            )
    if not (
        arguments.port or arguments.grpc_socket_path or arguments.rest_api_port
    ):
        raise tf.errors.InvalidArgumentError(
            None, None, "server_options.grpc_port is not set."
        )
    if arguments.use_alts_credentials:
        raise tf.errors.UnimplementedError(
            None,
            None,
            "ALTS credentials exist on Google Cloud only; use "
            "--ssl_config_file.",
        )
    if (
        arguments.model_config_file_poll_wait_seconds > 0
        and not arguments.model_config_file
    ):
        raise tf.errors.InvalidArgumentError(
            None,
            None,
            "Expected --model_config_file with "
            "--model_config_file_poll_wait_seconds.",
        )
    for name, least in (
        ("drain_seconds", 0),
        ("rest_api_receive_timeout_in_ms", 1),
        ("rest_api_idle_timeout_in_ms", 1),
        ("rest_api_max_connections", 1),
    ):
        value = getattr(arguments, name)
        if not least <= value < 1e9:
            raise tf.errors.InvalidArgumentError(
                None,
                None,
                f"Expected --{name} of {least} or more, received {value}.",
            )


def _model_config(
    arguments: argparse.Namespace,
) -> model_server_config_pb2.ModelServerConfig:
    """From --model_config_file, or of the one model named by flags."""
    if arguments.model_config_file:
        return serving_config.read_model_config(arguments.model_config_file)
    if not arguments.model_base_path:
        raise tf.errors.InvalidArgumentError(
            None,
            None,
            "Both server_options.model_base_path and "
            "server_options.model_config_file are empty!",
        )
    base_path = arguments.model_base_path
    if "://" not in base_path:
        base_path = os.path.abspath(base_path)
    return serving_config.make_model_config(arguments.model_name, base_path)


def _num_threads(
    arguments: argparse.Namespace, batching_parameters: Any
) -> int:
    """Threads for gRPC; enough to fill two batches if there are any."""
    if arguments.grpc_max_threads > 0:
        return arguments.grpc_max_threads
    num_threads = max(16, 4 * (os.cpu_count() or 1))
    if batching_parameters is None:
        return num_threads
    batch_size = _MAX_THREADS_FOR_BATCHES
    if batching_parameters.HasField("max_batch_size"):
        batch_size = batching_parameters.max_batch_size.value
    return max(num_threads, min(2 * batch_size, _MAX_THREADS_FOR_BATCHES))


def _has_rest(arguments: argparse.Namespace) -> bool:
    """Whether there is a REST port, and no gRPC on it."""
    if arguments.rest_api_port and arguments.rest_api_port == arguments.port:
        _log(
            "server_options.http_port cannot be same as grpc_port. Please use "
            "a different port for HTTP/REST API. Skipped exporting HTTP/REST "
            "API."
        )
        return False
    return bool(arguments.rest_api_port)


def _monitoring_path(config_path: str) -> str | None:
    """Where the metrics are, from --monitoring_config_file."""
    if not config_path:
        return None
    config = serving_config.read_monitoring_config(config_path)
    if not config.prometheus_config.enable:
        return None
    path = config.prometheus_config.path or _MONITORING_PATH
    if not re.fullmatch(r"/[^{}?#\s]+", path) or re.match(
        "/(v1|healthz|readyz)(/|$)", path
    ):
        raise tf.errors.InvalidArgumentError(
            None,
            None,
            f"Wrong path in {config_path}: expected one such as "
            f"{_MONITORING_PATH}, with / in front, without braces, and none "
            f"below /v1, /healthz or /readyz, received {path!r}.",
        )
    return path


def _print_ready(
    arguments: argparse.Namespace, manager: model_manager.ModelManager
) -> None:
    addresses = []
    if arguments.grpc_socket_path:
        addresses.append(f"unix:{arguments.grpc_socket_path}")
    if arguments.port:
        addresses.append(f"0.0.0.0:{arguments.port}")
    models = []
    for name in manager.model_names():
        versions = [
            status.version
            for status in manager.statuses(model_pb2.ModelSpec(name=name))
            if status.state == get_model_status_pb2.ModelVersionStatus.AVAILABLE
        ]
        models.append(f"{name} version {', '.join(map(str, versions))}")
    if addresses:
        print(
            f"Running gRPC ModelServer at {' and '.join(addresses)}: "
            + "; ".join(models)
        )
    if _has_rest(arguments):
        print(
            "Exporting HTTP/REST API at:localhost:"
            f"{arguments.rest_api_port}: {'; '.join(models)}"
        )
    if addresses and models:
        address = addresses[-1].replace("0.0.0.0", "localhost")
        print(
            f"Try it: python -m sicot_tf.client PHOTO --server {address} "
            f"--model_name {manager.model_names()[0]}"
        )
    sys.stdout.flush()


def _raise_file_limit() -> None:
    """Takes as many open files, and connections, as the system grants."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _MAX_OPEN_FILES
    if hard != resource.RLIM_INFINITY:
        wanted = min(wanted, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def _log(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
