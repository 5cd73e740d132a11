"""Tests of similarities of queries and shown products."""

import sqlite3

import numpy as np
import pytest
import tensorflow as tf

from sicot_tf import files
from sicot_tf.catalogue import product_index
from sicot_tf.data import clicks
from sicot_tf.data import generations
from sicot_tf.ranking import page_similarities


class _Model(tf.Module):
    """Embeds a picture by its first byte: `a` as (2, 0), all else (0, 2)."""

    @tf.function(
        input_signature=[tf.TensorSpec([None], tf.string, "image_bytes")]
    )
    def embed(self, image_bytes):
        first = tf.strings.substr(image_bytes, 0, 1)
        tf.debugging.assert_none_equal(first, b"x")
        is_a = tf.cast(first == b"a", tf.float32)
        return {"embedding": 2 * tf.stack([is_a, 1 - is_a], 1)}


def _vectors(folder, sha256):
    generation = folder / "2026-01-01-v"
    generation.mkdir(parents=True)
    # p/1 has two pictures.
    rows = np.float32([[0.6, 0.8], [1, 0], [0, 1]])
    np.save(generation / "rows.npy", rows)
    with sqlite3.connect(generation / "vectors.sqlite") as store:
        store.execute("CREATE TABLE vectors (slot, product_id, picture)")
        store.executemany(
            "INSERT INTO vectors VALUES (?, ?, ?)",
            [(0, "p/1", 0), (1, "p/1", 1), (2, "p/2", 0)],
        )
    store.close()
    files.write_json(
        generation / generations.MANIFEST,
        {"saved_model_sha256": sha256, "signature": "embedding"},
    )
    generations.point_latest(generation)


def _page(image, *shown):
    return clicks.Page("q", None, 0.0, str(image), shown, (), None, None)


def test_looked_up_by_the_model(tmp_path):
    """If it fails, a ranker is trained on other similarities than the
    search will have."""
    model = _Model()
    saved = tmp_path / "model" / "1"
    tf.saved_model.save(model, str(saved), {"embedding": model.embed})
    sha256 = product_index.embedding_model_sha256(saved)
    _vectors(tmp_path / "vectors", sha256)
    for name, content in (("a", b"a"), ("b", b"b"), ("bad", b"x")):
        (tmp_path / name).write_bytes(content)
    search = page_similarities.Similarities(tmp_path / "vectors", saved)
    found = search.of_pages(
        [
            _page(tmp_path / "a", "p/2", "p/1", "unknown"),
            _page(tmp_path / "bad", "p/1"),
            _page(tmp_path / "b", "p/1", "p/2"),
            _page(tmp_path / "gone", "p/1"),
        ]
    )
    # The nearest picture of p/1: (1, 0) of a, (0.6, 0.8) of b.
    wanted = [[0, 1, np.nan], [np.nan], [0.8, 1], [np.nan]]
    for each, values in zip(found, wanted, strict=True):
        np.testing.assert_allclose(each, values, atol=1e-6)
    assert search.unreadable == {"missing_image": 1, "decode_error": 1}
    _vectors(tmp_path / "others", "0" * 64)
    with pytest.raises(ValueError, match="made by another model"):
        page_similarities.Similarities(tmp_path / "others", saved)


def test_of_the_log():
    """If it fails, a log with similarities on some pages is half used."""
    page = clicks.Page("q", None, 0.0, "", ("a",), (), None, (0.5,))
    (found,) = page_similarities.of_log([page])
    np.testing.assert_array_equal(found, np.float32([0.5]))
    assert page_similarities.of_log([page, _page("a", "p/1")]) is None
