"""The model server against what it can't be faster than.

EfficientNet-Lite0 at 224 pixels, ImageNet weights, a classifier of 1,000
random classes; each request is one picture of uint8 pixels. Measures

1. the time that the server adds to a run of the model in one's own process,
   over the time of a bare grpcio server that takes and gives the same bytes;
2. pictures a second with batching, over those of whole batches in one's own
   process on the same cores: the clients have the first core, servers the
   others;
3. the same for NVIDIA's PyTriton (`--pytriton`) with the same SavedModel;
4. the 99th percentile of the latency while versions change, over that at
   rest.

Prints the median of the repeats, lowest and highest in brackets. Linux only.

examples:
  pip install '.[demo]'
  python -m benchmarks.server.serving
  python3.11 -m venv pytriton
  pytriton/bin/pip install nvidia-pytriton==0.7.0 tensorflow==2.21.0 'numpy<2'
  python -m benchmarks.server.serving --pytriton pytriton/bin/python
"""

import argparse
import contextlib
import multiprocessing
import pathlib
import random
import statistics
import tempfile
import threading
import time
from collections.abc import Callable
from collections.abc import Sequence

import numpy as np
import tqdm

from benchmarks.server import serving_model
from benchmarks.server import serving_processes
from benchmarks.server import serving_swaps

_CLIENT_CORES = serving_processes.ALL_CORES[:1]
_SERVER_CORES = serving_processes.ALL_CORES[1:]


def _percentile(values: Sequence[float], percent: float) -> float:
    return float(np.percentile(values, percent))


def _show(name: str, values: Sequence[float], unit: str = "") -> None:
    print(
        f"{name:<52} {statistics.median(values):8.2f}{unit} "
        f"[{min(values):.2f}, {max(values):.2f}]",
        flush=True,
    )


def _time(call: Callable[[], object]) -> float:
    start = time.perf_counter()
    call()
    return (time.perf_counter() - start) * 1000


def measure_latency(folder: pathlib.Path, repeats: int, num_calls: int) -> None:
    """What the server adds, in units of a bare gRPC call; in turns."""
    run = serving_model.in_process(folder / serving_processes.MODEL / "1", 1)
    rows = []
    random.seed(0)
    with serving_processes.serve(
        folder, batching=False, cores=serving_processes.ALL_CORES
    ) as server:
        with serving_processes.serve_echo(folder, server.ask()) as echo:
            calls = (run, server.ask, echo.ask)
            for call in calls * 3:
                _time(call)
            for _ in tqdm.trange(repeats, desc="latency", disable=None):
                times = {call: [] for call in calls}
                for _ in range(num_calls):
                    # In turns, so that the echo too is asked after a pause,
                    # as a server is whose model has just run.
                    for call in random.sample(calls, len(calls)):
                        times[call].append(_time(call))
                rows.append([statistics.median(times[call]) for call in calls])
    in_process, server_ms, echo_ms = zip(*rows, strict=True)
    _show("p50 in one's own process", in_process, " ms")
    _show("p50 of Predict", server_ms, " ms")
    _show("p50 of a bare gRPC echo", echo_ms, " ms")
    _show(
        "1. p50 added over p50 of the echo (aim: 1.5)",
        [(b - a) / c for a, b, c in rows],
    )


def _batches_a_second(
    connection: object, directory: pathlib.Path, num_threads: int
) -> None:
    """Runs whole batches for the seconds that `connection` asks for."""
    run = serving_model.in_process(directory, serving_processes.MAX_BATCH_SIZE)
    run()
    connection.send("ready")
    while (seconds := connection.recv()) is not None:
        start = time.monotonic()
        end = start + seconds
        counts = []

        def work(end: float, counts: list[int]) -> None:
            count = 0
            while time.monotonic() < end:
                run()
                count += 1
            counts.append(count)

        threads = [
            threading.Thread(target=work, args=(end, counts))
            for _ in range(num_threads)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        images = sum(counts) * serving_processes.MAX_BATCH_SIZE
        connection.send(images / (time.monotonic() - start))


def _load(
    target: serving_processes.Target,
    seconds: float,
    *,
    num_processes: int,
    num_callers: int,
) -> tuple[float, float, float]:
    """Answers a second, cores that clients used, p50 in milliseconds."""
    clients = serving_processes.Clients(
        target,
        num_processes=num_processes,
        num_callers=num_callers,
        cores=_CLIENT_CORES,
    )
    # The first answers come from a queue that is still empty.
    time.sleep(1)
    begin = time.monotonic()
    time.sleep(seconds)
    end = time.monotonic()
    reports = clients.stop()
    latencies = [
        taken * 1000
        for report in reports
        for start, taken in report["answers"]
        if begin <= start + taken < end
    ]
    return (
        len(latencies) / (end - begin),
        sum(each["cpu_seconds"] / each["seconds"] for each in reports),
        _percentile(latencies, 50),
    )


def measure_throughput(
    folder: pathlib.Path,
    repeats: int,
    seconds: float,
    num_callers: int,
    pytriton: str | None,
) -> None:
    """Servers on the cores that clients leave, against runs without server."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    directory = folder / serving_processes.MODEL / "1"
    with serving_processes.on_cores(_SERVER_CORES):
        worker = context.Process(
            target=_batches_a_second,
            args=(theirs, directory, len(_SERVER_CORES)),
        )
        worker.start()
    ours.recv()
    with contextlib.ExitStack() as stack:
        stack.callback(worker.join)
        stack.callback(ours.send, None)
        targets = {
            "ours": stack.enter_context(
                serving_processes.serve(
                    folder, batching=True, cores=_SERVER_CORES
                )
            )
        }
        if pytriton:
            targets["PyTriton"] = stack.enter_context(
                serving_processes.serve_with_pytriton(
                    pytriton, folder, _SERVER_CORES
                )
            )
        in_process = []
        rates = {name: [] for name in targets}
        cpu = {name: [] for name in targets}
        singles = {name: [] for name in targets}
        for _ in tqdm.trange(repeats, desc="throughput", disable=None):
            ours.send(seconds)
            in_process.append(ours.recv())
            for name, target in targets.items():
                rate, cores, _ = _load(
                    target, seconds, num_processes=2, num_callers=num_callers
                )
                rates[name].append(rate)
                cpu[name].append(cores)
                _, _, p50 = _load(
                    target, seconds, num_processes=1, num_callers=1
                )
                singles[name].append(p50)
    _show("images/s in one's own process, whole batches", in_process)
    for name in targets:
        _show(f"images/s of {name}", rates[name])
        _show(
            f"  CPU of its clients, in cores of {len(_CLIENT_CORES)}", cpu[name]
        )
        _show("  p50 of one caller", singles[name], " ms")
    _show(
        "2. images/s over those without server (aim: 0.85)",
        [a / b for a, b in zip(rates["ours"], in_process, strict=True)],
    )
    if pytriton:
        _show(
            "3. images/s over those of PyTriton (aim: above 1)",
            [
                a / b
                for a, b in zip(rates["ours"], rates["PyTriton"], strict=True)
            ],
        )
        _show(
            "   p50 of one caller over that of PyTriton",
            [
                a / b
                for a, b in zip(
                    singles["ours"], singles["PyTriton"], strict=True
                )
            ],
        )


def measure_swaps(folder: pathlib.Path, repeats: int, num_swaps: int) -> None:
    """Latencies while versions change, and as long without."""
    at_rest, swapping = zip(
        *serving_swaps.measure(folder, repeats, num_swaps), strict=True
    )
    _show("p99 at rest", at_rest, " ms")
    _show("p99 while versions change", swapping, " ms")
    _show(
        "4. p99 during a swap over p99 at rest (aim: 2)",
        [a / b for a, b in zip(swapping, at_rest, strict=True)],
    )


def main(argv: list[str] | None = None) -> None:
    """Exports the model, measures, prints."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--pytriton", help="Python of the environment with nvidia-pytriton"
    )
    parser.add_argument(
        "--measures",
        nargs="+",
        choices=("latency", "throughput", "swaps"),
        default=("latency", "throughput", "swaps"),
        help="what to measure (default: all)",
    )
    parser.add_argument(
        "--repeats", type=int, default=7, help="of each (%(default)s)"
    )
    parser.add_argument(
        "--num_calls",
        type=int,
        default=200,
        help="calls of a repeat of the latency (%(default)s)",
    )
    parser.add_argument(
        "--seconds",
        type=float,
        default=8,
        help="of a repeat of the throughput (%(default)s)",
    )
    parser.add_argument(
        "--num_callers",
        type=int,
        default=2 * serving_processes.MAX_BATCH_SIZE,
        help="of each of two client processes (%(default)s)",
    )
    parser.add_argument(
        "--num_swaps", type=int, default=4, help="in a repeat (%(default)s)"
    )
    arguments = parser.parse_args(argv)
    if not _SERVER_CORES:
        parser.error("Expected 2 cores or more, received 1.")
    repeats = arguments.repeats
    with tempfile.TemporaryDirectory(prefix="serving-") as name:
        folder = pathlib.Path(name)
        serving_model.export(folder / serving_processes.MODEL / "1")
        (folder / "request.bin").write_bytes(serving_model.make_request())
        if "latency" in arguments.measures:
            measure_latency(folder, repeats, arguments.num_calls)
        if "throughput" in arguments.measures:
            measure_throughput(
                folder,
                repeats,
                arguments.seconds,
                arguments.num_callers,
                arguments.pytriton,
            )
        if "swaps" in arguments.measures:
            measure_swaps(folder, repeats, arguments.num_swaps)


if __name__ == "__main__":
    main()
