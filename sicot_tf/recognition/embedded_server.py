"""The model server that comes with the recogniser: a child process.

It listens on a UNIX socket in a private folder, so no port is open that could
be asked past the limits, and serves the versions that its configuration names.
It is started again if it dies, and never outlives the recogniser: the kernel
ends it with its parent (prctl, PR_SET_PDEATHSIG), even after a SIGKILL.
"""

import asyncio
import logging
import os
import pathlib
import signal
import sys
import tempfile
from collections.abc import Callable
from collections.abc import Iterable

from sicot_tf.recognition.releases import open_release

_log = logging.getLogger(__name__)
# Between two starts: twice as long each time, until it has run for a while.
_FIRST_PAUSE, _LONGEST_PAUSE, _STABLE_SECONDS = 0.5, 30.0, 60.0
# A version that is loaded waits for nothing; then the process is killed.
_END_SECONDS = 20.0
# Set by the child itself, before it becomes the server: code that runs between
# fork and exec may hang in a process that has threads. The parent may have
# died just before.
_LAUNCHER = """
import ctypes, os, signal, sys
ctypes.CDLL(None).prctl(1, signal.SIGKILL)
if os.getppid() == int(sys.argv[1]):
    os.execv(sys.executable, [sys.executable, *sys.argv[2:]])
"""


class EmbeddedServer:
    """`python -m sicot_tf.serve` as a child that is started again.

    Attributes:
        address: for gRPC.
        num_restarts: how often it has died so far.
    """

    def __init__(
        self,
        flags: Iterable[str] = (),
        on_death: Callable[[], object] = lambda: None,
    ):
        """Starts nothing yet.

        Args:
            flags: more flags of `sicot_tf.serve`.
            on_death: called each time it dies.
        """
        self._folder = tempfile.TemporaryDirectory(prefix="sicot-recognize-")
        folder = pathlib.Path(self._folder.name)
        self._config = folder / "models.config"
        self.address = f"unix:{folder / 'grpc.socket'}"
        self._flags = [
            *("--port=0", f"--grpc_socket_path={folder / 'grpc.socket'}"),
            f"--model_config_file={self._config}",
            "--model_config_file_poll_wait_seconds=0.5",
            "--file_system_poll_wait_seconds=0.5",
            "--drain_seconds=0",
            *flags,
        ]
        self._on_death = on_death
        self.num_restarts = 0
        self._process: asyncio.subprocess.Process | None = None
        self._supervisor: asyncio.Task | None = None

    def serve(self, models: open_release.Models) -> None:
        """Makes exactly these versions be served, within about a second.

        The first call starts the process. A version that is no longer named
        ends once its requests have.
        """
        open_release.write_model_config(self._config, models)
        if self._supervisor is None:
            self._supervisor = asyncio.create_task(self._supervise())

    @property
    def pid(self) -> int | None:
        """Of the process that runs; None if none does."""
        process = self._process
        return process.pid if process and process.returncode is None else None

    async def stop(self) -> None:
        """Ends the process and waits for it."""
        if self._supervisor:
            self._supervisor.cancel()
            await asyncio.wait({self._supervisor})
        process = self._process
        if process and process.returncode is None:
            process.send_signal(signal.SIGTERM)
            try:
                await asyncio.wait_for(process.wait(), _END_SECONDS)
            except TimeoutError:
                process.kill()
                await process.wait()
        self._folder.cleanup()

    async def _supervise(self) -> None:
        pause = _FIRST_PAUSE
        clock = asyncio.get_running_loop().time
        while True:
            started = clock()
            self._process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-c", _LAUNCHER, str(os.getpid())),
                *("-m", "sicot_tf.serve", *self._flags),
                # Standard output is for results of this command; and Ctrl-C
                # must not end the server before its last requests.
                stdout=sys.stderr.fileno(),
                start_new_session=True,
            )
            code = await self._process.wait()
            self.num_restarts += 1
            self._on_death()
            if clock() - started > _STABLE_SECONDS:
                pause = _FIRST_PAUSE
            _log.error(
                "The model server ended with code %d; started again in %g s.",
                *(code, pause),
            )
            await asyncio.sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE)
