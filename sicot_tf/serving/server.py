"""The model server as one process: models, gRPC, REST, and their end.

`run` builds the parts, opens the ports once all models are available, and
drains on SIGTERM. The flags are described in `sicot_tf.serve`.
"""

import argparse
import contextlib
import logging
import math
import os
import pathlib
import re
import resource
import sys
import threading
import time
from typing import Any

import tensorflow as tf
from tensorflow_serving.apis import get_model_status_pb2
from tensorflow_serving.apis import model_pb2

from sicot_tf.serving import errors
from sicot_tf.serving import metrics
from sicot_tf.serving import request_log
from sicot_tf.serving import server_core
from sicot_tf.serving import serving_config
from sicot_tf.serving.grpc_api import grpc_server
from sicot_tf.serving.grpc_api import tls
from sicot_tf.serving.inference import batching
from sicot_tf.serving.rest_api import app
from sicot_tf.serving.rest_api import rest_server
from sicot_tf.serving.versions import loading
from sicot_tf.serving.versions import model_manager

_log = logging.getLogger(__name__)

# With the default of --drain_seconds not above the 30 seconds after which
# Kubernetes kills.
_FINISH_SECONDS = 15.0
_CLOSE_SECONDS = 5.0
_MAX_OPEN_FILES = 2**16
_MAX_THREADS_FOR_BATCHES = 256
_MONITORING_PATH = "/monitoring/prometheus/metrics"


def run(arguments: argparse.Namespace, stop: threading.Event) -> int:
    """Serves until `stop` is set; returns the exit code.

    Args:
        arguments: the parsed flags of `sicot_tf.serve`.
        stop: SIGTERM or SIGINT came; `is_set` and `wait` are asked.
    """
    with contextlib.ExitStack() as stack:
        try:
            _serve(arguments, stop, stack)
            return 0
        except (OSError, RuntimeError, ValueError) as error:
            text = str(error)
        except tf.errors.OpError as error:
            text = f"{errors.code_name(error.error_code)}: {error.message}"
        print(f"error: Failed to start server. Error: {text}", file=sys.stderr)
        # TensorFlow Serving's code, -1.
        return 255


def _serve(
    arguments: argparse.Namespace,
    stop: threading.Event,
    stack: contextlib.ExitStack,
) -> None:
    """Body of `run`."""
    _raise_file_limit()
    # All that can be wrong is read before models are loaded for minutes.
    config = _model_config(arguments)
    credentials = tls.read_credentials(arguments.ssl_config_file)
    parameters = loading.read_batching_parameters(arguments)
    counts = metrics.Metrics()
    manager = _make_manager(arguments, parameters, counts)
    # No load may run while the interpreter ends.
    stack.callback(manager.close, _CLOSE_SECONDS)
    core = _make_core(arguments, manager, counts, stack)
    over_grpc = grpc_server.GrpcServer(
        core,
        num_threads=_num_threads(arguments, parameters),
        channel_arguments=grpc_server.parse_channel_arguments(
            arguments.grpc_channel_arguments
        ),
    )
    is_draining = threading.Event()
    api = app.Api(
        core,
        counts,
        cors=arguments.rest_api_enable_cors_support,
        timeout_seconds=arguments.rest_api_timeout_in_ms / 1e3,
        monitoring_path=_monitoring_path(arguments.monitoring_config_file),
        num_threads=arguments.rest_api_num_threads or None,
        readiness=lambda: not is_draining.is_set() and manager.is_available(),
    )
    manager.set_config(config)
    if not manager.wait_until_available(stop):
        return
    servers = [over_grpc]
    for address in _grpc_addresses(arguments):
        over_grpc.listen(address, credentials)
    if arguments.rest_api_port:
        servers.append(_rest_server(arguments, api))
    for server in servers:
        server.start()
    if arguments.model_config_file_poll_wait_seconds > 0:
        manager.watch_config_file(
            arguments.model_config_file,
            arguments.model_config_file_poll_wait_seconds,
        )
    _log_ready(arguments, manager)
    stop.wait()
    is_draining.set()
    _drain(servers, arguments.drain_seconds)


def _drain(
    servers: list[grpc_server.GrpcServer | rest_server.RestServer],
    seconds: float,
) -> None:
    """Takes requests for some `seconds`, then ends those that run."""
    for server in servers:
        server.drain()
    _log.info(
        "Stopping: requests are taken for %g more seconds, then running ones "
        "end. A second signal ends at once.",
        seconds,
    )
    time.sleep(seconds)
    waits = [server.stop(_FINISH_SECONDS) for server in servers]
    deadline = time.monotonic() + _FINISH_SECONDS + 1
    for wait in waits:
        wait(max(0.0, deadline - time.monotonic()))
    _log.info("Stopped.")


def _make_core(
    arguments: argparse.Namespace,
    manager: model_manager.ModelManager,
    counts: metrics.Metrics,
    stack: contextlib.ExitStack,
) -> server_core.ServerCore:
    """What answers, with its request log if there is to be one."""
    requests = None
    if arguments.request_log_dir:
        requests = request_log.RequestLog(
            pathlib.Path(arguments.request_log_dir),
            sampling_rate=arguments.request_log_sampling_rate,
            record=counts.record_request_log,
        )
        stack.callback(requests.close)
    return server_core.ServerCore(
        manager,
        metrics=counts,
        request_log=requests,
        serialize_as_tensor_content=(
            arguments.enable_serialization_as_tensor_content
        ),
        check_method_names=arguments.enable_signature_method_name_check,
    )


def _make_manager(
    arguments: argparse.Namespace,
    batching_parameters: Any,
    counts: metrics.Metrics,
) -> model_manager.ModelManager:
    """The manager of versions, without models."""
    scheduler = None
    if batching_parameters is not None:
        scheduler = batching.BatchScheduler(
            batching_parameters, on_batch=counts.record_batch
        )
    return model_manager.ModelManager(
        loading.make_load(arguments, scheduler, counts),
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


def _rest_server(
    arguments: argparse.Namespace, api: app.Api
) -> rest_server.RestServer:
    """With its port, but not yet answering."""
    return rest_server.RestServer(
        api,
        arguments.rest_api_port,
        idle_seconds=arguments.rest_api_idle_timeout_in_ms / 1e3,
        receive_seconds=arguments.rest_api_receive_timeout_in_ms / 1e3,
        max_connections=arguments.rest_api_max_connections,
        record=api.counts.record_rest_response,
    )


def _model_config(
    arguments: argparse.Namespace,
) -> serving_config.ModelServerConfig:
    """From --model_config_file, or of the one model named by flags."""
    if arguments.model_config_file:
        return serving_config.read(
            arguments.model_config_file, serving_config.ModelServerConfig
        )
    if not arguments.model_base_path:
        raise errors.invalid(
            "Both server_options.model_base_path and "
            "server_options.model_config_file are empty!"
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
    batch_size = batching_parameters.max_batch_size.value or 1000
    return max(num_threads, min(2 * batch_size, _MAX_THREADS_FOR_BATCHES))


def _monitoring_path(config_path: str) -> str | None:
    """Where the metrics are, from --monitoring_config_file."""
    if not config_path:
        return None
    config = serving_config.read(
        config_path, serving_config.MonitoringConfig
    ).prometheus_config
    if not config.enable:
        return None
    path = config.path or _MONITORING_PATH
    if not re.fullmatch(r"/[^{}?#\s]+", path) or re.match(
        "/(v1|healthz|readyz)(/|$)", path
    ):
        raise errors.invalid(
            f"Wrong path in {config_path}: expected one such as "
            f"{_MONITORING_PATH}, with / in front, without braces, and none "
            f"below /v1, /healthz or /readyz, received {path!r}."
        )
    return path


def _grpc_addresses(arguments: argparse.Namespace) -> list[str]:
    addresses = []
    if arguments.grpc_socket_path:
        addresses.append(f"unix:{arguments.grpc_socket_path}")
    if arguments.port:
        addresses.append(f"0.0.0.0:{arguments.port}")
    return addresses


def _log_ready(
    arguments: argparse.Namespace, manager: model_manager.ModelManager
) -> None:
    """What is served where, and how to try it."""
    models = []
    for name in manager.model_names():
        versions = [
            str(status.version)
            for status in manager.statuses(model_pb2.ModelSpec(name=name))
            if status.state == get_model_status_pb2.ModelVersionStatus.AVAILABLE
        ]
        models.append(f"{name} version {', '.join(versions)}")
    served = "; ".join(models)
    if arguments.rest_api_port:
        where = f"localhost:{arguments.rest_api_port}"
        _log.info("Exporting HTTP/REST API at:%s: %s", where, served)
    if addresses := _grpc_addresses(arguments):
        where = " and ".join(addresses)
        _log.info("Running gRPC ModelServer at %s: %s", where, served)
    if addresses and models:
        _log.info(
            "Try it: python -m sicot_tf.client PHOTO --server %s --model_name "
            "%s",
            addresses[-1].replace("0.0.0.0", "localhost"),
            manager.model_names()[0],
        )


def _raise_file_limit() -> None:
    """Takes as many open files, and connections, as the system grants."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    is_limited = hard != resource.RLIM_INFINITY
    wanted = min(_MAX_OPEN_FILES, hard) if is_limited else _MAX_OPEN_FILES
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
