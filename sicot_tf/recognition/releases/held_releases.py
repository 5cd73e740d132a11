"""Open releases and the requests that have them: none is closed too early."""

import contextlib
import dataclasses
import threading
import time
from collections.abc import Iterator

from sicot_tf.recognition.releases.open_release import OpenRelease


class NoReleaseError(RuntimeError):
    """There is no release to answer from yet, or no more."""


@dataclasses.dataclass
class _Held:
    release: OpenRelease
    users: int = 0
    # By time.monotonic; when it may be closed.
    close_at: float = 0.0


class HeldReleases:
    """The present release, and former ones that are still in use.

    Any number of threads may ask; `replace` is one assignment.
    """

    def __init__(self):
        # Guards all of these, and the numbers of users.
        self._lock = threading.Lock()
        self._current: _Held | None = None
        self._retired: list[_Held] = []
        self._closed = False

    @property
    def current(self) -> OpenRelease | None:
        """The present release; to answer from it, `acquire` it."""
        held = self._current
        return held and held.release

    def all(self) -> list[OpenRelease]:
        """What is open: the present one first."""
        with self._lock:
            held = [self._current, *self._retired]
        return [each.release for each in held if each]

    @contextlib.contextmanager
    def acquire(self) -> Iterator[OpenRelease]:
        """The present release, which stays open inside of `with`.

        Raises:
            NoReleaseError: if there is none.
        """
        with self._lock:
            held = self._current
            if held is None:
                raise NoReleaseError("There is no release to answer from.")
            held.users += 1
        try:
            yield held.release
        finally:
            with self._lock:
                held.users -= 1
            if self._closed:
                self.close_unused()

    def replace(self, release: OpenRelease, grace_seconds: float) -> None:
        """Makes a release the present one.

        Args:
            grace_seconds: the one before stays open for at least so long.

        Raises:
            NoReleaseError: after `close`.
        """
        with self._lock:
            if self._closed:
                raise NoReleaseError("The service ends.")
            if self._current:
                self._current.close_at = time.monotonic() + grace_seconds
                self._retired.append(self._current)
            self._current = _Held(release)

    def close_unused(self) -> None:
        """Closes former releases that no request has.

        Those whose time of grace has not passed stay open.
        """
        now = time.monotonic()
        with self._lock:
            unused = [
                each
                for each in self._retired
                if not each.users and (self._closed or now >= each.close_at)
            ]
            for each in unused:
                self._retired.remove(each)
        for each in unused:
            each.release.close()

    def close(self) -> None:
        """Ends: what requests still have is closed as they end."""
        with self._lock:
            self._closed = True
            if self._current:
                self._retired.append(self._current)
            self._current = None
        self.close_unused()
