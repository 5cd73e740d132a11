"""Result pages as arrays: what a ranker sees, and what customers chose."""

import dataclasses
from collections.abc import Sequence

import numpy as np

from sicot_tf.data import clicks
from sicot_tf.ranking import position_bias
from sicot_tf.ranking import product_features
from sicot_tf.ranking import ranker

_AGE = ranker.NAMES.index("age_days")
_CLICK_RATE = ranker.NAMES.index("click_rate")


@dataclasses.dataclass(frozen=True)
class Examples:
    """Products that were shown, page after page, the most similar first.

    Attributes:
        rows: `[n, ranker.NAMES]` float32.
        clicked: `[n]` bool.
        positions: `[n]` int at which they were shown, from 1.
        starts: `[num_pages + 1]` int: page i is `starts[i]:starts[i + 1]`.
        pages: `num_pages` of them.
    """

    rows: np.ndarray
    clicked: np.ndarray
    positions: np.ndarray
    starts: np.ndarray
    pages: Sequence[clicks.Page]

    @property
    def sizes(self) -> np.ndarray:
        """`[num_pages]` int, of the pages."""
        return np.diff(self.starts)

    @property
    def page_of(self) -> np.ndarray:
        """`[n]` int, the page of each product."""
        return np.repeat(np.arange(len(self.pages)), self.sizes)


@dataclasses.dataclass(frozen=True)
class Comparisons:
    """Groups of one clicked product and those of its page without a click.

    Attributes:
        rows: `[n]` int, of `Examples`, in their order.
        clicked: `[num_clicks]` int, places in `rows`, one a group.
        sizes: `[num_clicks]` int, of the groups.
        weights: `[num_clicks]`, inverse propensity, 1 on average.
    """

    rows: np.ndarray
    clicked: np.ndarray
    sizes: np.ndarray
    weights: np.ndarray

    @property
    def starts(self) -> np.ndarray:
        """`[num_clicks + 1]` int, of the groups."""
        return np.concatenate([[0], np.cumsum(self.sizes)]).astype(np.int64)


def make(
    pages: Sequence[clicks.Page],
    similarities: Sequence[np.ndarray],
    features: product_features.ProductFeatures,
    as_of: float,
    *,
    by_fold: bool,
) -> Examples:
    """Arrays of pages.

    Products without similarity, and pages of less than two with one, are left
    out. Ages are those at the time of the page.

    Args:
        similarities: `[len(shown)]` float32 of each page, NaN where unknown.
        features: with `FOLD_NAMES` if `by_fold`.
        as_of: when ages were measured, in seconds since 1970.
        by_fold: take click rates that the page itself is no part of; for
            pages that click rates were counted on.
    """
    rows, clicked, positions, sizes, kept = [], [], [], [], []
    num_own = len(product_features.NAMES)
    for page, similar in zip(pages, similarities, strict=True):
        known = np.flatnonzero(np.isfinite(similar))
        if len(known) < 2:
            continue
        # As a search gives them: the order that was shown knows more than
        # similarity, and would decide between equal scores.
        known = known[np.argsort(-similar[known], kind="stable")]
        values = features.of([page.shown[each] for each in known])
        of_page = ranker.page_features(similar[known], values[:, :num_own])
        days = (as_of - page.time) / product_features.SECONDS_A_DAY
        of_page[:, _AGE] = np.maximum(0, of_page[:, _AGE] - days)
        if by_fold:
            fold = product_features.fold_of(page.query_id)
            of_page[:, _CLICK_RATE] = values[:, num_own + fold]
        rows.append(of_page)
        positions.append(known + 1)
        clicked.append(np.isin(known + 1, page.positions))
        sizes.append(len(known))
        kept.append(page)
    return Examples(
        rows=np.concatenate(rows or [np.empty((0, len(ranker.NAMES)))]).astype(
            np.float32
        ),
        clicked=np.concatenate(clicked or [np.empty(0, bool)]),
        positions=np.concatenate(positions or [np.empty(0, np.int64)]),
        starts=np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64),
        pages=kept,
    )


def compare(
    examples: Examples, examination: np.ndarray | None = None
) -> Comparisons:
    """One group a click; other clicked products of its page are no part of it.

    A click further down is rarer only because fewer look there, so it counts
    as much more (Joachims et al., Unbiased Learning-to-Rank with Biased
    Feedback, WSDM 2017).

    Args:
        examination: of the places; None: all clicks count the same.
    """
    rows, places, sizes, positions, num_rows = [], [], [], [], 0
    for start, stop in zip(examples.starts[:-1], examples.starts[1:]):
        own = examples.clicked[start:stop]
        if own.all():
            continue
        for row in np.flatnonzero(own):
            group = ~own
            group[row] = True
            group = np.flatnonzero(group)
            places.append(num_rows + int(np.searchsorted(group, row)))
            rows.append(start + group)
            sizes.append(len(group))
            positions.append(examples.positions[start + row])
            num_rows += len(group)
    inverse = np.ones(len(sizes))
    if examination is not None and len(sizes):
        inverse = 1 / position_bias.at(examination, np.array(positions))
    return Comparisons(
        rows=np.concatenate(rows or [np.empty(0)]).astype(np.int64),
        clicked=np.array(places, np.int64),
        sizes=np.array(sizes, np.int64),
        weights=inverse / inverse.mean() if len(inverse) else inverse,
    )
