"""Serves SavedModels over TensorFlow Serving's gRPC and REST interfaces.

Versions under the base path of each model are loaded, tried with the warm-up
requests stored with them, and swapped while requests run. The ports open
once all models are available: a port that answers means models that are
ready. systemd or Kubernetes restarts a server that dies in native code.
"""

import argparse
import faulthandler
import importlib.metadata
import logging
import os
import select
import signal
import socket
import sys
from typing import Any

import sicot_tf
from sicot_tf import command_line

_log = logging.getLogger(__name__)
_EXAMPLES = """\
The flags are those of tensorflow_model_server. SIGTERM or Ctrl-C: health
checks answer NOT_SERVING and /readyz 503; requests are taken for
--drain_seconds more; running ones have 15 seconds to end; exit code 0. A
second signal ends the server at once.

examples:
  python -m sicot_tf.serve --model_name sicot \\
      --model_base_path $PWD/saved_models/sicot --rest_api_port 8501
  python -m sicot_tf.serve --model_config_file saved_models/models.config \\
      --enable_batching --batching_parameters_file saved_models/batching.config
  python -m sicot_tf.client photo.jpg --model_name sicot
"""
# By group: each flag, its default, which is also its type, and a text.
_FLAGS: dict[str, tuple[tuple[str, Any, str], ...]] = {
    "ports": (
        ("port", 8500, "gRPC port; 0: none"),
        ("grpc_socket_path", "", "listen on this UNIX socket too"),
        ("rest_api_port", 0, "HTTP port of the REST API; 0: none"),
        (
            "rest_api_num_threads",
            0,
            "REST requests that run at the same time; 0: 4 for each core",
        ),
        ("rest_api_timeout_in_ms", 30000, "for a REST request"),
        (
            "rest_api_receive_timeout_in_ms",
            30000,
            "in which a REST request must have come; and a second more for "
            "each 1,000 bytes",
        ),
        (
            "rest_api_idle_timeout_in_ms",
            620000,
            "how long an HTTP connection without requests stays open: "
            "longer than a load balancer keeps it, 60 s on AWS, 600 s on "
            "Google Cloud",
        ),
        (
            "rest_api_max_connections",
            4096,
            "HTTP connections at a time; fewer if ulimit -n is below three "
            "times as many",
        ),
        (
            "rest_api_enable_cors_support",
            False,
            "let web pages of other hosts use the REST API",
        ),
        (
            "grpc_max_threads",
            0,
            "gRPC requests that run at the same time; 0: 4 for each core, "
            "16 or more, enough for two batches",
        ),
        ("grpc_channel_arguments", "", "options of gRPC: key=value,key=value"),
        (
            "ssl_config_file",
            "",
            "TLS for gRPC: SSLConfig as text, PEM contents inside",
        ),
        ("use_alts_credentials", False, "refused: use TLS"),
    ),
    "models and versions": (
        ("model_name", "default", "name in requests"),
        ("model_base_path", "", "folder with one folder for each version"),
        (
            "model_config_file",
            "",
            "several models, version policies, labels: ModelServerConfig as "
            "text",
        ),
        (
            "model_config_file_poll_wait_seconds",
            0.0,
            "read it again so often; 0: never",
        ),
        (
            "file_system_poll_wait_seconds",
            1.0,
            "look for versions so often; 0: only at the start",
        ),
        (
            "allow_version_labels_for_unavailable_models",
            False,
            "labels may be given before their version is loaded",
        ),
        (
            "unload_when_empty",
            False,
            "a base path without versions unloads the model, as TensorFlow "
            "Serving does; otherwise what is loaded stays",
        ),
        (
            "fail_if_no_model_versions_found",
            False,
            "end if a base path holds no version at the start; otherwise "
            "the server waits for one",
        ),
        (
            "incomplete_version_seconds",
            300.0,
            "a version that lacks files, and has not changed for so long, "
            "is shown as ended; 0: wait for ever",
        ),
        ("saved_model_tags", "serve", "comma-separated"),
        ("enable_model_warmup", True, "run the stored requests first"),
        ("num_request_iterations_for_warmup", 1, "how often each of them runs"),
        ("max_num_load_retries", 5, "further tries of a failed load"),
        ("load_retry_interval_micros", 60000000, "time between two tries"),
        ("num_load_threads", 0, "versions loaded at a time; 0: one"),
    ),
    "execution": (
        ("enable_batching", False, "run requests together"),
        (
            "batching_parameters_file",
            "",
            "BatchingParameters as text; needs --enable_batching",
        ),
        (
            "enable_per_model_batching_parameters",
            False,
            "a version's own batching_params.pbtxt counts, if it has one",
        ),
        (
            "tensorflow_session_parallelism",
            0,
            "threads of TensorFlow; 0: one a core",
        ),
        (
            "tensorflow_intra_op_parallelism",
            0,
            "threads of TensorFlow; 0: one a core",
        ),
        (
            "tensorflow_inter_op_parallelism",
            0,
            "threads of TensorFlow; 0: one a core",
        ),
        (
            "tensorflow_session_config_file",
            "",
            "ConfigProto of the sessions as text",
        ),
        (
            "per_process_gpu_memory_fraction",
            0.0,
            "share of the GPU memory to take; 0: TensorFlow's default",
        ),
        (
            "enable_signature_method_name_check",
            False,
            "refuse signatures of another kind than the call",
        ),
        (
            "enable_serialization_as_tensor_content",
            False,
            "answer with bytes instead of typed values",
        ),
    ),
    "operation": (
        (
            "monitoring_config_file",
            "",
            "metrics for Prometheus: MonitoringConfig as text",
        ),
        (
            "request_log_dir",
            "",
            "keep a sample of requests and answers here, as TFRecords of "
            "PredictionLog",
        ),
        (
            "request_log_sampling_rate",
            0.01,
            "share of the requests that is kept, 0 to 1",
        ),
        (
            "drain_seconds",
            10.0,
            "how long all requests are still answered after SIGTERM, while "
            "health checks send clients elsewhere",
        ),
    ),
}
_RANGES = {
    # gRPC would take 99999 for 34463.
    "port": (0, 65535),
    "rest_api_port": (0, 65535),
    "drain_seconds": (0, 10**9),
    "rest_api_receive_timeout_in_ms": (1, 10**9),
    "rest_api_idle_timeout_in_ms": (1, 10**9),
    "rest_api_max_connections": (1, 10**9),
    "request_log_sampling_rate": (0, 1),
}
# Of TensorFlow Serving, and one of an earlier version of this server. They are
# taken, so that a command line need not be rewritten.
_WITHOUT_EFFECT = (
    "enable_grpc_healthcheck_service",
    "enable_profiler",
    "flush_filesystem_caches",
    "force_allow_any_version_labels_for_unavailable_models",
    "mixed_precision",
    "num_unload_threads",
    "platform_config_file",
    "prefer_tflite_model",
    "remove_unused_fields_from_bundle_metagraph",
    "skip_initialize_tpu",
    "supervise",
    "thread_pool_factory_config_file",
    "use_tflite_model",
    "xla_cpu_compilation_enabled",
    "xla_gpu_compilation_enabled",
)


@command_line.mistakes_in_a_sentence()
def main(argv: list[str] | None = None) -> None:
    """Serves until a signal comes; the process ends here."""
    parser = _make_parser()
    arguments, unknown = parser.parse_known_args(argv)
    if arguments.version:
        print(
            f"TensorFlow ModelServer: sicot_tf {sicot_tf.__version__}\n"
            f"TensorFlow Library: {importlib.metadata.version('tensorflow')}"
        )
        return
    if mistake := _mistake(arguments):
        parser.error(mistake)
    _warn(arguments, unknown)
    stop = _StopSignal()
    command_line.import_tensorflow()
    # A fault in native code then tells the Python line it came from.
    faulthandler.enable()
    from sicot_tf.serving import server

    code = server.run(arguments, stop)
    sys.stdout.flush()
    sys.stderr.flush()
    # The end of the interpreter would wait for threads that still load a
    # model or run a request past its time, or crash in them.
    os._exit(code)


def _make_parser() -> command_line.ArgumentParser:
    parser = command_line.ArgumentParser("sicot_tf.serve", __doc__, _EXAMPLES)
    for title, flags in _FLAGS.items():
        group = parser.add_argument_group(title)
        for name, default, text in flags:
            _add_flag(group, name, default, text)
    group.add_argument(
        "--version", action="store_true", help="print versions and end"
    )
    group = parser.add_argument_group(
        "taken without effect", ", ".join(_WITHOUT_EFFECT)
    )
    for name in _WITHOUT_EFFECT:
        group.add_argument(
            f"--{name}", nargs="?", const="true", help=argparse.SUPPRESS
        )
    # The list of all of them would fill a screen.
    parser.usage = "%(prog)s --model_base_path FOLDER [FLAGS]"
    return parser


def _mistake(arguments: argparse.Namespace) -> str | None:
    """What is wrong with flags of impossible values, or that contradict."""
    for name, (least, most) in _RANGES.items():
        value = getattr(arguments, name)
        if not least <= value <= most:
            return f"expected --{name} from {least} to {most}, received {value}"
    port, rest_port = arguments.port, arguments.rest_api_port
    if not (port or arguments.grpc_socket_path or rest_port):
        return "expected --port, --grpc_socket_path or --rest_api_port"
    if port and port == rest_port:
        return f"expected another --rest_api_port than --port, received {port}"
    if arguments.use_alts_credentials:
        return "ALTS credentials exist on Google Cloud; use --ssl_config_file"
    if (
        arguments.model_config_file_poll_wait_seconds > 0
        and not arguments.model_config_file
    ):
        return (
            "expected --model_config_file with "
            "--model_config_file_poll_wait_seconds"
        )
    return None


def _warn(arguments: argparse.Namespace, unknown: list[str]) -> None:
    """One warning for all flags that change nothing; none if there are none.

    Args:
        arguments: what was parsed.
        unknown: what was not. TensorFlow Serving, too, goes on.
    """
    words = [
        f"--{name}"
        for name in _WITHOUT_EFFECT
        if getattr(arguments, name) is not None
    ] + unknown
    if words:
        _log.warning("Flags without effect: %s", " ".join(words))


def _add_flag(
    group: argparse._ArgumentGroup,
    name: str,
    default: Any,
    text: str,
) -> None:
    """One flag; the type is that of the default."""
    shown = f" ({str(default).lower()})" if default != "" else ""
    metavar = {bool: "true|false", int: "N", float: "X", str: "TEXT"}
    options = {"type": type(default)}
    if isinstance(default, bool):
        options = {"type": _parse_boolean, "nargs": "?", "const": True}
    group.add_argument(
        f"--{name}",
        default=default,
        help=text + shown,
        metavar=metavar[type(default)],
        **options,
    )


def _parse_boolean(text: str) -> bool:
    """`--flag=false` as TensorFlow Serving writes it."""
    values = {"true": True, "1": True, "false": False, "0": False}
    if text.lower() not in values:
        raise argparse.ArgumentTypeError(
            f"expected true or false, received {text!r}"
        )
    return values[text.lower()]


class _StopSignal:
    """Set by SIGTERM or SIGINT; a second one ends the process.

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

    def _set(self, number: int, _: object) -> None:
        if self._is_set:
            _log.warning("A second signal: ended at once.")
            os._exit(128 + number)
        self._is_set = True

    def is_set(self) -> bool:
        return self._is_set

    def wait(self, seconds: float | None = None) -> None:
        """Returns once a signal came, or after the time."""
        if not self._is_set:
            select.select([self._reader], [], [], seconds)


if __name__ == "__main__":
    main()
