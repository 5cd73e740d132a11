"""Meters of `classifier_step.py`: fresh processes, clocks, memory, sockets."""

import collections
import json
import multiprocessing
import multiprocessing.connection
import os
import pathlib
import signal
import socket
import struct
import time
from collections.abc import Callable
from typing import Any

import tensorflow as tf

# === Fresh processes ===


def in_fresh_processes(
    function: Callable, *arguments: Any, num_workers: int = 1
) -> list[Any]:
    """What a function returns in new processes, which form one cluster."""
    context = multiprocessing.get_context("spawn")
    workers, ends = [], []
    for environment in _environments(num_workers):
        end, far_end = context.Pipe(duplex=False)
        worker = context.Process(
            target=_call, args=(far_end, environment, function, arguments)
        )
        worker.start()
        far_end.close()
        workers.append(worker)
        ends.append(end)
    found = {}
    try:
        while len(found) < num_workers:
            waiting = [end for end in ends if end not in found]
            for end in multiprocessing.connection.wait(waiting):
                found[end] = end.recv()
    except EOFError:
        raise RuntimeError(
            f"A process with {function.__name__}{arguments} ended early. Its "
            "error is above; if there is none, memory ran out."
        ) from None
    finally:
        for worker in workers:
            worker.kill()
            worker.join()
    return [found[end] for end in ends]


def _environments(num_workers: int) -> list[dict[str, str]]:
    """Of each worker, as `sicot_tf.train --num_workers` starts them."""
    quiet = {"TF_CPP_MIN_LOG_LEVEL": "2"}
    if num_workers == 1:
        return [quiet]
    sockets = [socket.socket() for _ in range(num_workers)]
    for each in sockets:
        each.bind(("127.0.0.1", 0))
    addresses = [f"127.0.0.1:{each.getsockname()[1]}" for each in sockets]
    for each in sockets:
        each.close()
    threads = str(max(1, os.cpu_count() // num_workers))
    return [
        quiet
        | {
            "TF_CONFIG": json.dumps(
                {
                    "cluster": {"worker": addresses},
                    "task": {"type": "worker", "index": index},
                }
            ),
            "TF_NUM_INTRAOP_THREADS": threads,
            "OMP_NUM_THREADS": threads,
        }
        for index in range(num_workers)
    ]


def _call(
    end: multiprocessing.connection.Connection,
    environment: dict[str, str],
    function: Callable,
    arguments: tuple,
) -> None:
    os.environ.update(environment)
    end.send(function(*arguments))
    # Whoever left first would disturb the other workers.
    signal.pause()


# === Time ===


def time_rounds(
    functions: dict[str, Callable],
    num_rounds: int,
    max_seconds: float = float("inf"),
) -> dict[str, list[tuple[float, float]]]:
    """Wall and processor seconds of each function in each round.

    One of each makes a round, so that what disturbs the machine for longer
    disturbs all. Three rounds are made in any case.
    """
    for function in functions.values():
        function()
    times = collections.defaultdict(list)
    deadline = time.monotonic() + max_seconds
    for number in range(num_rounds):
        if number >= 3 and time.monotonic() > deadline:
            break
        for name, function in functions.items():
            processor, wall = time.process_time(), time.perf_counter()
            function()
            times[name].append(
                (time.perf_counter() - wall, time.process_time() - processor)
            )
    return dict(times)


# === Memory ===


def resident_bytes() -> int:
    """Memory that this process has now."""
    return _field("/proc/self/status", "VmRSS")


def peak_resident_bytes() -> int:
    """The most it had since the last `forget_peak`."""
    return _field("/proc/self/status", "VmHWM")


def forget_peak() -> None:
    """Starts a new peak, proc_pid_clear_refs(5)."""
    pathlib.Path("/proc/self/clear_refs").write_text("5")


def available_bytes() -> int:
    """Memory that the machine could still give."""
    return _field("/proc/meminfo", "MemAvailable")


def _field(path: str, name: str) -> int:
    for line in pathlib.Path(path).read_text().splitlines():
        if line.startswith(f"{name}:"):
            return 1024 * int(line.split()[1])
    raise ValueError(f"Expected a line {name} in {path}, found none.")


# === Network ===


def collective_sizes(
    traced: tf.types.experimental.ConcreteFunction,
) -> dict[str, list[int]]:
    """Numbers in the result of each collective, by kind; gathers as 0."""
    graph = traced.graph.as_graph_def(add_shapes=True)
    sizes = collections.defaultdict(list)
    called = [function.node_def for function in graph.library.function]
    for nodes in [graph.node, *called]:
        for node in nodes:
            if node.op.startswith("Collective"):
                shape = node.attr["_output_shapes"].list.shape[0]
                # TensorFlow does not know the shape of what is gathered.
                size = tf.TensorShape(shape).num_elements()
                sizes[node.op].append(size or 0)
    return dict(sizes)


def sent_bytes() -> int:
    """Bytes that others have acknowledged, over all sockets of this process.

    What is lost and sent again, and headers of TCP, do not count.
    """
    # The other end may still be reading.
    time.sleep(0.2)
    total = 0
    for path in pathlib.Path("/proc/self/fd").iterdir():
        try:
            is_socket = os.readlink(path).startswith("socket:")
        except FileNotFoundError:
            continue
        if not is_socket:
            continue
        with socket.socket(fileno=os.dup(int(path.name))) as copy:
            if copy.family in (socket.AF_INET, socket.AF_INET6):
                information = copy.getsockopt(
                    socket.IPPROTO_TCP, socket.TCP_INFO, 256
                )
                # tcpi_bytes_acked of linux/tcp.h.
                total += struct.unpack_from("Q", information, 120)[0]
    return total
