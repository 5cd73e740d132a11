"""Versions that are being loaded, take requests, or are on their way out.

Loads and unloads run in threads of their own. A version is closed only after
its last request has left, so that no request sees it go.
"""

import ctypes
import dataclasses
import gc
import logging
import pathlib
import queue
import threading
import time
from collections.abc import Callable
from typing import Any

import tensorflow as tf
from tensorflow_serving.apis import get_model_status_pb2

from sicot_tf.serving import errors
from sicot_tf.serving.versions.options import Options

_log = logging.getLogger(__name__)

State = get_model_status_pb2.ModelVersionStatus


@dataclasses.dataclass(eq=False)
class Version:
    """One version of a model; guarded by `LoadedVersions.changed`.

    A request that has acquired it enters it: `with version as servable`.
    """

    loaded: "LoadedVersions"
    name: str
    number: int
    directory: pathlib.Path
    state: int = State.START
    error_code: int = 0
    message: str = ""
    # Cleared to have no further attempt made to load it.
    is_wanted: bool = True
    num_attempts: int = 0
    # Has a load that failed repeated.
    retry: threading.Timer | None = None
    servable: Any = None
    num_users: int = 0

    def __enter__(self) -> Any:
        return self.servable

    def __exit__(self, *_: object) -> None:
        self.loaded.release(self)

    def __str__(self) -> str:
        return f"{{name: {self.name} version: {self.number}}}"

    def status(self) -> State:
        """What GetModelStatus tells of it."""
        status = State(version=self.number, state=self.state)
        status.status.error_code = self.error_code
        status.status.error_message = self.message
        return status


class LoadedVersions:
    """The versions of all models.

    Args:
        load: `load(name, version, directory)` gives a servable.
        options: for the loads.

    Attributes:
        changed: lock of all states; notified at every change of one.
    """

    def __init__(
        self, load: Callable[[str, int, pathlib.Path], Any], options: Options
    ):
        self._load = load
        self._options = options
        # The same lock, half as dear to take without its condition.
        self._lock = threading.Lock()
        self.changed = threading.Condition(self._lock)
        # Versions that take requests.
        self._available: dict[str, dict[int, Version]] = {}
        # The last one of each number there ever was, for GetModelStatus.
        self._history: dict[str, dict[int, Version]] = {}
        self._loads: queue.SimpleQueue[Version | None] = queue.SimpleQueue()
        self._threads = [
            threading.Thread(
                target=self._run_loads, name="model_loader", daemon=True
            )
            for _ in range(options.num_load_threads)
        ]
        # What is there before the first model stays; without it a collection
        # after an unload stops all requests for 0.4 seconds.
        gc.freeze()
        for thread in self._threads:
            thread.start()

    def acquire(self, name: str, number: int | None) -> Version:
        """One more user of a version; None is the highest that is available.

        Raises tf.errors.NotFoundError if it is not available.
        """
        with self._lock:
            available = self._available.get(name, {})
            version = available.get(
                max(available, default=None) if number is None else number
            )
            if version is not None:
                version.num_users += 1
                return version
        wanted = f"Latest({name})"
        if number is not None:
            wanted = f"Specific({name}, {number})"
        raise errors.not_found(f"Servable not found for request: {wanted}")

    def release(self, version: Version) -> None:
        """One user less."""
        with self._lock:
            version.num_users -= 1
            if not version.num_users and version.state == State.UNLOADING:
                self.changed.notify_all()

    def statuses(self, name: str) -> list[State]:
        """All versions of a model there ever were, highest first."""
        with self.changed:
            history = self._history.get(name, {})
            return [history[key].status() for key in sorted(history)[::-1]]

    # Below, the caller holds the lock.

    def is_available(self, name: str, number: int) -> bool:
        """Whether a version takes requests."""
        return number in self._available.get(name, {})

    def add(self, name: str, number: int, directory: pathlib.Path) -> Version:
        """A version to be loaded as soon as a thread is free."""
        version = Version(self, name, number, directory)
        self._history.setdefault(name, {})[number] = version
        self._loads.put(version)
        return version

    def reject(self, name: str, number: int, message: str) -> None:
        """Shows a version that is not tried as ended, with the reason."""
        history = self._history.setdefault(name, {})
        if number in history and history[number].message == message:
            return
        version = history[number] = Version(
            self,
            name,
            number,
            pathlib.Path(),
            State.END,
            tf.errors.FAILED_PRECONDITION,
            message,
        )
        _log.error("%s is not waited for any more: %s", version, message)

    def give_up(self, version: Version) -> None:
        """No further attempt to load it; a running one goes on."""
        version.is_wanted = False
        if version.retry is not None:
            version.retry.cancel()
            version.retry = None
            self._set_state(version, State.END)

    def unload(self, version: Version) -> None:
        """No new request gets it; closed after the last."""
        self._set_state(version, State.UNLOADING)
        threading.Thread(
            target=self._unload, args=(version,), daemon=True
        ).start()

    def _set_state(self, version: Version, state: int) -> None:
        version.state = state
        available = self._available.setdefault(version.name, {})
        if state == State.AVAILABLE:
            available[version.number] = version
        elif available.get(version.number) is version:
            del available[version.number]
        self.changed.notify_all()

    # Below, nobody holds the lock.

    def stop(self, timeout_seconds: float) -> None:
        """Ends the loading threads after their present load."""
        for _ in self._threads:
            self._loads.put(None)
        deadline = time.monotonic() + timeout_seconds
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))

    def _run_loads(self) -> None:
        while (version := self._loads.get()) is not None:
            self._run_load(version)
            # Not held until the next load.
            del version

    def _run_load(self, version: Version) -> None:
        with self.changed:
            version.retry = None
            if not version.is_wanted:
                self._set_state(version, State.END)
                return
            self._set_state(version, State.LOADING)
        directory = version.directory
        _log.info("Loading servable: %s from %s", version, directory)
        try:
            servable = self._load(version.name, version.number, directory)
        # Whatever is wrong with a model, the others go on.
        except Exception as error:
            self._handle_failure(version, error)
            _free_memory()
            return
        with self.changed:
            version.servable = servable
            self._set_state(version, State.AVAILABLE)
        _log.info("Successfully loaded servable version %s", version)

    def _handle_failure(self, version: Version, error: Exception) -> None:
        """Has the load repeated later, or ends the version."""
        code = tf.errors.UNKNOWN
        if isinstance(error, tf.errors.OpError):
            code = error.error_code
        elif isinstance(error, ValueError):
            code = tf.errors.INVALID_ARGUMENT
        message = getattr(error, "message", "") or str(error)
        seconds = self._options.load_retry_interval_seconds
        with self.changed:
            version.num_attempts += 1
            if version.is_wanted and (
                version.num_attempts <= self._options.max_num_load_retries
            ):
                next_step = f"again in {seconds} seconds"
                version.retry = threading.Timer(
                    seconds, self._loads.put, [version]
                )
                version.retry.daemon = True
                version.retry.start()
            else:
                next_step = "it is not tried again"
                version.error_code = code
                version.message = message
                self._set_state(version, State.END)
        _log.error(
            "Loading servable: %s failed: %s: %s; %s",
            version,
            errors.code_name(code),
            message,
            next_step,
        )

    def _unload(self, version: Version) -> None:
        with self.changed:
            self.changed.wait_for(lambda: not version.num_users)
            servable = version.servable
            version.servable = None
        try:
            servable.close()
        # The version is gone for requests either way.
        except Exception as error:
            _log.warning("Unloading servable: %s failed: %r", version, error)
        del servable
        _free_memory()
        with self.changed:
            self._set_state(version, State.END)
        _log.info("Done unloading servable version %s", version)


def _free_memory() -> None:
    """Gives what a closed model held back to the system.

    Python's graphs hold themselves in cycles, and glibc keeps freed pages.
    """
    gc.collect()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
