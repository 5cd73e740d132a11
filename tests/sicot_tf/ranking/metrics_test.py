"""Tests of the measures of an order."""

import numpy as np

from sicot_tf.data import clicks
from sicot_tf.ranking import metrics
from sicot_tf.ranking import ranker
from sicot_tf.ranking import training_examples

_STARTS = np.array([0, 3, 5])


def _examples(clicked, positions):
    page = clicks.Page("q", None, 0.0, "", ("a", "b"), (), None, None)
    return training_examples.Examples(
        rows=np.zeros((5, len(ranker.NAMES)), np.float32),
        clicked=np.array(clicked, bool),
        positions=np.array(positions),
        starts=_STARTS,
        pages=[page, page],
    )


def test_ranks_start_anew_on_each_page():
    """If it fails, products compete with those of other pages."""
    scores = np.array([0.1, 0.9, 0.1, 5.0, 7.0])
    # Equal ones keep their order: the first 0.1 is second.
    np.testing.assert_array_equal(
        metrics.ranks(scores, _STARTS), [2, 1, 3, 2, 1]
    )


def test_truth_ndcg():
    """If it fails, a worse order is told to be better."""
    gains = np.array([0.0, 0.5, 1.0, 0.0, 0.0])
    scores = np.array([3.0, 2.0, 1.0, 1.0, 2.0])
    # Gains 0, 0.5, 1 in this order against 1, 0.5; page two has no gain.
    found = 0.5 / np.log2(3) + 1 / np.log2(4)
    best = 1 / np.log2(2) + 0.5 / np.log2(3)
    np.testing.assert_allclose(
        metrics.truth_ndcg(scores, gains, _STARTS), [found / best, np.nan]
    )
    # At 1 only what is first counts: nothing of 1.
    at_one = metrics.truth_ndcg(scores, gains, _STARTS, 1)
    np.testing.assert_allclose(at_one, [0, np.nan])


def test_comparison_ndcg_leaves_other_clicks_out():
    """If it fails, two clicks on a page push each other down."""
    shown = _examples([1, 0, 1, 0, 1], [1, 2, 3, 1, 2])
    compared = training_examples.compare(shown)
    np.testing.assert_array_equal(compared.rows, [0, 1, 1, 2, 3, 4])
    np.testing.assert_array_equal(compared.clicked, [0, 3, 5])
    # First click: first of two. Second: second of two. Third: first.
    scores = np.array([9.0, 5.0, 1.0, 0.0, 1.0])
    np.testing.assert_allclose(
        metrics.comparison_ndcg(scores, compared),
        [1, 1 / np.log2(3), 1],
    )


def test_weights_are_inverse_examination():
    """If it fails, clicks further down count too little or too much."""
    shown = _examples([1, 0, 1, 0, 1], [1, 2, 3, 1, 2])
    compared = training_examples.compare(shown, np.array([1.0, 0.5, 0.25]))
    # 1, 4 and 2, of mean 7 / 3.
    np.testing.assert_allclose(compared.weights, [3 / 7, 12 / 7, 6 / 7])


def test_click_metrics():
    """If it fails, what is shown first looks better than it is."""
    shown = _examples([0, 0, 1, 1, 0], [1, 2, 3, 1, 2])
    examination = np.array([1.0, 0.5, 0.25])
    # Page one: the click, weight 4, from place 3 to 1. Page two: weight 1,
    # from 1 to 2.
    scores = np.array([1.0, 2.0, 3.0, 1.0, 2.0])
    found = metrics.click_metrics(
        metrics.click_sums(scores, shown, examination)
    )
    np.testing.assert_allclose(found["mrr"], (4 * 1 + 1 * 0.5) / 5)
    np.testing.assert_allclose(found["ndcg@20"], (4 * 1 + 1 / np.log2(3)) / 5)
    # Clicks to expect: 4 * 1 at place 1, 1 * 0.5 at place 2, of two pages.
    np.testing.assert_allclose(found["clicks@1"], 4 / 2)
    np.testing.assert_allclose(found["clicks@5"], 4.5 / 2)


def test_bootstrap_is_repeatable_and_covers():
    """If it fails, intervals change from run to run, or are of something
    else: 100 pages of mean 0.5 and deviation 0.5 have +-0.098."""
    values = np.arange(100) % 2

    def measure(pages):
        return {"mean": values[pages].mean()}

    low, high = metrics.bootstrap(100, measure, seed=1)["mean"]
    assert (low, high) == metrics.bootstrap(100, measure, seed=1)["mean"]
    np.testing.assert_allclose([low, high], [0.402, 0.598], atol=0.03)
