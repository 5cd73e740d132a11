"""Vectors that lie as those of products do, in any number.

20,000 clusters, whose sizes fall as 1 / rank, in 14 categories; 24 latent
dimensions through a random network of two layers; noise on top; unit length.
They are made up: what an index reaches on them says how it grows, and not
what it reaches on pictures.
"""

import dataclasses
import pathlib

import numpy as np

_NUM_CLUSTERS = 20_000
_NUM_CATEGORIES = 14
_LATENT = 24
_HIDDEN = 256
# Standard deviations: of clusters in a category, of products in a cluster (a
# category's own is 1), and the length of the noise beside a vector's of 1.
_CLUSTER = 0.7
_PRODUCT = 0.35
_NOISE = 0.1
_BLOCK = 50_000


@dataclasses.dataclass(frozen=True)
class Vectors:
    """Made-up vectors.

    Attributes:
        vectors: `[n, dim]` float32, mapped.
        categories: `[n]` int.
        queries: `[q, dim]` float32, of the same clusters; none is a row.
    """

    vectors: np.ndarray
    categories: np.ndarray
    queries: np.ndarray


class Clusters:
    """Draws from the clusters; a seed gives the same ones."""

    def __init__(self, dim: int, seed: int = 0):
        rng = np.random.default_rng(seed)
        self._shares = 1 / np.arange(1, _NUM_CLUSTERS + 1)
        self._shares /= self._shares.sum()
        self._categories = rng.integers(_NUM_CATEGORIES, size=_NUM_CLUSTERS)
        centers = rng.normal(size=(_NUM_CATEGORIES, _LATENT))
        self._centers = centers[self._categories] + _CLUSTER * rng.normal(
            size=(_NUM_CLUSTERS, _LATENT)
        )
        self._first = _layer(rng, _LATENT, _HIDDEN)
        self._second = _layer(rng, _HIDDEN, dim)

    def draw(
        self, rng: np.random.Generator, num: int
    ) -> tuple[np.ndarray, np.ndarray]:
        """`[num, dim]` float32 unit vectors and their categories."""
        clusters = rng.choice(_NUM_CLUSTERS, size=num, p=self._shares)
        latent = self._centers[clusters] + _PRODUCT * rng.normal(
            size=(num, _LATENT)
        )
        hidden = np.maximum(latent.astype(np.float32) @ self._first, 0)
        vectors = _unit(hidden @ self._second)
        dim = vectors.shape[1]
        noise = rng.standard_normal(vectors.shape, np.float32)
        vectors = _unit(vectors + noise * np.float32(_NOISE / dim**0.5))
        return vectors, self._categories[clusters]


def make(
    path: pathlib.Path, num: int, dim: int, num_queries: int, seed: int = 0
) -> Vectors:
    """Writes `[num, dim]` vectors to a file of NumPy and maps it."""
    clusters = Clusters(dim, seed)
    rng = np.random.default_rng([seed, 1])
    queries, _ = clusters.draw(np.random.default_rng([seed, 2]), num_queries)
    vectors = np.lib.format.open_memmap(path, "w+", np.float32, (num, dim))
    categories = np.empty(num, np.int64)
    for start in range(0, num, _BLOCK):
        stop = min(start + _BLOCK, num)
        vectors[start:stop], categories[start:stop] = clusters.draw(
            rng, stop - start
        )
    return Vectors(vectors, categories, queries)


def _layer(rng: np.random.Generator, rows: int, columns: int) -> np.ndarray:
    weights = rng.normal(size=(rows, columns)) / rows**0.5
    return weights.astype(np.float32)


def _unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
