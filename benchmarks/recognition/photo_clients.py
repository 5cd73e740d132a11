"""Sends photos to a server, again and again: a process of its own.

Each client is a thread with one connection, which sends its next photo when it
has the answer of the last. Takes one JSON object as its argument, with `kind`
("grpc": a model server, "http": the recognition service), `address`, `path`
(http) or `model` (grpc), `clients` and `photos` (files). Starts when a line
comes on stdin, stops at the next, and prints one JSON object: latencies in
seconds, failures, the answers' milliseconds added up by stage, CPU seconds.
"""

import collections
import http.client
import json
import pathlib
import sys
import threading
import time
from collections.abc import Callable

import grpc
import orjson

from sicot_tf.serving.grpc_api import client_side

_TIMEOUT = 60
# Stages and their milliseconds, of an answer.
_Call = Callable[[bytes], dict[str, float]]


def _connect_http(address: str, path: str) -> _Call:
    connection = http.client.HTTPConnection(address, timeout=_TIMEOUT)

    def call(photo: bytes) -> dict[str, float]:
        connection.request("POST", path, photo)
        response = connection.getresponse()
        body = response.read()
        if response.status != 200:
            raise RuntimeError(f"{response.status} {body[:200]!r}")
        return orjson.loads(body)["milliseconds"]

    return call


def _connect_grpc(address: str, model: str) -> _Call:
    # A connection for each, as HTTP has it.
    channel = grpc.insecure_channel(
        address, options=[("grpc.use_local_subchannel_pool", 1)]
    )
    messages = client_side.messages()
    spec = messages["ModelSpec"](name=model, signature_name="recognition")
    ask = channel.unary_unary(
        client_side.PREDICT,
        response_deserializer=messages["PredictResponse"].FromString,
    )

    def call(photo: bytes) -> dict[str, float]:
        request = client_side.predict_request(spec, [photo])
        ask(request.SerializeToString(), timeout=_TIMEOUT)
        return {}

    return call


def main() -> None:
    """Runs the clients."""
    job = json.loads(sys.argv[1])
    photos = [pathlib.Path(path).read_bytes() for path in job["photos"]]
    stop = threading.Event()
    latencies: list[float] = []
    failures: collections.Counter[str] = collections.Counter()
    stages: collections.Counter[str] = collections.Counter()

    def ask_again(place: int, call: _Call) -> None:
        while not stop.is_set():
            place += 1
            start = time.perf_counter()
            try:
                milliseconds = call(photos[place % len(photos)])
            except (RuntimeError, OSError, grpc.RpcError) as error:
                failures[str(error)[:300]] += 1
                # No busy loop where it is refused at once.
                time.sleep(0.01)
                continue
            latencies.append(time.perf_counter() - start)
            stages.update(milliseconds)

    if job["kind"] == "grpc":
        connect, where = _connect_grpc, job["model"]
    else:
        connect, where = _connect_http, job["path"]
    threads = []
    for number in range(job["clients"]):
        call = connect(job["address"], where)
        # The first answer holds the handshake: not counted.
        call(photos[0])
        place = number * len(photos) // job["clients"]
        threads.append(threading.Thread(target=ask_again, args=(place, call)))
    print("ready", flush=True)
    sys.stdin.readline()
    start, cpu_start = time.perf_counter(), time.process_time()
    for thread in threads:
        thread.start()
    sys.stdin.readline()
    stop.set()
    for thread in threads:
        thread.join()
    report = {
        "latencies": latencies,
        "failures": failures,
        "stages": stages,
        "seconds": time.perf_counter() - start,
        "cpu_seconds": time.process_time() - cpu_start,
    }
    print(json.dumps(report))


if __name__ == "__main__":
    main()
