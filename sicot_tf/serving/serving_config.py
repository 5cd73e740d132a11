"""TensorFlow Serving's text protos: models, batching, monitoring, TLS.

Errors have TensorFlow Serving's codes (server.cc, server_core.cc).
"""

import os
import pathlib
import urllib.parse
from typing import Any

import tensorflow as tf
from google.protobuf import descriptor_pb2
from google.protobuf import descriptor_pool
from google.protobuf import message_factory
from google.protobuf import text_format
from google.protobuf import wrappers_pb2
from tensorflow_serving.config import model_server_config_pb2

from sicot_tf.serving import errors

MODEL_PLATFORM = "tensorflow"

_Field = descriptor_pb2.FieldDescriptorProto
_PACKAGE = "tensorflow.serving"
# Messages that are no part of tensorflow-serving-api, with number and type of
# each field: session_bundle_config.proto, monitoring_config.proto and
# ssl_config.proto of TensorFlow Serving.
_MESSAGES = {
    "BatchingParameters": {
        "max_batch_size": (1, "Int64Value"),
        "batch_timeout_micros": (2, "Int64Value"),
        "max_enqueued_batches": (3, "Int64Value"),
        "num_batch_threads": (4, "Int64Value"),
        "thread_pool_name": (5, "StringValue"),
        "allowed_batch_sizes": (6, "repeated int64"),
        "pad_variable_length_inputs": (7, "bool"),
        "enable_large_batch_splitting": (8, "BoolValue"),
        "max_execution_batch_size": (9, "Int64Value"),
    },
    "PrometheusConfig": {"enable": (1, "bool"), "path": (2, "string")},
    "MonitoringConfig": {"prometheus_config": (1, "PrometheusConfig")},
    "SSLConfig": {
        "server_key": (1, "string"),
        "server_cert": (2, "string"),
        "custom_ca": (3, "string"),
        "client_verify": (4, "bool"),
    },
}


def _make_pool() -> descriptor_pool.DescriptorPool:
    """A pool of `_MESSAGES` alone.

    Another library in the process may bring the same messages, and one pool
    takes a name once.
    """
    file = descriptor_pb2.FileDescriptorProto(
        name="tensorflow_serving/private_configs.proto",
        package=_PACKAGE,
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
            if kind.islower():
                field.type = _Field.Type.Value(f"TYPE_{kind.upper()}")
            else:
                field.type = _Field.TYPE_MESSAGE
                ours = kind in _MESSAGES
                package = _PACKAGE if ours else "google.protobuf"
                field.type_name = f".{package}.{kind}"
    pool = descriptor_pool.DescriptorPool()
    pool.AddSerializedFile(wrappers_pb2.DESCRIPTOR.serialized_pb)
    pool.Add(file)
    return pool


_POOL = _make_pool()


def _make_class(name: str) -> Any:
    return message_factory.GetMessageClass(
        _POOL.FindMessageTypeByName(f"{_PACKAGE}.{name}")
    )


BatchingParameters = _make_class("BatchingParameters")
MonitoringConfig = _make_class("MonitoringConfig")
SSLConfig = _make_class("SSLConfig")


def read_model_config(
    path: str | os.PathLike[str],
) -> model_server_config_pb2.ModelServerConfig:
    """Reads `--model_config_file`; raises `tf.errors.OpError`, as all here."""
    return _read(path, model_server_config_pb2.ModelServerConfig())


def read_batching_parameters(path: str | os.PathLike[str]) -> Any:
    """Reads `--batching_parameters_file`; fields as TensorFlow Serving's."""
    return _read(path, BatchingParameters())


def read_monitoring_config(path: str | os.PathLike[str]) -> Any:
    """Reads `--monitoring_config_file`: `prometheus_config{enable path}`."""
    return _read(path, MonitoringConfig())


def read_ssl_config(path: str | os.PathLike[str]) -> Any:
    """Reads `--ssl_config_file`: the PEM texts themselves, not file names."""
    return _read(path, SSLConfig())


def read_session_config(
    path: str | os.PathLike[str],
) -> tf.compat.v1.ConfigProto:
    """Reads `--tensorflow_session_config_file`."""
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
    """Raises unless names differ and base paths are absolute and local."""
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


def check_platforms(
    old: model_server_config_pb2.ModelConfigList,
    new: model_server_config_pb2.ModelConfigList,
) -> None:
    """Raises if a model of both lists changes its platform."""
    old_platforms = {model.name: _platform(model) for model in old.config}
    for model in new.config:
        platform = _platform(model)
        before = old_platforms.get(model.name, platform)
        if platform != before:
            raise errors.invalid(
                "Illegal to change a model's platform. For model "
                f"{model.name} platform was {before} and new platform "
                f"requested is {platform}"
            )


def check_supported(models: model_server_config_pb2.ModelConfigList) -> None:
    """Raises unless each model is a SavedModel: platform "tensorflow"."""
    for model in models.config:
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


def _read(path: str | os.PathLike[str], config: Any) -> Any:
    """Parses a text proto into `config`, which it returns."""
    try:
        return text_format.Parse(pathlib.Path(path).read_bytes(), config)
    except FileNotFoundError as error:
        raise tf.errors.NotFoundError(
            None, None, f"{path}; No such file or directory"
        ) from error
    except OSError as error:
        raise tf.errors.UnknownError(
            None, None, f"{path}; {error.strerror}"
        ) from error
    except (text_format.ParseError, UnicodeDecodeError) as error:
        raise errors.invalid(
            f"Invalid protobuf file: '{path}': expected the text form of "
            f"{config.DESCRIPTOR.full_name}: {error}"
        ) from error
