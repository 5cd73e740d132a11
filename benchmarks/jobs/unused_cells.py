"""What a column that nobody uses costs a build: memory and time, as ratios.

    python -m benchmarks.jobs.unused_cells

A thousand records in each format, with a cell of 200 kB each and without;
every build is a process of its own. Then the time of reading CSV by its size
where a quote is never closed: the same per megabyte if it is linear.
"""

import argparse
import csv
import io
import json
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time

import numpy as np
import PIL.Image
import pyarrow as pa
import pyarrow.parquet as pq

from beam_jobs.records import raw_records

_NUM_RECORDS = 1000
_CELL_BYTES = 200_000


def _write_records(folder: pathlib.Path, cell_bytes: int) -> None:
    """Record files of all formats in `folder`, and one picture."""
    folder.mkdir()
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 255, (64, 64, 3), np.uint8)
    PIL.Image.fromarray(pixels).save(folder / "0.jpg")
    schema = pa.schema(
        [(name, pa.string()) for name in ("record_id", "image", "sku_id")]
        + [("title", pa.string()), ("unused", pa.string())]
    )
    with (
        (folder / "r.jsonl").open("w") as jsonl,
        (folder / "r.csv").open("w", newline="") as csv_file,
        pq.ParquetWriter(folder / "r.parquet", schema) as parquet,
    ):
        writer = csv.DictWriter(csv_file, schema.names)
        writer.writeheader()
        for i in range(_NUM_RECORDS):
            row = {
                "record_id": f"r{i}",
                "image": "0.jpg",
                "sku_id": f"s{i % 9}",
                "title": "red wool scarf",
                "unused": rng.bytes(cell_bytes // 2).hex(),
            }
            jsonl.write(json.dumps(row) + "\n")
            writer.writerow(row)
            parquet.write_batch(pa.RecordBatch.from_pylist([row], schema))


def _build(path: pathlib.Path, output: pathlib.Path) -> tuple[float, float]:
    """Peak megabytes and seconds of a build."""
    command = [
        *(sys.executable, "-m", "beam_jobs.build_dataset"),
        *("--input", str(path), "--output", str(output)),
        *("--word_vector_dim", "4", "--word2vec_epochs", "1"),
    ]
    started = time.monotonic()
    process = subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise RuntimeError(f"{command}: exit code {process.returncode}")
    return usage.ru_maxrss / 1024, time.monotonic() - started


def _measure_builds(folder: pathlib.Path, rounds: int) -> None:
    _write_records(folder / "with", _CELL_BYTES)
    _write_records(folder / "without", 0)
    for name in ("r.jsonl", "r.csv", "r.parquet"):
        ratios = []
        for i in range(rounds):
            (with_mb, with_s), (without_mb, without_s) = (
                _build(folder / kind / name, folder / f"{kind} {name} {i}")
                for kind in ("with", "without")
            )
            ratios.append((with_mb / without_mb, with_s / without_s))
        memory, seconds = zip(*ratios, strict=True)
        print(
            f"{name:10} memory {statistics.median(memory):.2f} "
            f"({min(memory):.2f} to {max(memory):.2f}), last "
            f"{with_mb:,.0f} and {without_mb:,.0f} MB; time "
            f"{statistics.median(seconds):.2f} "
            f"({min(seconds):.2f} to {max(seconds):.2f})",
            flush=True,
        )


def _measure_open_quotes() -> None:
    rows = {
        "no quote": "1,a,s,title of a thing\n",
        "one that never ends": "1,a,s,title of a thing\n",
        "one opened in each row": '1,a,s,"title of a thing\n',
        "closed, opened in each": '1,a,x","y\n',
    }
    for name, row in rows.items():
        speeds = []
        for megabytes in (8, 16, 32):
            data = b"record_id,image,sku_id,title\n"
            if name != "no quote":
                data += b'0,a,s,"title\n'
            data += row.encode() * ((megabytes << 20) // len(row))
            started = time.process_time()
            for _ in raw_records.read_rows(io.BytesIO(data), "x.csv"):
                pass
            speeds.append((time.process_time() - started) / megabytes)
        first = speeds[0]
        print(
            f"{name:24} seconds a MB of 8, 16 and 32 MB, over those of 8: "
            + ", ".join(f"{speed / first:.2f}" for speed in speeds)
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        _measure_builds(pathlib.Path(folder), arguments.rounds)
    _measure_open_quotes()


if __name__ == "__main__":
    main()
