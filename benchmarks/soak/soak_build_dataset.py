"""Kills a build at random moments; it must end with the same bytes.

Makes a set of generated pictures, builds it undisturbed, then again with
SIGKILL at random moments, each time going on with the same command, then with
other numbers of processes and records a part. Compares every file but
run.json, and counts parts that were done twice.

example:
  python -m benchmarks.soak.soak_build_dataset --kills 10
"""

import argparse
import hashlib
import json
import os
import pathlib
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable

import numpy as np
import tqdm
from PIL import Image

from sicot_tf.data import generations
from sicot_tf.stores import locations
from sicot_tf.stores import opening

_FLAGS = ("--word_vector_dim", "16", "--word2vec_epochs", "2")


def make_records(folder: pathlib.Path, num_records: int) -> pathlib.Path:
    """Pictures of soft noise, 320 x 240, with titles of twelve words."""
    rng = np.random.default_rng(0)
    (folder / "images").mkdir(parents=True)
    path = folder / "records.jsonl"
    with path.open("w", encoding="utf-8") as file:
        for i in tqdm.trange(num_records, desc="Pictures", leave=False):
            small = rng.uniform(0, 255, (12, 16, 3)).astype(np.uint8)
            image = Image.fromarray(small).resize((320, 240))
            image.save(folder / f"images/{i}.jpg", quality=90)
            row = {
                "record_id": f"r{i}",
                "image": f"images/{i}.jpg",
                "sku_id": f"sku-{int(rng.zipf(1.5)) % 50}",
                "title": " ".join(
                    f"word{word % 997}" for word in rng.zipf(1.3, 12)
                ),
            }
            file.write(json.dumps(row) + "\n")
    return path


def digests(output: locations.Location) -> dict[str, str]:
    """SHA-256 of every file of the newest generation but run.json."""
    place = opening.open_folder(output)
    generation = place.child(place.get(generations.LATEST).decode().strip())
    return {
        entry.key: hashlib.sha256(generation.get(entry.key)).hexdigest()
        for entry in generation.list()
        if entry.key != generations.RUN
    }


def _command(
    records: pathlib.Path, output: pathlib.Path, *flags: object
) -> list[str]:
    words = ["-m", "beam_jobs.build_dataset", "--input", records]
    words += ["--output", output, *_FLAGS, *flags]
    return [sys.executable, *map(str, words)]


def _run(command: list[str], **options: object) -> float:
    started = time.monotonic()
    subprocess.run(
        command,
        check=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        **options,
    )
    return time.monotonic() - started


def _kill_builds(
    command: list[str],
    output: pathlib.Path,
    expected: dict[str, str],
    num_kills: int,
    pause: Callable[[], float],
) -> tuple[bool, int]:
    """Whether killed builds end in the same bytes; parts made twice."""
    kills = 0
    same = True
    stored_twice = 0
    before: dict[pathlib.Path, int] = {}
    while kills < num_kills:
        process = subprocess.Popen(
            command,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        # Earlier nothing but libraries is loaded.
        time.sleep(pause())
        if process.poll() is not None:
            # Finished before its time: compare, and begin another.
            same = same and digests(output) == expected
            print(f"finished: {'equal' if same else 'DIFFERENT'} bytes")
            shutil.rmtree(output)
            before = {}
            continue
        # The whole session: its worker processes as well.
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        kills += 1
        visible = [p for p in output.iterdir() if p.name[0] != "."]
        parts = {
            path: path.stat().st_ino
            for path in output.glob(".work-*/parts/part-*.parquet")
        }
        stored_twice += sum(
            before[path] != parts.get(path, before[path]) for path in before
        )
        before = parts
        print(f"kill {kills}: {len(parts)} parts kept, visible: {visible}")
    _run(command)
    same = same and digests(output) == expected
    print(f"after {kills} kills: {'equal' if same else 'DIFFERENT'} bytes")
    print(f"parts done twice: {stored_twice}")
    return same, stored_twice


def main(argv: list[str] | None = None) -> None:
    """Runs all builds and prints what differs."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--records", type=int, default=4000)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args(argv)
    rng = random.Random(arguments.seed)
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        records = make_records(folder / "raw", arguments.records)
        flags = ("--part_records", 100, "--num_processes", 2)
        seconds = _run(_command(records, folder / "calm", *flags))
        expected = digests(folder / "calm")
        print(f"undisturbed: {seconds:.0f} s, {len(expected)} files")

        same, stored_twice = _kill_builds(
            _command(records, folder / "killed", *flags),
            folder / "killed",
            expected,
            arguments.kills,
            pause=lambda: rng.uniform(0.2, 1) * seconds,
        )
        for flags in (
            ("--part_records", 37),
            ("--part_records", 1000),
        ):
            other = folder / "-".join(map(str, flags)).replace("-", "")
            _run(_command(records, other, *flags))
            equal = digests(other) == expected
            same = same and equal
            print(f"{flags}: {'equal' if equal else 'DIFFERENT'} bytes")
    if not same or stored_twice:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
