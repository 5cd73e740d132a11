"""The model server that comes with the recogniser: a child process.

It listens on a UNIX socket in a private folder, so no port is open that could
be asked past the limits, and serves the versions that its configuration names.
It is started again if it dies, and never outlives the recogniser: the kernel
ends it with its parent (prctl, PR_SET_PDEATHSIG), even after a SIGKILL.
"""

import asyncio
import json
import logging
import os
import pathlib
import signal
import sys
import tempfile
from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Mapping

from sicot_tf import files

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
# Base path and versions of each model.
Models = Mapping[str, tuple[pathlib.Path, Iterable[int]]]


class EmbeddedServer:
    """`python -m sicot_tf.serve` as a child that is started again.

    Attributes:
        address: for gRPC.
        num_restarts: how often it has died so far.
    """

    def __init__(self, models: Models, flags: Iterable[str] = ()):
        """Does not start it yet.

        Args:
            models: what is served; see `serve`.
            flags: more flags of `sicot_tf.serve`.
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
        self.num_restarts = 0
        self._process: asyncio.subprocess.Process | None = None
        self._supervisor: asyncio.Task | None = None
        self._stopping = False
        self.serve(models)

    def serve(self, models: Models) -> None:
        """Makes exactly these versions be served, within about a second.

        A version that is no longer named ends once its requests have.
        """
        files.write_text(self._config, _to_text(models))

    async def start(
        self, on_death: Callable[[], object] = lambda: None
    ) -> None:
        """Starts the process, which takes some seconds to answer.

        Args:
            on_death: called each time it dies.
        """
        await self._launch()
        self._supervisor = asyncio.create_task(self._supervise(on_death))

    @property
    def pid(self) -> int | None:
        """Of the process that runs; None if none does."""
        process = self._process
        return process.pid if process and process.returncode is None else None

    async def stop(self) -> None:
        """Ends the process and waits for it."""
        self._stopping = True
        if self._supervisor:
            self._supervisor.cancel()
        process = self._process
        if process and process.returncode is None:
            process.send_signal(signal.SIGTERM)
            try:
                await asyncio.wait_for(process.wait(), _END_SECONDS)
            except TimeoutError:
                process.kill()
                await process.wait()
        self._folder.cleanup()

    async def _launch(self) -> None:
        self._process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", _LAUNCHER, str(os.getpid())),
            *("-m", "sicot_tf.serve", *self._flags),
            # Results of this command only come from this process; and Ctrl-C
            # in a terminal must not end the server before its last requests.
            stdout=sys.stderr.fileno(),
            start_new_session=True,
        )

    async def _supervise(self, on_death: Callable[[], object]) -> None:
        pause = _FIRST_PAUSE
        clock = asyncio.get_running_loop().time
        while True:
            started = clock()
            code = await self._process.wait()
            if self._stopping:
                return
            self.num_restarts += 1
            on_death()
            if clock() - started > _STABLE_SECONDS:
                pause = _FIRST_PAUSE
            _log.error(
                "The model server ended with code %d; started again in %g s.",
                *(code, pause),
            )
            await asyncio.sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE)
            await self._launch()


def _to_text(models: Models) -> str:
    """A ModelServerConfig; JSON strings are good for protobuf's text, too."""
    configs = []
    for name, (base_path, versions) in models.items():
        listed = " ".join(f"versions: {version}" for version in versions)
        configs.append(
            f"  config {{\n    name: {json.dumps(name, ensure_ascii=False)}\n"
            f"    base_path: {json.dumps(str(base_path), ensure_ascii=False)}\n"
            '    model_platform: "tensorflow"\n'
            f"    model_version_policy {{ specific {{ {listed} }} }}\n  }}\n"
        )
    return f"model_config_list {{\n{''.join(configs)}}}\n"
