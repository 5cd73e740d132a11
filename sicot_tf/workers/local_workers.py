"""Trains with several worker processes on one machine, and restarts them.

`run` starts the workers of a job, each with its own `TF_CONFIG`, and starts
all of them again when one fails: the run goes on from its last checkpoint.

As a program this file is the first thing in a worker's process (see `_main`).
It must not import TensorFlow.
"""

import contextlib
import ctypes
import json
import logging
import os
import pathlib
import runpy
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from collections.abc import Iterator

from sicot_tf import exit_codes
from sicot_tf.workers import log_files

# TensorFlow notices a lost worker after about 10 s, the watchdog after 4.
_SECONDS_TO_END = 30
_FAILURES_IN_A_ROW = 3
_log = logging.getLogger(__name__)


def run(
    num_workers: int,
    module: str,
    argv: list[str],
    *,
    log_dir: pathlib.Path,
    progress: Callable[[], int],
) -> int:
    """Runs `python -m module *argv` as the workers of one job; exit code.

    Worker 0 writes to the terminal, worker 1 to log_dir/worker-1.log and so
    on. If a worker fails, the others get 30 s to end by themselves, then all
    are started again. `exit_codes.BAD_INPUT` ends the job at once, and so do
    three failures in a row without progress. SIGTERM and SIGINT are passed on
    to the workers as SIGTERM, once; a second one kills them. If this process
    is killed, so are the workers (Linux).

    CUDA_VISIBLE_DEVICES with a device for each worker is divided among them.

    Args:
        num_workers: processes, from 1.
        log_dir: is made if it does not exist; logs are appended to.
        progress: step of the last checkpoint; grows when a start was of use.

    Returns:
        0 if all workers ended with 0, else the code of the worker that
        failed first, 128 + number of the signal if a signal killed it.

    Raises:
        ValueError: if num_workers < 1 or `TF_CONFIG` is set.
    """
    _check_alone(num_workers)
    log_dir.mkdir(parents=True, exist_ok=True)
    failures = 0
    with termination_signals() as signals:
        while True:
            step = progress()
            with _started(num_workers, [module, *argv], log_dir) as workers:
                failed = _wait(workers, signals)
            if failed is None:
                return 0
            code = workers[failed].returncode
            failures = failures + 1 if progress() == step else 0
            if code == exit_codes.BAD_INPUT:
                if workers[0].returncode != exit_codes.BAD_INPUT:
                    log_files.tell_mistake(failed, log_dir)
                return code
            log_files.report(failed, code, log_dir)
            if failures < _FAILURES_IN_A_ROW and not signals:
                _log.warning(
                    "Starting all workers again, from step %d.", progress()
                )
                continue
            if not signals:
                _log.error(
                    "Not started again: %d failures in a row without a new "
                    "checkpoint. Logs: %s",
                    *(failures, log_dir),
                )
            return code if code > 0 else 128 - code


def _check_alone(num_workers: int) -> None:
    """Raises ValueError if no workers can be started here."""
    if num_workers < 1:
        raise ValueError(f"Expected num_workers >= 1, received {num_workers}.")
    if os.environ.get("TF_CONFIG"):
        raise ValueError(
            "TF_CONFIG is set: this process is one worker of a job already. "
            "Start it without --num_workers, or unset TF_CONFIG to start "
            f"{num_workers} workers on this machine."
        )


@contextlib.contextmanager
def termination_signals() -> Iterator[list[int]]:
    """Numbers of SIGTERM and SIGINT, as they come in the block."""
    received: list[int] = []
    handlers = {
        number: signal.signal(number, lambda number, _: received.append(number))
        for number in (signal.SIGTERM, signal.SIGINT)
    }
    try:
        yield received
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def _started(
    num_workers: int, command: list[str], log_dir: pathlib.Path
) -> Iterator[list[subprocess.Popen]]:
    """Workers that do not outlive the block."""
    workers: list[subprocess.Popen] = []
    try:
        for worker in _start(num_workers, command, log_dir):
            workers.append(worker)
        yield workers
    finally:
        for worker in workers:
            worker.kill()
            worker.wait()


def _start(
    num_workers: int, command: list[str], log_dir: pathlib.Path
) -> Iterator[subprocess.Popen]:
    """Starts the workers on ports that nobody uses now."""
    addresses = _free_addresses(num_workers)
    for index in range(num_workers):
        output = None
        if index > 0:
            output = open(log_files.path_of(index, log_dir), "ab")
            output.write(f"{log_files.START} {' '.join(command)}\n".encode())
            output.flush()
        yield subprocess.Popen(
            [sys.executable, "-m", __name__, str(os.getpid())] + command,
            env=_environment(addresses, index),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=None if output is None else subprocess.STDOUT,
            # Away from Ctrl-C, which would interrupt every worker at a
            # different step.
            start_new_session=True,
        )
        if output is not None:
            output.close()


def _free_addresses(number: int) -> list[str]:
    """Loopback addresses, all different, on which nobody listens now."""
    sockets = [socket.socket() for _ in range(number)]
    try:
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [f"127.0.0.1:{each.getsockname()[1]}" for each in sockets]
    finally:
        for each in sockets:
            each.close()


def _environment(addresses: list[str], index: int) -> dict[str, str]:
    """What a worker's process sees."""
    environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
    number = len(addresses)
    if number == 1:
        return environment
    environment["TF_CONFIG"] = json.dumps(
        {
            "cluster": {"worker": addresses},
            "task": {"type": "worker", "index": index},
        }
    )
    share_cores(environment, number)
    devices = environment.get("CUDA_VISIBLE_DEVICES", "").split(",")
    if len(devices) >= number:
        environment["CUDA_VISIBLE_DEVICES"] = devices[index]
    return environment


def share_cores(environment: dict[str, str], num_processes: int) -> None:
    """Gives TensorFlow in each of some processes its share of the threads.

    Each would start a thread per core. MobileNetV2 with a classifier on 2
    cores: with cores / workers threads a step takes 0.26 s of CPU time
    instead of 0.33 with 2 workers, 0.27 instead of 0.38 with 4.
    """
    threads = str(max(1, num_cores() // num_processes))
    environment.setdefault("TF_NUM_INTRAOP_THREADS", threads)
    environment.setdefault("OMP_NUM_THREADS", threads)


def num_cores() -> int:
    """Cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _wait(workers: list[subprocess.Popen], signals: list[int]) -> int | None:
    """Waits until all have ended; who failed at first, None if nobody did."""
    failed: list[int] = []
    num_passed_on = 0
    deadline = float("inf")
    while True:
        running = [worker for worker in workers if worker.poll() is None]
        for index, worker in enumerate(workers):
            # SIGTERM's own exit code: the worker had not begun to handle it, so
            # it had nothing to save.
            good = [0, -signal.SIGTERM] if signals else [0]
            if worker.returncode in [None, *good] or index in failed:
                continue
            failed.append(index)
            if running and len(failed) == 1:
                if worker.returncode != exit_codes.BAD_INPUT:
                    _log.warning(
                        "Worker %d %s; the others have %g s to end.",
                        *(index, log_files.in_words(worker.returncode)),
                        _SECONDS_TO_END,
                    )
                deadline = time.monotonic() + _SECONDS_TO_END
        if not running:
            break
        if len(signals) > num_passed_on:
            for worker in running:
                worker.send_signal(
                    signal.SIGKILL if num_passed_on else signal.SIGTERM
                )
            num_passed_on = len(signals)
        if time.monotonic() > deadline:
            for worker in running:
                _log.warning(
                    "Worker %d does not end: killed.", workers.index(worker)
                )
                worker.kill()
            deadline = float("inf")
        time.sleep(0.1)

    def consequence(index: int) -> tuple[bool, bool]:
        code = workers[index].returncode
        return code != exit_codes.BAD_INPUT, code == exit_codes.START_AGAIN

    # A worker that lost another one is not the one that failed first.
    return min(failed, key=consequence) if failed else None


def _main() -> None:
    """Runs a module as a worker that dies with the process of `run`.

    Arguments: process id of `run`, module, arguments of the module.
    """
    parent, module, *argv = sys.argv[1:]
    if sys.platform == "linux":
        # PR_SET_PDEATHSIG, see prctl(2). Not SIGTERM: a job that is started
        # anew must not meet workers that are still saving.
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)
        if os.getppid() != int(parent):
            return
    sys.argv = [module, *argv]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    _main()
