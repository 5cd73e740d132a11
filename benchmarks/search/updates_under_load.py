"""Products come and go while threads search: is an answer ever wrong?"""

import pathlib
import threading
import time
from collections.abc import Iterator

import numpy as np

from benchmarks.search import vector_folders
from sicot_tf.catalogue import product_index
from sicot_tf.catalogue import vector_index
from sicot_tf.catalogue import vector_updates

_NUM_THREADS = 4
_EVERY = 500
_NUM_STABLE = 2_000


class _Searcher(threading.Thread):
    """Searches for rows that are there all the time, by their own vectors."""

    def __init__(self, index, vectors, stable, gone: set[str]):
        super().__init__()
        self._index = index
        self._vectors = vectors
        self._stable = stable
        self._gone = gone
        self.done = threading.Event()
        self.seconds: list[float] = []
        self.missing = self.deleted = self.double = 0

    def run(self) -> None:
        number = 0
        while not self.done.is_set():
            row = int(self._stable[number % len(self._stable)])
            number += 1
            # What had gone before the search began must not come back.
            gone = set(self._gone) if number % 50 == 0 else set()
            started = time.monotonic()
            [hits] = self._index.search(self._vectors[row, None], 60)
            self.seconds.append(time.monotonic() - started)
            found = [hit.product_id for hit in hits]
            self.missing += f"p{row}" not in found or len(found) != 60
            self.double += len(set(found)) != len(found)
            self.deleted += bool(gone.intersection(found))


def measure(
    index: vector_index.VectorIndex,
    root: pathlib.Path,
    vectors: np.ndarray,
    num: int,
) -> Iterator[str]:
    """Puts `num` new products and deletes `num` old ones under load.

    New vectors are noised rows, so results of the searching threads change.
    """
    rng = np.random.default_rng(5)
    order = rng.permutation(len(vectors))
    stable, leaving = order[:_NUM_STABLE], order[_NUM_STABLE:][:num]
    # An index may miss a row's own picture as it is; such are left out.
    found = index.search(vectors[stable], 60)
    stable = np.array(
        [
            row
            for row, hits in zip(stable, found, strict=True)
            if f"p{row}" in {hit.product_id for hit in hits}
        ]
    )
    yield f"rows found by their own vector: {len(stable):,} of {_NUM_STABLE:,}"
    new = vectors[rng.choice(stable, num)]
    new = new + rng.normal(size=new.shape) * (0.3 / new.shape[1] ** 0.5)
    new = (new / np.linalg.norm(new, axis=1, keepdims=True)).astype(np.float32)
    before = index.num_vectors
    gone: set[str] = set()
    searchers = [
        _Searcher(index, vectors, rng.permutation(stable), gone)
        for _ in range(_NUM_THREADS)
    ]
    for searcher in searchers:
        searcher.start()
    time.sleep(3)
    idle = [len(searcher.seconds) for searcher in searchers]
    started, applying = time.monotonic(), []
    late = 0
    with vector_updates.VectorUpdates(root) as updates:
        for start in range(0, num, _EVERY):
            ids = [f"p{row}" for row in leaving[start : start + _EVERY]]
            for number in range(start, min(start + _EVERY, num)):
                updates.put(_product(number), new[number, None], [b""], _MODEL)
            for product_id in ids:
                updates.delete(product_id)
            begun = time.monotonic()
            index.apply_updates()
            applying.append(time.monotonic() - begun)
            gone.update(ids)
            mine = new[start : start + _EVERY]
            for number, hits in enumerate(index.search(mine, 5), start):
                late += f"new{number}" != hits[0].product_id
    seconds = time.monotonic() - started
    for searcher in searchers:
        searcher.done.set()
    for searcher in searchers:
        searcher.join()
    yield (
        f"updates: {num:,} put and {num:,} deleted in {seconds:.0f} s, each on "
        f"the disk before the next; {len(applying)} changes of the index, "
        f"median {np.median(applying):.2f} s, longest {max(applying):.2f} s"
    )
    quiet = np.concatenate(
        [s.seconds[:n] for s, n in zip(searchers, idle, strict=True)]
    )
    busy = np.concatenate(
        [s.seconds[n:] for s, n in zip(searchers, idle, strict=True)]
    )
    for name, times in (("before", quiet), ("meanwhile", busy)):
        median, most = np.percentile(times, [50, 99]) * 1_000
        yield (
            f"searches {name}, {_NUM_THREADS} threads: {len(times):,}, median "
            f"{median:.1f} ms, 99 % {most:.1f} ms, longest "
            f"{times.max() * 1_000:.0f} ms"
        )
    wrong = {
        "missing": sum(s.missing for s in searchers),
        "deleted": sum(s.deleted for s in searchers),
        "double": sum(s.double for s in searchers),
        "new and not found": late,
        "of the number of vectors": abs(index.num_vectors - before),
    }
    yield f"answers that were wrong: {wrong}"


_MODEL = vector_folders.MODEL


def _product(number: int) -> product_index.Product:
    return product_index.Product(
        product_id=f"new{number}",
        sku_id="sku",
        title="",
        images=["0.jpg"],
        tags=[],
        category=f"category {number % 14:02d}",
        attributes={},
        updated_at=None,
    )
