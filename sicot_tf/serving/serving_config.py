"""TensorFlow Serving's text protos: models, batching, monitoring, TLS.

Errors are `tf.errors.OpError` with TensorFlow Serving's codes and texts
(server.cc, server_core.cc).
"""

import os
import pathlib
import sys
import urllib.parse
from typing import Any

import tensorflow as tf
from google.protobuf import descriptor_pb2
from google.protobuf import descriptor_pool
from google.protobuf import message
from google.protobuf import message_factory
from google.protobuf import text_format
from google.protobuf import wrappers_pb2
from tensorflow_serving.config import model_server_config_pb2

MODEL_PLATFORM = "tensorflow"

_Field = descriptor_pb2.FieldDescriptorProto
_INT64 = ".google.protobuf.Int64Value"

# Name: (number, type). These messages are no part of tensorflow-serving-api;
# sources: session_bundle_config.proto, monitoring_config.proto and
# ssl_config.proto of TensorFlow Serving.
_MESSAGES = {
    "BatchingParameters": {
        "max_batch_size": (1, _INT64),
        "batch_timeout_micros": (2, _INT64),
        "max_enqueued_batches": (3, _INT64),
        "num_batch_threads": (4, _INT64),
        "thread_pool_name": (5, ".google.protobuf.StringValue"),
        "allowed_batch_sizes": (6, "repeated int64"),
        "pad_variable_length_inputs": (7, "bool"),
        "enable_large_batch_splitting": (8, ".google.protobuf.BoolValue"),
        "max_execution_batch_size": (9, _INT64),
    },
    "PrometheusConfig": {"enable": (1, "bool"), "path": (2, "string")},
    "MonitoringConfig": {
        "prometheus_config": (1, ".tensorflow.serving.PrometheusConfig")
    },
    "SSLConfig": {
        "server_key": (1, "string"),
        "server_cert": (2, "string"),
        "custom_ca": (3, "string"),
        "client_verify": (4, "bool"),
    },
}


def _make_classes() -> dict[str, type[message.Message]]:
    """Classes of `_MESSAGES`.

    In a pool of their own: another library in the process may bring the same
    messages, and one pool takes a name once.
    """
    file = descriptor_pb2.FileDescriptorProto(
        name="tensorflow_serving/private_configs.proto",
        package="tensorflow.serving",
        dependency=[wrappers_pb2.DESCRIPTOR.name],
        syntax="proto3",
    )
    for name, fields in _MESSAGES.items():
        descriptor = file.message_type.add(name=name)
        for field_name, (number, kind) in fields.items():
            field = descriptor.field.add(
                name=field_name, number=number, label=_Field.LABEL_OPTIONAL
            )
            if kind.startswith("repeated "):
                field.label = _Field.LABEL_REPEATED
                kind = kind.removeprefix("repeated ")
            if kind.startswith("."):
                field.type = _Field.TYPE_MESSAGE
                field.type_name = kind
            else:
                field.type = _Field.Type.Value(f"TYPE_{kind.upper()}")
    pool = descriptor_pool.DescriptorPool()
    pool.AddSerializedFile(wrappers_pb2.DESCRIPTOR.serialized_pb)
    pool.Add(file)
    return {
        name: message_factory.GetMessageClass(
            pool.FindMessageTypeByName(f"tensorflow.serving.{name}")
        )
        for name in _MESSAGES
    }


_CLASSES = _make_classes()
BatchingParameters: Any = _CLASSES["BatchingParameters"]
MonitoringConfig: Any = _CLASSES["MonitoringConfig"]
SSLConfig: Any = _CLASSES["SSLConfig"]


def read_model_config(
    path: str | os.PathLike[str],
) -> model_server_config_pb2.ModelServerConfig:
    """Reads `--model_config_file`.

    Raises:
        tf.errors.NotFoundError, tf.errors.InvalidArgumentError: if there is
            no such file, or it does not parse; where it does not parse is
            printed to the log.
    """
    return _read(path, model_server_config_pb2.ModelServerConfig())


def read_batching_parameters(path: str | os.PathLike[str]) -> Any:
    """Reads `--batching_parameters_file`; fields as TensorFlow Serving's.

    Raises:
        tf.errors.OpError: as `read_model_config`.
    """
    return _read(path, BatchingParameters())


def read_monitoring_config(path: str | os.PathLike[str]) -> Any:
    """Reads `--monitoring_config_file`: `prometheus_config{enable path}`.

    Raises:
        tf.errors.OpError: as `read_model_config`.
    """
    return _read(path, MonitoringConfig())


def read_ssl_config(path: str | os.PathLike[str]) -> Any:
    """Reads `--ssl_config_file`: the PEM texts themselves, not file names.

    Raises:
        tf.errors.OpError: as `read_model_config`.
    """
    return _read(path, SSLConfig())


def read_session_config(
    path: str | os.PathLike[str],
) -> tf.compat.v1.ConfigProto:
    """Reads `--tensorflow_session_config_file`.

    Raises:
        tf.errors.OpError: as `read_model_config`.
    """
    return _read(path, tf.compat.v1.ConfigProto())


def make_model_config(
    name: str, base_path: str | os.PathLike[str]
) -> model_server_config_pb2.ModelServerConfig:
    """The config of `--model_name` and `--model_base_path`."""
    config = model_server_config_pb2.ModelServerConfig()
    config.model_config_list.config.add(
        name=name, base_path=str(base_path), model_platform=MODEL_PLATFORM
    )
    return config


def check_model_list(models: model_server_config_pb2.ModelConfigList) -> None:
    """Raises unless names differ and base paths are absolute and local.

    Raises:
        tf.errors.InvalidArgumentError: with TensorFlow Serving's texts.
    """
    names = set()
    for model in models.config:
        if model.name in names:
            raise tf.errors.InvalidArgumentError(
                None,
                None,
                f"Illegal to list model {model.name} multiple times in config "
                "list",
            )
        names.add(model.name)
    for model in models.config:
        if not model.name:
            raise tf.errors.InvalidArgumentError(
                None,
                None,
                "Expected a name for the model with base_path()="
                f"{model.base_path}: no request could ask for it.",
            )
        if not _is_absolute(model.base_path):
            raise tf.errors.InvalidArgumentError(
                None,
                None,
                f"Expected model {model.name} to have an absolute path or "
                f"URI; got base_path()={model.base_path}",
            )
        # TensorFlow Serving has these through builds with their libraries.
        if urllib.parse.urlsplit(model.base_path).scheme not in ("", "file"):
            raise tf.errors.InvalidArgumentError(
                None,
                None,
                f"Expected model {model.name} to have a base_path in a "
                f"mounted file system; got base_path()={model.base_path}. "
                "Mount the bucket, or copy the versions to a local folder.",
            )


def check_platforms(
    old: model_server_config_pb2.ModelConfigList,
    new: model_server_config_pb2.ModelConfigList,
) -> None:
    """Raises if a model of both lists changes its platform.

    Raises:
        tf.errors.InvalidArgumentError: with TensorFlow Serving's texts.
    """
    old_platforms = {model.name: _platform(model) for model in old.config}
    for model in new.config:
        if model.name not in old_platforms:
            continue
        platform = _platform(model)
        if platform != old_platforms[model.name]:
            raise tf.errors.InvalidArgumentError(
                None,
                None,
                "Illegal to change a model's platform. For model "
                f"{model.name} platform was {old_platforms[model.name]} and "
                f"new platform requested is {platform}",
            )


def check_supported(models: model_server_config_pb2.ModelConfigList) -> None:
    """Raises unless each model is a SavedModel: platform "tensorflow".

    Raises:
        tf.errors.InvalidArgumentError: with TensorFlow Serving's texts.
    """
    for model in models.config:
        platform = _platform(model)
        if platform != MODEL_PLATFORM:
            raise tf.errors.InvalidArgumentError(
                None,
                None,
                f"Model {model.name} requests unsupported platform {platform}",
            )


def local_path(base_path: str) -> pathlib.Path:
    """The folder that a checked `base_path` means."""
    return pathlib.Path(base_path.removeprefix("file://"))


def _platform(model: model_server_config_pb2.ModelConfig) -> str:
    """The platform, also from the deprecated field for it."""
    types = model_server_config_pb2
    if model.model_type != types.MODEL_TYPE_UNSPECIFIED:
        if model.model_platform:
            raise tf.errors.InvalidArgumentError(
                None,
                None,
                "Illegal setting both ModelServerConfig::model_type "
                "(deprecated) and ModelServerConfig::model_platform.",
            )
        if model.model_type == types.TENSORFLOW:
            return MODEL_PLATFORM
        raise tf.errors.InvalidArgumentError(
            None,
            None,
            f"ModelServerConfig::model_type choice {model.model_type} not "
            "supported.",
        )
    if not model.model_platform:
        raise tf.errors.InvalidArgumentError(
            None,
            None,
            "Illegal setting neither ModelServerConfig::model_type "
            "(deprecated) nor ModelServerConfig::model_platform.",
        )
    return model.model_platform


def _is_absolute(base_path: str) -> bool:
    """Whether a path starts at the root, or is a URI with a scheme."""
    return base_path.startswith("/") or "://" in base_path


def _read(path: str | os.PathLike[str], config: Any) -> Any:
    """Parses a text proto into `config`, which it returns."""
    try:
        text = pathlib.Path(path).read_text("utf-8")
    except FileNotFoundError as error:
        raise tf.errors.NotFoundError(
            None, None, f"{path}; No such file or directory"
        ) from error
    except OSError as error:
        raise tf.errors.UnknownError(
            None, None, f"{path}; {error.strerror}"
        ) from error
    except UnicodeDecodeError as error:
        raise _parse_error(path, config, error) from error
    try:
        return text_format.Parse(text, config)
    except text_format.ParseError as error:
        raise _parse_error(path, config, error) from error


def _parse_error(
    path: str | os.PathLike[str], config: Any, error: Exception
) -> tf.errors.InvalidArgumentError:
    """TensorFlow Serving's error; the place goes to the log, as there."""
    print(
        f"Error parsing text-format {config.DESCRIPTOR.full_name}: {error}",
        file=sys.stderr,
        flush=True,
    )
    return tf.errors.InvalidArgumentError(
        None, None, f"Invalid protobuf file: '{path}'"
    )
