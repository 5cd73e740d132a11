"""Runs a function of a test on N real worker processes.

`run_workers(2, "tests.rows_test:_sum", 5)` calls, on each of two processes
that form one cluster, `tests.rows_test._sum(collectives, strategy, 5)` and
returns what they gave, by worker index.
"""

import importlib
import json
import os
import pathlib
import pickle
import socket
import subprocess
import sys
import tempfile
import time
import traceback
from typing import Any

_PROJECT_DIR = pathlib.Path(__file__).parents[2]


def run_workers(
    num_workers: int, function_path: str, *arguments: Any, timeout: float = 180
) -> list[Any]:
    """Results of `function(collectives, strategy, *arguments)` by worker.

    Args:
        num_workers: processes; one runs without `TF_CONFIG`.
        function_path: "module:function", of a module of the tests. The
            workers stay until the last is done.
        arguments: anything that can be pickled, as must be the result.
        timeout: seconds until a job that hangs fails.

    Raises:
        AssertionError: if a worker fails, with its last output.
    """
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        call = folder / "call"
        call.write_bytes(pickle.dumps((function_path, arguments)))
        addresses = free_addresses(num_workers)
        workers = []
        for index in range(num_workers):
            with open(folder / f"output-{index}", "wb") as output:
                workers.append(
                    subprocess.Popen(
                        [sys.executable, "-m", "tests.helpers.worker_processes"]
                        + [str(call), str(index)],
                        cwd=_PROJECT_DIR,
                        stdin=subprocess.PIPE,
                        env=worker_environment(addresses, index),
                        stdout=output,
                        stderr=subprocess.STDOUT,
                    )
                )
        try:
            _wait(workers, folder, time.monotonic() + timeout)
        finally:
            for worker in workers:
                worker.kill()
                worker.communicate()
        return [
            pickle.loads((folder / f"result-{index}").read_bytes())
            for index in range(num_workers)
        ]


def free_addresses(number: int) -> list[str]:
    """Loopback addresses whose ports nobody listens on at the moment."""
    sockets = [socket.socket() for _ in range(number)]
    for each in sockets:
        each.bind(("127.0.0.1", 0))
    addresses = [f"127.0.0.1:{each.getsockname()[1]}" for each in sockets]
    for each in sockets:
        each.close()
    return addresses


def worker_environment(addresses: list[str], index: int) -> dict[str, str]:
    """The environment of one worker process; `TF_CONFIG` if there are more."""
    environment = {
        **os.environ,
        "CUDA_VISIBLE_DEVICES": "-1",
        "PYTHONPATH": str(_PROJECT_DIR),
        "TF_CPP_MIN_LOG_LEVEL": "2",
    }
    environment.pop("TF_CONFIG", None)
    if len(addresses) > 1:
        environment["TF_CONFIG"] = json.dumps(
            {
                "cluster": {"worker": addresses},
                "task": {"type": "worker", "index": index},
            }
        )
    return environment


def _wait(
    workers: list[subprocess.Popen], folder: pathlib.Path, deadline: float
) -> None:
    """Returns when every worker has left its result."""
    while True:
        missing = [
            index
            for index in range(len(workers))
            if not (folder / f"result-{index}").exists()
        ]
        if not missing:
            return
        codes = {index: workers[index].poll() for index in missing}
        ended = any(code is not None for code in codes.values())
        if ended or time.monotonic() > deadline:
            break
        time.sleep(0.02)
    outputs = "\n".join(
        f"--- worker {index} (exit code {code}):\n"
        + (folder / f"output-{index}").read_text("utf-8", "replace")[-4000:]
        for index, code in codes.items()
    )
    raise AssertionError(
        f"Workers without a result and their exit codes: {codes} (None: still "
        f"running).\n{outputs}"
    )


def _run_as_worker(call: pathlib.Path, index: int) -> None:
    """Calls the function in a worker process and leaves its result."""
    from sicot_tf.workers import cluster
    from sicot_tf.workers.collectives import Collectives
    from sicot_tf.workers.strategy import make_strategy

    function_path, arguments = pickle.loads(call.read_bytes())
    module, function = function_path.split(":")
    strategy = make_strategy()
    collectives = Collectives(cluster.num_workers(), index)
    result = getattr(importlib.import_module(module), function)(
        collectives, strategy, *arguments
    )
    unfinished = call.parent / f"unfinished-{index}"
    unfinished.write_bytes(pickle.dumps(result))
    unfinished.rename(call.parent / f"result-{index}")
    # Whoever leaves first would disturb the others: the parent ends all.
    sys.stdin.read()


if __name__ == "__main__":
    try:
        _run_as_worker(pathlib.Path(sys.argv[1]), int(sys.argv[2]))
    except BaseException:
        traceback.print_exc()
    # An orderly end would wait for the other workers.
    sys.stderr.flush()
    os._exit(1)
