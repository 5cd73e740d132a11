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

# Messages that are no part of tensorflow-serving-api, in a pool of their own:
# another library in the process may bring them, and one pool takes a name once.
# Of session_bundle_config.proto, monitoring_config.proto and ssl_config.proto.
_PROTOS = """
name: "sicot_tf/serving_config.proto" package: "tensorflow.serving"
syntax: "proto3" dependency: "google/protobuf/wrappers.proto"
message_type {
  name: "BatchingParameters"
  field { number: 1 name: "max_batch_size" type_name: "%(int64)s" }
  field { number: 2 name: "batch_timeout_micros" type_name: "%(int64)s" }
  field { number: 3 name: "max_enqueued_batches" type_name: "%(int64)s" }
  field { number: 4 name: "num_batch_threads" type_name: "%(int64)s" }
  field { number: 5 name: "thread_pool_name"
          type_name: ".google.protobuf.StringValue" }
  field { number: 6 name: "allowed_batch_sizes" label: LABEL_REPEATED
          type: TYPE_INT64 }
  field { number: 7 name: "pad_variable_length_inputs" type: TYPE_BOOL }
  field { number: 8 name: "enable_large_batch_splitting"
          type_name: ".google.protobuf.BoolValue" }
  field { number: 9 name: "max_execution_batch_size" type_name: "%(int64)s" }
}
message_type {
  name: "PrometheusConfig"
  field { number: 1 name: "enable" type: TYPE_BOOL }
  field { number: 2 name: "path" type: TYPE_STRING }
}
message_type {
  name: "MonitoringConfig"
  field { number: 1 name: "prometheus_config"
          type_name: ".tensorflow.serving.PrometheusConfig" }
}
message_type {
  name: "SSLConfig"
  field { number: 1 name: "server_key" type: TYPE_STRING }
  field { number: 2 name: "server_cert" type: TYPE_STRING }
  field { number: 3 name: "custom_ca" type: TYPE_STRING }
  field { number: 4 name: "client_verify" type: TYPE_BOOL }
}
""" % {"int64": ".google.protobuf.Int64Value"}
_POOL = descriptor_pool.DescriptorPool()
_POOL.AddSerializedFile(wrappers_pb2.DESCRIPTOR.serialized_pb)
_POOL.Add(text_format.Parse(_PROTOS, descriptor_pb2.FileDescriptorProto()))


def _make_class(name: str) -> Any:
    return message_factory.GetMessageClass(
        _POOL.FindMessageTypeByName(f"tensorflow.serving.{name}")
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
        raise errors.not_found(f"{path}; No such file or directory") from error
    except OSError as error:
        raise errors.unknown(f"{path}; {error.strerror}") from error
    except (text_format.ParseError, UnicodeDecodeError) as error:
        raise errors.invalid(
            f"Invalid protobuf file: '{path}': expected the text form of "
            f"{config.DESCRIPTOR.full_name}: {error}"
        ) from error
