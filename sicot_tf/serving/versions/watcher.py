"""The thread that looks for versions, and has them loaded and unloaded."""

import math
import threading
import time

from tensorflow_serving.config import model_server_config_pb2

from sicot_tf.serving import errors
from sicot_tf.serving.versions import loaded_versions
from sicot_tf.serving.versions import version_folders
from sicot_tf.serving.versions.model import Model
from sicot_tf.serving.versions.options import Options


class Watcher:
    """Keeps what is loaded as the base paths of the models have it.

    Args:
        loaded: loads and unloads; its `changed` guards all models.
        options: for the looks.

    Attributes:
        models: those of the config, by name.
    """

    def __init__(
        self, loaded: loaded_versions.LoadedVersions, options: Options
    ):
        self._loaded = loaded
        self._changed = loaded.changed
        self._options = options
        self._finder = version_folders.VersionFinder(options)
        self.models: dict[str, Model] = {}
        self._removed: list[Model] = []
        # By time.monotonic; infinite without models.
        self._next_look = math.inf
        self._is_closed = False
        self._thread = threading.Thread(
            target=self._watch, name="model_manager", daemon=True
        )
        self._thread.start()

    def set_models(
        self, models: model_server_config_pb2.ModelConfigList, is_first: bool
    ) -> list[Model]:
        """Takes over a config; returns the models with new names.

        The caller holds the lock. Raises tf.errors.CancelledError once closed.
        """
        if self._is_closed:
            raise errors.cancelled("The model manager is closed.")
        old_models = self.models
        self.models = {}
        new_models = []
        for config in models.config:
            model = old_models.pop(config.name, None)
            if model is None:
                model = Model(config, is_first)
                new_models.append(model)
            model.config = config
            self.models[config.name] = model
        for model in old_models.values():
            model.remove()
            self._removed.append(model)
        self._next_look = 0.0
        self._changed.notify_all()
        return new_models

    def close(self, timeout_seconds: float) -> None:
        """Unloads all, each version after its last request."""
        with self._changed:
            if not self._is_closed:
                self.set_models(
                    model_server_config_pb2.ModelConfigList(), is_first=False
                )
            self._is_closed = True
        self._thread.join(timeout_seconds)

    def _watch(self) -> None:
        while True:
            now = time.monotonic()
            models = []
            with self._changed:
                if now >= self._next_look:
                    self._next_look = math.inf
                    models = list(self.models.values())
            are_done = [self._look(model) for model in models]
            seconds = self._options.file_system_poll_wait_seconds
            if not all(are_done):
                seconds = seconds or version_folders.SETTLE_SECONDS
            with self._changed:
                # A config that is set meanwhile has a look at once.
                if models and seconds:
                    self._next_look = min(self._next_look, now + seconds)
                self._act()
                if self._is_closed and not self._removed:
                    return
                seconds = self._next_look - time.monotonic()
                self._changed.wait(
                    max(0.0, min(seconds, threading.TIMEOUT_MAX))
                )

    def _look(self, model: Model) -> bool:
        """Looks which versions to serve; False if one is not yet whole."""
        config = model.config
        with self._changed:
            known = set(model.versions)
        try:
            look = self._finder.look(config, known)
        # Without this thread no model would ever change again.
        except Exception as error:
            self._finder.log(f"No look at {config.name}: {error!r}")
            return True
        with self._changed:
            # A new config has a look of its own.
            if model.config is not config or model.is_removed:
                return look.is_done
            if not model.take(look, self._options.unload_when_empty):
                self._finder.log(
                    f"Refusing to unload all versions of {config.name}"
                )
            for number, text in look.given_up.items():
                self._loaded.reject(config.name, number, text)
        return look.is_done

    def _act(self) -> None:
        """Starts the loads and unloads that are due; the lock is held."""
        for model in self._removed:
            model.act(self._loaded)
        self._removed = [model for model in self._removed if model.versions]
        # Of one name, what goes and what comes would be one to requests.
        going = {model.config.name for model in self._removed}
        for name, model in self.models.items():
            if name not in going:
                model.act(self._loaded)
        self._changed.notify_all()
