"""Swaps versions and stops servers under load; no request may fail.

1. Swaps: clients ask all the time, three quarters through gRPC, the others
   through REST, while new versions appear (written under another name, then
   renamed) and old ones are removed. Each client must see versions only rise,
   and the value that belongs to the version.
2. Memory: many swaps of a model of 8 MB under a light load; prints the
   resident memory after each. Fails if the last ten lie more than three
   models above the sixth to fifteenth.
3. SIGTERM: two servers answer the clients, one is told to stop. gRPC clients
   watch grpc.health, REST clients /readyz, as load balancers do. All requests
   must be answered and the stopped server must exit with 0.

examples:
  python -m benchmarks.soak.soak_serving
  python -m benchmarks.soak.soak_serving --clients 8 --seconds 6 \\
      --swap_seconds 2 --memory_swaps 0
"""

import http.client
import json
import os
import pathlib
import shutil
import tempfile
import threading
import time

os.environ["CUDA_VISIBLE_DEVICES"] = "-1"
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import grpc
import numpy as np
import tensorflow as tf
import tqdm
from tensorflow_serving.apis import get_model_status_pb2
from tensorflow_serving.apis import model_service_pb2_grpc
from tensorflow_serving.apis import predict_pb2
from tensorflow_serving.apis import prediction_service_pb2_grpc

from benchmarks import flags
from tests.helpers import serving_models
from tests.helpers import tiny_server

_NAME = "half_plus_two"
_NUM_WEIGHTS = 2_000_000
_MODEL_MB = 8
_SECONDS = 60
# gRPC's own load balancing: a server that is not SERVING gets no request.
_SERVICE_CONFIG = {
    "loadBalancingConfig": [{"round_robin": {}}],
    "healthCheckConfig": {"serviceName": ""},
}


def main(argv: list[str] | None = None) -> None:
    """Prints what was counted; exit code 1 if anything failed."""
    arguments = _parse_arguments(argv)
    failures = []
    with tempfile.TemporaryDirectory() as folder:
        root = pathlib.Path(folder)
        base_path = root / _NAME
        base_path.mkdir()
        _add_version(base_path, 1)
        server = _start(root, "first")
        other = None
        try:
            versions = _Versions(base_path, server)
            failures += _soak_swaps(versions, arguments)
            if arguments.memory_swaps:
                failures += _soak_memory(versions, arguments.memory_swaps)
            other = _start(root, "second")
            failures += _soak_sigterm(server, other, arguments.clients)
        finally:
            for process in (server, other):
                if process is not None:
                    process.kill()
                    if "Traceback" in process.log_text:
                        failures.append(process.log_text[-5000:])
    for failure in failures[:20]:
        print(failure)
    if failures:
        raise SystemExit(f"{len(failures)} failures.")
    print("Nothing failed.")


def _add_version(base_path, version):
    """A version whose answer to x = 0 is its number."""
    temporary = base_path / f".{version}.tmp"
    serving_models.write_half_plus_two(
        temporary, a=1.0, b=float(version), num_unused_weights=_NUM_WEIGHTS
    )
    temporary.rename(base_path / str(version))


def _start(root, name):
    port, rest_port = tiny_server.free_port(), tiny_server.free_port()
    server = tiny_server.ServerProcess(
        root / f"{name}.log",
        *("--port", str(port)),
        *("--rest_api_port", str(rest_port)),
        *("--model_name", _NAME),
        *("--model_base_path", str(root / _NAME)),
        "--file_system_poll_wait_seconds=1",
        "--drain_seconds=3",
        "--enable_grpc_healthcheck_service=true",
    )
    server.port, server.rest_port = port, rest_port
    deadline = time.monotonic() + _SECONDS
    try:
        server.wait_for_text("Running gRPC ModelServer")
        while not _is_ready(server):
            if time.monotonic() > deadline:
                raise RuntimeError(f"Never ready:\n{server.log_text}")
            time.sleep(0.05)
    except BaseException:
        server.kill()
        raise
    return server


def _is_ready(server):
    connection = http.client.HTTPConnection(
        "localhost", server.rest_port, timeout=_SECONDS
    )
    try:
        connection.request("GET", "/readyz")
        return connection.getresponse().status == 200
    except OSError:
        return False
    finally:
        connection.close()


class _Versions:
    """Adds versions to the folder of a model, one after the other."""

    def __init__(self, base_path, server):
        self._base_path = base_path
        self.server = server
        self.newest = 1
        channel = grpc.insecure_channel(f"localhost:{server.port}")
        self._stub = model_service_pb2_grpc.ModelServiceStub(channel)

    def add(self):
        """The next version; those before the last two are removed."""
        self.newest += 1
        _add_version(self._base_path, self.newest)
        shutil.rmtree(self._base_path / str(self.newest - 2), True)

    def wait(self):
        """Until the newest version is served and all others are unloaded."""
        deadline = time.monotonic() + _SECONDS
        while True:
            request = get_model_status_pb2.GetModelStatusRequest()
            request.model_spec.name = _NAME
            states = {
                status.version: status.state
                for status in self._stub.GetModelStatus(
                    request, timeout=_SECONDS
                ).model_version_status
            }
            enum = get_model_status_pb2.ModelVersionStatus
            if states.pop(self.newest, None) == enum.AVAILABLE and all(
                state == enum.END for state in states.values()
            ):
                return
            if time.monotonic() > deadline:
                raise RuntimeError(f"Version {self.newest} never came.")
            time.sleep(0.05)


class _Client(threading.Thread):
    """Asks for x = 0 until told to stop; notes versions and failures."""

    def __init__(self, servers, *, over_rest, pause=0.0):
        super().__init__(daemon=True)
        self._servers = servers
        self._over_rest = over_rest
        self._pause = pause
        self._stopping = threading.Event()
        self.versions = []
        self.seconds = []
        self.failures = []

    def stop(self):
        self._stopping.set()
        self.join()

    def run(self):
        ask = self._ask_rest if self._over_rest else self._make_ask_grpc()
        self._connections = {}
        while not self._stopping.is_set():
            started = time.monotonic()
            try:
                version = ask()
            except (grpc.RpcError, OSError, http.client.HTTPException) as error:
                self.failures.append(f"{type(error).__name__}: {error}")
                self._connections = {}
            except ValueError as error:
                self.failures.append(str(error))
            else:
                self.seconds.append(time.monotonic() - started)
                if self.versions and version < self.versions[-1]:
                    self.failures.append(
                        f"version {version} after {self.versions[-1]}"
                    )
                if not self.versions or version != self.versions[-1]:
                    self.versions.append(version)
            time.sleep(self._pause)

    def _make_ask_grpc(self):
        addresses = ",".join(f"127.0.0.1:{s.port}" for s in self._servers)
        channel = grpc.insecure_channel(
            f"ipv4:{addresses}",
            options=[
                ("grpc.use_local_subchannel_pool", 1),
                ("grpc.service_config", json.dumps(_SERVICE_CONFIG)),
                # The plain protocol has no second try of its own.
                ("grpc.enable_retries", 0),
            ],
        )
        stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
        request = predict_pb2.PredictRequest()
        request.model_spec.name = _NAME
        request.inputs["x"].CopyFrom(tf.make_tensor_proto(np.float32([0])))

        def ask():
            response = stub.Predict(
                request, timeout=_SECONDS, wait_for_ready=True
            )
            version = response.model_spec.version.value
            [value] = response.outputs["y"].float_val
            if value != version:
                raise ValueError(f"version {version} answers {value}")
            return version

        return ask

    def _ask_rest(self):
        server = next(s for s in self._servers if not s.stopping)
        connection = self._connections.get(server)
        if connection is None:
            connection = http.client.HTTPConnection(
                "localhost", server.rest_port, timeout=_SECONDS
            )
            self._connections[server] = connection
        connection.request(
            "POST", f"/v1/models/{_NAME}:predict", '{"instances": [0]}'
        )
        response = connection.getresponse()
        body = response.read()
        if response.status != 200:
            raise ValueError(f"status {response.status}: {body}")
        [value] = json.loads(body)["predictions"]
        return int(value)


def _start_clients(servers, number, **options):
    for server in servers:
        server.stopping = False
    clients = [
        _Client(servers, over_rest=i % 4 == 3, **options) for i in range(number)
    ]
    for client in clients:
        client.start()
    return clients


def _stop_clients(clients):
    """Texts of their failures; prints how many requests they made."""
    for client in clients:
        client.stop()
    seconds = [second for client in clients for second in client.seconds]
    failures = [text for client in clients for text in client.failures]
    p50, p99 = np.percentile(seconds or [0], [50, 99]) * 1000
    print(
        f"  {len(seconds)} requests answered, {len(failures)} failed, "
        f"p50 {p50:.1f} ms, p99 {p99:.1f} ms"
    )
    if any(not client.seconds for client in clients):
        failures.append("A client got no answer.")
    return failures


def _soak_swaps(versions, arguments):
    print(
        f"Swaps: {arguments.clients} clients, {arguments.seconds:g} s, a new "
        f"version each {arguments.swap_seconds:g} s"
    )
    clients = _start_clients([versions.server], arguments.clients)
    end = time.monotonic() + arguments.seconds
    while time.monotonic() + arguments.swap_seconds < end:
        time.sleep(arguments.swap_seconds)
        versions.add()
    time.sleep(max(0.0, end - time.monotonic()))
    versions.wait()
    # Each client asks the newest version at least once.
    time.sleep(1)
    failures = _stop_clients(clients)
    seen = [client.versions for client in clients]
    print(f"  versions seen by the first client: {seen[0]}")
    for client_versions in seen:
        if client_versions[-1:] != [versions.newest]:
            failures.append(f"A client saw only versions {client_versions}.")
    return failures


def _soak_memory(versions, num_swaps):
    print(f"Memory: {num_swaps} swaps, {_MODEL_MB} MB of weights each")
    clients = _start_clients([versions.server], 4, pause=0.01)
    megabytes = []
    for _ in tqdm.trange(num_swaps, desc="Swaps", leave=False):
        versions.add()
        versions.wait()
        megabytes.append(versions.server.resident_mb())
    failures = _stop_clients(clients)
    print("  MB by swap: " + " ".join(f"{each:.0f}" for each in megabytes))
    if num_swaps > 20:
        # Maxima of ten: some are measured while two versions are loaded.
        growth = max(megabytes[-10:]) - max(megabytes[5:15])
        print(f"  last ten over swaps 6 to 15: {growth:+.0f} MB")
        if growth > 3 * _MODEL_MB:
            failures.append(f"Memory grew by {growth:.0f} MB.")
    return failures


def _soak_sigterm(server, other, num_clients):
    print(f"SIGTERM to one of two servers, {num_clients} clients")
    clients = _start_clients([server, other], num_clients)
    time.sleep(2)
    server.terminate()
    started = time.monotonic()
    while server.poll() is None and time.monotonic() < started + _SECONDS:
        # What a load balancer learns from /readyz.
        if not _is_ready(server):
            server.stopping = True
        time.sleep(0.05)
    seconds = time.monotonic() - started
    time.sleep(1)
    failures = _stop_clients(clients)
    print(f"  exit code {server.poll()} after {seconds:.1f} s")
    if server.poll() != 0:
        failures.append(f"The server ended with {server.poll()}.")
    return failures


def _parse_arguments(argv):
    parser = flags.make_parser(__doc__)
    parser.add_argument("--clients", type=int, default=16)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--swap_seconds", type=float, default=5)
    parser.add_argument("--memory_swaps", type=int, default=50)
    return parser.parse_args(argv)


if __name__ == "__main__":
    main()
