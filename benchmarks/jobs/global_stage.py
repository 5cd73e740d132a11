"""Time and memory of what all records decide, by the number of records.

    python -m benchmarks.jobs.global_stage --facts 1000000 5000000 20000000

Generates the facts of so many records (`generated_facts`), then runs the
stages of `resolve_records` over them as `build_dataset` does, each number in
a process of its own. Training word2vec is left out; its input is written.
Prints for each stage

seconds    of the clock, and of one core in brackets
resident   the process's largest resident memory during the stage, in MB
disk       the most that DuckDB's tables and what it spilled had on the disk,
           in MB

and at the end how the seconds grow between the last two numbers, and what
that comes to at --extrapolate records.
"""

import argparse
import contextlib
import json
import multiprocessing
import pathlib
import shutil
import sys
import tempfile
import threading
import time
from collections.abc import Iterator

_FROZEN = 1000


class Meter:
    """Measures stages; `stages` has the figures of a line, in its order."""

    def __init__(self, work: pathlib.Path):
        self._work = work
        self.stages: dict[str, tuple[float, float, float, float]] = {}

    @contextlib.contextmanager
    def stage(self, name: str) -> Iterator[None]:
        # Sets the peak back to what is resident now.
        pathlib.Path("/proc/self/clear_refs").write_text("5")
        over = threading.Event()
        disk = []

        def watch():
            while not over.wait(0.2):
                disk.append(_size(self._work))

        watcher = threading.Thread(target=watch)
        watcher.start()
        started, busy = time.monotonic(), time.process_time()
        yield
        seconds = time.monotonic() - started
        busy = time.process_time() - busy
        over.set()
        watcher.join()
        (peak,) = (
            int(line.split()[1]) / 1024
            for line in pathlib.Path("/proc/self/status").open()
            if line.startswith("VmHWM")
        )
        disk.append(_size(self._work))
        self.stages[name] = seconds, busy, peak, max(disk) / 2**20
        print(
            f"  {name:<20}{seconds:>9.1f} s ({busy:,.1f}){peak:>9,.0f} MB"
            f"{max(disk) / 2**20:>9,.0f} MB",
            flush=True,
        )


def _size(work: pathlib.Path) -> int:
    """Bytes of DuckDB's own files."""
    total = 0
    for path in (*work.glob("resolve.duckdb*"), *work.glob("spill/*")):
        with contextlib.suppress(OSError):  # Gone by now.
            total += path.stat().st_size
    return total


def generate(folder: pathlib.Path, num_facts: int, part_facts: int) -> None:
    from benchmarks.jobs import generated_facts

    started = time.monotonic()
    generated_facts.write_facts(folder / "parts", num_facts, part_facts)
    size = sum(path.stat().st_size for path in (folder / "parts").iterdir())
    print(
        f"{num_facts:,} facts in {time.monotonic() - started:.0f} s, "
        f"{size / num_facts:.0f} bytes each on the disk",
        flush=True,
    )


def measure(
    folder: pathlib.Path,
    memory_megabytes: int,
    per_class: int,
    report: pathlib.Path,
) -> None:
    from beam_jobs.dataset import resolve_records
    from beam_jobs.words import word_vectors
    from sicot_tf import config
    from sicot_tf import files

    work = folder / "work"
    shutil.rmtree(work, ignore_errors=True)
    (work / "shards").mkdir(parents=True)
    meter = Meter(work)
    dataset_config = config.DatasetConfig(
        test_per_class=per_class, val_per_class=per_class
    )
    with contextlib.closing(
        resolve_records.connect(work, memory_megabytes)
    ) as database:
        resolver = resolve_records.Resolver(
            database, work, folder / "parts", dataset_config
        )
        with meter.stage("load"):
            resolver.load()
        with meter.stage("reject_duplicates"):
            resolver.reject_duplicates()
        with meter.stage("find_units"):
            counts = resolver.find_units()
        with meter.stage("assign_splits"):
            resolver.assign_splits([f"shop/{i}" for i in range(_FROZEN)])
            resolver.unknown_test_ids()
        with meter.stage("count_words"):
            word_counts = resolver.count_words()
        with meter.stage("set_vocabulary"):
            vocabulary, _ = word_vectors.select_vocabulary(word_counts)
            resolver.set_vocabulary(vocabulary)
        del word_counts, vocabulary
        with meter.stage("training words"):
            files.write_lines(
                work / "titles.txt", resolver.iterate_training_words()
            )
        with meter.stage("assign_labels"):
            resolver.assign_labels()
            resolver.num_frozen_in_test()
        with meter.stage("write_shards"):
            stems = resolver.write_shards(work / "shards")
        with meter.stage("class_counts"):
            num_classes = sum(1 for _ in resolver.class_counts())
        with meter.stage("rejected"):
            num_rejected = sum(1 for _ in resolver.rejected())
    print(
        f"  {len(stems):,} shards, {num_classes:,} classes, "
        f"{num_rejected:,} rejected, {counts}"
    )
    print(f"  digest of the shards {_digest(work / 'shards')}", flush=True)
    report.write_text(json.dumps(meter.stages))


def _digest(shards: pathlib.Path) -> str:
    """Of all records of all shards with their places."""
    import duckdb

    total, count = duckdb.execute(
        f"""select sum(hash(parse_filename(shard), t)), count(*)
        from read_parquet('{shards}/*.parquet', filename = 'shard',
          file_row_number = true, hive_partitioning = false) as t"""
    ).fetchone()
    return f"{total:x} of {count:,} records"


def main(argv=None):
    """Measures one number after the other; prints a line for each stage."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--facts", type=int, nargs="+", default=[200_000, 1_000_000]
    )
    parser.add_argument("--extrapolate", type=int, default=60_000_000)
    parser.add_argument("--memory_megabytes", type=int, default=4096)
    parser.add_argument("--part_facts", type=int, default=1000)
    parser.add_argument(
        "--per_class", type=int, default=0, help="val and test records of each"
    )
    parser.add_argument(
        "--folder", help="keep the facts here, and use those that are here"
    )
    arguments = parser.parse_args(argv)
    processes = multiprocessing.get_context("spawn")

    def run(target, *details):
        process = processes.Process(target=target, args=details)
        process.start()
        process.join()
        if process.exitcode:
            sys.exit(f"{target.__name__} {details} failed.")

    measured = {}
    with tempfile.TemporaryDirectory() as scratch:
        root = pathlib.Path(arguments.folder or scratch)
        for number in arguments.facts:
            folder = root / str(number)
            if not (folder / "parts").exists():
                run(generate, folder, number, arguments.part_facts)
            print(f"{number:,} facts:", flush=True)
            report = pathlib.Path(scratch) / "report.json"
            run(
                measure,
                folder,
                arguments.memory_megabytes,
                arguments.per_class,
                report,
            )
            measured[number] = json.loads(report.read_text())
    if len(measured) > 1:
        _print_slopes(measured, arguments.extrapolate)


def _print_slopes(measured: dict[int, dict], target: int) -> None:
    """A straight line through the last two numbers."""
    (fewer, before), (more, after) = list(measured.items())[-2:]
    print(f"from {fewer:,} to {more:,}: seconds a million, and at {target:,}")
    totals = [0.0] * 4
    for name, (*measures, _, _) in after.items():
        line = []
        for each, earlier in zip(measures, before[name]):
            slope = (each - earlier) / (more - fewer)
            line += [slope * 1e6, each + slope * (target - more)]
        _print_slope(name, line)
        totals = [total + each for total, each in zip(totals, line)]
    _print_slope("all", totals)


def _print_slope(name: str, line: list[float]) -> None:
    slope, at_target, busy_slope, busy = line
    print(
        f"  {name:<20}{slope:>9.2f} s ({busy_slope:.2f})"
        f"{at_target:>9,.0f} s ({busy:,.0f})"
    )


if __name__ == "__main__":
    main()
