"""Latency and errors of a model server against the number of clients.

For every endpoint that speaks TensorFlow Serving's gRPC or REST API, and any
model. Each client has a connection of its own and sends its next request when
the last one is answered, without retries. The requests are photos, random
tensors that fit the model's signature, or those of a warm-up file.
"""

import argparse
import collections
import csv
import dataclasses
import pathlib
import sys
import threading
import time
from collections.abc import Sequence
from concurrent import futures

import numpy as np

from benchmarks.server import load_requests
from sicot_tf import client
from sicot_tf import command_line

_PERCENTILES = (50, 95, 99)
_EXAMPLES = """\
The clients are threads of this process. The column "client CPU" is the number
of cores they keep busy: take it off what the machine has if the server runs on
the same one, and trust no latency where it comes near 1.

Exit code 1 if a number of clients got no answer at all.

examples:
  python -m benchmarks.server.load_generator photos/*.jpg --model_name sicot
  python -m benchmarks.server.load_generator --server http://localhost:8501 \\
      --model_name sicot --signature_name serving_pixels
  python -m benchmarks.server.load_generator --model_name sicot \\
      --concurrency 1,8,64 --warmup_file \\
      saved_models/sicot/1/assets.extra/tf_serving_warmup_requests \\
      --output load.csv
"""


@dataclasses.dataclass(frozen=True)
class Level:
    """What one number of clients met."""

    concurrency: int
    seconds: float
    # Of those answered, in seconds: [num_answered] float64.
    latencies: np.ndarray
    # Code and text, and how often.
    errors: collections.Counter[str]
    # CPU time of this process over elapsed time.
    client_cores: float

    def row(self) -> dict[str, float]:
        """The line of the table; latencies in milliseconds."""
        row = {
            "concurrency": self.concurrency,
            "requests_per_second": len(self.latencies) / self.seconds,
        }
        for percentile in _PERCENTILES:
            row[f"p{percentile}_ms"] = 1000 * self._percentile(percentile)
        row["max_ms"] = 1000 * self._percentile(100)
        row["errors"] = self.errors.total()
        row["client_cores"] = self.client_cores
        return row

    def _percentile(self, percentile: int) -> float:
        if not len(self.latencies):
            return float("nan")
        # A latency that was met, nothing between two.
        return np.percentile(
            self.latencies, percentile, method="inverted_cdf"
        ).item()


def run_level(
    server: load_requests.GrpcServer | load_requests.RestServer,
    requests: Sequence[load_requests.Request],
    *,
    concurrency: int,
    seconds: float,
) -> Level:
    """Lets `concurrency` clients ask for `seconds`.

    Args:
        server: the entrance.
        requests: each client begins with another one and takes all in turn.
        concurrency: number of clients.
        seconds: no request begins later.
    """
    connections = [server.open_connection() for _ in range(concurrency)]
    calls = [call for call, _ in connections]

    def ask(number: int) -> tuple[list[float], collections.Counter]:
        latencies, errors = [], collections.Counter()
        call = calls[number]
        while (before := time.perf_counter()) < end:
            error = call(requests[number % len(requests)])
            if error:
                errors[error] += 1
            else:
                latencies.append(time.perf_counter() - before)
            number += 1
        return latencies, errors

    with futures.ThreadPoolExecutor(concurrency) as pool:
        # The first answer of a connection holds its handshake: not counted.
        list(pool.map(lambda call: call(requests[0]), calls))
        started, cpu_started = time.perf_counter(), time.process_time()
        end = started + seconds
        results = list(pool.map(ask, range(concurrency)))
        elapsed = time.perf_counter() - started
        cpu = time.process_time() - cpu_started
    for _, close in connections:
        close()
    return Level(
        concurrency=concurrency,
        seconds=elapsed,
        latencies=np.concatenate([latencies for latencies, _ in results]),
        errors=sum((errors for _, errors in results), collections.Counter()),
        client_cores=cpu / elapsed,
    )


def format_row(row: dict[str, float]) -> str:
    """A line of the table."""
    latencies = [row[f"p{percentile}_ms"] for percentile in _PERCENTILES]
    return (
        f"{row['concurrency']:>11}{row['requests_per_second']:>12.1f}"
        + "".join(f"{value:>10.2f}" for value in [*latencies, row["max_ms"]])
        + f"{row['errors']:>8}{row['client_cores']:>12.2f}"
    )


def _print_header() -> None:
    names = [f"p{percentile} ms" for percentile in _PERCENTILES]
    print(
        f"{'concurrency':>11}{'requests/s':>12}"
        + "".join(f"{name:>10}" for name in [*names, "max ms"])
        + f"{'errors':>8}{'client CPU':>12}"
    )


@command_line.mistakes_in_a_sentence()
def main(argv: list[str] | None = None) -> None:
    """Prints a line for each number of clients."""
    arguments = _parse_arguments(argv)
    server = load_requests.connect(
        arguments.server, arguments.model_name, arguments.timeout
    )
    requests = [server.encode(log) for log in _make_logs(server, arguments)]
    call, close = server.open_connection()
    error = call(requests[0])
    close()
    if error:
        raise ValueError(f"{arguments.server}: the first request: {error}")
    size = sum(len(content) for _, content in requests) / len(requests)
    print(
        f"{arguments.server}, {arguments.model_name}: {len(requests)} "
        f"different requests of {size / 1000:.1f} kB, "
        f"{arguments.seconds:g} s for each line"
    )
    _print_header()
    rows = []
    for concurrency in arguments.concurrency:
        level = run_level(
            server,
            requests,
            concurrency=concurrency,
            seconds=arguments.seconds,
        )
        rows.append(level.row())
        print(format_row(rows[-1]), flush=True)
        for text, number in level.errors.most_common():
            print(f"{number:>11} x {text}", flush=True)
    if arguments.output:
        with arguments.output.open("w", encoding="utf-8", newline="") as lines:
            writer = csv.DictWriter(lines, list(rows[0]), lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)
    if any(row["requests_per_second"] == 0 for row in rows):
        sys.exit(1)


def _make_logs(
    server: load_requests.GrpcServer | load_requests.RestServer,
    arguments: argparse.Namespace,
) -> Sequence[object]:
    """The requests, from the file, the photos or the signature."""
    if arguments.warmup_file:
        logs = list(load_requests.read_warmup_file(arguments.warmup_file))
        if not logs:
            raise ValueError(f"{arguments.warmup_file} holds no requests.")
        return logs
    signatures = server.signatures()
    name = arguments.signature_name
    if name not in signatures:
        raise ValueError(
            "Expected a --signature_name of "
            f"{', '.join(sorted(signatures))}, received {name!r}."
        )
    settings = {"signature_name": name, "batch_size": arguments.batch_size}
    if arguments.photos:
        photos = [
            client.photo_path(photo).read_bytes() for photo in arguments.photos
        ]
        return load_requests.photo_requests(
            photos, signatures[name], **settings
        )
    return load_requests.random_requests(
        signatures[name], shapes=dict(arguments.shape), **settings
    )


def _parse_concurrency(text: str) -> list[int]:
    values = text.split(",")
    if not all(item.isdecimal() and int(item) for item in values):
        raise argparse.ArgumentTypeError(
            f"expected numbers of 1 or more with commas, got {text}"
        )
    return [int(item) for item in values]


def _parse_shape(text: str) -> tuple[str, list[int]]:
    name, _, sizes = text.rpartition("=")
    if not name or not all(size.isdecimal() for size in sizes.split(",")):
        raise argparse.ArgumentTypeError(f"expected NAME=SIZE,.., got {text}")
    return name, [int(size) for size in sizes.split(",")]


def _parse_arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = command_line.ArgumentParser(
        "benchmarks.server.load_generator", __doc__, _EXAMPLES
    )
    parser.add_argument(
        "photos",
        nargs="*",
        metavar="PHOTO",
        help="files for a signature with one input of strings; without them "
        "random tensors are made",
    )
    for flag, default, text in (
        ("server", "localhost:8500", "gRPC: host:port or unix:path; http://.."),
        ("model_name", "sicot", "name on the server"),
        ("signature_name", "serving_default", "of photos and random tensors"),
        ("batch_size", 1, "photos or random rows in a request"),
        ("seconds", 5.0, "for each number of clients"),
        ("timeout", 10.0, "seconds a request"),
    ):
        parser.add_argument(
            f"--{flag}",
            type=type(default),
            default=default,
            help=f"{text} ({default})",
        )
    parser.add_argument(
        "--warmup_file",
        type=pathlib.Path,
        help="TFRecords of PredictionLog to send instead",
    )
    parser.add_argument(
        "--shape",
        type=_parse_shape,
        action="append",
        default=[],
        metavar="NAME=SIZE,..",
        help="of a random input whose signature leaves dimensions open",
    )
    parser.add_argument(
        "--concurrency",
        type=_parse_concurrency,
        default=[1, 2, 4, 8, 16],
        metavar="N,..",
        help="numbers of clients (1,2,4,8,16)",
    )
    parser.add_argument(
        "--output", type=pathlib.Path, metavar="CSV", help="writes the table"
    )
    arguments = parser.parse_args(argv)
    for flag in ("batch_size", "seconds", "timeout"):
        if not 0 < getattr(arguments, flag) < threading.TIMEOUT_MAX:
            parser.error(
                f"--{flag}: expected more than 0, got "
                f"{getattr(arguments, flag)}"
            )
    if arguments.photos and arguments.warmup_file:
        parser.error("photos and --warmup_file: expected one of them")
    return arguments


if __name__ == "__main__":
    main()
