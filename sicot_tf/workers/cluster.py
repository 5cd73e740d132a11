"""The workers of a training job, from `TF_CONFIG`, and who of them answers."""

import concurrent.futures
import json
import os
import socket
from collections.abc import Iterable

_EXAMPLE = (
    '{"cluster": {"worker": ["host0:2222", "host1:2222"]}, '
    '"task": {"type": "worker", "index": 0}}'
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
