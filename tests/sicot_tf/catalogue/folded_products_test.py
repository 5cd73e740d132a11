import pytest

from sicot_tf.catalogue import folded_products
from sicot_tf.catalogue import product_index


def test_round_trip(tmp_path):
    """Broken: a product that only live changes know is not what it was."""
    product = product_index.Product(
        *("p", "sku", "可乐\n2", ["a.jpg"], ["t"], None, {"price": 1.5}, 7.25)
    )
    products = {"p": product, "gone": None}
    folded_products.write(tmp_path, products)
    assert folded_products.read(tmp_path) == products


def test_absent_or_damaged(tmp_path):
    """Broken: an index without live changes can't be opened, or a damaged
    one is without a word."""
    assert folded_products.read(tmp_path) == {}
    (tmp_path / folded_products.FILE).write_text('["p", {"no": "product"}]\n')
    with pytest.raises(ValueError, match="line 1: expected an id"):
        folded_products.read(tmp_path)
