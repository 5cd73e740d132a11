"""The models of a server: its config, and what requests find of it.

The rules are those of TensorFlow Serving's AspiredVersionsManager with its
AvailabilityPreservingPolicy, codes of errors those of server_core.cc.
"""

import logging
import math
import os
import pathlib
import threading
import time
from collections.abc import Callable
from typing import Any

import tensorflow as tf
from tensorflow_serving.apis import model_pb2
from tensorflow_serving.config import model_server_config_pb2

from sicot_tf.serving import errors
from sicot_tf.serving import serving_config
from sicot_tf.serving.versions import loaded_versions
from sicot_tf.serving.versions import watcher
from sicot_tf.serving.versions.model import Model
from sicot_tf.serving.versions.options import Options

_log = logging.getLogger(__name__)

# How long a waiting thread goes without a look at its stop signal.
_STOP_CHECK_SECONDS = 0.1


class ModelManager:
    """All models of a server; every method may be called by any thread.

    Args:
        load: `load(name, version, directory)` gives a servable that is warm
            and has `close()`. Called by threads of the manager; whatever it
            raises is a failed load.
        **options: fields of `Options`; raises ValueError if one is wrong.
    """

    def __init__(
        self, load: Callable[[str, int, pathlib.Path], Any], **options: Any
    ):
        self._options = Options(**options)
        self._loaded = loaded_versions.LoadedVersions(load, self._options)
        self._changed = self._loaded.changed
        self._watcher = watcher.Watcher(self._loaded, self._options)
        # One config after the other.
        self._config_lock = threading.Lock()
        self._config: model_server_config_pb2.ModelConfigList | None = None
        # Replaced as a whole, so that requests need no lock.
        self._labels: dict[str, dict[str, int]] = {}
        self._stop_watching = threading.Event()

    def set_config(
        self,
        config: model_server_config_pb2.ModelServerConfig,
        timeout_seconds: float | None = None,
    ) -> None:
        """Makes the models of `config` the ones that are served.

        The first config returns at once (`wait_until_available` waits). A
        later one returns when the models with new names are available; new
        versions of a known model are not waited for.

        Raises:
            tf.errors.InvalidArgumentError: if the config is wrong, or
                FailedPreconditionError, if a label is given to a version that
                is not available; all stays as it was.
            tf.errors.UnknownError: if a new model fails to load, or
                DeadlineExceededError, if it takes too long; the config stays.
        """
        with self._config_lock:
            is_first = self._config is None
            kind = config.WhichOneof("config")
            if kind is None and is_first:
                _log.warning("The config is empty: no model is served.")
                return
            if kind != "model_config_list":
                raise errors.invalid(
                    f"Expected a model_config_list, received {kind or 'none'}"
                )
            new_models = self._take_over(config.model_config_list, is_first)
        if not is_first:
            self._wait_for(new_models, None, timeout_seconds)

    def wait_until_available(self, stop: threading.Event | None = None) -> bool:
        """Waits until each model of the config has a version to serve.

        False if `stop`, any object with `is_set`, was set first. Raises
        tf.errors.UnknownError if all versions of a model failed to load.
        """
        with self._changed:
            models = list(self._watcher.models.values())
        return self._wait_for(models, stop, None)

    def is_available(self) -> bool:
        """Whether each model of the first config has a version to serve.

        One of a later config does not count: should it be broken, the others
        still have to be reached.
        """
        with self._changed:
            return all(
                model.is_ready()
                for model in self._watcher.models.values()
                if model.is_first
            )

    def use(self, model_spec: model_pb2.ModelSpec) -> loaded_versions.Version:
        """`with manager.use(model_spec) as servable:` keeps it from closing.

        Raises tf.errors.OpError if it names no version that is available.
        """
        name = model_spec.name
        if not name:
            raise errors.invalid("ModelSpec has no name specified.")
        choice = model_spec.WhichOneof("version_choice")
        number = None
        if choice == "version":
            number = model_spec.version.value
        elif choice == "version_label":
            label = model_spec.version_label
            number = self._labels.get(name, {}).get(label)
            if number is None:
                raise errors.invalid(
                    f"Unrecognized servable version label: {label}"
                )
        return self._loaded.acquire(name, number)

    def statuses(
        self, model_spec: model_pb2.ModelSpec
    ) -> list[loaded_versions.State]:
        """States of one or all versions, highest first, also of gone ones.

        A version label is ignored, as in TensorFlow Serving. Raises
        tf.errors.NotFoundError if there never was such a version.
        """
        name = model_spec.name
        statuses = self._loaded.statuses(name)
        wanted = "any versions"
        if model_spec.HasField("version"):
            number = model_spec.version.value
            statuses = [item for item in statuses if item.version == number]
            wanted = f"version {number}"
        if not statuses:
            raise errors.not_found(f"Could not find {wanted} of model {name}")
        return statuses

    def model_names(self) -> list[str]:
        """Names of the models of the config, sorted."""
        with self._changed:
            return sorted(self._watcher.models)

    def watch_config_file(
        self, path: str | os.PathLike[str], poll_wait_seconds: float
    ) -> None:
        """Sets the config that is in a file again and again, until `close`.

        A bad one changes nothing, but is told in the log. The file is set even
        if it has not changed: a label may become possible later.
        """

        def watch() -> None:
            while not self._stop_watching.wait(poll_wait_seconds):
                try:
                    self.set_config(
                        serving_config.read(
                            path, serving_config.ModelServerConfig
                        )
                    )
                except tf.errors.OpError as error:
                    _log.error("%s is not taken: %s", path, error.message)

        threading.Thread(target=watch, name="config_file", daemon=True).start()

    def close(self, timeout_seconds: float = 20.0) -> None:
        """Unloads all, each version after its last request or the time."""
        deadline = time.monotonic() + timeout_seconds
        self._stop_watching.set()
        self._watcher.close(timeout_seconds)
        self._loaded.stop(max(0.0, deadline - time.monotonic()))

    def _take_over(
        self, config: model_server_config_pb2.ModelConfigList, is_first: bool
    ) -> list[Model]:
        """Checks and sets a config; returns the models with new names."""
        # The caller may go on to change its own.
        models = model_server_config_pb2.ModelConfigList()
        models.CopyFrom(config)
        serving_config.check_model_list(models)
        with self._changed:
            labels = self._check_labels(models)
            new_models = self._watcher.set_models(models, is_first)
            self._labels = labels
        self._config = models
        return new_models

    def _check_labels(
        self, models: model_server_config_pb2.ModelConfigList
    ) -> dict[str, dict[str, int]]:
        """The labels of all models; raises if one is not allowed."""
        labels = {}
        for model in models.config:
            labels[model.name] = dict(model.version_labels)
            old_labels = self._labels.get(model.name, {})
            for label, number in sorted(model.version_labels.items()):
                is_allowed = (
                    self._options.allow_version_labels_for_unavailable_models
                    and old_labels.get(label, number) == number
                )
                if not is_allowed and not self._loaded.is_available(
                    model.name, number
                ):
                    raise errors.failed_precondition(
                        f"Request to assign label to version {number} of model "
                        f"{model.name}, which is not currently available for "
                        "inference"
                    )
        return labels

    def _wait_for(
        self,
        models: list[Model],
        stop: threading.Event | None,
        timeout_seconds: float | None,
    ) -> bool:
        """Waits until each model has an available version, or none left."""
        deadline = math.inf
        if timeout_seconds is not None:
            deadline = time.monotonic() + timeout_seconds
        with self._changed:
            while True:
                if stop is not None and stop.is_set():
                    return False
                if all(model.is_settled() for model in models):
                    break
                if time.monotonic() >= deadline:
                    raise errors.timed_out()
                self._changed.wait(_STOP_CHECK_SECONDS)
            failed = [model for model in models if not model.is_ready()]
            if failed:
                reasons = "; ".join(each.describe_failure() for each in failed)
                raise errors.unknown(
                    f"{len(failed)} servable(s) did not become available: "
                    f"{reasons}"
                )
            return True
