"""Tests of click rates."""

import numpy as np

from beam_jobs.features import click_rates
from sicot_tf.data import clicks
from sicot_tf.ranking import product_features


def _page(query_id, shown, *positions):
    return clicks.Page(query_id, None, 0.0, "", shown, positions, None, None)


def test_rates_by_who_looked():
    """If it fails, what stands further down seems to be liked less."""
    pages = [_page("q/1", ("a", "b", "new"), 2), _page("q/2", ("b", "a"), 2)]
    looks, clicked = click_rates.count(
        pages, {"a": 0, "b": 1, "c": 2}, np.array([1.0, 0.5, 0.25])
    )
    # Both were looked at 1.5 times and clicked once; 2 clicks in 3 looks.
    np.testing.assert_allclose(looks.sum(0), [1.5, 1.5, 0])
    found = click_rates.rates(looks, clicked)
    wanted = (1 + 10 * 2 / 3) / (1.5 + 10)
    np.testing.assert_allclose(
        found["click_rate"], [wanted, wanted, np.nan], rtol=1e-6
    )


def test_folds_hold_the_others():
    """If it fails, a page's own clicks are in the rates that it teaches by."""
    pages = [_page(f"q/{n}", ("a",), 1) for n in range(20)]
    looks, clicked = click_rates.count(pages, {"a": 0}, np.ones(1))
    folds = [product_features.fold_of(page.query_id) for page in pages]
    clicked[:] = 0  # Of the fold 3 alone.
    clicked[3, 0] = 2.0
    found = click_rates.rates(looks, clicked)
    assert found["click_rate_3"][0] == 0
    others = 20 - folds.count(0)
    # Mean rate 2 / others, which smoothing does not move.
    np.testing.assert_allclose(found["click_rate_0"], 2 / others, rtol=1e-6)
