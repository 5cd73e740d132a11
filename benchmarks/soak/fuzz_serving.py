"""Sends damaged requests to the model server; it must answer each rightly.

Starts `python -m sicot_tf.serve` with five small models and sends gRPC and
REST requests of known kinds of damage: types, ranks, shapes, sizes that lie,
cut and giant pictures, deep JSON, bad UTF-8, huge headers, broken messages,
wrong paths and methods. Each kind allows certain status codes. Fails if
another code comes, a connection is lost, an exception is printed, memory
grows beyond a limit, or the server's processes are not the same at the end.

examples:
  python -m benchmarks.soak.fuzz_serving
  python -m benchmarks.soak.fuzz_serving --enable_batching --requests 20000
  python -m benchmarks.soak.fuzz_serving --only 4711
"""

import collections
import http.client
import json
import os
import pathlib
import random
import socket
import tempfile
import threading
import time
from concurrent import futures

os.environ["CUDA_VISIBLE_DEVICES"] = "-1"
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import grpc
import tqdm

from benchmarks import flags
from benchmarks.soak import fuzz_serving_grpc
from benchmarks.soak import fuzz_serving_rest
from tests.helpers import serving_models
from tests.helpers import tiny_server

_NUM_CLIENTS = 4
_MAX_GROWTH_MB = 1500
_SECONDS = 60


def main(argv: list[str] | None = None) -> None:
    """Prints answers by kind of damage; exit code 1 if one was wrong."""
    arguments = _parse_arguments(argv)
    with tempfile.TemporaryDirectory() as folder:
        server = _start(pathlib.Path(folder), arguments.enable_batching)
        try:
            failures = _fuzz(server, arguments)
            server.terminate()
            code = server.wait()
            if code != 0:
                failures.append(f"Exit code {code} after SIGTERM.")
        finally:
            server.kill()
        if "Traceback" in server.log_text:
            failures.append(
                "The server printed an exception:\n"
                + server.log_text.partition("Traceback")[2][:3000]
            )
    for failure in failures[:30]:
        print(failure)
    if failures:
        raise SystemExit(f"{len(failures)} wrong answers.")
    print("No wrong answer.")


def _start(root, enable_batching):
    """The server, once both ports answer."""
    tiny_server.write_saved_model(root / "pictures" / "1")
    folders = {"pictures": root / "pictures"}
    for name in ("half_plus_two", "three_sums", "strings", "all_types"):
        folders[name] = serving_models.saved_model(name).parent
    (root / "models.config").write_text(
        "model_config_list {\n"
        + "".join(
            f'config {{ name: "{name}" base_path: "{folder}" '
            'model_platform: "tensorflow" }\n'
            for name, folder in folders.items()
        )
        + "}\n"
    )
    (root / "batching.config").write_text(
        "max_batch_size { value: 16 }\n"
        "batch_timeout_micros { value: 1000 }\n"
        "max_enqueued_batches { value: 100 }\n"
        "num_batch_threads { value: 2 }\n"
    )
    batching = ["--enable_batching=true"]
    batching += [f"--batching_parameters_file={root}/batching.config"]
    port, rest_port = tiny_server.free_port(), tiny_server.free_port()
    server = tiny_server.ServerProcess(
        root / "log",
        *("--port", str(port)),
        *("--rest_api_port", str(rest_port)),
        *("--model_config_file", str(root / "models.config")),
        "--drain_seconds=1",
        *(batching if enable_batching else []),
    )
    server.port, server.rest_port = port, rest_port
    try:
        server.wait_for_text("Running gRPC ModelServer")
        deadline = time.monotonic() + _SECONDS
        while _connect(rest_port) is None:
            if time.monotonic() > deadline:
                raise RuntimeError(f"No REST:\n{server.log_text}")
            time.sleep(0.05)
    except BaseException:
        server.kill()
        raise
    return server


def _connect(port):
    try:
        return socket.create_connection(("localhost", port), _SECONDS)
    except ConnectionRefusedError:
        return None


def _fuzz(server, arguments):
    """Texts of what went wrong; prints the table of answers."""
    pids = server.process_ids()
    before = server.resident_mb()
    counts = collections.defaultdict(collections.Counter)
    failures = []
    lock = threading.Lock()
    local = threading.local()

    def send(index):
        if server.poll() is not None:
            raise RuntimeError(f"The server ended: {server.log_text[-3000:]}")
        if not hasattr(local, "channel"):
            # A connection for each client: a lost one shows.
            local.channel = grpc.insecure_channel(
                f"localhost:{server.port}",
                options=[
                    ("grpc.use_local_subchannel_pool", 1),
                    ("grpc.max_receive_message_length", -1),
                    ("grpc.max_metadata_size", 1 << 20),
                ],
            )
        kind, answer, failure = _send(
            local.channel, server.rest_port, index, arguments.enable_batching
        )
        with lock:
            counts[kind][answer] += 1
            if failure:
                failures.append(f"--only {index}: {kind}: {failure}")

    first = arguments.seed * 10**9
    indices = range(first, first + arguments.requests)
    if arguments.only is not None:
        indices = [arguments.only]
    started = time.monotonic()
    with futures.ThreadPoolExecutor(_NUM_CLIENTS) as clients:
        done = clients.map(send, indices)
        progress = tqdm.tqdm(done, total=len(indices), desc="Requests")
        collections.deque(progress, maxlen=0)
    seconds = time.monotonic() - started

    for kind in sorted(counts):
        answers = ", ".join(
            f"{answer} {number}"
            for answer, number in sorted(counts[kind].items())
        )
        print(f"{kind:22} {answers}")
    after = server.resident_mb()
    print(
        f"{len(indices)} requests in {seconds:.0f} s, "
        f"memory {before:.0f} MB before, {after:.0f} MB after"
    )
    if after - before > _MAX_GROWTH_MB:
        failures.append(f"Memory grew by {after - before:.0f} MB.")
    if server.process_ids() != pids:
        failures.append("Processes of the server were replaced.")
    return failures


def _send(channel, rest_port, index, enable_batching):
    """Kind, answer, and what is wrong with it or None."""
    rng = random.Random(index)
    over_grpc = rng.random() < 0.5
    requests = fuzz_serving_grpc if over_grpc else fuzz_serving_rest
    [make] = rng.choices(
        list(requests.KINDS), list(requests.KINDS.values()), k=1
    )
    case = make(rng)
    if over_grpc:
        answer, body, text = _call(channel, case)
        allowed = {code.name for code in case.codes}
        if enable_batching and make in requests.BATCHING_CODES:
            allowed.add(requests.BATCHING_CODES[make].name)
    else:
        answer, body, text = _exchange(rest_port, case)
        allowed = {str(status) for status in case.statuses}
    kind = f"{'grpc' if over_grpc else 'rest'} {make.__name__}"
    failure = None
    if answer not in allowed:
        failure = f"{answer}, not in {sorted(allowed)}: {text}"
    elif case.check is not None and answer in ("OK", "200"):
        try:
            case.check(body)
        except (AssertionError, KeyError, ValueError) as error:
            failure = f"wrong value: {error}"
    return kind, answer, failure


def _call(channel, case):
    """Name of the code, bytes, text of the error of a gRPC call."""
    call = channel.unary_unary(case.method)
    try:
        response = call(
            case.request, timeout=case.timeout, metadata=case.metadata
        )
    except grpc.RpcError as error:
        return error.code().name, b"", error.details()[:500]
    return "OK", response, ""


def _exchange(port, case):
    """Status ("0": closed), body, text of the error of a REST request."""
    with socket.create_connection(("localhost", port), _SECONDS) as connection:
        try:
            connection.sendall(case.request)
            if case.half_close:
                connection.shutdown(socket.SHUT_WR)
        except (BrokenPipeError, ConnectionResetError):
            # The answer may have come before all was sent.
            pass
        # HEAD has no body, whatever the headers say.
        method = case.request.partition(b" ")[0].decode("latin-1")
        response = http.client.HTTPResponse(connection, method=method)
        try:
            response.begin()
            body = response.read()
        except (ConnectionResetError, http.client.BadStatusLine):
            return str(fuzz_serving_rest.CLOSED), b"", "closed"
        except TimeoutError:
            return "timeout", b"", ""
    text = body[:500].decode("utf-8", "replace")
    if response.getheader("content-type", "") == "application/json" and body:
        try:
            # Like TensorFlow Serving: a text goes out as the model wrote it,
            # be it UTF-8 or not.
            json.loads(body.decode("utf-8", "replace"))
        except ValueError:
            return "no JSON", body, text
    return str(response.status), body, text


def _parse_arguments(argv):
    parser = flags.make_parser(__doc__)
    parser.add_argument("--requests", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--only", type=int, help="sends the one request of this number"
    )
    parser.add_argument("--enable_batching", action="store_true")
    return parser.parse_args(argv)


if __name__ == "__main__":
    main()
