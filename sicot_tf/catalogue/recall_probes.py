"""How much of what exact search finds an index finds: recall@60 on probes."""

import numpy as np

from sicot_tf.catalogue import vector_rows

# Results of a search that counts.
K = 60
# Rows that all probes are compared with at once.
BLOCK = 8_192

_NUM_PROBES = 1_000
# Length of what is added to a probe, beside its own of 1: their cosine is
# about 0.9.
_PROBE_NOISE = 0.5


def probes(
    rows: vector_rows.VectorRows, slots: np.ndarray, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Noised rows, `[1000, dim]`, and their exact nearest slots, `[1000, 60]`.

    Noise keeps a row from being its own first result.
    """
    rng = np.random.default_rng([seed, 1, len(slots)])
    picked = rng.choice(slots, min(_NUM_PROBES, len(slots)), replace=False)
    noise = rng.normal(size=(len(picked), rows.dim)) * (
        _PROBE_NOISE / rows.dim**0.5
    )
    queries = (rows.vectors(np.sort(picked)) + noise).astype(np.float32)
    queries /= np.linalg.norm(queries, axis=1, keepdims=True)
    return queries, exact_nearest(rows, slots, queries, K)


def exact_nearest(
    rows: vector_rows.VectorRows,
    slots: np.ndarray,
    queries: np.ndarray,
    k: int,
) -> np.ndarray:
    """The k nearest slots of each query, `[q, k]`."""
    similar = np.empty((len(queries), 0), np.float32)
    nearest = np.empty((len(queries), 0), np.int64)
    for start in range(0, len(slots), BLOCK):
        some = slots[start : start + BLOCK]
        similar = np.hstack([similar, queries @ rows.vectors(some).T])
        nearest = np.hstack(
            [nearest, np.broadcast_to(some, (len(queries), len(some)))]
        )
        if similar.shape[1] > k:
            similar, nearest = best(similar, nearest, k)
    return nearest


def best(
    similarities: np.ndarray, slots: np.ndarray, k: int
) -> tuple[np.ndarray, np.ndarray]:
    """The k most similar of `[q, n]`, the best first, of equals the first."""
    if 0 < k < similarities.shape[1]:
        # In their order again, which the stable sort keeps among equals.
        kept = np.sort(np.argpartition(-similarities, k - 1, axis=1)[:, :k])
        similarities = np.take_along_axis(similarities, kept, axis=1)
        slots = np.take_along_axis(slots, kept, axis=1)
    order = np.argsort(-similarities, axis=1, kind="stable")
    return (
        np.take_along_axis(similarities, order, axis=1),
        np.take_along_axis(slots, order, axis=1),
    )


def share_found(found: np.ndarray, exact: np.ndarray) -> float:
    """Share of the exact slots, `[q, k]`, that are among the found."""
    hits = sum(
        len(np.intersect1d(some, all_)) for some, all_ in zip(found, exact)
    )
    return hits / exact.size
