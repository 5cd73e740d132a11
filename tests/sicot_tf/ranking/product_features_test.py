"""Tests of the table of product features."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from sicot_tf.ranking import product_features


def test_rows_come_by_product(tmp_path):
    """If it fails, a product is ranked by the features of another one."""
    path = tmp_path / product_features.FEATURES
    table = {"product_id": ["b", "a"], "price": [2.0, None], "sales": [5, 7]}
    pq.write_table(pa.table(table), path)
    features = product_features.ProductFeatures(path, ("sales", "price"))
    np.testing.assert_array_equal(
        features.of(["a", "nobody", "b"]),
        np.float32([[7, np.nan], [np.nan, np.nan], [5, 2]]),
    )
    assert len(features) == 2 and "a" in features and "c" not in features


def test_missing_columns_are_told(tmp_path):
    """If it fails, an old table ranks by nothing."""
    path = tmp_path / product_features.FEATURES
    pq.write_table(pa.table({"product_id": ["a"]}), path)
    with pytest.raises(ValueError, match="Expected columns sales"):
        product_features.ProductFeatures(path, ("sales",))
    path.write_bytes(b"")
    with pytest.raises(ValueError, match="can't be read"):
        product_features.ProductFeatures(path)


def test_folds_are_even():
    """If it fails, click rates are of all pages, or of hardly any: 1000
    pages are 200 +- 13 a fold."""
    folds = [product_features.fold_of(f"q/{each}") for each in range(1000)]
    assert np.bincount(folds, minlength=5).min() > 150
