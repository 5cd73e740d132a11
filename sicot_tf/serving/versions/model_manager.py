"""Decides which versions of which models are loaded, and swaps them.

The rules are those of TensorFlow Serving's AspiredVersionsManager with its
AvailabilityPreservingPolicy: a new version is loaded and warm before the old
one goes, and one that fails to load leaves the old one in place. Codes and
texts of errors are those of server_core.cc.
"""

import math
import os
import pathlib
import sys
import threading
import time
from collections.abc import Callable
from typing import Protocol

import tensorflow as tf
from tensorflow.core.protobuf import error_codes_pb2
from tensorflow_serving.apis import model_pb2
from tensorflow_serving.config import model_server_config_pb2

from sicot_tf.serving import serving_config
from sicot_tf.serving.versions import loaded_versions
from sicot_tf.serving.versions import version_folders

State = loaded_versions.State
VersionStatus = loaded_versions.VersionStatus

# How long a waiting thread goes without a look at its stop signal.
_STOP_CHECK_SECONDS = 0.1
# Between two looks at a version that is not yet whole, if else there is one.
_SETTLE_SECONDS = 1.0


class StopSignal(Protocol):
    """A threading.Event, or what looks like one."""

    def is_set(self) -> bool: ...


class _Model:
    """One model of the config, and its versions that are not yet gone."""

    def __init__(
        self, config: model_server_config_pb2.ModelConfig, is_first: bool
    ):
        self.config = config
        # Whether it came with the first config.
        self.is_first = is_first
        self.is_removed = False
        # Versions that are to be served; None before the first look.
        self.aspired: dict[int, pathlib.Path] | None = None
        self.versions: dict[int, loaded_versions.Version] = {}
        # Code and text of why there is none, nor will be; empty: may be.
        self.fault = ""


class _Use:
    """Keeps one version from being closed inside a `with`."""

    __slots__ = ("_manager", "_model_spec", "_version")

    def __init__(self, manager: "ModelManager", model_spec: object):
        self._manager = manager
        self._model_spec = model_spec

    def __enter__(self) -> loaded_versions.Closable:
        self._version = self._manager._acquire(self._model_spec)
        return self._version.servable

    def __exit__(self, *_: object) -> None:
        self._manager._loaded.release(self._version)


class ModelManager:
    """All models of a server; every method may be called by any thread.

    Args:
        load: `load(name, version, directory)` gives a servable that is warm
            and has `close()`. Called by threads of the manager; whatever it
            raises is a failed load.
        file_system_poll_wait_seconds: time between two looks for new
            versions; 0 looks only at the start and when a config is set.
        max_num_load_retries: further attempts after a failed load.
        load_retry_interval_seconds: time between two attempts.
        num_load_threads: versions that are loaded at the same time.
        allow_version_labels_for_unavailable_models: whether a label that is
            not in use may be given to a version that is not loaded.
        unload_when_empty: whether a base path that holds no version any more
            unloads the model, as in TensorFlow Serving.
        incomplete_version_seconds: a version that is not whole, and in which
            nothing has changed for so long, is told as ended; if it changes
            and becomes whole, it is loaded all the same.
        fail_if_no_model_versions_found: whether a new model without any
            version is an error, rather than waited for.

    Raises:
        ValueError: if an argument is out of range.
    """

    def __init__(
        self,
        load: Callable[[str, int, pathlib.Path], loaded_versions.Closable],
        *,
        file_system_poll_wait_seconds: float = 1.0,
        max_num_load_retries: int = 5,
        load_retry_interval_seconds: float = 60.0,
        num_load_threads: int = 1,
        allow_version_labels_for_unavailable_models: bool = False,
        unload_when_empty: bool = False,
        incomplete_version_seconds: float = math.inf,
        fail_if_no_model_versions_found: bool = False,
    ):
        if file_system_poll_wait_seconds < 0:
            raise ValueError(
                "Expected file_system_poll_wait_seconds of 0 (look once) or "
                f"more, received {file_system_poll_wait_seconds}. A server "
                "that never looks never finds a model."
            )
        if not incomplete_version_seconds >= 0:
            raise ValueError(
                "Expected incomplete_version_seconds of 0 or more, received "
                f"{incomplete_version_seconds}."
            )
        if num_load_threads < 1:
            raise ValueError(
                "Expected num_load_threads of 1 or more, received "
                f"{num_load_threads}."
            )
        self._poll_wait_seconds = file_system_poll_wait_seconds
        self._allow_labels_for_unavailable = (
            allow_version_labels_for_unavailable_models
        )
        self._unload_when_empty = unload_when_empty
        self._fail_if_no_versions = fail_if_no_model_versions_found
        self._finder = version_folders.VersionFinder(
            file_system_poll_wait_seconds or _SETTLE_SECONDS,
            incomplete_version_seconds,
        )
        # Set when there may be something to do.
        self._wake = threading.Event()
        self._loaded = loaded_versions.LoadedVersions(
            load,
            max_num_retries=max_num_load_retries,
            retry_interval_seconds=load_retry_interval_seconds,
            num_load_threads=num_load_threads,
            on_change=self._wake.set,
        )

        # One config after the other.
        self._config_lock = threading.Lock()
        self._config = model_server_config_pb2.ModelServerConfig()
        # Guards all below too.
        self._changed = self._loaded.changed
        self._models: dict[str, _Model] = {}
        self._removed: list[_Model] = []
        self._labels: dict[str, dict[str, int]] | None = None
        self._is_config_new = False
        self._is_closed = False

        self._stop_watching = threading.Event()
        self._thread = threading.Thread(
            target=self._manage, name="model_manager", daemon=True
        )
        self._thread.start()

    def set_config(
        self,
        config: model_server_config_pb2.ModelServerConfig,
        timeout_seconds: float | None = None,
    ) -> None:
        """Makes the models of `config` the ones that are served.

        The first config returns at once (`wait_until_available` waits). A
        later one returns when the models with new names are available; new
        versions of a known model are not waited for. An error leaves all as
        it was, except for one: if a new model fails to load, the config
        stays.

        Args:
            config: a `model_config_list`; no config at all is a no-op as
                long as there is none.
            timeout_seconds: how long to wait; None waits for ever.

        Raises:
            tf.errors.FailedPreconditionError: if a label is given to a
                version that is not available.
            tf.errors.InvalidArgumentError: if the config is wrong.
            tf.errors.UnknownError: if a new model fails to load.
            tf.errors.DeadlineExceededError: if a new model takes too long.
        """
        with self._config_lock:
            is_first = not self._config.WhichOneof("config")
            kind = config.WhichOneof("config")
            if not is_first and kind != "model_config_list":
                raise tf.errors.FailedPreconditionError(
                    None,
                    None,
                    "Cannot transition to requested config. It is only legal "
                    "to transition from one ModelConfigList to another.",
                )
            if kind is None:
                _log("Taking no action for empty config.")
                return
            if kind != "model_config_list":
                raise tf.errors.UnimplementedError(
                    None,
                    None,
                    "ModelServer does not yet support custom model config.",
                )
            # The caller may go on to change its own.
            models = model_server_config_pb2.ModelConfigList()
            models.CopyFrom(config.model_config_list)
            serving_config.check_model_list(models)
            serving_config.check_platforms(
                self._config.model_config_list, models
            )
            with self._changed:
                if self._is_closed:
                    raise tf.errors.CancelledError(
                        None, None, "The model manager is closed."
                    )
                labels = self._check_labels(models)
                serving_config.check_supported(models)
                new_models = self._replace_models(models, is_first)
                self._labels = labels
                self._is_config_new = True
            self._config.model_config_list.CopyFrom(models)
        self._wake.set()
        if not is_first:
            self._wait_for(new_models, "model", None, timeout_seconds)

    def wait_until_available(self, stop: StopSignal | None = None) -> bool:
        """Waits until each model of the config has a version to serve.

        Args:
            stop: ends the waiting.

        Returns:
            True; False if `stop` was set first.

        Raises:
            tf.errors.UnknownError: if all versions of a model failed to load.
        """
        with self._changed:
            models = list(self._models.values())
        return self._wait_for(models, "servable", stop, None)

    def is_available(self) -> bool:
        """Whether each model of the first config has a version to serve.

        A model that a later config adds does not count: if it is broken, the
        others still have to be reached.
        """
        with self._changed:
            return all(
                self._loaded.available(name)
                for name, model in self._models.items()
                if model.is_first
            )

    def use(self, model_spec: model_pb2.ModelSpec) -> _Use:
        """`with manager.use(model_spec) as servable:` keeps it from closing.

        Raises:
            tf.errors.OpError: on entering, if `model_spec` names no version
                that is available.
        """
        return _Use(self, model_spec)

    def statuses(self, model_spec: model_pb2.ModelSpec) -> list[VersionStatus]:
        """States of one or all versions, highest first, also of gone ones.

        A version label is ignored, as in TensorFlow Serving.

        Raises:
            tf.errors.NotFoundError: if there never was such a version.
        """
        name = model_spec.name
        statuses = self._loaded.statuses(name)
        wanted = "any versions"
        if model_spec.HasField("version"):
            number = model_spec.version.value
            statuses = [item for item in statuses if item.version == number]
            wanted = f"version {number}"
        if not statuses:
            raise tf.errors.NotFoundError(
                None, None, f"Could not find {wanted} of model {name}"
            )
        return statuses

    def model_names(self) -> list[str]:
        """Names of the models of the config, sorted."""
        with self._changed:
            return sorted(self._models)

    def poll_config_file(self, path: str | os.PathLike[str]) -> None:
        """Sets the config that is in a file now; a bad one changes nothing.

        What is wrong with it is written to the log. The file is set again
        even if it has not changed: a label may become possible later.
        """
        try:
            config = serving_config.read_model_config(path)
        except tf.errors.OpError as error:
            _log(f"Failed to read ModelServerConfig file: {error.message}")
            return
        try:
            self.set_config(config)
        except tf.errors.OpError as error:
            _log(
                "PollFilesystemAndReloadConfig failed to ReloadConfig: "
                f"{error.message}"
            )

    def watch_config_file(
        self, path: str | os.PathLike[str], poll_wait_seconds: float
    ) -> None:
        """Polls a config file in a thread until `close`.

        Raises:
            ValueError: if the time is not positive.
        """
        if poll_wait_seconds <= 0:
            raise ValueError(
                "Expected poll_wait_seconds above 0, received "
                f"{poll_wait_seconds}."
            )

        def watch() -> None:
            while not self._stop_watching.wait(poll_wait_seconds):
                self.poll_config_file(path)

        threading.Thread(target=watch, name="config_file", daemon=True).start()

    def close(self, timeout_seconds: float = 20.0) -> None:
        """Unloads all, each version after its last request.

        Args:
            timeout_seconds: how long to wait for requests and loads.
        """
        deadline = time.monotonic() + timeout_seconds
        self._stop_watching.set()
        with self._changed:
            self._is_closed = True
            self._replace_models(
                model_server_config_pb2.ModelConfigList(), is_first=False
            )
        self._wake.set()
        self._thread.join(timeout_seconds)
        self._loaded.stop(max(0.0, deadline - time.monotonic()))

    # Requests.

    def _acquire(self, model_spec: model_pb2.ModelSpec) -> object:
        """The version that `model_spec` means, with one user more."""
        name = model_spec.name
        if not name:
            raise tf.errors.InvalidArgumentError(
                None, None, "ModelSpec has no name specified."
            )
        choice = model_spec.WhichOneof("version_choice")
        number = None
        if choice == "version":
            number = model_spec.version.value
        elif choice == "version_label":
            number = self._version_of_label(name, model_spec.version_label)
        return self._loaded.acquire(name, number)

    def _version_of_label(self, name: str, label: str) -> int:
        # Replaced as a whole, so that no lock is needed.
        labels = self._labels
        if labels is None:
            raise tf.errors.UnavailableError(
                None, None, f"Model labels does not init yet.{label}"
            )
        number = labels.get(name, {}).get(label)
        if number is None:
            raise tf.errors.InvalidArgumentError(
                None, None, f"Unrecognized servable version label: {label}"
            )
        return number

    # Configs.

    def _check_labels(
        self, models: model_server_config_pb2.ModelConfigList
    ) -> dict[str, dict[str, int]]:
        """The labels of all models; raises if one is not allowed."""
        labels = {}
        for model in models.config:
            labels[model.name] = dict(model.version_labels)
            old_labels = (self._labels or {}).get(model.name, {})
            available = self._loaded.available(model.name)
            for label, number in sorted(model.version_labels.items()):
                is_allowed = (
                    self._allow_labels_for_unavailable
                    and old_labels.get(label, number) == number
                )
                if not is_allowed and number not in available:
                    raise tf.errors.FailedPreconditionError(
                        None,
                        None,
                        f"Request to assign label to version {number} of model "
                        f"{model.name}, which is not currently available for "
                        "inference",
                    )
        return labels

    def _replace_models(
        self, models: model_server_config_pb2.ModelConfigList, is_first: bool
    ) -> list[_Model]:
        """Takes over a config; returns the models with new names."""
        old_models = self._models
        self._models = {}
        new_models = []
        for config in models.config:
            model = old_models.pop(config.name, None)
            if model is None:
                model = _Model(config, is_first)
                new_models.append(model)
            model.config = config
            self._models[config.name] = model
        for model in old_models.values():
            model.is_removed = True
            model.aspired = {}
            self._removed.append(model)
        return new_models

    def _wait_for(
        self,
        models: list[_Model],
        kind: str,
        stop: StopSignal | None,
        timeout_seconds: float | None,
    ) -> bool:
        """Waits until each model has an available version, or none left."""
        deadline = (
            None
            if timeout_seconds is None
            else time.monotonic() + timeout_seconds
        )
        with self._changed:
            while not all(_is_settled(model) for model in models):
                if stop is not None and stop.is_set():
                    break
                if deadline is not None and time.monotonic() >= deadline:
                    raise tf.errors.DeadlineExceededError(
                        None, None, "Timed out waiting for notification"
                    )
                self._changed.wait(_STOP_CHECK_SECONDS)
            if stop is not None and stop.is_set():
                return False
            failed = [model for model in models if not _is_ready(model)]
            if not failed:
                return True
            parts = "".join(_describe_failure(model) for model in failed)
            raise tf.errors.UnknownError(
                None,
                None,
                f"{len(failed)} {kind}(s) did not become available: "
                f"{{{parts}}}",
            )

    # The thread that looks for versions and decides what to do.

    def _manage(self) -> None:
        next_poll = 0.0
        while True:
            self._wake.clear()
            with self._changed:
                models = list(self._models.values())
                if self._is_config_new:
                    self._is_config_new = False
                    next_poll = 0.0
            now = time.monotonic()
            if now >= next_poll:
                are_done = [self._look(model) for model in models]
                if self._poll_wait_seconds:
                    next_poll = now + self._poll_wait_seconds
                elif all(are_done):
                    next_poll = float("inf")
                else:
                    next_poll = now + _SETTLE_SECONDS
            next_retry = self._act()
            if self._is_closed and not self._removed:
                return
            seconds = min(next_poll, next_retry) - time.monotonic()
            self._wake.wait(max(0.0, min(seconds, threading.TIMEOUT_MAX)))

    def _look(self, model: _Model) -> bool:
        """Looks which versions to serve; False if one is not yet whole."""
        config = model.config
        with self._changed:
            known = {
                number: version.directory
                for number, version in model.versions.items()
            }
        try:
            look = self._finder.look(config, known)
        except OSError as error:
            # What is loaded stays.
            code = loaded_versions.error_code(error)
            text = (
                f"Could not find base path {config.base_path} for servable "
                f"{config.name} with error {error_codes_pb2.Code.Name(code)}: "
                f"{error.strerror}"
            )
            self._finder.log(
                "FileSystemStoragePathSource encountered a filesystem access "
                f"error: {text}"
            )
            # A folder that is not there may still be mounted; no file becomes
            # a folder.
            if self._fail_if_no_versions or isinstance(
                error, NotADirectoryError
            ):
                model.fault = f"INVALID_ARGUMENT: {text}"
            return True
        # Without this thread no model would ever change again.
        except Exception as error:
            self._finder.log(
                f"Looking for versions of servable {config.name} failed: "
                f"{error!r}"
            )
            return True
        stays = (
            not look.versions
            and bool(model.aspired)
            and not self._unload_when_empty
        )
        if stays:
            self._finder.log(
                f"Refusing to unload all versions for Servable: {config.name}"
            )
        with self._changed:
            # A new config has a look of its own.
            if model.config is not config or model.is_removed:
                return look.is_done
            if not stays:
                model.aspired = look.versions
            model.fault = self._find_fault(config, look)
            rejected = [
                f"{version} is not waited for any more: {version.message}"
                for number, text in look.faults.items()
                if (version := self._loaded.reject(config.name, number, text))
            ]
        for text in rejected:
            _log(f"Loading servable: {text}")
        return look.is_done

    def _find_fault(
        self,
        config: model_server_config_pb2.ModelConfig,
        look: version_folders.Look,
    ) -> str:
        """Why a model has no version and gets none; empty if it may."""
        if look.versions or not look.is_done:
            return ""
        if look.faults:
            return f"FAILED_PRECONDITION: {look.faults[max(look.faults)]}"
        if look.mistake:
            return f"NOT_FOUND: {look.mistake}"
        if self._fail_if_no_versions:
            return (
                "NOT_FOUND: Unable to find a numerical version path for "
                f"servable {config.name} at: {config.base_path}"
            )
        return ""

    def _act(self) -> float:
        """Starts the loads and unloads that are due; time of the next one."""
        next_retry = float("inf")
        with self._changed:
            for model in self._removed:
                self._act_on(model)
            self._removed = [model for model in self._removed if model.versions]
            # Of one name, what goes and what comes would be one to requests.
            going = {model.config.name for model in self._removed}
            for name, model in self._models.items():
                if model.aspired is None or name in going:
                    continue
                self._act_on(model)
                for version in model.versions.values():
                    if version.retry_time is None:
                        continue
                    if version.retry_time <= time.monotonic():
                        self._loaded.retry(version)
                    else:
                        next_retry = min(next_retry, version.retry_time)
            self._changed.notify_all()
        return next_retry

    def _act_on(self, model: _Model) -> None:
        """One model's part of `_act`; the lock is held."""
        for number, version in list(model.versions.items()):
            if number not in model.aspired:
                self._loaded.give_up(version)
            # One that failed is not tried again as long as it is wanted.
            if version.state == State.END and (
                number not in model.aspired or not version.error_code
            ):
                del model.versions[number]
        for number in sorted(model.aspired, reverse=True):
            if number in model.versions:
                model.versions[number].is_wanted = True
            else:
                model.versions[number] = self._loaded.add(
                    model.config.name, number, model.aspired[number]
                )
        available = [
            version
            for number, version in sorted(model.versions.items())
            if version.state == State.AVAILABLE
        ]
        unwanted = [
            version
            for version in available
            if version.number not in model.aspired
        ]
        # Until a wanted one serves, the highest of the others does.
        if model.aspired and len(unwanted) == len(available):
            unwanted = unwanted[:-1]
        for version in unwanted:
            self._loaded.unload(version)


def _is_ready(model: _Model) -> bool:
    return any(
        version.state == State.AVAILABLE for version in model.versions.values()
    )


def _is_settled(model: _Model) -> bool:
    """Whether waiting for a model can end: ready, failed, or removed."""
    if model.is_removed or _is_ready(model):
        return True
    if not model.versions:
        return bool(model.fault) and not model.aspired
    return all(
        version.state == State.END for version in model.versions.values()
    )


def _describe_failure(model: _Model) -> str:
    """TensorFlow Serving's `{{name: m version: 1} due to error: ..}, `."""
    if not model.versions:
        reason = f" due to error: {model.fault}" if model.fault else ""
        return f"{{{{name: {model.config.name}}}{reason}}}, "
    version = model.versions[max(model.versions)]
    if not version.error_code:
        return f"{{{version}}}, "
    code = error_codes_pb2.Code.Name(version.error_code)
    return f"{{{version} due to error: {code}: {version.message}}}, "


def _log(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
