"""How fast a generated shop is drawn, and in how much memory.

    python -m benchmarks.jobs.shop_records --cache packages

Draws shards of a shop of few and of one of many SKUs, each in a process of
its own that starts --num_processes workers: pictures a second while they draw
(without their start), what a picture costs of a core, which tells more where
others use the machine, and the largest memory of a worker and of the process
that leads them. Every SKU has two training pictures, a test picture and one
in the catalogue. Reads /proc, so Linux only.
"""

import argparse
import collections
import concurrent.futures
import json
import multiprocessing
import os
import pathlib
import re
import tempfile
import time

_SHARD_SKUS = 100
_PICTURES_OF_AN_SKU = 4


def _measure(
    num_skus: int, num_pictures: int, num_processes: int, cache: pathlib.Path
) -> str:
    """Draws shards spread over the whole shop; a line of what came of it."""
    from beam_jobs.pipelines import runners
    from beam_jobs.shop import build
    from beam_jobs.shop import settings
    from beam_jobs.shop import shards

    shop = settings.ShopConfig(
        num_skus=num_skus,
        head_from=2,
        head_to=2,
        tail_from=2,
        tail_to=2,
        val_pictures=0,
        test_pictures=1,
        num_scenes=0,
        num_clicks=0,
    )
    goods, drawn = build.render(cache, shop)
    num_shards = num_skus // _SHARD_SKUS
    wanted = num_pictures // (_SHARD_SKUS * _PICTURES_OF_AN_SKU)
    chosen = range(0, num_shards, max(1, num_shards // wanted))
    options = runners.make_pipeline_options(num_processes=num_processes)
    with tempfile.TemporaryDirectory() as folder:
        work = pathlib.Path(folder)
        transform = shards.WriteShards(
            shards.WriteShardFn(goods, drawn, work / "shop", work, _SHARD_SKUS)
        )
        with runners.local_processes(options) as processes:
            # Each worker imports, and opens the drawings.
            first = list(chosen[:num_processes])
            runners.run_each(options, first, transform, processes)
            rest = list(chosen[num_processes:])
            before, _ = _facts_of_workers(processes.pool, num_processes)
            started = time.monotonic()
            runners.run_each(options, rest, transform, processes)
            seconds = time.monotonic() - started
            after, worker = _facts_of_workers(processes.pool, num_processes)
        counts = collections.Counter()
        for shard in rest:
            path = work / shards.COUNTS / f"{shard:05d}.json"
            counts.update(json.loads(path.read_text("utf-8")))
    drawn_pictures = counts["train"] + counts["test"] + counts["products"]
    _, _, leader = _facts()
    return (
        f"{num_skus:>9,} SKUs: {drawn_pictures / seconds:,.0f} pictures/s of "
        f"{shop.image_size} px with {num_processes} processes "
        f"({drawn_pictures:,} pictures in {seconds:.1f} s; "
        f"{1000 * (after - before) / drawn_pictures:.2f} ms of a core each), "
        f"peak of a worker {worker:,} MB, of the leader {leader:,} MB"
    )


def _facts_of_workers(
    pool: concurrent.futures.Executor, num_processes: int
) -> tuple[float, int]:
    """Seconds of cores that all have used, megabytes that the largest had."""
    facts = {}
    while len(facts) < num_processes:
        asked = [pool.submit(_facts) for _ in range(8 * num_processes)]
        for pid, seconds, megabytes in (each.result() for each in asked):
            facts[pid] = (seconds, megabytes)
    seconds, megabytes = zip(*facts.values(), strict=True)
    return sum(seconds), max(megabytes)


def _facts() -> tuple[int, float, int]:
    """This process: id, seconds of a core, largest megabytes so far."""
    # Not getrusage: a started process has the peak of the one that starts it.
    status = pathlib.Path("/proc/self/status").read_text("ascii")
    (peak,) = re.findall(r"VmHWM:\s+(\d+) kB", status)
    return os.getpid(), time.process_time(), int(peak) // 1024


def main() -> None:
    """Prints a line for each number of SKUs."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--cache",
        type=pathlib.Path,
        required=True,
        help="folder with the npm packages, of beam_jobs.shop_records",
    )
    parser.add_argument("--skus", type=int, nargs="+", default=[1000, 100_000])
    parser.add_argument(
        "--pictures", type=int, default=4000, help="to draw, about"
    )
    parser.add_argument("--num_processes", type=int, default=2)
    arguments = parser.parse_args()
    for num_skus in arguments.skus:
        # A process of its own: memory never falls back.
        with concurrent.futures.ProcessPoolExecutor(
            1, multiprocessing.get_context("spawn")
        ) as alone:
            line = alone.submit(
                _measure,
                num_skus,
                arguments.pictures,
                arguments.num_processes,
                arguments.cache,
            ).result()
        print(line, flush=True)


if __name__ == "__main__":
    main()
