"""Tests of a generation of the vector index and of its live changes."""

import pathlib
import threading

import numpy as np
import pytest

from sicot_tf import files
from sicot_tf.catalogue import faiss_search
from sicot_tf.catalogue import folded_products
from sicot_tf.catalogue import recall_probes
from sicot_tf.catalogue import slot_index
from sicot_tf.catalogue import vector_index
from sicot_tf.catalogue import vector_updates
from sicot_tf.catalogue import vectors as contract
from sicot_tf.data import generations
from tests.sicot_tf.catalogue import vector_updates_test

_DIM = 16


def _unit(num: int, seed: int = 0) -> np.ndarray:
    vectors = np.random.default_rng(seed).normal(size=(num, _DIM))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors.astype(np.float32)


def _rows(num: int) -> list[contract.VectorRow]:
    """One picture a product, half of them bags."""
    return [
        contract.VectorRow(f"p{n}", 0, "bag" if n % 2 else "shoe")
        for n in range(num)
    ]


def _publish(root: pathlib.Path, name: str, written: dict, folded: int):
    generation = root / name
    files.write_json(
        generation / "manifest.json",
        written
        | {
            "format_version": vector_index.FORMAT_VERSION,
            "signature": "search",
            "saved_model_sha256": "sha",
            "folded_updates": folded,
            "files": generations.describe_files(generation),
        },
    )
    generations.point_latest(generation)
    return generation


def _built(root: pathlib.Path, num: int = 100) -> pathlib.Path:
    (root / "g1").mkdir(parents=True)
    written = vector_index.build(root / "g1", _rows(num), _unit(num))
    assert written["num_vectors"] == written["num_products"] == num
    assert written["categories"] == ["bag", "shoe"]
    return _publish(root, "g1", written, 0)


def _nearest(index, vector, k: int = 1, **kwargs) -> list[str]:
    [hits] = index.search(vector[None], k, **kwargs)
    return [hit.product_id for hit in hits]


def test_searches_the_latest_generation(tmp_path):
    _built(tmp_path)
    with vector_index.VectorIndex(tmp_path) as index:
        assert (index.generation, index.dim, index.num_vectors) == (
            *("g1", _DIM),
            100,
        )
        assert (index.signature, index.saved_model_sha256) == ("search", "sha")
        for number in (0, 57, 99):
            assert _nearest(index, _unit(100)[number]) == [f"p{number}"]
        expected = np.argsort(-(_unit(100) @ _unit(100)[3]))
        assert (
            _nearest(index, _unit(100)[3], 10, category="bag")
            == [f"p{n}" for n in expected if n % 2][:10]
        )
        # Nobody has made a file of updates, and a reader makes none.
        assert index.apply_updates() == 0
        assert not (tmp_path / "updates.sqlite").exists()
        assert index.product("p1") == (False, None)


def test_takes_the_live_changes(tmp_path):
    _built(tmp_path)
    product = vector_updates_test.product
    new, other = _unit(2, seed=5)
    with (
        vector_index.VectorIndex(tmp_path) as index,
        vector_updates.VectorUpdates(tmp_path) as updates,
    ):
        updates.put(product("new"), np.stack([new, other]), [b"", b""], "sha")
        updates.delete("p3")
        updates.put(product("p4", "B"), other[None], [b""], "sha")
        assert index.product("new") == (False, None)
        assert index.apply_updates() == 3
        assert index.apply_updates() == 0
        assert index.product("new") == (True, product("new"))
        assert index.product("p3") == (True, None)
        assert index.num_vectors == 101  # 100 + 2 - 1
        assert _nearest(index, new) == ["new"]
        assert sorted(_nearest(index, other, 2)) == ["new", "p4"]
        # p4 was a shoe and is a bag now.
        assert "p4" not in _nearest(index, other, 99, category="shoe")
        assert "p4" in _nearest(index, other, 2, category="bag")
        assert "p3" not in _nearest(index, _unit(100)[3], 101)
        # A product with fewer pictures than before.
        updates.put(product("new", "C"), other[None], [b""], "sha")
        updates.delete("p4")
        updates.put(product("p4"), new[None], [b""], "sha")
        assert index.apply_updates() == 3
        assert index.num_vectors == 100
        assert _nearest(index, new) == ["p4"]
        assert index.product("p4") == (True, product("p4"))


def test_vectors_of_another_model_wait_for_the_next_build(tmp_path, caplog):
    _built(tmp_path)
    product = vector_updates_test.product
    with (
        vector_index.VectorIndex(tmp_path) as index,
        vector_updates.VectorUpdates(tmp_path) as updates,
    ):
        updates.put(product("p1"), np.eye(4)[:1], [b""], "other")
        assert index.apply_updates() == 1
        assert index.num_of_other_models == 1
        assert "another model" in caplog.text
        assert index.product("p1") == (True, product("p1"))
        assert _nearest(index, _unit(100)[1]) == ["p1"]


def test_a_delta_folds_updates_and_keeps_slots(tmp_path):
    base = _built(tmp_path)
    product = vector_updates_test.product
    new = _unit(1, seed=5)
    with vector_updates.VectorUpdates(tmp_path) as updates:
        updates.delete("p3")
        folded = updates.put(product("p4"), new, [b""], "sha")
        (tmp_path / "g2").mkdir()
        written = vector_index.build_from(
            tmp_path / "g2",
            base,
            removed=["p3", "p4"],
            rows=[contract.VectorRow("p4", 0, "bag")],
            vectors=new,
        )
        assert written["trained"] == {}
        assert written["num_vectors"] == written["num_products"] == 99
        _publish(tmp_path, "g2", written, folded)
        updates.delete("p5")
    with vector_index.VectorIndex(tmp_path) as index:
        assert index.generation == "g2"
        assert index.apply_updates() == 1  # Only the later one.
        assert index.product("p4") == (False, None)
        assert index.product("p5") == (True, None)
        everything = _nearest(index, new[0], 1_000)
        assert len(everything) == len(set(everything)) == 98
        assert everything[0] == "p4"
    before = faiss_search.FaissSearch.open(base).rows
    after = faiss_search.FaissSearch.open(tmp_path / "g2").rows
    for number in set(range(100)) - {3, 4}:
        assert after.slots(f"p{number}") == before.slots(f"p{number}")
    assert after.slots("p3") == {}
    assert after.slots("p4") == {0: 100}


def test_a_delta_trains_again_when_it_must(tmp_path, monkeypatch):
    def delta(base, name, removed=(), rows=(), vectors=_unit(0)):
        folder = tmp_path / name
        folder.mkdir()
        written = vector_index.build_from(
            folder, base, removed=removed, rows=rows, vectors=vectors
        )
        assert (
            faiss_search.FaissSearch.open(folder).num_vectors
            == (written["num_vectors"])
        )
        return folder, written

    monkeypatch.setattr(recall_probes, "_NUM_PROBES", 200)
    base = tmp_path / "base"
    base.mkdir()
    rows, vectors = _rows(1_800), _unit(1_800)
    faiss_search.FaissSearch.built(
        rows[:600], vectors[:600], flat_below=450
    ).write(base)
    same, written = delta(base, "same")
    assert written["trained"] == {}
    assert (same / "all.faiss").read_bytes() == (
        base / "all.faiss"
    ).read_bytes()
    # 1,200 rows are twice what the index over all was trained on;
    # of 600 rows are no longer small.
    _, written = delta(base, "grown", (), rows[600:1_200], vectors[600:1_200])
    assert written["trained"] == {
        "all": "600 rows became 1,200",
        "category bag": "600 rows are too many to scan",
        "category shoe": "600 rows are too many to scan",
    }
    assert written["parameters"]["all"]["trained_on"] == 1_200
    # 360 of 600 slots are empty.
    _, written = delta(base, "shrunk", [f"p{n}" for n in range(360)])
    assert written["num_vectors"] == 240
    assert written["trained"]["all"] == "more slots were empty than used"
    # All that is new lies on one place, for which there are few lists.
    monkeypatch.setattr(slot_index, "_NPROBE", (1,))
    narrow = vectors[600:1_150] * 0.01 + _unit(1, seed=3)
    narrow /= np.linalg.norm(narrow, axis=1, keepdims=True)
    settings = files.read_json(base / "search.json")
    for index in settings["indexes"]:
        if index["parameters"]["nlist"]:
            index["parameters"]["nprobe"] = 1
    files.write_json(base / "search.json", settings)
    _, written = delta(base, "lost", (), rows[600:1_150], narrow)
    assert written["trained"]["all"].startswith("recall@60 fell from ")


def test_searches_go_on_while_changes_come(tmp_path):
    """A product that is there in every state is found in every search."""
    _built(tmp_path, 400)
    new = _unit(300, seed=5)
    index = vector_index.VectorIndex(tmp_path)
    updates = vector_updates.VectorUpdates(tmp_path)
    updates._connection.execute("PRAGMA synchronous = OFF")
    done, wrong, searches = threading.Event(), [], [0, 0]

    def search(worker: int) -> None:
        rng = np.random.default_rng(worker)
        while not done.is_set():
            number = int(rng.integers(0, 400, endpoint=False))
            hits = _nearest(index, _unit(400)[number], 5)
            if number < 200 and hits[0] != f"p{number}":
                wrong.append(("missing", number, hits))
            if len(hits) != len(set(hits)):
                wrong.append(("twice", number, hits))
            searches[worker] += 1

    threads = [threading.Thread(target=search, args=(n,)) for n in range(2)]
    for thread in threads:
        thread.start()
    for number in range(300):
        product = vector_updates_test.product(f"p{200 + number}")
        updates.put(product, new[number, None], [b""], "sha")
        if number >= 10:
            updates.delete(f"p{200 + number - 10}")
        if number % 10 == 0:
            index.apply_updates()
    index.apply_updates()
    done.set()
    for thread in threads:
        thread.join()
    assert wrong == []
    assert min(searches) > 0
    assert index.num_vectors == 210  # p0 to p199, and the last ten.
    for number in range(290, 300):
        assert _nearest(index, new[number]) == [f"p{200 + number}"]


def test_says_what_it_can_not_open(tmp_path):
    with pytest.raises(ValueError, match="Build it first"):
        vector_index.VectorIndex(tmp_path)
    generation = _built(tmp_path)
    manifest = files.read_json(generation / "manifest.json")
    with (generation / "rows.npy").open("ab") as file:
        file.truncate(1_000)
    with pytest.raises(ValueError, match="missing or cut"):
        vector_index.VectorIndex(tmp_path)
    files.write_json(
        generation / "manifest.json", manifest | {"format_version": 99}
    )
    with pytest.raises(ValueError, match="found version 99"):
        vector_index.VectorIndex(tmp_path)


def test_products_that_the_product_index_lacks(tmp_path):
    """A build has folded a change in: the product stays known, and a later
    change counts more."""
    generation = _built(tmp_path, 4)
    live = vector_updates_test.product("p1")
    folded_products.write(generation, {"p1": live, "gone": None})
    with vector_index.VectorIndex(tmp_path) as index:
        assert index.product("p1") == (True, live)
        assert index.product("gone") == (True, None)
        assert index.product("p2") == (False, None)
        with vector_updates.VectorUpdates(tmp_path) as updates:
            updates.delete("p1")
        assert index.apply_updates() == 1
        assert index.product("p1") == (True, None)
