"""The workers of a training job, from `TF_CONFIG`, and how they meet."""

import concurrent.futures
import contextlib
import faulthandler
import json
import os
import socket
import sys
import time
from collections.abc import Iterable

import tensorflow as tf

from sicot_tf.workers import exit_codes

_EXAMPLE = (
    '{"cluster": {"worker": ["host0:2222", "host1:2222"]}, '
    '"task": {"type": "worker", "index": 0}}'
)
_SECONDS_BETWEEN_MESSAGES = 10


def make_strategy(
    start_timeout: float = 300,
) -> tf.distribute.MultiWorkerMirroredStrategy:
    """The strategy of every run; without `TF_CONFIG` it is one worker.

    Returns when all workers have started. Late ones are named every 10 s;
    after `start_timeout` seconds this process ends with
    `exit_codes.START_AGAIN`.

    Ring collectives over gRPC work on any machine, NCCL only between GPUs,
    so the choice is left to TensorFlow where there are GPUs.

    Raises:
        ValueError: if `TF_CONFIG` is broken or there are several GPUs.
        OSError: if this worker's port is taken.
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
    if num_workers() > 1:
        # TensorFlow 2.21 would wait for late workers without a word and
        # without an end (seen: 7 minutes), and holds Python's lock meanwhile:
        # no thread and no signal handler runs. So the workers meet here first.
        _meet(start_timeout)
        # Reached only if a worker is lost at this moment.
        faulthandler.dump_traceback_later(start_timeout, exit=True, file=2)
    try:
        return tf.distribute.MultiWorkerMirroredStrategy(
            communication_options=options
        )
    finally:
        faulthandler.cancel_dump_traceback_later()


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
        } if not isinstance(index, bool):
            pass
        case {"cluster": dict(), "task": {"type": str(), "index": index}}:
            raise _broken(
                '"index" of "task" as a number without quotes is missing, it '
                f"is {json.dumps(index)}"
            )
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
    if not all(isinstance(each, list) for each in jobs.values()):
        raise _broken("the jobs of its cluster are not lists of addresses")
    chiefs, workers = jobs.get("chief", []), jobs.get("worker", [])
    if job not in jobs or not 0 <= index < len(jobs[job]):
        raise _broken(
            f"task {index} of job {job!r} is not in a cluster of "
            f"{len(chiefs)} chief and {len(workers)} worker"
        )
    known = [*chiefs, *workers]
    for address in known:
        if not _is_address(address):
            raise _broken(
                f"{address!r} is not host:port with a port from 1 to 65535"
            )
    if len(set(known)) < len(known):
        raise _broken("two workers have the same address")
    if len(chiefs) > 1:
        raise _broken(f"it has {len(chiefs)} chiefs")
    return known, index + (len(chiefs) if job == "worker" else 0)


def _is_address(address: object) -> bool:
    """Whether this is "host:port", "[::1]:port" for IPv6."""
    host, _, port = str(address).rpartition(":")
    is_number = port.isascii() and port.isdigit() and len(port) < 6
    return (
        isinstance(address, str)
        and bool(host)
        and not set("/ ") & set(host)
        and is_number
        and 0 < int(port) < 2**16
    )


def _broken(reason: str) -> ValueError:
    return ValueError(
        f"TF_CONFIG does not describe a training job: {reason}. Expected "
        f"something like {_EXAMPLE}, received "
        f"{os.environ['TF_CONFIG'][:1000]!r}. Unset it to train with one "
        "worker."
    )


def _meet(start_timeout: float) -> None:
    """Returns when all workers listen, this one in place of its server."""
    started = said = time.monotonic()
    me = f"worker {worker_index()} of {num_workers()}"
    with _listen(addresses()[worker_index()]) as listener:
        listener.setblocking(False)
        while late := unreachable():
            with contextlib.suppress(BlockingIOError):
                # Otherwise the queue of the others' probes would fill up.
                while True:
                    listener.accept()[0].close()
            now = time.monotonic()
            waited = f"{now - started:.0f} of {start_timeout:.0f} s"
            if now - started >= start_timeout:
                _say(
                    f"{me}: gave up after {waited}: no answer from "
                    f"{named(late)}. Start all workers again, or wait longer "
                    "with --start_timeout. Ends with exit code "
                    f"{exit_codes.START_AGAIN}."
                )
                raise SystemExit(exit_codes.START_AGAIN)
            if now - said >= _SECONDS_BETWEEN_MESSAGES:
                said = now
                _say(
                    f"{me}: waiting, {waited}: no answer yet from {named(late)}"
                )
            time.sleep(0.2)


def _listen(address: str) -> socket.socket:
    """A socket that listens on the port of an address."""
    port = int(address.rsplit(":", 1)[1])
    dual = socket.has_dualstack_ipv6()
    try:
        return socket.create_server(
            ("", port),
            family=socket.AF_INET6 if dual else socket.AF_INET,
            dualstack_ipv6=dual,
        )
    except OSError as error:
        raise OSError(
            f"Worker {worker_index()} cannot listen on port {port} ({error}). "
            "Does it run already, or does another worker have this index?"
        ) from error


def _say(message: str) -> None:
    print(message, file=sys.stderr, flush=True)
