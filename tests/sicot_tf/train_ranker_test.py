"""Tests of the training of a ranker, on a log whose truth is known."""

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from sicot_tf import files
from sicot_tf import train_ranker
from sicot_tf.data import generations
from sicot_tf.ranking import build
from sicot_tf.ranking import log_pages
from sicot_tf.ranking import metrics
from sicot_tf.ranking import product_features
from sicot_tf.ranking import ranker
from sicot_tf.ranking import training
from sicot_tf.ranking import training_examples

_NUM_PRODUCTS = 300
_NUM_SHOWN = 8
_LOOKED_AT = 1 / np.arange(1, _NUM_SHOWN + 1)


def _sales():
    return np.random.default_rng(1).lognormal(3, 1.5, _NUM_PRODUCTS)


def _likes(product, fit):
    """Half of the products that fit sell well, and are liked five times as
    much; nothing else matters."""
    return fit * np.where(_sales()[product] > np.exp(3), 1.0, 0.2)


def _write_log(path, num_pages=2500):
    rng = np.random.default_rng(0)
    with path.open("w") as file:
        for number in range(num_pages):
            product = rng.choice(_NUM_PRODUCTS, _NUM_SHOWN, replace=False)
            fit = rng.choice([0.05, 0.5, 0.9], _NUM_SHOWN)
            order = np.argsort(-fit - 0.3 * rng.standard_normal(_NUM_SHOWN))
            product, fit = product[order], fit[order]
            similar = fit + 0.1 * rng.standard_normal(_NUM_SHOWN)
            looked = rng.random(_NUM_SHOWN) < _LOOKED_AT
            clicked = looked & (rng.random(_NUM_SHOWN) < _likes(product, fit))
            shown = [f"p/{each}" for each in product]
            row = {
                "query_id": f"q/{number}",
                "visitor": None,
                "time": "2026-01-01T00:00:00Z",
                "image": f"{number}.jpg",
                "shown": shown,
                "split": ("train", "train", "train", "val", "test")[number % 5],
                "similarities": similar.round(4).tolist(),
                "fit": fit.tolist(),
            }
            for place in np.flatnonzero(clicked).tolist() or [None]:
                here = {"clicked": None, "position": None}
                if place is not None:
                    here = {"clicked": shown[place], "position": place + 1}
                file.write(json.dumps({**row, **here}) + "\n")


def _write_features(folder):
    generation = folder / "2026-01-01-f"
    generation.mkdir(parents=True)
    names = (*product_features.NAMES, *product_features.FOLD_NAMES)
    table = {name: np.full(_NUM_PRODUCTS, np.nan, np.float32) for name in names}
    table["sales"] = _sales().astype(np.float32)
    table["price"] = np.random.default_rng(2).random(_NUM_PRODUCTS)
    table["product_id"] = [f"p/{each}" for each in range(_NUM_PRODUCTS)]
    pq.write_table(pa.table(table), generation / product_features.FEATURES)
    files.write_json(
        generation / generations.MANIFEST, {"as_of": 1_767_225_600.0}
    )
    generations.point_latest(generation)


@pytest.fixture(name="place", scope="module")
def _place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("road")
    _write_log(folder / "log.jsonl")
    _write_features(folder / "features")
    return folder


def _train(place, output, *flags):
    train_ranker.main(
        [
            "--clicks",
            str(place / "log.jsonl"),
            "--features",
            str(place / "features"),
            "--output",
            str(place / output),
            "--date",
            "2026-01-02",
            "--num_trees",
            "60",
            *flags,
        ]
    )
    return generations.resolve_generation(place / output)


@pytest.fixture(name="trained", scope="module")
def _trained(place):
    return _train(place, "ranker")


def _truth(place, generation):
    """NDCG by what customers like, of test: by similarity, and ranked."""
    opened = ranker.Ranker.open(generation)
    fits = {}
    for line in (place / "log.jsonl").read_text().splitlines():
        row = json.loads(line)
        fits[row["query_id"]] = np.array(row["fit"])
    found = []
    for page in log_pages.read([str(place / "log.jsonl")]).of_split("test"):
        product = np.array([int(each[2:]) for each in page.shown])
        gains = _likes(product, fits[page.query_id])
        similar = np.array(page.similarities)
        whole = np.array([0, len(gains)])
        found.append(
            [
                metrics.truth_ndcg(scores, gains, whole)[0]
                for scores in (similar, opened.scores(similar, page.shown))
            ]
        )
    return np.mean(found, 0)


def test_learns_what_customers_like(place, trained):
    """If it fails, the order is no better than that of similarity: 0.90,
    and 0.97 is what a ranker reaches that knows sales."""
    by_similarity, ranked = _truth(place, trained)
    assert ranked > by_similarity + 0.03
    manifest = files.read_json(trained / generations.MANIFEST)
    importance = manifest["importance"]
    assert importance["sales"] > 5 * importance["price"]
    gain = manifest["metrics"]["test"]["ranker"]["gain"]
    assert gain["low"] > 0
    assert "NDCG" in (trained / "report.html").read_text()


def test_equal_input_gives_equal_bytes(place, trained):
    """If it fails, nobody can tell why a ranker is as it is."""
    again = _train(place, "again")
    assert again.name == trained.name
    for path in sorted(trained.iterdir()):
        if path.name != generations.RUN:
            assert path.read_bytes() == (again / path.name).read_bytes(), path
    before = (trained / ranker.MODEL).stat().st_mtime_ns
    assert _train(place, "ranker") == trained
    assert (trained / ranker.MODEL).stat().st_mtime_ns == before


def test_position_bias_is_estimated(trained):
    """If it fails, clicks at the end of a page count too little."""
    manifest = files.read_json(trained / generations.MANIFEST)
    assert manifest["examination_estimated"]
    found = np.array(manifest["examination"])
    np.testing.assert_allclose(found, _LOOKED_AT, rtol=0.35)


def test_more_similar_is_never_worse(trained):
    """If it fails, the constraint is lost: a better match may sink."""
    opened = ranker.Ranker.open(trained)
    opened.similarity_floor = np.inf
    for product in ("p/3", "p/4", "unknown"):
        similar = np.linspace(0, 1, 50)
        scores = opened.scores(similar, [product] * 50)
        assert (np.diff(scores) >= 0).all()


def test_floor_is_chosen_on_val(place):
    """If it fails, quality may show another thing for no gain: only the
    first 2 of 4 are ever clicked, so the floor leaves the others out."""
    shown = training_examples.Examples(
        rows=np.tile(
            np.float32([[0.9, 0], [0.8, -0.1], [0.3, -0.6], [0.2, -0.7]]),
            (300, 1),
        ),
        clicked=np.tile([False, True, False, False], 300),
        positions=np.tile([1, 2, 3, 4], 300),
        starts=np.arange(0, 1201, 4),
        pages=[None] * 300,
    )
    # Scores that like the second most, and the others more than the first.
    scores = np.tile([0.0, 3.0, 2.0, 1.0], 300)
    floor = training.choose_floor(scores, shown, np.ones(4))
    np.testing.assert_allclose(floor.value, 0.1, atol=1e-6)
    kept = training.with_floor(scores, shown, floor.value)
    np.testing.assert_array_equal(np.argsort(-kept[:4]), [1, 0, 2, 3])


@pytest.mark.parametrize("debiasing", ("inverse_propensity", "none"))
def test_other_ways_are_trained(place, debiasing):
    """If it fails, a choice of --debiasing ends in an error or learns
    nothing."""
    generation = _train(place, debiasing, "--debiasing", debiasing)
    by_similarity, ranked = _truth(place, generation)
    assert ranked > by_similarity + 0.02


def test_click_rates_are_of_other_pages(place):
    """If it fails, a page's own clicks tell which of its products to take."""
    path = place / "by_fold.parquet"
    names = (*product_features.NAMES, *product_features.FOLD_NAMES)
    table = {name: [0.0, 0.0] for name in names} | {"product_id": ["a", "b"]}
    table |= {
        f"click_rate_{fold}": [float(fold), -float(fold)] for fold in range(5)
    }
    table |= {"click_rate": [9.0, 9.0], "age_days": [10.0, 0.5]}
    pq.write_table(pa.table(table), path)
    features = product_features.ProductFeatures(path, names)
    page = log_pages.clicks.Page(
        "q", None, 86_400.0, "", ("a", "b"), (1,), None, None
    )
    fold = product_features.fold_of("q")
    similar = [np.float32([0.1, 0.2])]
    for by_fold, wanted in ((True, [-fold, fold]), (False, [9, 9])):
        made = training_examples.make(
            [page], similar, features, 2 * 86_400.0, by_fold=by_fold
        )
        # The more similar one, b, is the first.
        np.testing.assert_array_equal(made.positions, [2, 1])
        rate = made.rows[:, ranker.NAMES.index("click_rate")]
        np.testing.assert_array_equal(rate, np.float32(wanted))
        # A day younger when the page was shown, not less than 0.
        age = made.rows[:, ranker.NAMES.index("age_days")]
        np.testing.assert_array_equal(age, [0, 9])


def test_what_can_not_be_trained_is_told(place, capsys):
    """If it fails, a ranker of nothing is written, or a traceback."""
    with pytest.raises(SystemExit) as ended:
        _train(place, "bad", "--vector_index", "vectors")
    assert ended.value.code == 2
    sources = build.Sources(
        clicks=[str(place / "plain.jsonl")], features=place / "features"
    )
    row = {
        "query_id": "q",
        "time": "2026-01-01",
        "image": "a.jpg",
        "shown": ["p/1", "p/2"],
    }
    (place / "plain.jsonl").write_text(json.dumps(row))
    with pytest.raises(ValueError, match="a log with similarities"):
        build.build(
            sources,
            place / "bad",
            training.Settings(),
            date="2026-01-01",
            debiasing="none",
        )
    assert "belong together" in capsys.readouterr().err
