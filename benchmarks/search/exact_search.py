"""Exact search, as an index is compared with it."""

import faiss
import numpy as np

_BLOCK = 8_192


class ExactSearch:
    """By FAISS' flat index and by a product of NumPy.

    Args:
        vectors: `[n, dim]` float32 in memory.
    """

    def __init__(self, vectors: np.ndarray):
        self._vectors = vectors
        self._flat = faiss.IndexFlatIP(vectors.shape[1])
        self._flat.add(vectors)

    def by_faiss(self, queries: np.ndarray, k: int) -> np.ndarray:
        """`[q, k]` nearest rows."""
        return self._flat.search(queries, k)[1]

    def by_numpy(self, queries: np.ndarray, k: int) -> np.ndarray:
        """`[q, k]` nearest rows, the best first."""
        similarities = queries @ self._vectors.T
        near = np.argpartition(similarities, -k, axis=1)[:, -k:]
        order = np.argsort(-np.take_along_axis(similarities, near, 1), axis=1)
        return np.take_along_axis(near, order, 1)

    def nearest(
        self, queries: np.ndarray, k: int, rows: np.ndarray | None = None
    ) -> np.ndarray:
        """`[q, k]` nearest of all or of some rows, block by block."""
        if rows is None:
            rows = np.arange(len(self._vectors))
        best = np.empty((len(queries), 0), np.float32)
        near = np.empty((len(queries), 0), np.int64)
        for start in range(0, len(rows), _BLOCK):
            some = rows[start : start + _BLOCK]
            best = np.hstack([best, queries @ self._vectors[some].T])
            near = np.hstack([near, np.tile(some, (len(queries), 1))])
            order = np.argpartition(-best, min(k, best.shape[1]) - 1)[:, :k]
            best = np.take_along_axis(best, order, 1)
            near = np.take_along_axis(near, order, 1)
        order = np.argsort(-best, axis=1)
        return np.take_along_axis(near, order, 1)

    def close(self) -> None:
        """Gives the memory of the flat index back."""
        self._flat.reset()
