"""Flags of the model server: TensorFlow Serving's, and a few of its own.

Imports no TensorFlow: the supervisor reads them too.
"""

import argparse
import os
import sys

# Flags of TensorFlow Serving that change nothing here, and why. They are
# taken, so that a command line need not be rewritten.
WITHOUT_EFFECT = {
    "enable_grpc_healthcheck_service": "the health service always runs",
    "enable_profiler": "there is no profiler service",
    "flush_filesystem_caches": "files are read by the page cache alone",
    "force_allow_any_version_labels_for_unavailable_models": (
        "use --allow_version_labels_for_unavailable_models"
    ),
    "mixed_precision": "the graph runs as it was exported",
    "num_unload_threads": "versions are unloaded by the manager's thread",
    "platform_config_file": "use the flags for sessions and batching",
    "prefer_tflite_model": "only SavedModels are served",
    "remove_unused_fields_from_bundle_metagraph": "there is nothing to gain",
    "skip_initialize_tpu": "there are no TPUs here",
    "thread_pool_factory_config_file": "use --tensorflow_*_parallelism",
    "use_tflite_model": "only SavedModels are served",
    "xla_cpu_compilation_enabled": "set TF_XLA_FLAGS instead",
    "xla_gpu_compilation_enabled": "set TF_XLA_FLAGS instead",
}


def add(parser: argparse.ArgumentParser) -> None:
    """Adds all flags to `parser`."""
    _add_ports(parser.add_argument_group("ports"))
    _add_models(parser.add_argument_group("models and versions"))
    _add_execution(parser.add_argument_group("execution"))
    _add_operation(parser.add_argument_group("operation"))
    group = parser.add_argument_group(
        "taken without effect",
        "flags of TensorFlow Serving that change nothing here",
    )
    for name, reason in WITHOUT_EFFECT.items():
        group.add_argument(
            f"--{name}", nargs="?", const="true", metavar="...", help=reason
        )
    # Between supervisor and server.
    for name in ("supervisor_id", "num_restarts"):
        parser.add_argument(
            f"--{name}", type=int, default=0, help=argparse.SUPPRESS
        )


def warn(arguments: argparse.Namespace, unknown: list[str]) -> None:
    """One warning for all flags that change nothing; none if there are none.

    Args:
        arguments: what was parsed.
        unknown: what was not. TensorFlow Serving, too, goes on.
    """
    texts = [
        f"--{name} ({reason})"
        for name, reason in WITHOUT_EFFECT.items()
        if getattr(arguments, name) is not None
    ]
    texts += [f"{word} (unknown)" for word in unknown]
    if texts:
        print(
            f"Warning: without effect here: {'; '.join(texts)}.",
            file=sys.stderr,
            flush=True,
        )


def _add_ports(group: argparse._ArgumentGroup) -> None:
    _add(group, "port", 8500, "gRPC port; 0: none")
    _add(group, "grpc_socket_path", "", "listen on this UNIX socket too")
    _add(group, "rest_api_port", 0, "HTTP port of the REST API; 0: none")
    _add(
        group,
        "rest_api_num_threads",
        4 * (os.cpu_count() or 1),
        "REST requests that run at the same time",
    )
    _add(group, "rest_api_timeout_in_ms", 30_000, "for a REST request")
    _add(
        group,
        "rest_api_receive_timeout_in_ms",
        30_000,
        "in which a REST request must have come; and a second more for each "
        "1,000 bytes",
    )
    _add(
        group,
        "rest_api_idle_timeout_in_ms",
        620_000,
        "how long an HTTP connection without requests stays open: longer than "
        "a load balancer keeps it, 60 s on AWS, 600 s on Google Cloud",
    )
    _add(
        group,
        "rest_api_max_connections",
        4096,
        "HTTP connections at a time; fewer if ulimit -n is below three times "
        "as many",
    )
    _add(
        group,
        "rest_api_enable_cors_support",
        False,
        "let web pages of other hosts use the REST API",
    )
    _add(
        group,
        "grpc_max_threads",
        0,
        "gRPC requests that run at the same time; 0: 4 for each core, 16 or "
        "more, enough for two batches",
    )
    _add(
        group,
        "grpc_channel_arguments",
        "",
        "options of gRPC: key=value,key=value",
    )
    _add(
        group,
        "ssl_config_file",
        "",
        "TLS for gRPC: SSLConfig as text, PEM contents inside",
    )
    _add(group, "use_alts_credentials", False, "refused: use TLS")


def _add_models(group: argparse._ArgumentGroup) -> None:
    _add(group, "model_name", "default", "name in requests")
    _add(
        group, "model_base_path", "", "folder with one folder for each version"
    )
    _add(
        group,
        "model_config_file",
        "",
        "several models, version policies, labels: ModelServerConfig as text",
    )
    _add(
        group,
        "model_config_file_poll_wait_seconds",
        0.0,
        "read it again so often; 0: never",
    )
    _add(
        group,
        "file_system_poll_wait_seconds",
        1.0,
        "look for versions so often; 0: only at the start",
    )
    _add(
        group,
        "allow_version_labels_for_unavailable_models",
        False,
        "labels may be given before their version is loaded",
    )
    _add(
        group,
        "unload_when_empty",
        False,
        "a base path without versions unloads the model, as TensorFlow "
        "Serving does; otherwise what is loaded stays",
    )
    _add(
        group,
        "fail_if_no_model_versions_found",
        False,
        "end if a base path holds no version at the start; otherwise the "
        "server waits for one",
    )
    _add(
        group,
        "incomplete_version_seconds",
        300.0,
        "a version that lacks files, and has not changed for so long, is shown "
        "as ended; 0: wait for ever",
    )
    _add(group, "saved_model_tags", "serve", "comma-separated")
    _add(group, "enable_model_warmup", True, "run the stored requests first")
    _add(
        group,
        "num_request_iterations_for_warmup",
        1,
        "how often each of them runs",
    )
    _add(group, "max_num_load_retries", 5, "further tries of a failed load")
    _add(
        group,
        "load_retry_interval_micros",
        60_000_000,
        "time between two tries",
    )
    _add(group, "num_load_threads", 0, "versions loaded at a time; 0: one")


def _add_execution(group: argparse._ArgumentGroup) -> None:
    _add(group, "enable_batching", False, "run requests together")
    _add(
        group,
        "batching_parameters_file",
        "",
        "BatchingParameters as text; needs --enable_batching",
    )
    _add(
        group,
        "enable_per_model_batching_parameters",
        False,
        "a version's own batching_params.pbtxt counts, if it has one",
    )
    for kind in ("session", "intra_op", "inter_op"):
        _add(
            group,
            f"tensorflow_{kind}_parallelism",
            0,
            "threads of TensorFlow; 0: one for each core",
        )
    _add(
        group,
        "tensorflow_session_config_file",
        "",
        "ConfigProto of the sessions as text",
    )
    _add(
        group,
        "per_process_gpu_memory_fraction",
        0.0,
        "share of the GPU memory to take; 0: TensorFlow's default",
    )
    _add(
        group,
        "enable_signature_method_name_check",
        False,
        "refuse signatures of another kind than the call",
    )
    _add(
        group,
        "enable_serialization_as_tensor_content",
        False,
        "answer with bytes instead of typed values",
    )


def _add_operation(group: argparse._ArgumentGroup) -> None:
    _add(
        group,
        "monitoring_config_file",
        "",
        "metrics for Prometheus: MonitoringConfig as text",
    )
    _add(
        group,
        "request_log_dir",
        "",
        "keep a sample of requests and answers here, as TFRecords of "
        "PredictionLog",
    )
    _add(
        group,
        "request_log_sampling_rate",
        0.01,
        "share of the requests that is kept, 0 to 1",
    )
    _add(
        group,
        "drain_seconds",
        10.0,
        "how long all requests are still answered after SIGTERM, while health "
        "checks send clients elsewhere",
    )
    _add(
        group,
        "supervise",
        True,
        "restart the server if it dies in native code",
    )
    group.add_argument(
        "--version", action="store_true", help="print versions and end"
    )


def _add(
    group: argparse._ArgumentGroup,
    name: str,
    default: bool | int | float | str,
    text: str,
) -> None:
    """One flag; the type is that of the default."""
    shown = f" ({str(default).lower()})" if default != "" else ""
    text = text.replace("%", "%%") + shown
    if isinstance(default, bool):
        group.add_argument(
            f"--{name}",
            type=_parse_boolean,
            nargs="?",
            const=True,
            default=default,
            metavar="true|false",
            help=text,
        )
    else:
        metavar = {int: "N", float: "X", str: "TEXT"}[type(default)]
        group.add_argument(
            f"--{name}",
            type=type(default),
            default=default,
            metavar=metavar,
            help=text,
        )


def _parse_boolean(text: str) -> bool:
    """`--flag=false` as TensorFlow Serving writes it."""
    values = {"true": True, "1": True, "false": False, "0": False}
    if text.lower() not in values:
        raise argparse.ArgumentTypeError(
            f"expected true or false, received {text!r}"
        )
    return values[text.lower()]
