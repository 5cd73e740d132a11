"""Tests of the probes that an index is tuned by."""

import numpy as np

from sicot_tf.catalogue import recall_probes
from sicot_tf.catalogue import vector_rows
from sicot_tf.catalogue import vectors as contract


def _rows(num: int) -> vector_rows.VectorRows:
    vectors = np.random.default_rng(0).normal(size=(num, 8))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    rows = vector_rows.VectorRows(vectors.astype(np.float32))
    rows.name([contract.VectorRow(str(n), 0, None) for n in range(num)])
    return rows


def test_probes_are_noised_rows_with_their_exact_nearest():
    # More than a block of 8,192.
    rows, slots = _rows(9_000), np.arange(1_000, 9_000)
    queries, exact = recall_probes.probes(rows, slots, seed=3)
    assert queries.shape == (1_000, 8)
    assert exact.shape == (1_000, 60)
    assert vector_rows.are_unit(queries).all()
    similarities = queries @ rows.vectors(slots).T
    # No query is a row, and all are near one.
    assert similarities.max() < 0.9999999
    assert similarities.max(axis=1).mean() > 0.85
    expected = slots[np.argsort(-similarities, axis=1)[:, :60]]
    assert recall_probes.share_found(exact, expected) > 0.9999


def test_best_keeps_the_order_of_equals():
    similarities = np.array([[0.5, 0.9, 0.5, -np.inf, 0.9]], np.float32)
    slots = np.array([[4, 3, 2, -1, 1]])
    found, near = recall_probes.best(similarities, slots, 4)
    assert near.tolist() == [[3, 1, 4, 2]]
    np.testing.assert_array_equal(found, np.float32([[0.9, 0.9, 0.5, 0.5]]))
    _, near = recall_probes.best(similarities, slots, 9)
    assert near.tolist() == [[3, 1, 4, 2, -1]]


def test_share_found():
    # 2 of 3, and 0 of 3: an empty place (-1) is no slot.
    found = np.array([[1, 2, 9], [-1, -1, -1]])
    exact = np.array([[1, 2, 3], [4, 5, 6]])
    assert recall_probes.share_found(found, exact) == 2 / 6
