"""Tests of the changes beside the generations of a vector index."""

import concurrent.futures
import time

import numpy as np
import pytest

from sicot_tf.catalogue import product_index
from sicot_tf.catalogue import vector_updates


def product(product_id: str, title: str = "A") -> product_index.Product:
    return product_index.Product(
        product_id=product_id,
        sku_id="sku",
        title=title,
        images=["1.jpg", "2.jpg"],
        tags=["red"],
        category="bag",
        attributes={"price": 2.5},
        updated_at=7.0,
    )


def test_keeps_changes_in_their_order(tmp_path):
    vectors = np.eye(4, dtype=np.float32)[:2]
    with vector_updates.VectorUpdates(tmp_path) as updates:
        assert updates.last_sequence == 0
        assert list(updates.since(0)) == []
        first = updates.put(product("a"), vectors, [b"x", b"y"], "sha")
        second = updates.delete("b")
        third = updates.put(product("a", "新"), vectors[:1], [b"z"], "sha")
        assert first < second < third == updates.last_sequence
    # Another process finds them.
    with vector_updates.VectorUpdates(tmp_path) as updates:
        found = list(updates.since(first - 1))
        assert [u.sequence for u in found] == [first, second, third]
        assert [u.product_id for u in found] == ["a", "b", "a"]
        assert found[0].product == product("a")
        np.testing.assert_array_equal(found[0].vectors, vectors)
        assert found[0].saved_model_sha256 == "sha"
        assert found[1].product is None
        assert len(found[1].vectors) == 0
        assert updates.find("a").product.title == "新"
        assert updates.find("b").sequence == second
        assert updates.find("c") is None
        assert updates.pictures(first) == [b"x", b"y"]
        assert [u.sequence for u in updates.since(second)] == [third]


def test_numbers_are_never_used_twice(tmp_path):
    with vector_updates.VectorUpdates(tmp_path) as updates:
        updates.put(product("a"), np.eye(4)[:1], [b"x"], "sha")
        last = updates.delete("a")
        assert updates.forget(last) == 2
        assert list(updates.since(0)) == []
        assert updates.pictures(1) == []
        assert updates.last_sequence == last
        assert updates.delete("a") == last + 1


def test_reads_more_than_a_page(tmp_path):
    with vector_updates.VectorUpdates(tmp_path) as updates:
        updates._connection.execute("PRAGMA synchronous = OFF")
        for number in range(1_001):  # Pages have 500.
            updates.delete(str(number))
        found = [update.product_id for update in updates.since(0)]
    assert found == [str(number) for number in range(1_001)]


@pytest.mark.parametrize(
    ("vectors", "pictures"),
    [
        (np.full((1, 4), np.nan), [b"x"]),
        (np.ones((1, 4)), [b"x"]),
        (np.eye(4)[:2], [b"x"]),
        (np.eye(4)[0], [b"x"]),
    ],
)
def test_refuses_what_is_no_unit_vector(tmp_path, vectors, pictures):
    with vector_updates.VectorUpdates(tmp_path) as updates:
        with pytest.raises(ValueError, match="Expected"):
            updates.put(product("a"), vectors, pictures, "sha")
        assert updates.last_sequence == 0


def test_a_change_is_on_the_disk_when_it_returns(tmp_path):
    with vector_updates.VectorUpdates(tmp_path) as updates:
        pragma = updates._connection.execute
        assert pragma("PRAGMA journal_mode").fetchone() == ("wal",)
        assert pragma("PRAGMA synchronous").fetchone() == (2,)  # FULL


def test_says_what_it_can_not_read(tmp_path):
    with pytest.raises(ValueError, match="user may write to"):
        vector_updates.VectorUpdates(tmp_path / "absent")
    (tmp_path / "updates.sqlite").write_bytes(b"no database" * 100)
    with pytest.raises(ValueError, match="Move it away"):
        vector_updates.VectorUpdates(tmp_path)


def test_says_when(tmp_path):
    """The catalogue's record counts if it is as new."""
    before = time.time()
    with vector_updates.VectorUpdates(tmp_path) as updates:
        updates.delete("a")
        [update] = updates.since(0)
    assert before <= update.changed_at <= time.time()


def test_many_writers_open_a_new_file_at_once(tmp_path):
    def write(number: int) -> list[int]:
        with vector_updates.VectorUpdates(tmp_path) as updates:
            return [updates.delete(f"{number}") for _ in range(5)]

    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        found = [n for numbers in pool.map(write, range(8)) for n in numbers]
    assert sorted(found) == list(range(1, 41))
