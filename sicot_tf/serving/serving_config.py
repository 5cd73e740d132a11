"""TensorFlow Serving's text protos: models, batching, monitoring, TLS.

Errors have TensorFlow Serving's codes (server.cc, server_core.cc).
"""

import os
import pathlib
import urllib.parse
from collections.abc import Callable
from typing import Any

from google.protobuf import text_format
from tensorflow_serving.config import model_server_config_pb2

from sicot_tf import protos
from sicot_tf.serving import errors

MODEL_PLATFORM = "tensorflow"

# Messages that are no part of tensorflow-serving-api: those of
# session_bundle_config.proto, monitoring_config.proto and ssl_config.proto.
_CLASSES = protos.make_classes(
    "tensorflow.serving",
    {
        "Int64Value": [("value", 1, "int64")],
        "StringValue": [("value", 1, "string")],
        "BoolValue": [("value", 1, "bool")],
        "BatchingParameters": [
            ("max_batch_size", 1, "Int64Value"),
            ("batch_timeout_micros", 2, "Int64Value"),
            ("max_enqueued_batches", 3, "Int64Value"),
            ("num_batch_threads", 4, "Int64Value"),
            ("thread_pool_name", 5, "StringValue"),
            ("allowed_batch_sizes", 6, "int64*"),
            ("pad_variable_length_inputs", 7, "bool"),
            ("enable_large_batch_splitting", 8, "BoolValue"),
            ("max_execution_batch_size", 9, "Int64Value"),
        ],
        "PrometheusConfig": [("enable", 1, "bool"), ("path", 2, "string")],
        "MonitoringConfig": [("prometheus_config", 1, "PrometheusConfig")],
        "SSLConfig": [
            ("server_key", 1, "string"),
            ("server_cert", 2, "string"),
            ("custom_ca", 3, "string"),
            ("client_verify", 4, "bool"),
        ],
    },
)
BatchingParameters = _CLASSES["BatchingParameters"]
MonitoringConfig = _CLASSES["MonitoringConfig"]
# Holds the PEM texts themselves, not file names.
SSLConfig = _CLASSES["SSLConfig"]
ModelServerConfig = model_server_config_pb2.ModelServerConfig
ModelConfigList = model_server_config_pb2.ModelConfigList


def read(path: str | os.PathLike[str], message_class: Callable[[], Any]) -> Any:
    """A message in a text file, for example that of `--ssl_config_file`.

    Raises:
        tf.errors.OpError: if there is no such file, or it holds another one.
    """
    message = message_class()
    try:
        return text_format.Parse(pathlib.Path(path).read_bytes(), message)
    except FileNotFoundError as error:
        raise errors.not_found(f"{path}; No such file or directory") from error
    except OSError as error:
        raise errors.unknown(f"{path}; {error.strerror}") from error
    except (text_format.ParseError, UnicodeDecodeError) as error:
        raise errors.invalid(
            f"Invalid protobuf file: '{path}': expected the text form of "
            f"{message.DESCRIPTOR.full_name}: {error}"
        ) from error


def make_model_config(
    name: str, base_path: str | os.PathLike[str]
) -> ModelServerConfig:
    """The config of `--model_name` and `--model_base_path`."""
    config = ModelServerConfig()
    config.model_config_list.config.add(
        name=name, base_path=str(base_path), model_platform=MODEL_PLATFORM
    )
    return config


def check_model_list(models: ModelConfigList) -> None:
    """Raises unless names differ, and each is a SavedModel in a folder."""
    names = set()
    for model in models.config:
        path = model.base_path
        if model.name in names:
            raise errors.invalid(
                f"Illegal to list model {model.name} multiple times in config "
                "list"
            )
        names.add(model.name)
        if not model.name:
            raise errors.invalid(
                f"Expected a name for the model with base_path()={path}: no "
                "request could ask for it."
            )
        if not path.startswith("/") and "://" not in path:
            raise errors.invalid(
                f"Expected model {model.name} to have an absolute path or "
                f"URI; got base_path()={path}"
            )
        # TensorFlow Serving has these through builds with their libraries.
        if urllib.parse.urlsplit(path).scheme not in ("", "file"):
            raise errors.invalid(
                f"Expected model {model.name} to have a base_path in a "
                f"mounted file system; got base_path()={path}. Mount the "
                "bucket, or copy the versions to a local folder."
            )
        platform = _platform(model)
        if platform != MODEL_PLATFORM:
            raise errors.invalid(
                f"Model {model.name} requests unsupported platform {platform}"
            )


def local_path(base_path: str) -> pathlib.Path:
    """The folder that a checked `base_path` means."""
    return pathlib.Path(base_path.removeprefix("file://"))


def _platform(model: model_server_config_pb2.ModelConfig) -> str:
    """The platform, also from the deprecated field for it."""
    kind = model_server_config_pb2.ModelType.Name(model.model_type)
    platforms = [model.model_platform] if model.model_platform else []
    if kind != "MODEL_TYPE_UNSPECIFIED":
        platforms.append(kind.lower())
    if len(platforms) != 1:
        raise errors.invalid(
            f"Illegal setting of {' and '.join(platforms) or 'neither'}: "
            f"expected model_platform of model {model.name!r}, or model_type "
            "(deprecated), and not both."
        )
    return platforms[0]
