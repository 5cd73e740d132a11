"""The release that the running service answers from, and how it is replaced.

A request takes the release once and keeps it until its answer is complete, so
the model version and the index of an answer always belong together.
"""

import asyncio
import contextlib
import logging
import pathlib
import time
from collections.abc import Awaitable
from collections.abc import Callable
from collections.abc import Coroutine
from collections.abc import Iterator
from typing import Any

from sicot_tf.recognition.releases import held_releases
from sicot_tf.recognition.releases import open_release
from sicot_tf.recognition.releases import releases
from sicot_tf.recognition.releases.open_release import Models
from sicot_tf.recognition.releases.open_release import OpenRelease

_log = logging.getLogger(__name__)


class LiveRelease:
    """Follows `LIVE` of a folder of releases.

    Args:
        folder: the releases; or one `Release`, which then stays.
        wait_until_available: `await f(model_name, version, timeout)`: until the
            model server has the version; raises if it does not get it.
        warm_up: `await f(open_release)`: one request; raises if it fails.
        change_versions: gets `versions_needed()` whenever it has changed, for
            a model server that is told what to load from this machine's
            folders; None: it looks after its versions itself.
        report: gets the name of a release and "live" or "failed".
        poll_seconds: between two looks at `LIVE`.
        model_seconds: timeout of `wait_until_available`.
        grace_seconds: an old release stays open for at least so long.
        retry_seconds: until a release that failed is tried again.

    Attributes:
        fault: why what `LIVE` names is not in use; "" if it is.
    """

    def __init__(
        self,
        folder: pathlib.Path | releases.Release,
        *,
        wait_until_available: Callable[[str, int, float], Awaitable[None]],
        warm_up: Callable[[OpenRelease], Awaitable[None]],
        change_versions: Callable[[Models], None] | None = None,
        report: Callable[[str, str], None] = lambda name, outcome: None,
        poll_seconds: float = 1.0,
        model_seconds: float = 300.0,
        grace_seconds: float = 10.0,
        retry_seconds: float = 30.0,
    ):
        self.fault = ""
        self._source = folder
        self._wait_until_available = wait_until_available
        self._warm_up = warm_up
        self._change_versions = change_versions
        self._report = report
        self._poll_seconds = poll_seconds
        self._model_seconds = model_seconds
        self._grace_seconds = grace_seconds
        self._retry_seconds = retry_seconds
        self._held = held_releases.HeldReleases()
        self._next: OpenRelease | None = None
        self._told: Models = {}
        # The release that was tried in vain, and when it is tried again.
        self._failed, self._retry_at = "", 0.0

    @property
    def is_fixed(self) -> bool:
        """Whether it is one release that stays: it is there or it fails."""
        return isinstance(self._source, releases.Release)

    @property
    def is_ready(self) -> bool:
        """Whether there is a release to answer from."""
        return self._held.current is not None

    @contextlib.contextmanager
    def acquire(self) -> Iterator[OpenRelease]:
        """The release in use, which stays open; by any number of threads.

        Raises:
            held_releases.NoReleaseError: if there is none.
        """
        with self._held.acquire() as release:
            yield release

    def versions_needed(self) -> Models:
        """What the model server has to have: for present, next and last ones.

        Raises:
            ValueError: if two models of one name have different base paths.
        """
        releases_needed = [*self._held.all(), self._next]
        return open_release.merge(
            {each.model_name: (each.model_base_path, (each.model_version,))}
            for each in releases_needed
            if each
        )

    async def follow(self) -> None:
        """Looks at `LIVE` again and again, until it is cancelled."""
        while True:
            try:
                await self.look()
            except Exception:
                _log.exception("The look at the releases failed.")
            await asyncio.sleep(self._poll_seconds)

    async def look(self) -> None:
        """Takes the release that `LIVE` names, closes those without use."""
        await self._tidy()
        try:
            name = await asyncio.to_thread(self._find_name)
        except (OSError, ValueError) as error:
            if str(error) != self.fault:
                self._fail(releases.LIVE, error)
            return
        current = self._held.current
        if current and name == current.name:
            self.fault, self._failed = "", ""
        elif name != self._failed or time.monotonic() >= self._retry_at:
            try:
                await self._take(name)
            except Exception as error:
                self._fail(name, error)

    def close(self) -> None:
        """Ends: what requests still have is closed as they end."""
        self._held.close()

    async def _take(self, name: str) -> None:
        opened = await asyncio.to_thread(self._open, name)
        try:
            self._next = opened
            self._tell_versions()
            await self._while_live(name, self._try(opened))
            self._held.replace(opened, self._grace_seconds)
            self._next = None
        except BaseException:
            # The next look tells the model server.
            self._next = None
            opened.close()
            raise
        self.fault, self._failed = "", ""
        _log.info(
            "Release %s is live: model %s version %d, index %s.",
            *(name, opened.model_name, opened.model_version),
            opened.index_generation,
        )
        self._report(name, "live")

    async def _try(self, opened: OpenRelease) -> None:
        await self._wait_until_available(
            opened.model_name, opened.model_version, self._model_seconds
        )
        await self._warm_up(opened)

    async def _while_live(
        self, name: str, work: Coroutine[Any, Any, None]
    ) -> None:
        """Gives up as soon as `LIVE` names another release."""
        task = asyncio.create_task(work)
        try:
            while not task.done():
                await asyncio.wait({task}, timeout=self._poll_seconds)
                await self._tidy()
                if await asyncio.to_thread(self._find_name) != name:
                    raise ValueError(f"{name} was replaced before it was live.")
            await task
        finally:
            task.cancel()
            # Its end, so that nothing asks what is closed next.
            await asyncio.gather(task, return_exceptions=True)

    def _open(self, name: str) -> OpenRelease:
        release = self._source
        if not isinstance(release, releases.Release):
            release = releases.read(release, name)
            fault = releases.find_fault(
                release, model_is_elsewhere=self._change_versions is None
            )
            if fault:
                raise ValueError(fault)
        return OpenRelease(release)

    def _find_name(self) -> str:
        if isinstance(self._source, releases.Release):
            return self._source.name
        name = releases.live_name(self._source)
        if name is None:
            raise ValueError(
                f"{self._source} has no release in use. Publish one: python "
                f"-m sicot_tf.release --releases {self._source} --model ... "
                "--product_index ..."
            )
        return name

    def _fail(self, name: str, error: Exception) -> None:
        self.fault = str(error) or type(error).__name__
        self._failed = name
        self._retry_at = time.monotonic() + self._retry_seconds
        current = self._held.current
        _log.error(
            "Release %s can't be taken: %s%s",
            *(name, self.fault),
            f" {current.name} stays in use." if current else "",
        )
        self._report(name, "failed")

    async def _tidy(self) -> None:
        # To give gigabytes back takes a moment.
        await asyncio.to_thread(self._held.close_unused)
        self._tell_versions()

    def _tell_versions(self) -> None:
        if self._change_versions is None:
            return
        needed = self.versions_needed()
        if needed and needed != self._told:
            self._change_versions(needed)
            self._told = needed
