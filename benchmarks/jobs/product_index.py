"""How fast a product index is built and read, and in how much memory.

    python -m benchmarks.jobs.product_index --records 1000000

Makes a catalogue (eight JSON Lines files, every third record replaced by a
later one), then measures, each in a process of its own:

build      rows per second and peak memory of the command
lookups    lookups per second of random SKU ids by 1 and by 4 threads
merge      latest record of each product of --merge_records records:
           DuckDB (what the command does), upserts into SQLite, and Beam's
           CombinePerKey on FnApiRunner; peak memory beyond the imports
"""

import argparse
import concurrent.futures
import json
import multiprocessing
import pathlib
import random
import resource
import sqlite3
import sys
import tempfile
import time
from collections.abc import Iterable

_NUM_FILES = 8
_SECONDS = 5


def make_catalogue(folder: pathlib.Path, num_records: int) -> None:
    """Records of about 300 bytes; 5 records for each SKU."""
    rng = random.Random(0)
    for number in range(_NUM_FILES):
        with (folder / f"{number}.jsonl").open("w", encoding="utf-8") as file:
            for line in range(num_records // _NUM_FILES):
                record = {
                    "product_id": f"shop/{rng.randrange(num_records):09d}",
                    "sku_id": f"sku-{rng.randrange(num_records // 5):08d}",
                    "title": f"新款 product {line} soft drink 330ml 包邮",
                    "images": [f"https://images.example/{number}/{line}.jpg"],
                    "tags": ["drink", "can"],
                    "category": "beverages",
                    "price": rng.randrange(10_000) / 100,
                    "quality": {"score": rng.random()},
                    "updated_at": 1.7e9 + rng.randrange(10_000_000),
                }
                file.write(json.dumps(record, ensure_ascii=False) + "\n")


def measure_build(folder: pathlib.Path, num_records: int, processes: int):
    from beam_jobs import build_product_index
    from beam_jobs.catalogue import build  # noqa: F401

    imports = _peak_megabytes()
    started = time.monotonic()
    build_product_index.main(
        [
            *("--input", str(folder / "*.jsonl"), "--date", "2026-01-01"),
            *("--output", str(folder / "index")),
            *("--num_processes", str(processes)),
        ]
    )
    seconds = time.monotonic() - started
    store = next((folder / "index").glob("2026*/products.sqlite"))
    print(
        f"build: {num_records / seconds:,.0f} rows/s with {processes} "
        f"process(es), {seconds:.1f} s, peak {_peak_megabytes():,} MB "
        f"({imports:,} MB of it imports), store "
        f"{store.stat().st_size / 2**20:,.0f} MB"
    )


def measure_lookups(folder: pathlib.Path, num_records: int, threads: int):
    from sicot_tf.catalogue import product_index

    with product_index.ProductIndex(folder / "index") as index:

        def look_up(seed):
            rng = random.Random(seed)
            lookups = products = 0
            deadline = time.monotonic() + _SECONDS
            while time.monotonic() < deadline:
                sku_id = f"sku-{rng.randrange(num_records // 5):08d}"
                products += len(index.products_of(sku_id))
                lookups += 1
            return lookups, products

        with concurrent.futures.ThreadPoolExecutor(threads) as pool:
            done = list(pool.map(look_up, range(threads)))
        lookups, products = map(sum, zip(*done, strict=True))
        print(
            f"lookups: {lookups / _SECONDS:,.0f} a second by {threads} "
            f"thread(s), {products / lookups:.1f} products each, "
            f"{index.num_products:,} products, peak {_peak_megabytes():,} MB"
        )


def measure_merge(folder: pathlib.Path, num_records: int, way: str):
    import apache_beam as beam
    import duckdb
    import pyarrow.parquet as pq

    from beam_jobs.catalogue import catalogue_parts
    from beam_jobs.catalogue import merge_products
    from beam_jobs.pipelines import runners
    from beam_jobs.records import record_files

    catalogue = record_files.find_record_files([str(folder / "*.jsonl")])
    runners.run_each(
        runners.make_pipeline_options(),
        catalogue_parts.inputs(catalogue),
        catalogue_parts.ParseCatalogue(folder / "parts"),
    )
    parts = catalogue_parts.products_in(folder / "parts")

    def rows():
        for part in parts:
            for batch in pq.ParquetFile(part).iter_batches(16_384):
                columns = [column.to_pylist() for column in batch.columns]
                yield from zip(*columns, strict=True)

    before = _peak_megabytes()
    started = time.monotonic()
    if way == "DuckDB":
        latest = merge_products.open_rows(parts, folder / "spill")
        merge_products.write_store(
            latest, folder / "merged.sqlite", folders=[""] * _NUM_FILES
        )
    elif way == "SQLite":
        _upsert(folder / "upserts.sqlite", rows())
    else:
        with beam.Pipeline(runner="FnApiRunner") as pipeline:
            _ = (
                pipeline
                | beam.Create([None])
                | beam.FlatMap(lambda _: ((row[0], row[1:]) for row in rows()))
                | beam.CombinePerKey(max)
                | beam.combiners.Count.Globally()
            )
    seconds = time.monotonic() - started
    count = duckdb.read_parquet([str(p) for p in parts]).count("*").fetchall()
    print(
        f"merge, {way}: {count[0][0] / seconds:,.0f} rows/s, "
        f"{_peak_megabytes() - before:,} MB"
    )


def _upsert(path: pathlib.Path, rows: Iterable[tuple]) -> None:
    """Each row into a table, in place of an older one of its id."""
    store = sqlite3.connect(path)
    store.executescript(
        "PRAGMA journal_mode = OFF; PRAGMA cache_size = -65536; "
        "CREATE TABLE p (id TEXT PRIMARY KEY, t, d, f, l, s, ti, i, ta, "
        "c, a)"
    )
    store.executemany(
        "INSERT INTO p VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON "
        "CONFLICT (id) DO UPDATE SET t = excluded.t, d = excluded.d, "
        "f = excluded.f, l = excluded.l, s = excluded.s, "
        "ti = excluded.ti, i = excluded.i, ta = excluded.ta, "
        "c = excluded.c, a = excluded.a "
        "WHERE (excluded.t, excluded.f, excluded.l) > (t, f, l)",
        rows,
    )
    store.executescript(
        "CREATE TABLE q AS SELECT * FROM p ORDER BY s, t DESC, id; "
        "CREATE UNIQUE INDEX i ON q (id); CREATE INDEX s ON q (s);"
    )
    store.close()


def _peak_megabytes() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024


def main(argv=None):
    """Measures one after the other and prints a line each."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--records", type=int, default=1_000_000)
    parser.add_argument("--merge_records", type=int, default=200_000)
    parser.add_argument("--num_processes", type=int, default=1)
    arguments = parser.parse_args(argv)
    processes = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        small = folder / "small"
        small.mkdir()
        make_catalogue(folder, arguments.records)
        make_catalogue(small, arguments.merge_records)
        for target, *details in (
            (measure_build, folder, arguments.records, arguments.num_processes),
            (measure_lookups, folder, arguments.records, 1),
            (measure_lookups, folder, arguments.records, 4),
            (measure_merge, small, arguments.merge_records, "DuckDB"),
            (measure_merge, small, arguments.merge_records, "SQLite"),
            (measure_merge, small, arguments.merge_records, "CombinePerKey"),
        ):
            process = processes.Process(target=target, args=details)
            process.start()
            process.join()
            if process.exitcode:
                sys.exit(f"{target.__name__} {details} failed.")


if __name__ == "__main__":
    main()
