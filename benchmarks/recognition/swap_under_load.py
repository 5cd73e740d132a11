"""Changes model and index of the recognition service while it is asked.

Two releases alternate: two versions of the model, and two generations of the
index whose titles carry the generation's number, with a vector index each.
Clients ask without a pause: for a photo's panel and results, for the next page
of these, for the products of a SKU, and for pictures whose URLs an answer gave.
Fails if a request fails, if an answer mixes releases (by its
versions and by every title in it), if a release does not come into use, or if
memory grows.

examples:
  python -m benchmarks.recognition.swap_under_load
  python -m benchmarks.recognition.swap_under_load --clients 16
"""

import argparse
import pathlib
import shutil
import tempfile
import threading
import time
from collections.abc import Callable
from collections.abc import Sequence

import numpy as np

from benchmarks import flags
from benchmarks.recognition import marked_releases
from benchmarks.recognition import shop
from benchmarks.recognition import swap_clients
from sicot_tf.data import generations
from sicot_tf.recognition.releases import release_check
from tests.helpers import tiny_recognizer
from tests.helpers import tiny_server

_MAX_GROWTH_MB = 200
_PATIENCE_SECONDS = 120


def main(argv: list[str] | None = None) -> None:
    """Prints the numbers; exit code 1 if something was wrong."""
    arguments = _parse_arguments(argv)
    photos = [
        path.read_bytes()
        for path, _ in shop.pictures(arguments.records, arguments.split)[:16]
    ]
    version = release_check.newest_version(arguments.model)
    with tempfile.TemporaryDirectory() as folder:
        root = pathlib.Path(folder)
        models = root / "models" / version.resolve().parent.name
        for name in ("1", "2"):
            shutil.copytree(version, models / name)
        index = generations.resolve_generation(arguments.product_index)
        found = marked_releases.write(
            root,
            [models / "1", models / "2"],
            index,
            marked_releases.pictures_of(index),
        )
        failures = swap(
            root,
            found,
            photos,
            catalogue_root=arguments.catalogue_root,
            swaps=arguments.swaps,
            seconds=arguments.seconds,
            clients=arguments.clients,
        )
    for failure in failures[:30]:
        print(failure)
    if failures:
        raise SystemExit(f"{len(failures)} faults.")
    print("No failed request, no mixed answer.")


def swap(
    root: pathlib.Path,
    pairs: Sequence[marked_releases.Marked],
    photos: Sequence[bytes],
    *,
    catalogue_root: pathlib.Path,
    swaps: int,
    seconds: float,
    clients: int,
    find_fault: Callable[[dict], str | None] = lambda answer: None,
) -> list[str]:
    """Texts of what went wrong; prints the numbers.

    Args:
        root: for releases and the log.
        pairs: the releases that alternate.
        seconds: from one swap to the next.
        find_fault: what else is wrong with an answer.
    """
    folder = root / "releases"
    marked_releases.publish(folder, pairs[0])
    recognizer = tiny_recognizer.RecognizerProcess(
        root, "--releases", folder, "--catalogue_root", catalogue_root
    )
    met = swap_clients.Met(pairs, find_fault)
    threads = [
        threading.Thread(
            target=swap_clients.ask_again,
            args=(recognizer.url, photos, number, met),
        )
        for number in range(clients)
    ]
    try:
        for thread in threads:
            thread.start()
        # Every allocator has had its time.
        time.sleep(seconds)
        memory = [_resident_mb(recognizer)]
        until_used = []
        for number in range(1, swaps + 1):
            pair = pairs[number % len(pairs)]
            started = time.monotonic()
            marked_releases.publish(folder, pair)
            until_used.append(_wait(met, pair, started))
            time.sleep(max(0.0, seconds - (time.monotonic() - started)))
            memory.append(_resident_mb(recognizer))
    finally:
        met.stop.set()
        for thread in threads:
            thread.join()
        recognizer.kill()
    failures = met.failures
    if None in until_used:
        failures.append(
            f"A release never came into use:\n{recognizer.log_text[-3000:]}"
        )
    for number, name in enumerate(("recogniser", "model server")):
        series = [each[number] for each in memory]
        middle = series[len(series) // 2]
        print(
            f"{name}: resident {series[0]} MB at the start, {middle} in the "
            f"middle, {series[-1]} at the end"
        )
        if series[-1] - middle > _MAX_GROWTH_MB:
            failures.append(f"The {name} grew: {series} MB.")
    shown = [f"{each:.1f}" for each in until_used if each is not None]
    print(
        f"{swaps} swaps, {seconds:g} s apart; in use after {', '.join(shown)} "
        f"s\n{met.num_requests} requests, {len(met.failures)} faults, "
        f"{met.num_other_model} pages asked again by photo since the model had "
        f"changed; {met.num_pages} pages, {met.num_results} results; answers "
        f"by release {dict(met.releases)}\nlatency of panels p50 "
        f"{np.percentile(met.latencies, 50):.1f} ms, p99 "
        f"{np.percentile(met.latencies, 99):.1f} ms, most "
        f"{max(met.latencies):.1f} ms"
    )
    return failures


def _wait(
    met: swap_clients.Met, pair: marked_releases.Marked, started: float
) -> float | None:
    """Seconds until an answer came from a release; None if none did."""
    before = met.releases[pair.mark]
    while time.monotonic() < started + _PATIENCE_SECONDS:
        # Those that were under way with the last but one count, too.
        if met.releases[pair.mark] > before:
            return time.monotonic() - started
        time.sleep(0.01)
    return None


def _resident_mb(recognizer: tiny_recognizer.RecognizerProcess) -> list[int]:
    """Of the recogniser and of its model server."""
    pids = (recognizer.process.pid, *recognizer.children())
    return [int(tiny_server.resident_mb([pid])) for pid in pids]


def _parse_arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = flags.make_parser(__doc__)
    shop.add_flags(parser)
    parser.add_argument("--swaps", type=int, default=6)
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--clients", type=int, default=4)
    return parser.parse_args(argv)


if __name__ == "__main__":
    main()
