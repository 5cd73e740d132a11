"""Keeps a server running that dies in native code.

A fault in a kernel ends the whole process, and no Python code can catch it.
The supervisor is the parent: it imports no TensorFlow, so that it stays
alive and small. Its child is the server.
"""

import ctypes
import os
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from collections.abc import Sequence

# Gives the command from the number of restarts so far.
MakeCommand = Callable[[int], Sequence[str]]

# What kills in native code; SIGKILL is the kernel's answer to lack of memory.
_CRASH_SIGNALS = frozenset(
    [
        signal.SIGABRT,
        signal.SIGBUS,
        signal.SIGFPE,
        signal.SIGILL,
        signal.SIGKILL,
        signal.SIGSEGV,
        signal.SIGTRAP,
    ]
)
_STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT)
# A server that lived longer than this did not die of its start.
_QUICK_SECONDS = 60.0
_MAX_QUICK_CRASHES = 5
_FIRST_DELAY_SECONDS = 1.0
_MAX_DELAY_SECONDS = 30.0
_PR_SET_PDEATHSIG = 1


def run(
    make_command: MakeCommand,
    *,
    first_delay_seconds: float = _FIRST_DELAY_SECONDS,
) -> int:
    """Runs a command until it ends of itself, or is told to.

    After a crash in native code it is started again, first after
    `first_delay_seconds`, then after twice as long, at most 30 seconds. Five
    crashes in a row within a minute of the start are the last. SIGTERM and
    SIGINT are passed on, and nothing is started after them. To be called in
    the main thread, of a program with no other.

    Args:
        make_command: gives the command from the number of restarts so far.
        first_delay_seconds: time before the first restart.

    Returns:
        The exit code of the last process: its own, 128 + number of a signal
        that it died of, 0 if that was the signal it was told to stop with.
    """
    return _Supervisor(make_command, first_delay_seconds).run()


def end_with_parent(parent_id: int) -> None:
    """Asks the kernel for a SIGTERM when the parent dies (Linux).

    Without it a server whose supervisor is killed would keep its ports.

    Args:
        parent_id: process id of the parent; if it is no longer that, this
            process ends at once.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
    # It may have died before the call.
    if os.getppid() != parent_id:
        raise SystemExit(128 + signal.SIGTERM)


class _Supervisor:
    """State of `run`."""

    def __init__(
        self,
        make_command: MakeCommand,
        first_delay_seconds: float,
    ):
        self._make_command = make_command
        self._first_delay_seconds = first_delay_seconds
        self._process: subprocess.Popen | None = None
        self._stop_signal = 0
        # A byte comes with every signal, whichever thread the kernel chose.
        self._reader, self._writer = socket.socketpair()
        self._reader.setblocking(False)
        self._writer.setblocking(False)

    def run(self) -> int:
        signal.set_wakeup_fd(self._writer.fileno())
        for number in _STOP_SIGNALS:
            signal.signal(number, self._pass_on)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        num_restarts = 0
        num_quick_crashes = 0
        while True:
            start = time.monotonic()
            code = self._run_once(num_restarts)
            if self._stop_signal or -code not in _CRASH_SIGNALS:
                break
            if time.monotonic() - start < _QUICK_SECONDS:
                num_quick_crashes += 1
            else:
                num_quick_crashes = 1
            cause = _cause(-code)
            if num_quick_crashes >= _MAX_QUICK_CRASHES:
                _print(
                    f"The server {cause}, the {num_quick_crashes}th time "
                    "within a minute of its start. Giving up; the lines above "
                    "tell where it died."
                )
                break
            delay = min(
                self._first_delay_seconds * 2 ** (num_quick_crashes - 1),
                _MAX_DELAY_SECONDS,
            )
            num_restarts += 1
            _print(
                f"The server {cause}. Restart {num_restarts} in {delay:g} "
                "seconds."
            )
            self._wait_for_signal(delay)
            if self._stop_signal:
                return 0
        if code >= 0:
            return code
        return 0 if -code == self._stop_signal else 128 - code

    def _run_once(self, num_restarts: int) -> int:
        """Runs the command to its end; its code, negative for a signal."""
        self._process = subprocess.Popen(self._make_command(num_restarts))
        if self._stop_signal:
            # It came between the last look and the start.
            self._process.send_signal(self._stop_signal)
        while (code := self._process.poll()) is None:
            self._wait_for_signal(None)
        self._process = None
        return code

    def _pass_on(self, number: int, _: object) -> None:
        """Handler of SIGTERM and SIGINT."""
        self._stop_signal = number
        if self._process is not None:
            self._process.send_signal(number)

    def _wait_for_signal(self, seconds: float | None) -> None:
        """Returns after any signal but the end of no child, or the time."""
        deadline = None if seconds is None else time.monotonic() + seconds
        while True:
            left = None
            if deadline is not None:
                left = max(0, deadline - time.monotonic())
            select.select([self._reader], [], [], left)
            try:
                numbers = self._reader.recv(4096)
            except BlockingIOError:
                return
            if deadline is None or set(numbers) & set(_STOP_SIGNALS):
                return


def _cause(number: int) -> str:
    """For example: died of SIGSEGV."""
    name = signal.Signals(number).name
    if number == signal.SIGKILL:
        return f"died of {name}, perhaps because memory ran out"
    return f"died of {name} in native code"


def _print(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
