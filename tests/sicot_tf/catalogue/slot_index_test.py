"""Tests of one index over slots."""

import faiss
import numpy as np
import pytest

from sicot_tf.catalogue import slot_index
from sicot_tf.catalogue import vector_rows
from sicot_tf.catalogue import vectors as contract

_NUM, _DIM = 1_000, 32


@pytest.fixture(name="rows", scope="module")
def _rows() -> vector_rows.VectorRows:
    vectors = np.random.default_rng(0).normal(size=(_NUM, _DIM))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    rows = vector_rows.VectorRows(vectors.astype(np.float32))
    rows.name([contract.VectorRow(str(n), 0, None) for n in range(_NUM)])
    return rows


def _build(rows, flat_below: int) -> slot_index.SlotIndex:
    rotation = faiss.RandomRotationMatrix(_DIM, _DIM)
    rotation.init(1)
    return slot_index.SlotIndex.built(
        rows,
        np.arange(_NUM),
        rotation,
        recall=0.99,
        seed=0,
        flat_below=flat_below,
    )


def test_one_query_or_many_compare_the_same(rows):
    index = _build(rows, 2_000)
    assert not index.nlist
    # 40 are more than are compared at once.
    queries = rows.vectors(np.arange(40))
    similarities, slots = index.search(rows, queries, 7)
    exact = queries @ rows.vectors(np.arange(_NUM)).T
    np.testing.assert_array_equal(slots, np.argsort(-exact, axis=1)[:, :7])
    np.testing.assert_allclose(
        similarities, -np.sort(-exact, axis=1)[:, :7], atol=1e-6
    )
    for number in range(3):
        _, alone = index.search(rows, queries[number, None], 7)
        np.testing.assert_array_equal(alone[0], slots[number])


@pytest.mark.parametrize("flat_below", [2_000, 500])
def test_a_change_leaves_the_former_as_it_was(rows, flat_below):
    index = _build(rows, flat_below)
    assert bool(index.nlist) == (flat_below == 500)
    gone, back = np.arange(0, 100), np.arange(50, 100)
    fewer = index.changed(rows, removed=gone, added=np.empty(0, np.int64))
    # Slots that are removed and added in one change are there once.
    again = fewer.changed(rows, removed=back, added=back)
    sizes = [i.num_vectors for i in (index, fewer, again)]
    assert sizes == [1_000, 900, 950]
    queries = rows.vectors(np.arange(100))
    for changed, first in ((index, 0), (fewer, 100), (again, 50)):
        _, slots = changed.search(rows, queries, 1)
        there = slots[:, 0] == np.arange(100)
        np.testing.assert_array_equal(there, np.arange(100) >= first)


def test_similarities_are_exact_though_codes_are_rough(rows):
    index = _build(rows, 500)
    queries = rows.vectors(np.arange(20))
    similarities, slots = index.search(rows, queries, 5)
    exact = np.einsum(
        "qd,qkd->qk", queries, rows.vectors(slots.ravel()).reshape(20, 5, _DIM)
    )
    np.testing.assert_allclose(similarities, exact, atol=1e-6)
    # 1 bit a dimension alone takes others for the nearest.
    parameters = faiss.IVFRaBitQSearchParameters(nprobe=index.nlist, qb=4)
    rough, _ = index.index.search(
        index.rotation.apply(queries), 5, params=parameters
    )
    assert np.abs(rough - exact).max() > 0.01


def test_query_bits_are_set():
    """0 means float queries to FAISS: 100 times slower."""
    assert 1 <= slot_index._QUERY_BITS <= 8


def test_says_what_recall_it_can_not_reach(rows, caplog, monkeypatch):
    monkeypatch.setattr(slot_index, "_CANDIDATES", (60,))
    index = _build(rows, 500)
    assert index.recall_at_60 < 0.99
    assert "0.9900 was wanted" in caplog.text
    # It takes the best that it has seen.
    measured = index.measured_recall(rows, np.arange(_NUM), 0)
    assert index.recall_at_60 == pytest.approx(measured, abs=1e-3)
