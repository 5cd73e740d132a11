"""Processes of serving.py: servers, and clients that keep them busy."""

import contextlib
import json
import os
import pathlib
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from collections.abc import Iterator
from collections.abc import Sequence

import grpc

MODEL = "sicot"
MAX_BATCH_SIZE = 8
ALL_CORES = sorted(os.sched_getaffinity(0))

_FOLDER = pathlib.Path(__file__).parent
_PREDICT = "/tensorflow.serving.PredictionService/Predict"
_MODEL_INFER = "/inference.GRPCInferenceService/ModelInfer"
_START_SECONDS, _STOP_SECONDS = 180, 60


@contextlib.contextmanager
def on_cores(cores: Sequence[int]) -> Iterator[None]:
    """Processes and threads that start inside stay on these cores."""
    os.sched_setaffinity(0, cores)
    try:
        yield
    finally:
        os.sched_setaffinity(0, ALL_CORES)


@contextlib.contextmanager
def _process(
    command: Sequence[object],
    log: pathlib.Path,
    *,
    cores: Sequence[int],
    environment: dict[str, str] | None = None,
) -> Iterator[subprocess.Popen]:
    """A server that is stopped at the end; its output goes to `log`."""
    with on_cores(cores), log.open("wb") as file:
        process = subprocess.Popen(
            [*map(str, command)],
            stdout=file,
            stderr=subprocess.STDOUT,
            env={**os.environ, **(environment or {})},
        )
    try:
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def _wait_for_answer(
    process: subprocess.Popen,
    log: pathlib.Path,
    call: Callable[[], object],
) -> None:
    """Returns when `call` succeeds.

    Raises:
        RuntimeError: with the log, if it does not.
    """
    end = time.monotonic() + _START_SECONDS
    while time.monotonic() < end and process.poll() is None:
        with contextlib.suppress(grpc.RpcError, OSError):
            call()
            return
        time.sleep(0.2)
    raise RuntimeError(f"No answer from the server. {log.read_text()}")


class Target:
    """A server that runs: where it listens and what it is asked."""

    def __init__(
        self,
        process: subprocess.Popen,
        log: pathlib.Path,
        port: int,
        method: str,
        request_path: pathlib.Path,
    ):
        self.address = f"127.0.0.1:{port}"
        self.method = method
        self.request_path = request_path
        self.channel = grpc.insecure_channel(self.address)
        self._call = self.channel.unary_unary(method)
        _wait_for_answer(process, log, self.ask)

    def ask(self) -> bytes:
        """One answer."""
        return self._call(self.request_path.read_bytes(), timeout=30)


@contextlib.contextmanager
def serve(
    folder: pathlib.Path, *, batching: bool, cores: Sequence[int]
) -> Iterator[Target]:
    """The project's server on `folder/sicot`."""
    port = _free_port()
    command = [sys.executable, "-m", "sicot_tf.serve", "--port", port]
    command += ["--model_name", MODEL]
    command += ["--model_base_path", folder / MODEL]
    if batching:
        parameters = folder / "batching.config"
        parameters.write_text(
            f"max_batch_size {{ value: {MAX_BATCH_SIZE} }}\n"
            f"num_batch_threads {{ value: {len(cores)} }}\n"
            "max_enqueued_batches { value: 100 }\n"
        )
        command += ["--enable_batching"]
        command += ["--batching_parameters_file", parameters]
    log = folder / "server.log"
    with _process(command, log, cores=cores) as process:
        yield Target(process, log, port, _PREDICT, folder / "request.bin")


@contextlib.contextmanager
def serve_with_pytriton(
    python: str, folder: pathlib.Path, cores: Sequence[int]
) -> Iterator[Target]:
    """NVIDIA's server with the same SavedModel."""
    port = _free_port()
    request_path = folder / "pytriton_request.bin"
    command = [python, _FOLDER / "serving_pytriton.py"]
    command += [folder / MODEL / "1", request_path, port, MAX_BATCH_SIZE]
    log = folder / "pytriton.log"
    # Triton's process has to find the library of this very Python.
    library_path = subprocess.run(
        [
            python,
            "-c",
            "import sysconfig; print(sysconfig.get_config_var('LIBDIR'))",
        ],
        check=True,
        capture_output=True,
        text=True,
    ).stdout.strip()
    environment = {"LD_LIBRARY_PATH": library_path}
    with _process(
        command, log, cores=cores, environment=environment
    ) as process:
        yield Target(process, log, port, _MODEL_INFER, request_path)


@contextlib.contextmanager
def serve_echo(folder: pathlib.Path, response: bytes) -> Iterator[Target]:
    """A server that does nothing."""
    port = _free_port()
    path, log = folder / "response.bin", folder / "echo.log"
    path.write_bytes(response)
    command = [sys.executable, _FOLDER / "serving_echo.py", path, port]
    with _process(command, log, cores=ALL_CORES) as process:
        yield Target(process, log, port, _PREDICT, folder / "request.bin")


class Clients:
    """Processes whose callers ask `target` until they are stopped."""

    def __init__(
        self,
        target: Target,
        *,
        num_processes: int,
        num_callers: int,
        cores: Sequence[int],
    ):
        command = [sys.executable, _FOLDER / "serving_load.py", target.address]
        command += [target.method, target.request_path, num_callers]
        with on_cores(cores):
            self._processes = [
                subprocess.Popen(
                    [*map(str, command)],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    text=True,
                )
                for _ in range(num_processes)
            ]
        for process in self._processes:
            process.stdout.readline()
        for process in self._processes:
            process.stdin.write("start\n")
            process.stdin.flush()

    def stop(self) -> list[dict]:
        """What each process reports, see serving_load.py.

        Raises:
            RuntimeError: if a request failed.
        """
        outputs = []
        for process in self._processes:
            process.stdin.write("stop\n")
            process.stdin.flush()
        for process in self._processes:
            outputs.append(process.communicate()[0])
        reports = [json.loads(output) for output in outputs]
        for report in reports:
            if report["failures"]:
                raise RuntimeError(f"Failed requests: {report['failures']}")
        return reports
