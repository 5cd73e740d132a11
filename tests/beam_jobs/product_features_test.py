"""Tests of the job that measures products, as a command."""

import json

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from beam_jobs import build_product_index
from beam_jobs import product_features
from sicot_tf import files
from sicot_tf.data import generations
from sicot_tf.ranking import product_features as reader

_CATALOGUE = [
    {"product_id": "p/1", "image": "a.png", "category": "x", "price": 10,
     "sales": "7", "listed_at": "2026-01-01T00:00:00Z"},
    {"product_id": "p/2", "image": "none.png", "category": "x", "price": 30,
     "sales": -1},
    {"product_id": "p/3", "category": "y", "price": "free",
     "listed_at": "2026-01-02T00:00:00Z"},
    {"product_id": "p/4", "category": "x", "price": 20, "listed_at": "?"},
]  # fmt: skip


def _write_lines(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


@pytest.fixture(name="shop", scope="module")
def _shop(tmp_path_factory):
    folder = tmp_path_factory.mktemp("shop")
    Image.new("RGB", (40, 30), "white").save(folder / "a.png")
    rows = [{"sku_id": "s", "title": "", **each} for each in _CATALOGUE]
    _write_lines(folder / "catalogue.jsonl", [*rows, {"product_id": "p/5"}])
    page = {
        "query_id": "q/1",
        "time": "2026-01-11T00:00:00Z",
        "image": "a.png",
        "shown": ["p/1", "p/2"],
        "clicked": "p/2",
        "position": 2,
        "split": "train",
    }
    later = {**page, "query_id": "q/2", "split": "test"}
    _write_lines(folder / "clicks.jsonl", [page, later, {}])
    return folder


def _run(shop, output, *flags):
    product_features.main(
        ["--clicks", str(shop / "clicks.jsonl"), "--output", str(output)]
        + ["--date", "2026-01-12", *map(str, flags)]
    )
    return generations.resolve_generation(output)


def test_of_a_catalogue(shop, tmp_path, capsys):
    """If it fails, a ranker is told something else than the catalogue says;
    NaN has to stay what is not known."""
    output = tmp_path / "features"
    flags = ("--input", shop / "catalogue.jsonl")
    generation = _run(shop, output, *flags)
    table = pq.read_table(generation / reader.FEATURES).to_pydict()
    assert table["product_id"] == ["p/1", "p/2", "p/3", "p/4"]
    nan = np.nan
    for name, wanted in {
        "sales": [7, nan, nan, nan],
        "price": [10, 30, nan, 20],
        # The median of x is 20.
        "price_ratio": [0.5, 1.5, nan, 1],
        # To the latest page of all.
        "age_days": [10, nan, 9, nan],
        # Of train alone: looks 1 and 0.5, one click of 1.5 looks.
        "click_rate": [(10 / 1.5) / 11, (1 + 10 / 1.5) / 10.5, nan, nan],
        "picture_side": [30, nan, nan, nan],
        "background_share": [1, nan, nan, nan],
        "sharpness": [0, nan, nan, nan],
    }.items():
        np.testing.assert_allclose(table[name], wanted, rtol=1e-6, err_msg=name)
    manifest = files.read_json(generation / generations.MANIFEST)
    assert manifest["counts"]["rejects"] == {
        "missing_field": 2,
        "missing_image": 1,
    }
    reasons = [
        json.loads(line)["reason"]
        for line in (generation / "rejects.jsonl").read_text().splitlines()
    ]
    assert sorted(reasons) == [
        "missing_field",
        "missing_field",
        "missing_image",
    ]
    assert "train_ranker" in capsys.readouterr().out
    # Found finished.
    before = (generation / reader.FEATURES).stat().st_mtime_ns
    assert _run(shop, output, *flags) == generation
    assert (generation / reader.FEATURES).stat().st_mtime_ns == before


def test_of_an_index(shop, tmp_path):
    """If it fails, index and catalogue give other features of the same."""
    build_product_index.main(
        ["--input", str(shop / "catalogue.jsonl"), "--date", "2026-01-12"]
        + ["--output", str(tmp_path / "index")]
    )
    by_index = _run(
        *(shop, tmp_path / "by_index"),
        *("--product_index", tmp_path / "index", "--image_root", shop),
    )
    by_catalogue = _run(
        shop, tmp_path / "by_catalogue", "--input", shop / "catalogue.jsonl"
    )
    assert (by_index / reader.FEATURES).read_bytes() == (
        by_catalogue / reader.FEATURES
    ).read_bytes()
