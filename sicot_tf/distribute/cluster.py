"""The workers of a training job, from `TF_CONFIG`, and how they meet."""

import concurrent.futures
import contextlib
import json
import os
import socket
import sys
import threading
import time
from collections.abc import Iterable
from collections.abc import Iterator

import tensorflow as tf

from sicot_tf.distribute import exit_codes

_EXAMPLE = (
    '{"cluster": {"worker": ["host0:2222", "host1:2222"]}, '
    '"task": {"type": "worker", "index": 0}}'
)
_SECONDS_BETWEEN_MESSAGES = 10


def make_strategy(
    start_timeout: float = 300,
) -> tf.distribute.MultiWorkerMirroredStrategy:
    """The strategy of every run; without `TF_CONFIG` it is one worker.

    Returns when all workers have started. TensorFlow itself waits for late
    ones without a word and without an end (2.21: more than 7 minutes), so a
    thread names them every 10 s and ends this process after `start_timeout`
    seconds with `exit_codes.START_AGAIN`.

    Ring collectives over gRPC work on any machine, NCCL only between GPUs,
    so the choice is left to TensorFlow where there are GPUs.

    Raises:
        ValueError: if `TF_CONFIG` is broken or there are several GPUs.
    """
    gpus = tf.config.get_visible_devices("GPU")
    if len(gpus) > 1:
        raise ValueError(
            f"Expected one GPU a worker, this process sees {len(gpus)}. Start "
            "one worker for each GPU, with CUDA_VISIBLE_DEVICES=0, 1, ..."
        )
    implementation = tf.distribute.experimental.CommunicationImplementation
    options = tf.distribute.experimental.CommunicationOptions(
        implementation=implementation.AUTO if gpus else implementation.RING
    )
    with _naming_late_workers(start_timeout):
        return tf.distribute.MultiWorkerMirroredStrategy(
            communication_options=options
        )


def num_workers() -> int:
    """How many processes train together, by `TF_CONFIG`."""
    return max(1, len(addresses()))


def worker_index() -> int:
    """Number of this worker, from 0, which is the chief."""
    return _read()[1]


def addresses() -> list[str]:
    """ "host:port" of every worker by its index; empty without `TF_CONFIG`."""
    return _read()[0]


def unreachable(indices: Iterable[int] | None = None) -> list[int]:
    """Which of these workers, or of all others, do not answer within 3 s.

    A worker listens from the start of `make_strategy` until its process ends.
    One that is stopped or hung still answers: that is the kernel's doing.
    """
    if indices is None:
        indices = set(range(len(addresses()))) - {worker_index()}
    indices = sorted(indices)
    with concurrent.futures.ThreadPoolExecutor(32) as threads:
        known = addresses()
        answering = threads.map(_answers, [known[index] for index in indices])
        return [
            index
            for index, answers in zip(indices, answering, strict=True)
            if not answers
        ]


def named(indices: list[int]) -> str:
    """ "worker 1 (host1:2222), worker 3 (host3:2222)"."""
    known = addresses()
    return ", ".join(f"worker {index} ({known[index]})" for index in indices)


def _answers(address: str) -> bool:
    """Whether somebody listens at "host:port"."""
    host, port = address.rsplit(":", 1)
    try:
        with socket.create_connection((host.strip("[]"), int(port)), 3):
            return True
    except OSError:
        return False


def _read() -> tuple[list[str], int]:
    """Addresses of all workers and the index of this one."""
    text = os.environ.get("TF_CONFIG", "").strip()
    if text in ("", "{}"):
        return [], 0
    try:
        config = json.loads(text)
    except json.JSONDecodeError as error:
        raise _broken(f"it is not JSON ({error})") from error
    match config:
        case {
            "cluster": dict(jobs),
            "task": {"type": str(job), "index": int(index)},
        }:
            pass
        case _:
            raise _broken(
                '"cluster", or "task" with type and index, is missing'
            )
    others = sorted(set(jobs) - {"chief", "worker"})
    if others:
        raise _broken(
            f"its cluster has the jobs {others}; all processes of a training "
            "job are workers (validation is done by them, too)"
        )
    chiefs, workers = jobs.get("chief", []), jobs.get("worker", [])
    if job not in jobs or not 0 <= index < len(jobs[job]):
        raise _broken(
            f"task {index} of job {job!r} is not in a cluster of "
            f"{len(chiefs)} chief and {len(workers)} worker"
        )
    known = [*chiefs, *workers]
    for address in known:
        host, _, port = str(address).rpartition(":")
        if not host or not port.isdigit():
            raise _broken(f"{address!r} is not host:port")
    if len(set(known)) < len(known):
        raise _broken("two workers have the same address")
    if len(chiefs) > 1:
        raise _broken(f"it has {len(chiefs)} chiefs")
    return known, index + (len(chiefs) if job == "worker" else 0)


def _broken(reason: str) -> ValueError:
    return ValueError(
        f"TF_CONFIG does not describe a training job: {reason}. Expected "
        f"something like {_EXAMPLE}, received "
        f"{os.environ['TF_CONFIG'][:1000]!r}. Unset it to train with one "
        "worker."
    )


@contextlib.contextmanager
def _naming_late_workers(start_timeout: float) -> Iterator[None]:
    """Says who is late while the block waits; ends the process at last."""
    if num_workers() == 1:
        yield
        return
    done = threading.Event()
    thread = threading.Thread(
        target=_name_late_workers, args=(start_timeout, done), daemon=True
    )
    thread.start()
    try:
        yield
    finally:
        done.set()


def _name_late_workers(start_timeout: float, done: threading.Event) -> None:
    """The thread of `_naming_late_workers`."""
    started = time.monotonic()
    me = f"worker {worker_index()} of {num_workers()}"
    left = start_timeout
    while not done.wait(min(left, _SECONDS_BETWEEN_MESSAGES)):
        late = named(unreachable())
        reason = (
            f"no answer yet from {late}"
            if late
            else "all addresses answer, yet they form no cluster (the "
            "same TF_CONFIG cluster on all? one still ending?)"
        )
        waited = time.monotonic() - started
        left = start_timeout - waited
        print(
            f"{me}: waiting for the others, {waited:.0f} of "
            f"{start_timeout:.0f} s: {reason}",
            file=sys.stderr,
            flush=True,
        )
        if left <= 0 and not done.is_set():
            print(
                f"{me}: gave up after {waited:.0f} s: {reason}. Start "
                "all workers again, or wait longer with --start_timeout. "
                f"Ends with exit code {exit_codes.START_AGAIN}.",
                file=sys.stderr,
                flush=True,
            )
            os._exit(exit_codes.START_AGAIN)
