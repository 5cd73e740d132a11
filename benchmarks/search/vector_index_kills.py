"""Kills processes that change a vector index, and looks what they leave.

A process of its own writes live changes, snapshots or generations until
SIGKILL ends it at a random moment. Then everything it has said it wrote must
be there, and nothing may be there by half; the next one goes on from that.

examples:
  python -m benchmarks.search.vector_index_kills --moments 10
"""

import argparse
import pathlib
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time

import numpy as np

from benchmarks import flags
from benchmarks.search import vector_folders
from sicot_tf import files
from sicot_tf.catalogue import faiss_search
from sicot_tf.catalogue import product_index
from sicot_tf.catalogue import vector_index
from sicot_tf.catalogue import vector_updates
from sicot_tf.catalogue import vectors as contract
from sicot_tf.data import generations

_DIM = 64
_NUM_ROWS = 500
_PICTURES = 3
_LONGEST_SECONDS = 0.4


def unit(number: int, num: int = _PICTURES) -> np.ndarray:
    """`[num, 64]` unit vectors that the number decides."""
    vectors = np.random.default_rng(number).normal(size=(num, _DIM))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors.astype(np.float32)


def picture(number: int, place: int) -> bytes:
    """20 kB that stand for a picture."""
    return np.random.default_rng([number, place]).bytes(20_000)


def make_base(root: pathlib.Path) -> None:
    """Generation `g-0` of 500 products."""
    finished = root / "work"
    finished.mkdir(parents=True)
    rows = [contract.VectorRow(f"p{n}", 0, None) for n in range(_NUM_ROWS)]
    written = vector_index.build(finished, rows, unit(2**20, _NUM_ROWS))
    vector_folders.publish(finished, "g-0", written, 0)


def write_updates(root: pathlib.Path) -> None:
    """Puts and deletes without end; says the number of each."""
    with vector_updates.VectorUpdates(root) as updates:
        while True:
            number = updates.last_sequence + 1
            if number % 5 == 0:
                updates.delete(f"new-{number - 1}")
            else:
                updates.put(
                    _product(number),
                    unit(number),
                    [picture(number, place) for place in range(_PICTURES)],
                    vector_folders.MODEL,
                )
            print(number, flush=True)


def write_snapshots(root: pathlib.Path) -> None:
    """Adds a picture, writes a snapshot, and so on, from the last one."""
    done = [int(path.name[2:]) for path in root.glob("s-*")]
    number = max(done, default=0)
    search = faiss_search.FaissSearch.open(
        root / (f"s-{number}" if number else "g-0")
    )
    while True:
        number += 1
        search.add([_row(number)], unit(number, 1))
        search.snapshot(root / f"s-{number}")
        print(number, flush=True)


def write_generations(root: pathlib.Path) -> None:
    """Folds a picture into the newest generation, and so on."""
    while True:
        base = generations.resolve_generation(root)
        number = int(base.name[2:]) + 1
        finished = root / "work"
        # What a killed one has left.
        shutil.rmtree(finished, ignore_errors=True)
        finished.mkdir()
        written = vector_index.build_from(
            finished,
            base,
            removed=[],
            rows=[_row(number)],
            vectors=unit(number, 1),
        )
        # Renamed by a killed one that did not come to LATEST.
        shutil.rmtree(root / f"g-{number}", ignore_errors=True)
        vector_folders.publish(finished, f"g-{number}", written, 0)
        print(number, flush=True)


def check_updates(root: pathlib.Path, said: int) -> int:
    """Raises AssertionError for a change that is lost or half there."""
    with vector_updates.VectorUpdates(root) as updates:
        found = list(updates.since(0))
        numbers = [update.sequence for update in found]
        _expect(numbers == list(range(1, len(found) + 1)), numbers)
        _expect(said <= len(found) <= said + 1, said, len(found))
        for update in found:
            number = update.sequence
            pictures = updates.pictures(number)
            if number % 5 == 0:
                _expect(update.product is None and not pictures, number)
                continue
            _expect(update.product == _product(number), number)
            np.testing.assert_array_equal(update.vectors, unit(number))
            expected = [picture(number, place) for place in range(_PICTURES)]
            _expect(pictures == expected, number)
    with vector_index.VectorIndex(root) as index:
        _expect(index.apply_updates() == len(found), len(found))
        # Of five changes, the fifth deletes the fourth.
        num_products = len(found) - 2 * (len(found) // 5)
        expected = _NUM_ROWS + _PICTURES * num_products
        _expect(index.num_vectors == expected, index.num_vectors, expected)
    return len(found)


def check_snapshots(root: pathlib.Path, said: int) -> int:
    """Raises AssertionError for a snapshot that is lost or half there."""
    done = sorted(int(path.name[2:]) for path in root.glob("s-*"))
    _expect(done == list(range(1, len(done) + 1)), done)
    _expect(said <= len(done) <= said + 1, said, len(done))
    for number in done[-3:]:
        _check_search(
            faiss_search.FaissSearch.open(root / f"s-{number}"), number
        )
    return len(done)


def check_generations(root: pathlib.Path, said: int) -> int:
    """Raises AssertionError unless LATEST is whole and is what was said."""
    generation = generations.resolve_generation(root)
    number = int(generation.name[2:])
    _expect(said <= number <= said + 1, said, number)
    manifest = files.read_json(generation / generations.MANIFEST)
    for name, described in manifest["files"].items():
        digest = files.sha256(generation / name)
        _expect(digest == described["sha256"], generation / name)
    with vector_index.VectorIndex(root) as index:
        _check_search(index, number)
    return number


def _check_search(search, number: int) -> None:
    _expect(search.num_vectors == _NUM_ROWS + number, search.num_vectors)
    if number:
        [[hit]] = search.search(unit(number, 1), 1)
        _expect(hit.product_id == f"new-{number}", hit, number)
    [everything] = search.search(unit(1, 1), 10 * search.num_vectors)
    different = {hit.product_id for hit in everything}
    _expect(len(different) == len(everything), len(different))


def _expect(is_so: bool, *seen: object) -> None:
    if not is_so:
        raise AssertionError(f"A kill has left: {seen}")


def kill(root: pathlib.Path, work: str, seconds: float) -> int:
    """Lets a process work, kills it; the last number that it said."""
    command = [
        *(sys.executable, "-m", "benchmarks.search.vector_index_kills"),
        *("--work", work, "--folder", str(root)),
    ]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True
    ) as process:
        first = process.stdout.readline()
        time.sleep(seconds)
        process.send_signal(signal.SIGKILL)
        said = [first, *process.stdout]
    if process.returncode != -signal.SIGKILL:
        raise RuntimeError(f"{work} ended by itself: {process.returncode}")
    return int(said[-1])


def _product(number: int) -> product_index.Product:
    return product_index.Product(
        product_id=f"new-{number}",
        sku_id="sku",
        title=f"Product {number}",
        images=[f"{place}.jpg" for place in range(_PICTURES)],
        tags=[],
        category=None,
        attributes={},
        updated_at=None,
    )


def _row(number: int) -> contract.VectorRow:
    return contract.VectorRow(f"new-{number}", 0, None)


_WORK = {
    "updates": (write_updates, check_updates),
    "snapshots": (write_snapshots, check_snapshots),
    "generations": (write_generations, check_generations),
}


def main(argv: list[str] | None = None) -> None:
    """Kills and checks; prints a line each."""
    parser = flags.make_parser(__doc__)
    parser.add_argument("--moments", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--work", choices=_WORK, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=pathlib.Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args(argv)
    if arguments.work:
        write, _ = _WORK[arguments.work]
        write(arguments.folder)
    rng = random.Random(arguments.seed)
    for work, (_, check) in _WORK.items():
        with tempfile.TemporaryDirectory() as folder:
            root = pathlib.Path(folder) / "index"
            make_base(root)
            beyond = 0
            for _ in range(arguments.moments):
                said = kill(root, work, rng.uniform(0, _LONGEST_SECONDS))
                beyond += check(root, said) - said
        print(
            f"{work}: {arguments.moments} kills, {said:,} written, nothing "
            f"lost, nothing by half; {beyond} were done but not yet said."
        )


if __name__ == "__main__":
    main()
