"""Which way the examination of the places is found."""

import dataclasses
import logging
import pathlib

import duckdb
import numpy as np

from beam_jobs.clicks import alike_products
from beam_jobs.clicks import examination

_log = logging.getLogger(__name__)

METHODS = {
    "file": "as given",
    "harvested": "same query picture and product at several places",
    "similarity": "regressed on the similarity in the log",
    "words": "regressed on the words that a product shares with its page",
    "none": "nothing tells it: clicks of all places weigh the same",
}


@dataclasses.dataclass(frozen=True)
class Estimate:
    """How often each place is looked at.

    Attributes:
        method: one of `METHODS`.
        places: from the first on, which is 1.
        clicks: of each place, that the estimate stands on.
        click_rates: of each place, as a share of that of the first: what
            examination were if all places had products that fit as well.
    """

    method: str
    places: list[float]
    clicks: list[float]
    click_rates: list[float]


def estimate(
    database: duckdb.DuckDBPyConnection, given: pathlib.Path | None
) -> Estimate:
    """Takes the file, or the first way for which the log has enough clicks.

    Args:
        database: of `log`.
        given: a file for `examination.read`.
    """
    rates = _click_rates(database)
    if given is not None:
        return Estimate("file", examination.read(given), [], rates)
    for method, count in (
        ("harvested", examination.harvest),
        ("similarity", alike_products.by_similarity),
        ("words", alike_products.by_words),
    ):
        shows, clicks = count(database)
        fitted = examination.fit(shows, clicks)
        known = ~np.isnan(fitted)
        # Of few places the rest would be a guess.
        if known.any() and known.mean() >= 0.5:
            return Estimate(
                method,
                examination.complete(fitted),
                [round(each, 3) for each in clicks.sum(0).tolist()],
                rates,
            )
    _log.warning(
        "the log has too few clicks to tell how often places are looked at; "
        "all clicks weigh the same. Give more days of it, or --examination"
    )
    return Estimate("none", [1.0], [], rates)


def _click_rates(database: duckdb.DuckDBPyConnection) -> list[float]:
    rows = database.execute(
        "select count(*) filter (is_clicked) / count(*) from shows "
        f"where split != 'test' and position <= {examination.MAX_PLACES} "
        "group by position order by position"
    ).fetchall()
    rates = [rate for (rate,) in rows]
    return [rate / rates[0] for rate in rates] if rates and rates[0] else []
