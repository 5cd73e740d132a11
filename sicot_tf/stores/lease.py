"""One process at a time at a place of an object store: who has the lease.

The lease is a small object. It is created by one process alone, which renews
it every few seconds; one that has not been renewed for long is taken over by
compare and swap. All ages are by the clock of the store. Released leases stay,
marked as free: not every server can remove an object of a known version only.

A lease saves work, it does not guard it: a process that was stopped for long
may wake up and go on beside its successor until it looks at its lease.
"""

import contextlib
import logging
import os
import pathlib
import secrets
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

from sicot_tf import files
from sicot_tf.stores import object_folder

_LOG = logging.getLogger(__name__)
# Seconds. A store may not answer for a minute; a machine may be as busy.
EXPIRES = 60.0
_RENEWED_EVERY = 10.0
_TRIES = 10

_HELD, _LEFT, _DONE = "held", "left", "done"


class HeldError(ValueError):
    """Another process has the lease."""


class Lease:
    """What `hold` gives; `is_done` may be set before the end.

    Attributes:
        is_done: whether there is nothing left to go on with.
    """

    def __init__(self, store: object_folder.ObjectFolder, key: str):
        self.is_done = False
        self._store = store
        self._key = key
        self._token = secrets.token_hex(8)
        self._num_renewed = 0
        self._successor: str | None = None

    def check(self) -> None:
        """Raises OSError if another process has taken the lease over."""
        if self._successor is None:
            self._put(_HELD)
        if self._successor is not None:
            raise OSError(
                f"{self._place} was taken over by another process "
                f"({self._successor}), because this one gave no sign of life "
                f"for {EXPIRES:.0f} s. Wait until that one has finished."
            )

    @property
    def _place(self) -> str:
        return f"{self._store}/{self._key}"

    def _content(self, state: str) -> bytes:
        return files.json_bytes(
            {
                "state": state,
                "token": self._token,
                # Versions of equal bytes may be equal.
                "renewed": self._num_renewed,
                "host": socket.gethostname(),
                "process": os.getpid(),
                "started": _started("self"),
                "machine": _machine(),
            }
        )

    def take(self, doing: str) -> None:
        """Takes it; `doing` is what its holder does, for the HeldError."""
        for _ in range(_TRIES):
            mine = self._content(_HELD)
            if self._store.create(self._key, mine):
                return
            version = self._store.version(self._key)
            other = _read(self._store, self._key)
            if version is None or other is None:
                continue
            age = _age_if_alive(self._store, self._key, other)
            if age is not None:
                raise HeldError(
                    f"Another process {doing} ({_who(other)}, {age:.0f} s "
                    f"since its last sign of life, given up after "
                    f"{EXPIRES:.0f}). Wait until it has finished, or end it."
                )
            if self._store.replace(self._key, mine, version):
                return
        raise HeldError(
            f"Other processes come and go at {self._place}. Start again."
        )

    def renew(self, until: threading.Event) -> None:
        """Gives signs of life, of a thread of its own."""
        while self._successor is None and not until.wait(_RENEWED_EVERY):
            try:
                self._put(_HELD)
            except OSError as error:  # There may be a next time.
                _LOG.warning("Could not renew %s: %s", self._place, error)
        if self._successor is not None:
            _LOG.error(
                "Another process has taken %s over: %s",
                self._place,
                self._successor,
            )

    def release(self) -> None:
        """Lets the next one have it."""
        try:
            self._put(_DONE if self.is_done else _LEFT)
        except OSError as error:  # The work counts; the lease expires.
            _LOG.warning("Could not release %s: %s", self._place, error)

    def _put(self, state: str) -> None:
        version = self._store.version(self._key)
        current = _read(self._store, self._key)
        if version is None or current is None:
            self._successor = "its lease was removed"
        elif current["token"] != self._token:
            self._successor = _who(current)
        else:
            self._num_renewed += 1
            # If it fails, the next look tells who was faster.
            self._store.replace(self._key, self._content(state), version)


@contextlib.contextmanager
def hold(
    store: object_folder.ObjectFolder, key: str, doing: str
) -> Iterator[Lease]:
    """Has the lease as long as the context.

    Args:
        key: of the lease.
        doing: what follows "Another process", for the message.

    Raises:
        HeldError: if another process has it, with its host and number.
    """
    lease = Lease(store, key)
    lease.take(doing)
    ended = threading.Event()
    thread = threading.Thread(target=lease.renew, args=(ended,), daemon=True)
    thread.start()
    try:
        yield lease
    finally:
        ended.set()
        # It may be waiting for the store.
        thread.join(5)
        lease.release()


def is_held(store: object_folder.ObjectFolder, key: str) -> bool:
    """Whether a process has the lease."""
    other = _read(store, key)
    return other is not None and (_age_if_alive(store, key, other) is not None)


def is_done(store: object_folder.ObjectFolder, key: str) -> bool:
    """Whether its last holder left nothing to go on with."""
    other = _read(store, key)
    return other is not None and other["state"] == _DONE


def _read(store: object_folder.ObjectFolder, key: str) -> dict[str, Any] | None:
    try:
        return store.get_json(key)
    except FileNotFoundError:
        return None


def _who(other: dict[str, Any]) -> str:
    return f"host {other['host']}, process {other['process']}"


def _age_if_alive(
    store: object_folder.ObjectFolder, key: str, other: dict[str, Any]
) -> float | None:
    """Seconds since its holder renewed it; None if nobody holds it."""
    if other["state"] != _HELD or _is_gone(other):
        return None
    renewed = _modified(store, key)
    age = _now(store, key) - renewed if renewed is not None else EXPIRES
    return max(age, 0.0) if age < EXPIRES else None


def _modified(store: object_folder.ObjectFolder, key: str) -> float | None:
    for entry in store.list(key):
        return entry.modified if entry.key == key else None
    return None


def _now(store: object_folder.ObjectFolder, key: str) -> float:
    """By the clock of the store, as it stamps a new object."""
    probe = f"{key}.{secrets.token_hex(8)}.clock"
    try:
        store.put(probe, b"")
    except PermissionError:  # Whoever may only look.
        return time.time()
    now = _modified(store, probe)
    store.delete(probe)
    return time.time() if now is None else now


def _is_gone(other: dict[str, Any]) -> bool:
    """Whether its process was one of this machine and has ended.

    A process of another container has the same number and host, perhaps, but
    not the same machine.
    """
    machine = _machine()
    if machine is None or other["machine"] != machine:
        return False
    return _started(str(other["process"])) != other["started"]


def _machine() -> str | None:
    """Boot and namespace in which process numbers mean something."""
    try:
        boot = pathlib.Path("/proc/sys/kernel/random/boot_id").read_text()
        return f"{boot.strip()} {os.readlink('/proc/self/ns/pid')}"
    except OSError:  # No Linux: wait until it expires.
        return None


def _started(process: str) -> str | None:
    """When a process was started; None if it has ended."""
    try:
        status = pathlib.Path("/proc", process, "stat").read_text("utf-8")
    except (OSError, UnicodeDecodeError):
        return None
    # The name comes first, in brackets, and may hold any.
    fields = status.rpartition(")")[2].split()
    return None if fields[0] in "ZX" else fields[19]
