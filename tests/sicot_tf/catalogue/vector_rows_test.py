"""Tests of the rows behind the indexes."""

import sqlite3

import numpy as np
import pytest

from sicot_tf.catalogue import vector_rows
from sicot_tf.catalogue import vectors as contract


def _unit(num: int, seed: int = 0) -> np.ndarray:
    vectors = np.random.default_rng(seed).normal(size=(num, 4))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors.astype(np.float32)


def _written(folder) -> vector_rows.VectorRows:
    rows = vector_rows.VectorRows(_unit(3))
    rows.name(
        [
            contract.VectorRow("新/1", 0, "bag"),
            contract.VectorRow("新/1", 1, "bag"),
            contract.VectorRow("2", 0, None),
        ]
    )
    rows.write(folder)
    return vector_rows.VectorRows.open(folder)


def test_reads_what_it_wrote(tmp_path):
    rows = _written(tmp_path)
    assert (rows.dim, rows.num_slots, rows.num_products()) == (4, 3, 2)
    assert rows.slots("新/1") == {0: 0, 1: 1}
    assert rows.row(1) == contract.VectorRow("新/1", 1, "bag")
    assert rows.row(2) == contract.VectorRow("2", 0, None)
    assert rows.live_slots("bag").tolist() == [0, 1]
    assert rows.live_slots(None).tolist() == [0, 1, 2]
    assert rows.live_slots("hat").tolist() == []
    np.testing.assert_array_equal(
        rows.vectors(np.array([2, 0])), _unit(3)[::-2]
    )


def test_rows_come_and_go(tmp_path):
    rows = _written(tmp_path)
    new = _unit(2_000, seed=1)
    rows.drop(contract.VectorRow("新/1", 0, "bag"))
    # More than there is room for at first, in two steps.
    for part in (slice(0, 3), slice(3, 2_000)):
        added = [
            contract.VectorRow(f"n{n}", 0, "hat") for n in range(2_000)[part]
        ]
        slots = rows.append(added, new[part])
        np.testing.assert_array_equal(rows.vectors(slots), new[part])
    assert slots[[0, -1]].tolist() == [6, 2_002]
    assert rows.slots("新/1") == {1: 1}
    assert rows.live_slots("bag").tolist() == [1]
    rows.drop(contract.VectorRow("n0", 0, "hat"))
    # Rows of the file, beside it, and no row.
    slots = np.array([[2, -1, 5], [2_002, 0, -1]])
    queries = _unit(2, seed=2)
    expected = np.einsum(
        "qd,qnd->qn", queries, rows.vectors(abs(slots.ravel())).reshape(2, 3, 4)
    )
    expected[slots < 0] = -np.inf
    np.testing.assert_allclose(
        rows.similarities(queries, slots), expected, rtol=1e-5, atol=1e-6
    )
    (tmp_path / "next").mkdir()
    rows.write(tmp_path / "next")
    again = vector_rows.VectorRows.open(tmp_path / "next")
    assert again.num_slots == 2_003
    # Slot 0 and that of n0 stay empty.
    assert np.setdiff1d(np.arange(2_003), again.live_slots(None)).tolist() == [
        0,
        3,
    ]
    np.testing.assert_array_equal(again.vectors(np.array([5])), new[2, None])
    assert again.row(2_002) == contract.VectorRow("n1999", 0, "hat")
    with sqlite3.connect(tmp_path / "next" / "vectors.sqlite") as store:
        found = store.execute("SELECT * FROM vectors LIMIT 3").fetchall()
    assert found == [
        (1, "新/1", 1, "bag"),
        (2, "2", 0, None),
        (4, "n1", 0, "hat"),
    ]


def test_unit_vectors():
    vectors = np.array(
        [[0.6, 0.8], [1, 1], [0, 0], [np.nan, 1], [np.inf, 0]], np.float32
    )
    assert vector_rows.are_unit(vectors).tolist() == [True] + 4 * [False]
    # As they are after float16.
    half = _unit(1_000).astype(np.float16).astype(np.float32)
    vector_rows.check_vectors(half, 1_000, 4)
    with pytest.raises(ValueError, match="float64 of shape"):
        vector_rows.check_vectors(np.eye(4), 4, 4)
