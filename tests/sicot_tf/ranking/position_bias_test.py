"""Tests of how often places are looked at."""

import numpy as np
import pytest

from sicot_tf import files
from sicot_tf.ranking import position_bias


def test_bias_is_told_from_relevance():
    """If it fails, the first places are taken for as good as they look."""
    rng = np.random.default_rng(0)
    looked = np.array([1, 0.5, 0.3, 0.2])
    # Good products stand in front: clicks alone would give less to the last.
    cell = rng.integers(5, size=80_000)
    positions = np.clip(rng.poisson(cell / 2) + 1, 1, 4)
    fits = np.array([0.8, 0.6, 0.4, 0.2, 0.1])[cell]
    clicked = rng.random(80_000) < fits * looked[positions - 1]
    rates = [clicked[positions == place].mean() for place in (1, 4)]
    assert rates[1] / rates[0] < 0.1
    found = position_bias.fit(cell, positions, clicked)
    np.testing.assert_allclose(found, looked, atol=0.04)


def test_places_without_clicks_are_as_the_one_before():
    """If it fails, a click there counts without bound."""
    positions = np.repeat([1, 2, 3], 100)
    clicked = np.arange(300) % 100 < np.repeat([80, 40, 3], 100)
    found = position_bias.fit(np.zeros(300, int), positions, clicked)
    np.testing.assert_allclose(found, [1, 0.5, 0.5], rtol=1e-4)
    with pytest.raises(ValueError, match="10 clicks or more"):
        position_bias.fit(np.zeros(300, int), positions, clicked & False)


def test_cells_hold_as_similar_ones():
    """If it fails, relevance and place can't be told apart."""
    values = np.arange(100.0)
    cells = position_bias.cells(values, -values)
    # Deciles of both; the gap counts from the other end.
    assert cells[0] == 9 and cells[99] == 90
    assert len(set(cells)) == 10


def test_read(tmp_path):
    """If it fails, a summary of a shop is not understood, or anything is."""
    path = tmp_path / "examination.json"
    for value in ([2, 1], {"examination": [1.0, 0.5]}):
        files.write_json(path, value)
        np.testing.assert_array_equal(position_bias.read(path), [1, 0.5])
    for value in ([], [1, 0], ["a"], {"other": [1]}, [[1], [1]]):
        files.write_json(path, value)
        with pytest.raises(ValueError, match="list of numbers above 0"):
            position_bias.read(path)


def test_further_places_are_as_the_last():
    """If it fails, a page longer than the estimate ends in an error."""
    found = position_bias.at(np.array([1, 0.5, 0.001]), np.array([2, 3, 90]))
    np.testing.assert_array_equal(found, [0.5, 0.02, 0.02])
