"""Memory and speed of the conversion report, and whether it is right.

    python -m benchmarks.jobs.conversion_report --events 100000 1000000 5000000

Each line comes from a process of its own:

report    events per second and peak memory of the command
equal     whether all counts are those of dictionaries in memory
          (up to --compare events)
A/A       of 200 simulated weeks with two equal variants: how many tests find
          no difference at 5 %; 0.95 is expected
"""

import argparse
import multiprocessing
import pathlib
import resource
import sys
import tempfile
import time

from benchmarks.jobs import generated_events

_MAX_EVENTS_PER_DAY = 1000
_WEEKS = 200
_VISITORS = 20_000


def generate(folder: pathlib.Path, num_events: int) -> None:
    folder.mkdir()
    generated_events.write_events(
        folder, num_events, max_events_per_day=_MAX_EVENTS_PER_DAY
    )


def measure_report(
    folder: pathlib.Path, num_events: int, memory_megabytes: int
) -> None:
    from beam_jobs import conversion_report
    from beam_jobs.conversion import report  # noqa: F401

    imports = _peak_megabytes()
    started, busy = time.monotonic(), time.process_time()
    conversion_report.main(
        [
            *("--events", str(folder / "*.jsonl")),
            *("--output", str(folder / "report")),
            *("--max_events_per_day", str(_MAX_EVENTS_PER_DAY)),
            *("--memory_megabytes", str(memory_megabytes)),
            *("--verbosity", "error"),
        ]
    )
    seconds = time.monotonic() - started
    busy = time.process_time() - busy
    print(
        f"report: {num_events:,} events in {seconds:.1f} s ({busy:.1f} s of a "
        f"core), peak {_peak_megabytes():,} MB ({imports:,} MB of it imports)"
    )


def compare(folder: pathlib.Path, num_events: int) -> None:
    from sicot_tf import files

    found = files.read_json(folder / "report" / "report.json")
    expected = generated_events.count_by_sets(
        folder.glob("*.jsonl"), _MAX_EVENTS_PER_DAY
    )
    differences = generated_events.differences(found, expected)
    print(
        f"equal: {num_events:,} events, {not differences}; by dictionaries "
        f"in {_peak_megabytes():,} MB {' '.join(differences[:3])}"
    )


def measure_same_variants() -> None:
    import numpy as np

    from beam_jobs.conversion import significance

    rng = np.random.default_rng(1)
    same = covered = 0
    for _ in range(_WEEKS):
        pair = [
            (int((rng.random(_VISITORS) < 0.05).sum()), _VISITORS)
            for _ in range(2)
        ]
        same += significance.two_proportion_p_value(*pair) >= 0.05
        _, low, high = significance.relative_gain(*pair)
        covered += low <= 0 <= high
    print(
        f"A/A: {_WEEKS} weeks of 2 x {_VISITORS:,} visitors: no difference in "
        f"{same / _WEEKS:.3f}, 0 in the interval of the gain in "
        f"{covered / _WEEKS:.3f}"
    )


def _peak_megabytes() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024


def main(argv=None):
    """Measures one after the other and prints a line each."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--events", type=int, nargs="+", default=[100_000, 1_000_000, 5_000_000]
    )
    parser.add_argument("--compare", type=int, default=1_000_000)
    parser.add_argument("--memory_megabytes", type=int, default=512)
    arguments = parser.parse_args(argv)
    processes = multiprocessing.get_context("spawn")

    def run(target, *details):
        process = processes.Process(target=target, args=details)
        process.start()
        process.join()
        if process.exitcode:
            sys.exit(f"{target.__name__} {details} failed.")

    run(measure_same_variants)
    for number in arguments.events:
        with tempfile.TemporaryDirectory() as folder:
            folder = pathlib.Path(folder) / "events"
            run(generate, folder, number)
            run(measure_report, folder, number, arguments.memory_megabytes)
            if number <= arguments.compare:
                run(compare, folder, number)


if __name__ == "__main__":
    main()
