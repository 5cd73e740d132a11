"""One index over slots of rows: found roughly, ranked exactly.

Small ones are a list of slots, all of whose rows are compared. Large ones
(`IndexIVFRaBitQ` of FAISS; Gao and Long, SIGMOD 2024) keep one bit a dimension
of rotated vectors; what they find is ranked again by the float rows. An index
that is there never changes: `changed` makes another one, so searching threads
need no lock.
"""

import dataclasses
import logging
import os
import pathlib
from typing import Any

import faiss
import numpy as np

from sicot_tf import files
from sicot_tf.catalogue import recall_probes
from sicot_tf.catalogue import vector_rows

FLAT_BELOW = 20_000

_NPROBE = (8, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512)
_CANDIDATES = (200, 300, 450, 600, 1_000, 2_000)
# Codes that are read in the time of a float row, which lies anywhere: 12 and
# 300 ns at a million vectors of 256 dimensions.
_CODES_PER_ROW = 25
# Of the query; 0 (float) is 100 times slower and finds no more.
_QUERY_BITS = 4
_TRAINING_ROWS_PER_LIST = 100
_MIN_ROWS_PER_LIST = 39
_TRAINING_ROUNDS = 10
_THREADS_FROM = 100_000
# Queries that are compared with all rows at once; from so many on, by a product
# of matrices, whose threads one query is not worth.
_QUERIES = 32
_PRODUCT_FROM = 4

_log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class SlotIndex:
    """An index of some slots and how it is searched.

    Attributes:
        slots: `[n]` int64, ascending, if it compares all; else None.
        index: of FAISS, of rotated vectors, if there is one.
        nlist: lists of that; 0 if there is none.
        nprobe: lists that a search reads.
        candidates: of which the float rows are read, for 60 results.
        recall_at_60: share of the exact 60 nearest that were found when it
            was tuned, on noised rows.
        trained_on: rows there were then.
    """

    rotation: faiss.VectorTransform
    slots: np.ndarray | None = None
    index: faiss.Index | None = None
    nlist: int = 0
    nprobe: int = 0
    candidates: int = 0
    recall_at_60: float = 1.0
    trained_on: int = 0

    @classmethod
    def built(
        cls,
        rows: vector_rows.VectorRows,
        slots: np.ndarray,
        rotation: faiss.VectorTransform,
        *,
        recall: float,
        seed: int,
        flat_below: int = FLAT_BELOW,
    ) -> "SlotIndex":
        """Trains an index of `[n]` slots and tunes it to a recall@60."""
        if len(slots) < flat_below:
            return cls(rotation, slots=np.sort(slots))
        use_threads(len(slots))
        try:
            nlist = max(
                1,
                min(
                    round(2 * len(slots) ** 0.5),
                    len(slots) // _MIN_ROWS_PER_LIST,
                ),
            )
            index = faiss.index_factory(
                rows.dim, f"IVF{nlist},RaBitQ", faiss.METRIC_INNER_PRODUCT
            )
            index.cp.niter = _TRAINING_ROUNDS
            index.cp.max_points_per_centroid = _TRAINING_ROWS_PER_LIST
            index.cp.seed = seed % 2**31
            rng = np.random.default_rng([seed, len(slots)])
            num_sampled = min(len(slots), nlist * _TRAINING_ROWS_PER_LIST)
            sample = np.sort(rng.choice(slots, num_sampled, replace=False))
            index.train(rotation.apply(rows.vectors(sample)))
            untuned = cls(
                rotation, index=index, nlist=nlist, trained_on=len(slots)
            )
            untuned._add(rows, slots)
            return untuned.tuned(rows, slots, recall=recall, seed=seed)
        finally:
            faiss.omp_set_num_threads(1)

    @classmethod
    def read(
        cls,
        path: pathlib.Path,
        rotation: faiss.VectorTransform,
        parameters: dict[str, Any],
    ) -> "SlotIndex":
        """Reads a file into memory.

        It is never mapped: FAISS ends the process when something is added to
        a mapped index.
        """
        return cls(rotation, index=faiss.read_index(str(path)), **parameters)

    def write(self, path: pathlib.Path) -> None:
        """Writes the index of FAISS as a whole."""
        with files.replacing(path) as temporary:
            faiss.write_index(self.index, str(temporary))

    @property
    def num_vectors(self) -> int:
        """How many slots it has."""
        return self.index.ntotal if self.nlist else len(self.slots)

    @property
    def parameters(self) -> dict[str, Any]:
        """What `read` needs beside the file."""
        return {
            "nlist": self.nlist,
            "nprobe": self.nprobe,
            "candidates": self.candidates,
            "recall_at_60": self.recall_at_60,
            "trained_on": self.trained_on,
        }

    def changed(
        self,
        rows: vector_rows.VectorRows,
        *,
        removed: np.ndarray,
        added: np.ndarray,
    ) -> "SlotIndex":
        """Another index without some `[n]` slots and with others."""
        if not self.nlist:
            kept = self.slots[~np.isin(self.slots, removed)]
            slots = np.sort(np.concatenate([kept, added]))
            return dataclasses.replace(self, slots=slots)
        other = dataclasses.replace(self, index=faiss.clone_index(self.index))
        # First: FAISS would keep the same slot twice, and remove both.
        if len(removed):
            other.index.remove_ids(np.ascontiguousarray(removed, np.int64))
        other._add(rows, added)
        return other

    def search(
        self, rows: vector_rows.VectorRows, queries: np.ndarray, k: int
    ) -> tuple[np.ndarray, np.ndarray]:
        """The k nearest of `[q, dim]` unit vectors, the best first.

        Returns:
            Similarities, `[q, at most k]` float32, and slots; where there is
            no further one the slot is -1.
        """
        k = min(k, self.num_vectors)
        if not k:
            shape = (len(queries), 0)
            return np.empty(shape, np.float32), np.empty(shape, np.int64)
        if not self.nlist:
            parts = [
                recall_probes.best(
                    *self._all(rows, queries[start : start + _QUERIES]), k
                )
                for start in range(0, len(queries), _QUERIES)
            ]
            similarities, slots = zip(*parts, strict=True)
            return np.concatenate(similarities), np.concatenate(slots)
        # More results need more of both; never fewer than it is tuned for.
        times = -(-k // recall_probes.K)
        slots = self._candidates(
            queries, self.nprobe * times, self.candidates * times
        )
        return recall_probes.best(rows.similarities(queries, slots), slots, k)

    def _all(
        self, rows: vector_rows.VectorRows, queries: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        shape = (len(queries), len(self.slots))
        slots = np.broadcast_to(self.slots, shape)
        if len(queries) < _PRODUCT_FROM:
            return rows.similarities(queries, slots), slots
        similarities = np.empty(shape, np.float32)
        for start in range(0, len(self.slots), recall_probes.BLOCK):
            some = slice(start, start + recall_probes.BLOCK)
            vectors = rows.vectors(self.slots[some])
            similarities[:, some] = queries @ vectors.T
        return similarities, slots

    def _candidates(
        self, queries: np.ndarray, nprobe: int, num: int
    ) -> np.ndarray:
        parameters = faiss.IVFRaBitQSearchParameters(
            nprobe=min(nprobe, self.nlist), qb=_QUERY_BITS
        )
        _, slots = self.index.search(
            self.rotation.apply(queries),
            min(num, self.index.ntotal),
            params=parameters,
        )
        return slots

    def tuned(
        self,
        rows: vector_rows.VectorRows,
        slots: np.ndarray,
        *,
        recall: float,
        seed: int,
    ) -> "SlotIndex":
        """With the lists and candidates that reach a recall@60 soonest.

        The cost is counted in codes that are read, not in seconds: equal rows
        get equal settings on a busy machine.
        """
        queries, exact = recall_probes.probes(rows, slots, seed)
        cheapest, best = float("inf"), (-1.0, 0, 0)
        for nprobe in [n for n in _NPROBE if n < self.nlist] + [self.nlist]:
            codes = nprobe * len(slots) / self.nlist
            if codes + _CODES_PER_ROW * _CANDIDATES[0] >= cheapest:
                break
            found = self._candidates(queries, nprobe, _CANDIDATES[-1])
            similarities = rows.similarities(queries, found)
            for num in _CANDIDATES:
                cost = codes + _CODES_PER_ROW * num
                if cost >= cheapest:
                    break
                _, nearest = recall_probes.best(
                    similarities[:, :num], found[:, :num], recall_probes.K
                )
                reached = recall_probes.share_found(nearest, exact)
                if reached >= recall:
                    cheapest, best = cost, (reached, nprobe, num)
                elif reached > best[0] and cheapest == float("inf"):
                    best = (reached, nprobe, num)
        reached, nprobe, num = best
        if reached < recall:
            _log.warning(
                "Recall@60 is %.4f at most, %.4f was wanted.", reached, recall
            )
        return dataclasses.replace(
            self,
            nprobe=nprobe,
            candidates=num,
            recall_at_60=round(reached, 4),
        )

    def measured_recall(
        self, rows: vector_rows.VectorRows, slots: np.ndarray, seed: int
    ) -> float:
        """Recall@60 of its slots as it is searched now."""
        if not self.nlist:
            return 1.0
        use_threads(len(slots))
        try:
            queries, exact = recall_probes.probes(rows, slots, seed)
            return recall_probes.share_found(
                self.search(rows, queries, recall_probes.K)[1], exact
            )
        finally:
            faiss.omp_set_num_threads(1)

    def _add(self, rows: vector_rows.VectorRows, slots: np.ndarray) -> None:
        for start in range(0, len(slots), vector_rows.BLOCK):
            some = np.ascontiguousarray(
                slots[start : start + vector_rows.BLOCK], np.int64
            )
            vectors = rows.vectors(some)
            self.index.add_with_ids(self.rotation.apply(vectors), some)


def use_threads(num_rows: int) -> None:
    """For building; FAISS keeps the number by calling thread.

    Few rows are done before several threads, which wait for each other by
    spinning, have agreed on anything.
    """
    many = num_rows >= _THREADS_FROM
    faiss.omp_set_num_threads((os.cpu_count() or 1) if many else 1)
