"""A vector index of made-up vectors against exact search: how good, how fast.

Each size is built in a process of its own and measured in another, which has
one thread for NumPy and FAISS each, so that equal means are compared:

recall     share of the exact 60 nearest that are found, for 1,000 queries
           that are no rows
single     one query at a time, beside IndexFlatIP
batch      32 queries at a time, beside a product and top-k of NumPy
updates    --updates products put and as many deleted while threads search

Windows of the ways alternate; the median is printed with the lowest and the
highest window. The load of the machine is printed beside.

examples:
  python -m benchmarks.search.vector_index --sizes 1000000
  python -m benchmarks.search.vector_index --sizes 100000 500000 2000000 \\
      --updates 0
"""

import contextlib
import multiprocessing
import os
import pathlib
import tempfile
import time

from benchmarks import flags

_NUM_QUERIES = 1_000
_K = 60
_BATCH = 32


def build(folder: pathlib.Path, size: int, dim: int) -> None:
    """Writes the vectors and a generation of their index."""
    import numpy as np

    from benchmarks.search import synthetic_vectors
    from benchmarks.search import vector_folders
    from sicot_tf.catalogue import vector_index
    from sicot_tf.catalogue import vectors as contract

    started = time.monotonic()
    made = synthetic_vectors.make(
        folder / "vectors.npy", size, dim, _NUM_QUERIES
    )
    np.save(folder / "queries.npy", made.queries)
    np.save(folder / "categories.npy", made.categories)
    rows = [
        contract.VectorRow(f"p{number}", 0, f"category {category:02d}")
        for number, category in enumerate(made.categories.tolist())
    ]
    _say(f"made in {time.monotonic() - started:.0f} s", size)
    finished = folder / "index" / "work"
    finished.mkdir(parents=True)
    started = time.monotonic()
    written = vector_index.build(finished, rows, made.vectors)
    seconds = time.monotonic() - started
    generation = vector_folders.publish(finished, "g-0", written, 0)
    _say(
        f"built in {seconds:.0f} s, of all and of "
        f"{len(written['categories'])} categories",
        size,
    )
    _say(f"over all: {written['parameters']['all']}", size)
    lowest = min(p["recall_at_60"] for p in written["parameters"].values())
    _say(f"lowest recall@60 at the build, of any index: {lowest}", size)
    bytes_of = {
        name: sum(path.stat().st_size for path in generation.glob(name)) / size
        for name in ("all.faiss", "category-*", "rows.npy", "vectors.sqlite")
    }
    _say(
        "bytes a vector on disk: "
        + ", ".join(f"{name} {num:.0f}" for name, num in bytes_of.items()),
        size,
    )


def measure(folder: pathlib.Path, size: int, windows: int, updates: int):
    """Opens the generation and compares; one thread for everything."""
    import faiss
    import numpy as np

    from benchmarks.search import exact_search
    from benchmarks.search import updates_under_load
    from sicot_tf.catalogue import vector_index

    faiss.omp_set_num_threads(1)
    before, started = _own_megabytes(), time.monotonic()
    index = vector_index.VectorIndex(folder / "index")
    _say(
        f"opened in {time.monotonic() - started:.1f} s, "
        f"{_own_megabytes() - before:.0f} MB of memory of its own "
        f"({(_own_megabytes() - before) * 2**20 / size:.0f} bytes a vector); "
        "rows are mapped beside it",
        size,
    )
    queries = np.load(folder / "queries.npy")
    categories = np.load(folder / "categories.npy")
    vectors = np.load(folder / "vectors.npy")
    exact = exact_search.ExactSearch(vectors)
    _measure_recall(index, exact, queries, categories, size)
    ways = {
        "index, single": (lambda few: index.search(few, _K), 1),
        "index, single, category": (
            lambda few: index.search(few, _K, category="category 00"),
            1,
        ),
        "IndexFlatIP, single": (lambda few: exact.by_faiss(few, _K), 1),
        "index, batch": (lambda few: index.search(few, _K), _BATCH),
        "IndexFlatIP, batch": (lambda few: exact.by_faiss(few, _K), _BATCH),
        "NumPy, batch": (lambda few: exact.by_numpy(few, _K), _BATCH),
    }
    speeds: dict[str, list[float]] = {way: [] for way in ways}
    for _ in range(windows):
        for way, (search, num) in ways.items():
            speeds[way].append(_speed(search, queries, num))
    load = os.getloadavg()[0]
    for way, found in speeds.items():
        _say(
            f"{way}: {np.median(found):,.0f} queries/s "
            f"({min(found):,.0f} to {max(found):,.0f} in {windows} windows)",
            size,
        )
    for way, other in (
        ("index, single", "IndexFlatIP, single"),
        ("index, batch", "NumPy, batch"),
        ("index, batch", "IndexFlatIP, batch"),
    ):
        ratios = np.divide(speeds[way], speeds[other])
        _say(
            f"{way} / {other}: {np.median(ratios):.1f} times "
            f"({ratios.min():.1f} to {ratios.max():.1f}); load {load:.1f}",
            size,
        )
    exact.close()
    if updates:
        for line in updates_under_load.measure(
            index, folder / "index", vectors, updates
        ):
            _say(line, size)
    index.close()


def _measure_recall(index, exact, queries, categories, size: int) -> None:
    import numpy as np

    def numbers(hits):
        return {int(hit.product_id[1:]) for hit in hits}

    found = index.search(queries, _K)
    nearest = exact.nearest(queries, _K)
    pairs = list(zip(found, nearest.tolist(), strict=True))
    shares = [len(numbers(hits) & set(near)) / _K for hits, near in pairs]
    first = np.mean(
        [f"p{near[0]}" == hits[0].product_id for hits, near in pairs]
    )
    _say(
        f"recall@60 {np.mean(shares):.4f}, recall@1 {first:.4f} of "
        f"{len(queries):,} queries (lowest of a query {min(shares):.2f})",
        size,
    )
    of_category = np.flatnonzero(categories == 0)
    found = index.search(queries, _K, category="category 00")
    nearest = exact.nearest(queries, _K, of_category)
    shares = [
        len(numbers(hits) & set(near)) / _K
        for hits, near in zip(found, nearest.tolist(), strict=True)
    ]
    _say(
        f"recall@60 {np.mean(shares):.4f} in category 00 "
        f"({len(of_category):,} rows), any query",
        size,
    )


def _speed(search, queries, num: int) -> float:
    """Queries a second in a window of a second, at least three calls."""
    done, started = 0, time.monotonic()
    while done < 3 * num or time.monotonic() - started < 1.0:
        start = done % (len(queries) - num + 1)
        search(queries[start : start + num])
        done += num
    return done / (time.monotonic() - started)


def _own_megabytes() -> float:
    with open("/proc/self/status", encoding="ascii") as file:
        for line in file:
            if line.startswith("RssAnon"):
                return int(line.split()[1]) / 1024
    raise RuntimeError("Expected RssAnon in /proc/self/status.")


def _say(line: str, size: int) -> None:
    print(f"{size:,}: {line}", flush=True)


@contextlib.contextmanager
def _threads_of_numpy(num: int | None):
    if num is not None:
        os.environ["OPENBLAS_NUM_THREADS"] = str(num)
    try:
        yield
    finally:
        os.environ.pop("OPENBLAS_NUM_THREADS", None)


def main(argv: list[str] | None = None) -> None:
    """Builds and measures each size."""
    parser = flags.make_parser(__doc__)
    parser.add_argument("--sizes", type=int, nargs="+", default=[1_000_000])
    parser.add_argument("--dim", type=int, default=256)
    parser.add_argument("--windows", type=int, default=7)
    parser.add_argument("--updates", type=int, default=10_000)
    parser.add_argument("--folder", help="on a disk with 4 kB a vector")
    arguments = parser.parse_args(argv)
    processes = multiprocessing.get_context("spawn")
    for size in arguments.sizes:
        with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
            path = pathlib.Path(folder)
            for target, threads, *more in (
                (build, None, arguments.dim),
                (measure, 1, arguments.windows, arguments.updates),
            ):
                with _threads_of_numpy(threads):
                    process = processes.Process(
                        target=target, args=(path, size, *more)
                    )
                    process.start()
                process.join()
                if process.exitcode:
                    raise SystemExit(f"{target.__name__} has failed.")


if __name__ == "__main__":
    main()
