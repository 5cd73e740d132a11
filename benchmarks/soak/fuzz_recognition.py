"""Sends damaged uploads to the recognition service; each gets the right code.

Starts `python -m sicot_tf.recognize` with the tiny model of the tests and a
catalogue full of HTML, and sends requests of known kinds of damage over
connections that are kept: photos that are cut, flipped, no photos or giant by
their headers, odd forms, parameters, paths, headers and lengths. Each kind
allows certain status codes. Fails if another code comes, a refusal is no JSON
with one sentence, a header of safety is missing, a file outside of the
catalogue or HTML as such is sent, a good photo in between is answered
otherwise, an exception is printed, memory grows, or a process was replaced.

examples:
  python -m benchmarks.soak.fuzz_recognition
  python -m benchmarks.soak.fuzz_recognition --only 4711
"""

import collections
import http.client
import os
import pathlib
import random
import socket
import tempfile
import threading
import time
import urllib.parse
from concurrent import futures

os.environ["CUDA_VISIBLE_DEVICES"] = "-1"
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import tqdm

from benchmarks import flags
from benchmarks.soak.recognition import world
from benchmarks.soak.recognition.exchange import CLOSED
from benchmarks.soak.recognition.exchange import MAX_BYTES
from benchmarks.soak.recognition.requests import make_exchange
from sicot_tf.recognition import answers
from tests.helpers import html_pages
from tests.helpers import tiny_recognizer
from tests.helpers import tiny_server

_NUM_CLIENTS = 4
_SECONDS = 120
_GOOD_EVERY = 50
# From a quarter of the requests on to the end, of all processes.
_MAX_GROWTH_MB = 200
# Lines of /metrics: as many as there are paths and codes, not as requests.
_MAX_METRICS = 1000
_SAFETY = ("x-request-id", "x-content-type-options", "content-security-policy")


def main(argv: list[str] | None = None) -> None:
    """Prints answers by kind of damage; exit code 1 if one was wrong."""
    arguments = _parse_arguments(argv)
    indices = range(
        arguments.seed * 10**9, arguments.seed * 10**9 + arguments.requests
    )
    if arguments.only is not None:
        indices = range(arguments.only, arguments.only + 1)
    with tempfile.TemporaryDirectory() as folder:
        root = pathlib.Path(folder)
        model = root / "models" / "tiny"
        tiny_server.write_saved_model(model / "1")
        failures = fuzz(root, indices, model / "1", "--model", model)
    if failures:
        print("\n".join(each for each in failures if "--only" not in each))
        raise SystemExit(f"{len(failures)} wrong answers.")
    print("No wrong answer.")


def fuzz(
    root: pathlib.Path,
    indices: range,
    model: pathlib.Path,
    *model_flags: object,
) -> list[str]:
    """Texts of what went wrong; prints the table of answers.

    Args:
        root: an empty folder.
        indices: of the requests; the same one is always the same.
        model: the SavedModel that is asked.
        model_flags: which model the service is to ask.
    """
    recognizer = tiny_recognizer.RecognizerProcess(
        root,
        *model_flags,
        *("--product_index", world.write_catalogue(root)),
        *("--vector_index", tiny_recognizer.write_vectors(root, model)),
        *("--catalogue_root", root / "catalogue", "--events", root / "events"),
        *("--max_bytes", MAX_BYTES, "--timeout_seconds", _SECONDS),
    )
    try:
        fuzzer = _Fuzzer(recognizer)
        fuzzer.run(indices)
        fuzzer.close()
        recognizer.terminate()
        code = recognizer.wait()
        if code != 0:
            fuzzer.failures.append(f"Exit code {code} after SIGTERM.")
    finally:
        recognizer.kill()
    log = recognizer.log_text
    for sign in ("Traceback", "failed."):
        if sign in log:
            place = log.index(sign)
            fuzzer.failures.append(
                "The service printed an exception:\n"
                + log[max(0, place - 500) : place + 3000]
            )
            break
    return fuzzer.failures


class _Fuzzer:
    """Sends, counts and judges.

    Attributes:
        failures: texts of what went wrong.
    """

    def __init__(self, recognizer: tiny_recognizer.RecognizerProcess):
        self.failures: list[str] = []
        self._recognizer = recognizer
        url = urllib.parse.urlsplit(recognizer.url)
        self._address = url.hostname, url.port
        self._counts = collections.defaultdict(collections.Counter)
        self._lock = threading.Lock()
        self._connections: list[socket.socket] = []
        self._local = threading.local()
        self._world = world.ask(recognizer.url)
        self._expected = self._recognise_good()

    def run(self, indices: range) -> None:
        """Sends all of them."""
        children = self._recognizer.children()
        memory = [self._resident_mb()]
        started = time.monotonic()
        with futures.ThreadPoolExecutor(_NUM_CLIENTS) as clients:
            progress = tqdm.tqdm(
                clients.map(self._send, indices),
                total=len(indices),
                desc="Requests",
                disable=None,
            )
            for done, _ in enumerate(progress, 1):
                if len(indices) >= 4 and done % (len(indices) // 4) == 0:
                    memory.append(self._resident_mb())
        seconds = time.monotonic() - started
        for kind in sorted(self._counts):
            found = ", ".join(
                f"{answer or 'closed'} {number}"
                for answer, number in sorted(self._counts[kind].items())
            )
            print(f"{kind:24} {found}")
        print(
            f"{len(indices)} requests in {seconds:.0f} s; resident MB at the "
            f"start and after each quarter: {', '.join(map(str, memory))}"
        )
        if len(memory) > 2 and memory[-1] - memory[1] > _MAX_GROWTH_MB:
            self.failures.append(f"Memory grew: {memory} MB.")
        if self._recognizer.children() != children:
            self.failures.append("The model server was replaced.")
        if self._recognise_good() != self._expected:
            self.failures.append("A good photo has another answer at the end.")
        status, _, body = self._ask(b"GET /metrics HTTP/1.1\r\nHost: a\r\n\r\n")
        num_lines = body.count(b"\n")
        if status != 200 or num_lines > _MAX_METRICS:
            self.failures.append(f"/metrics has {num_lines} lines.")
        if b"queue_length 0.0" not in body:
            self.failures.append("The queue is not empty at the end.")

    def close(self) -> None:
        """Ends the connections of all threads."""
        for each in self._connections:
            each.close()

    def _send(self, index: int) -> None:
        exchange = make_exchange(random.Random(index), self._world)
        found, headers, body = self._ask(
            exchange.request,
            method=exchange.method,
            half_close=exchange.half_close,
        )
        failure = None
        if found not in exchange.statuses:
            failure = f"{found}, not in {sorted(exchange.statuses)}: {body!r}"
        elif found != CLOSED:
            failure = _find_fault(exchange, found, headers, body)
        if not failure and index % _GOOD_EVERY == 0:
            if self._recognise_good() != self._expected:
                failure = "The good photo behind it has another answer."
        with self._lock:
            self._counts[exchange.kind][found] += 1
            if failure:
                text = f"--only {index}: {exchange.kind}: {failure[:600]}"
                self.failures.append(text)
                tqdm.tqdm.write(text)

    def _recognise_good(self) -> tuple[str, float]:
        photo = self._world.photos[0]
        request = b"POST /v1/recognize HTTP/1.1\r\nHost: a\r\n"
        request += b"Content-Length: %d\r\n\r\n" % len(photo)
        status, _, body = self._ask(request + photo)
        if status != 200:
            return f"{status} {body[:300]!r}", 0.0
        [found, *_] = answers.Answer.model_validate_json(body).objects
        return found.sku_id, round(found.score, 5)

    def _ask(
        self, request: bytes, *, method: str = "GET", half_close: bool = False
    ) -> tuple[int, dict[str, str], bytes]:
        """Status, headers and body, over this thread's connection."""
        is_new = getattr(self._local, "connection", None) is None
        if is_new:
            self._local.connection = socket.create_connection(
                self._address, _SECONDS
            )
            with self._lock:
                self._connections.append(self._local.connection)
        connection = self._local.connection
        response = http.client.HTTPResponse(connection, method=method)
        try:
            try:
                connection.sendall(request)
                if half_close:
                    connection.shutdown(socket.SHUT_WR)
            except (BrokenPipeError, ConnectionResetError):
                pass  # The answer may have come before all was sent.
            response.begin()
            body = response.read()
        except (OSError, http.client.HTTPException) as error:
            self._close()
            if not is_new and not half_close:
                # The server may close what is idle; then one asks again.
                return self._ask(request, method=method)
            is_closed = isinstance(
                error, ConnectionResetError | http.client.BadStatusLine
            )
            return CLOSED if is_closed else -1, {}, repr(error).encode()
        if half_close or response.will_close or method == "CONNECT":
            self._close()
        headers = {key.lower(): value for key, value in response.getheaders()}
        return response.status, headers, body

    def _close(self) -> None:
        self._local.connection.close()
        self._local.connection = None

    def _resident_mb(self) -> int:
        pids = [self._recognizer.process.pid, *self._recognizer.children()]
        return int(tiny_server.resident_mb(pids))


def _find_fault(exchange, status, headers, body) -> str | None:
    """What is wrong with an answer whose code is right."""
    if tiny_recognizer.SECRET in body:
        return "A file outside of the catalogue was sent."
    content_type = headers.get("content-type", "")
    if "text/html" in content_type and html_pages.ATTACK.encode() in body:
        return "HTML of the catalogue or of the request was sent as such."
    is_json = content_type.startswith("application/json")
    if not exchange.is_http and not is_json:
        return None
    for name in _SAFETY:
        if name not in headers:
            return f"The header {name} is missing."
    try:
        if status >= 400 and exchange.method != "HEAD":
            refusal = answers.Refusal.model_validate_json(body)
            if refusal.request_id != headers["x-request-id"]:
                return "The id in the body is another one."
            if not refusal.error.strip().endswith("."):
                return f"No sentence: {refusal.error!r}"
        elif exchange.check:
            exchange.check(body)
    except (AssertionError, ValueError) as error:
        return f"wrong body: {error}"
    return None


def _parse_arguments(argv):
    parser = flags.make_parser(__doc__)
    parser.add_argument("--requests", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--only", type=int, help="sends the one request of this number"
    )
    return parser.parse_args(argv)


if __name__ == "__main__":
    main()
