import numpy as np
import pytest

from sicot_tf.catalogue import milvus_search
from sicot_tf.catalogue.vectors import VectorRow


def test_num_lists():
    """Broken: lists of a few vectors, or of far too many."""
    assert milvus_search.num_lists(1_000_000) == 2000
    # 390 / 39.
    assert milvus_search.num_lists(390) == 10
    assert milvus_search.num_lists(3) == 1
    assert milvus_search.num_lists(10**12) == 65_536


def test_as_the_index_in_this_process(tmp_path):
    """Runs where the extra `milvus` is installed, on Milvus Lite: finds what
    NumPy finds, replaces, deletes, filters."""
    pytest.importorskip("pymilvus")
    pytest.importorskip("milvus_lite")
    vectors = np.random.default_rng(0).normal(size=(60, 8)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    rows = [
        VectorRow(f"p{n // 2}", n % 2, "a'\"b" if n % 4 < 2 else None)
        for n in range(60)
    ]
    search = milvus_search.MilvusSearch(
        str(tmp_path / "lite.db"), 8, index_type="FLAT"
    )
    search.add(rows, vectors)
    search.add(rows[:2], vectors[:2])
    assert search.num_vectors == 60
    queries = np.concatenate([vectors[:1], np.zeros((1, 8), np.float32)])
    found, nothing = search.search(queries, 5)
    best = np.argsort(-(vectors @ vectors[0]))[:5]
    assert [(hit.product_id, hit.picture) for hit in found] == [
        (rows[n].product_id, rows[n].picture) for n in best
    ]
    assert nothing == []
    [only] = search.search(queries[:1], 60, category="a'\"b")
    assert {int(hit.product_id[1:]) % 2 for hit in only} == {0}
    assert search.delete(["p0", "none"]) == 2
    assert search.num_vectors == 58
