"""Ends a worker that waits in vain, with a message and without teardown.

A collective that waits for a lost or hung worker is native code: no Python
signal handler or exception gets through to it. So a thread ends the whole
process by `os._exit`, which also leaves out TensorFlow's teardown. Nothing is
lost that a restart would not find: checkpoints are complete or invisible.

TensorFlow 2.21 notices lost workers by itself after about 10 s (heartbeats),
but only inside a collective: a worker that reads or validates goes on.
"""

import collections
import contextlib
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Iterator

import tensorflow as tf

from sicot_tf import command_line
from sicot_tf import exit_codes
from sicot_tf.workers import cluster

_NEXT = (
    "Start all workers again (--num_workers and kubernetes/ do so by "
    "themselves): the run goes on from its last checkpoint. Ends with exit "
    f"code {exit_codes.START_AGAIN}."
)
# A lost worker in the words of TensorFlow 2.21; the error types alone
# (Unavailable, DeadlineExceeded, Aborted, InvalidArgument) would not tell a
# lost worker from a cloud disk that failed.
_LOST = (
    "Collective ops is aborted",
    "coordination service",
    "CoordinationService",
    "WorkerService",
)
# Three failed probes in a row: a single dropped connection does not mean that
# the worker is lost. A killed process is noticed within 4 s, a machine that no
# longer answers within 12 s.
_PROBES = 3
_SECONDS_BETWEEN_PROBES = 1
_ending = threading.Lock()


class Watchdog:
    """Watches the time of blocks, and whether the other workers are there.

    ```
    with watchdog.Watchdog() as dog:
        for batch in batches:
            with dog.limit(120, "step 12"):
                step_function(batch)
        collectives.wait_for_all()
    ```

    The chief watches all workers, they watch the chief; who finds one gone
    ends with `exit_codes.START_AGAIN`. So all must leave together: the last
    thing inside is `wait_for_all`.
    """

    def __init__(self):
        self._limit: tuple[float, float, float, str] | None = None
        self._stopped = threading.Event()

    def __enter__(self) -> "Watchdog":
        threading.Thread(target=self._watch_limit, daemon=True).start()
        if cluster.num_workers() > 1:
            threading.Thread(target=self._watch_workers, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped.set()

    @contextlib.contextmanager
    def limit(self, seconds: float, what: str) -> Iterator[None]:
        """Ends the process unless the block is left after `seconds`.

        Blocks may lie inside each other; the innermost counts. Costs 1 us.
        """
        outer = self._limit
        now = time.monotonic()
        self._limit = (now + seconds, now, seconds, what)
        try:
            yield
        finally:
            self._limit = outer

    def _watch_limit(self) -> None:
        """The thread of `limit`."""
        main = threading.main_thread().ident
        while not self._stopped.wait(0.5):
            limit = self._limit
            if limit is None or time.monotonic() < limit[0]:
                continue
            _, started, seconds, what = limit
            stack = traceback.format_stack(sys._current_frames().get(main))
            gone = cluster.named(cluster.unreachable())
            _end(
                f"{what} has not ended after {time.monotonic() - started:.0f} "
                f"s (limit: {seconds:.0f} s). "
                + (
                    f"No answer from {gone}. "
                    if gone
                    else "A worker hangs, perhaps this one. "
                )
                + f"{_NEXT}\nIt was here:\n{''.join(stack)}"
            )

    def _watch_workers(self) -> None:
        """The thread that looks after the other workers."""
        me = cluster.worker_index()
        watched = range(1, cluster.num_workers()) if me == 0 else [0]
        silent = collections.deque(maxlen=_PROBES)
        while not self._stopped.wait(_SECONDS_BETWEEN_PROBES):
            silent.append(set(cluster.unreachable(watched)))
            gone = sorted(set.intersection(*silent))
            if gone and len(silent) == _PROBES and not self._stopped.is_set():
                _end(f"no answer any more from {cluster.named(gone)}. {_NEXT}")


@contextlib.contextmanager
def worker_failures() -> Iterator[None]:
    """Ends a worker of several at once when an exception leaves the block.

    The others notice that its process is gone; TensorFlow's teardown might
    wait for them instead. With one worker exceptions pass as usual.

    - A lost worker: one message, `exit_codes.START_AGAIN`.
    - ValueError, FloatingPointError: `exit_codes.BAD_INPUT`.
    - Another exception: 1.
    - A mistake of the user is told in a sentence, the others by a traceback.
    - SystemExit passes.
    """
    if not os.environ.get("TF_CONFIG"):
        yield
        return
    try:
        yield
    except (Exception, KeyboardInterrupt) as error:
        sys.stdout.flush()
        if is_lost_worker(error):
            gone = cluster.named(cluster.unreachable())
            said = str(error)
            start = said.find(_LOST[0])
            said = " ".join(said[max(start, 0) :].split())[:500]
            _end(
                (
                    f"no answer any more from {gone}"
                    if gone
                    else "another worker hangs or was started again"
                )
                + f". {_NEXT}\nTensorFlow said: {said}"
            )
        if isinstance(error, KeyboardInterrupt):
            _end_with("error: interrupted.", 128 + signal.SIGINT)
        # A run that has diverged would do so again.
        again = not isinstance(error, ValueError | FloatingPointError)
        code = 1 if again else exit_codes.BAD_INPUT
        if command_line.is_mistake(error):
            _end_with(f"error: {error}", code)
        _end("".join(traceback.format_exception(error)), code)


def is_lost_worker(error: BaseException) -> bool:
    """Whether TensorFlow says that another worker was lost."""
    return isinstance(error, tf.errors.OpError) and any(
        each in str(error) for each in _LOST
    )


def _end(message: str, code: int = exit_codes.START_AGAIN) -> None:
    """Ends the process with a message as it is logged."""
    _end_with(f"{time.strftime('%H:%M:%S')} ERROR {_me()}: {message}", code)


def _end_with(text: str, code: int) -> None:
    """Writes to stderr and ends the process; the first one who comes."""
    if not _ending.acquire(blocking=False):
        # Another thread is already ending the process with its message.
        threading.Event().wait()
    # A progress bar may stand on this line of the terminal.
    below = "\n" if os.isatty(2) else ""
    # Past Python's buffers, whose locks another thread may hold.
    os.write(2, f"{below}{text.rstrip()}\n".encode())
    os._exit(code)


def _me() -> str:
    """ "worker 1 of 2"."""
    try:
        return f"worker {cluster.worker_index()} of {cluster.num_workers()}"
    except ValueError:
        return "worker"
