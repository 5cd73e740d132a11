"""Restarts two servers in turn under load and counts the answers by code.

Each client has connections of its own and asks again as soon as it has its
answer. Kinds of clients:

  health  gRPC, round_robin over both addresses, watches grpc.health.v1
  client  gRPC as `sicot_tf.client` connects: round_robin and retries
  plain   gRPC, round_robin alone: asks until the server says that it goes
  rest    HTTP with kept connections; asks the first server of its list whose
          /readyz said yes, and the next if it can't connect

No call may fail: exit code 1 otherwise.

examples:
  python -m benchmarks.soak.rolling_restart
  python -m benchmarks.soak.rolling_restart --kinds health,plain \\
      --calls 5000 -- --drain_seconds=2
"""

import argparse
import collections
import http.client
import json
import os
import pathlib
import select
import tempfile
import threading
import time

os.environ["CUDA_VISIBLE_DEVICES"] = "-1"
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import grpc
from tensorflow_serving.apis import predict_pb2
from tensorflow_serving.apis import prediction_service_pb2_grpc

from benchmarks import flags
from sicot_tf import client
from tests.helpers import serving_models
from tests.helpers import tiny_server

_NAME = "half_plus_two"
_SECONDS = 60
_SERVICE_CONFIGS = {
    "plain": {"loadBalancingConfig": [{"round_robin": {}}]},
    "health": {
        "loadBalancingConfig": [{"round_robin": {}}],
        "healthCheckConfig": {"serviceName": ""},
    },
}


class _Server:
    """A server that can be started again on its ports."""

    def __init__(self, root: pathlib.Path, name: str, flags: list[str]):
        self.port = tiny_server.free_port()
        self.rest_port = tiny_server.free_port()
        self.is_ready = True
        self._log = root / f"{name}.log"
        self._flags = [
            *("--port", str(self.port), "--rest_api_port", str(self.rest_port)),
            *("--model_name", _NAME, "--model_base_path"),
            str(serving_models.saved_model(_NAME).parent),
            *flags,
        ]
        self.start()

    def start(self) -> None:
        self._process = tiny_server.ServerProcess(self._log, *self._flags)
        self._process.wait_for_text("Exporting HTTP/REST API")

    def stop(self) -> int:
        """SIGTERM; returns the exit code."""
        self._process.terminate()
        return self._process.wait()

    def kill(self) -> None:
        self._process.kill()


class _Clients:
    """All clients of one kind; counts by code."""

    def __init__(self, kind: str, servers: list[_Server], number: int):
        self.counts = collections.Counter()
        self._kind = kind
        self._servers = servers
        self._stopping = threading.Event()
        self._lock = threading.Lock()
        self._threads = [
            threading.Thread(target=self._ask_again, daemon=True)
            for _ in range(number)
        ]
        if kind == "rest":
            self._threads.append(threading.Thread(target=self._watch))
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        self._stopping.set()
        for thread in self._threads:
            thread.join()

    def num_failed(self) -> int:
        return self.counts.total() - self.counts["OK"]

    def _ask_again(self) -> None:
        ask = self._make_rest() if self._kind == "rest" else self._make_grpc()
        while not self._stopping.is_set():
            code = ask()
            with self._lock:
                self.counts[code] += 1

    def _make_grpc(self):
        addresses = ",".join(f"127.0.0.1:{s.port}" for s in self._servers)
        if self._kind == "client":
            channel = client.connect(f"ipv4:{addresses}")
        else:
            config = json.dumps(_SERVICE_CONFIGS[self._kind])
            options = {
                "grpc.use_local_subchannel_pool": 1,
                "grpc.service_config": config,
                # No second try of a refused call.
                "grpc.enable_retries": 0,
            }
            channel = grpc.insecure_channel(
                f"ipv4:{addresses}", list(options.items())
            )
        stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
        request = predict_pb2.PredictRequest()
        request.model_spec.name = _NAME
        request.inputs["x"].dtype = 1
        request.inputs["x"].tensor_shape.dim.add(size=1)
        request.inputs["x"].float_val.append(0.0)

        def ask():
            try:
                stub.Predict(request, timeout=_SECONDS, wait_for_ready=True)
            except grpc.RpcError as error:
                return error.code().name
            return "OK"

        return ask

    def _make_rest(self):
        connections = {}

        def ask():
            # With none ready, any will do.
            for server in sorted(self._servers, key=lambda s: not s.is_ready):
                # As urllib3 does: what the server has closed is not used.
                if server in connections and _is_closed(connections[server]):
                    connections.pop(server).close()
                if server not in connections:
                    connection = http.client.HTTPConnection(
                        "localhost", server.rest_port, timeout=_SECONDS
                    )
                    try:
                        connection.connect()
                    except OSError:
                        continue
                    connections[server] = connection
                try:
                    return _post(connections[server])
                except (OSError, http.client.HTTPException) as error:
                    connections[server].close()
                    return type(error).__name__
                finally:
                    if connections[server].sock is None:
                        del connections[server]
            return "no server"

        return ask

    def _watch(self) -> None:
        """What a load balancer does."""
        while not self._stopping.is_set():
            for server in self._servers:
                connection = http.client.HTTPConnection(
                    "localhost", server.rest_port, timeout=_SECONDS
                )
                try:
                    connection.request("GET", "/readyz")
                    server.is_ready = connection.getresponse().status == 200
                except OSError:
                    server.is_ready = False
                connection.close()
            self._stopping.wait(0.2)


def _is_closed(connection: http.client.HTTPConnection) -> bool:
    return bool(select.select([connection.sock], [], [], 0)[0])


def _post(connection: http.client.HTTPConnection) -> str:
    connection.request(
        "POST", f"/v1/models/{_NAME}:predict", '{"instances": [0]}'
    )
    response = connection.getresponse()
    response.read()
    return "OK" if response.status == 200 else str(response.status)


def main() -> None:
    """Prints a line for each kind of clients."""
    arguments = _parse_arguments()
    num_failed = 0
    with tempfile.TemporaryDirectory() as folder:
        servers = []
        try:
            for name in ("first", "second"):
                servers.append(
                    _Server(pathlib.Path(folder), name, arguments.flags)
                )
            for kind in arguments.kinds.split(","):
                clients = _run(kind, servers, arguments)
                print(
                    f"{kind}: {dict(clients.counts.most_common())}", flush=True
                )
                num_failed += clients.num_failed()
        finally:
            for server in servers:
                server.kill()
    if num_failed:
        raise SystemExit(f"{num_failed} calls failed.")


def _run(
    kind: str, servers: list[_Server], arguments: argparse.Namespace
) -> _Clients:
    """Restarts in turn until enough calls are made, at least once each."""
    clients = _Clients(kind, servers, arguments.clients)
    num_restarts = 0
    while num_restarts < 2 or clients.counts.total() < arguments.calls:
        server = servers[num_restarts % 2]
        time.sleep(1)
        code = server.stop()
        if code != 0:
            clients.counts[f"exit code {code}"] += 1
        server.start()
        num_restarts += 1
    time.sleep(1)
    clients.stop()
    print(f"  {num_restarts} restarts", flush=True)
    return clients


def _parse_arguments() -> argparse.Namespace:
    parser = flags.make_parser(__doc__)
    parser.add_argument("--kinds", default="health,client,rest,plain")
    parser.add_argument("--calls", type=int, default=20_000, help="of a kind")
    parser.add_argument("--clients", type=int, default=32)
    parser.add_argument("flags", nargs="*", help="of the servers, after --")
    return parser.parse_args()


if __name__ == "__main__":
    main()
