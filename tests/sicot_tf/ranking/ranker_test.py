"""Tests of the order of search results."""

import concurrent.futures

import lightgbm
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from sicot_tf import files
from sicot_tf.data import generations
from sicot_tf.ranking import product_features
from sicot_tf.ranking import ranker

_SALES = product_features.NAMES.index("sales")


def _booster():
    """Learns 2 x similarity + sales, of products without features half."""
    rng = np.random.default_rng(0)
    rows = rng.random((4000, len(ranker.NAMES)), np.float32)
    rows[:, 1] = 0
    rows[:400, 2:] = np.nan
    sales = np.nan_to_num(rows[:, 2 + _SALES], nan=0.5)
    data = lightgbm.Dataset(
        rows, 2 * rows[:, 0] + sales, feature_name=list(ranker.NAMES)
    )
    settings = {"objective": "regression", "verbosity": -1, "num_threads": 1}
    return lightgbm.train(settings, data, 60)


def _write(folder, floor=0.5):
    """A generation with products p/0 (sells nothing) to p/9 (0.9)."""
    generation = folder / "2026-01-01-a"
    generation.mkdir()
    _booster().save_model(generation / ranker.MODEL)
    table = {"product_id": [f"p/{each}" for each in range(10)]}
    for name in product_features.NAMES:
        table[name] = np.full(10, 0.5, np.float32)
    table["sales"] = np.arange(10, dtype=np.float32) / 10
    pq.write_table(pa.table(table), generation / product_features.FEATURES)
    files.write_json(
        generation / generations.MANIFEST,
        {
            "format_version": ranker.FORMAT_VERSION,
            "similarity_floor": floor,
            "files": generations.describe_files(generation),
        },
    )
    generations.point_latest(generation)
    return generation


@pytest.fixture(name="opened", scope="module")
def _opened(tmp_path_factory):
    folder = tmp_path_factory.mktemp("ranker")
    _write(folder)
    return ranker.Ranker.open(folder)


def test_quality_decides_among_equals(opened):
    """If it fails, the order is that of similarity alone."""
    scores = opened.scores(np.full(3, 0.8), ["p/1", "p/9", "p/5"])
    assert list(np.argsort(-scores)) == [1, 2, 0]
    assert opened.generation == "2026-01-01-a"


def test_unknown_products_are_judged_by_similarity(opened):
    """If it fails, a product of today is taken for one that never sells: NaN
    would be 0, which is what p/0 has."""
    scores = opened.scores(np.full(3, 0.8), ["p/0", "new", "p/9"])
    assert scores[0] < scores[1] < scores[2]


def test_nothing_below_the_floor_passes_what_is_above(opened):
    """If it fails, a bestseller is shown for another thing."""
    # 0.8 - 0.5 = 0.3: p/9 and p/8 are below, and have the best quality.
    similarities = np.array([0.2, 0.8, 0.29, 0.4])
    scores = opened.scores(similarities, ["p/9", "p/0", "p/8", "p/1"])
    assert list(np.argsort(-scores)) in ([1, 3, 2, 0], [3, 1, 2, 0])


def test_any_candidates_keep_the_floor():
    """If it fails, some candidates below the floor can rise."""
    rng = np.random.default_rng(1)
    for _ in range(200):
        number = int(rng.integers(1, 40))
        # Rounded, so that many are equal.
        similarities = rng.uniform(-1, 1, number).round(1)
        scores = rng.standard_normal(number).round(1)
        kept = ranker.keep_floor(scores, similarities, 0.4)
        is_below = similarities.astype(np.float32) < np.float32(
            similarities.max()
        ) - np.float32(0.4)
        if is_below.any():
            assert kept[is_below].max() < kept[~is_below].min()
        np.testing.assert_array_equal(kept[~is_below], scores[~is_below])
        order = np.argsort(-kept[is_below], kind="stable")
        by_similarity = np.argsort(-similarities[is_below], kind="stable")
        np.testing.assert_array_equal(order, by_similarity)


def test_threads_get_the_same_answers(opened):
    """If it fails, requests at the same time mix their scores."""
    rng = np.random.default_rng(2)
    similarities = rng.random((8, 200))
    products = [f"p/{each % 12}" for each in range(200)]
    wanted = [opened.scores(each, products) for each in similarities]
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        found = pool.map(
            lambda place: opened.scores(similarities[place], products),
            [*range(8)] * 4,
        )
        for scores, expected in zip(found, wanted * 4, strict=True):
            np.testing.assert_array_equal(scores, expected)


def test_no_candidates(opened):
    """If it fails, a search that finds nothing ends in an error."""
    assert opened.scores(np.empty(0), []).shape == (0,)


def test_wrong_candidates_are_refused(opened):
    """If it fails, scores belong to other products than they seem to."""
    with pytest.raises(ValueError, match="one similarity for each of 2"):
        opened.scores(np.ones(3), ["p/1", "p/2"])
    with pytest.raises(ValueError, match="finite"):
        opened.scores(np.array([np.nan]), ["p/1"])


def test_what_is_no_ranker_is_told(tmp_path):
    """If it fails, a cut or foreign folder goes live."""
    with pytest.raises(ValueError, match="manifest.json"):
        ranker.Ranker.open(tmp_path)
    generation = _write(tmp_path)
    model = generation / ranker.MODEL
    content = model.read_bytes()
    model.write_bytes(content[:-100])
    with pytest.raises(ValueError, match="missing or cut"):
        ranker.Ranker.open(tmp_path)
    model.write_bytes(content.replace(b"similarity_gap", b"similarity_gab"))
    with pytest.raises(ValueError, match="asks for"):
        ranker.Ranker.open(tmp_path)
    manifest = files.read_json(generation / generations.MANIFEST)
    files.write_json(
        generation / generations.MANIFEST, {**manifest, "format_version": 9}
    )
    with pytest.raises(ValueError, match="found version 9"):
        ranker.Ranker.open(tmp_path)
