"""How often customers look at each place of a result list.

Position-based model: a product at place k is clicked with the probability
`examination[k] * relevance`. Examination is harvested from the log where the
same query picture got the same product at two places, so that relevance is
the same (Agarwal et al., Estimating Position Bias without Intrusive
Interventions, WSDM 2019): all pairs of places, fitted by EM as the regression
of Wang et al. (WSDM 2018) is, with one relevance for each pair of places.
"""

import pathlib
from collections.abc import Sequence

import duckdb
import numpy as np

from sicot_tf.ranking import position_bias

# Places that are told apart; later ones are taken as the last of them.
MAX_PLACES = 50
_ITERATIONS = 2000
# Fewer harvested clicks at a place tell nothing of it.
MIN_CLICKS = 20
# Counts of pairs are fractions, summed as whole millionths: the order in which
# threads add them must not matter.
_UNIT = 1_000_000
_PAIRS = f"""
    with places as (
      select image, product_id, least(position, {MAX_PLACES}) as place,
        count(*) as n, count(*) filter (is_clicked) as clicks
      from shows where split != 'test' group by all)
    select a.place, b.place,
      sum((a.n * b.n / (a.n + b.n) * {_UNIT})::bigint)::double / {_UNIT},
      sum((a.clicks * b.n / (a.n + b.n) * {_UNIT})::bigint)::double / {_UNIT},
      sum((b.clicks * a.n / (a.n + b.n) * {_UNIT})::bigint)::double / {_UNIT}
    from places a join places b
      on a.image = b.image and a.product_id = b.product_id
      and a.place < b.place
    group by all order by all
"""


def harvest(
    database: duckdb.DuckDBPyConnection,
) -> tuple[np.ndarray, np.ndarray]:
    """Shows and clicks of products that stood at both places of a pair.

    A product counts at both places as often: by half the harmonic mean of the
    numbers of its shows there.

    Returns:
        shows, clicks: `[num_pairs, num_places]`, zero but at two places.
    """
    rows = database.execute(_PAIRS).fetchall()
    num_places = max([row[1] for row in rows], default=0)
    shows = np.zeros((len(rows), num_places))
    clicks = np.zeros_like(shows)
    for pair, (first, second, n, at_first, at_second) in enumerate(rows):
        shows[pair, [first - 1, second - 1]] = n
        clicks[pair, first - 1] = at_first
        clicks[pair, second - 1] = at_second
    return shows, clicks


def fit(shows: np.ndarray, clicks: np.ndarray) -> np.ndarray:
    """The examination of each place, as a share of that of the first.

    By `position_bias.fit_table`, of places with enough clicks.

    Args:
        shows: `[num_rows, num_places]`, 0 or more; may be fractions.
        clicks: the same shape, at most `shows`.

    Returns:
        `[num_places]` float64; NaN where too few clicks tell it.
    """
    known = clicks.sum(0) >= MIN_CLICKS
    examination = np.full(shows.shape[1], np.nan)
    if not known[:1].any():
        return examination
    looked = position_bias.fit_table(
        shows[:, known], clicks[:, known], _ITERATIONS
    )
    examination[known] = looked / looked[0]
    return examination


def read(path: pathlib.Path) -> list[float]:
    """The `examination` of a JSON file: a list, from the first place on.

    The file is such a list, or an object that has one under that name, as the
    shop's summary.json and a manifest of triplets.

    Raises:
        ValueError: if it is anything else.
    """
    return position_bias.read(path).tolist()


def complete(examination: Sequence[float]) -> list[float]:
    """Fills places of which nothing is known with that before them.

    Never more than the first: further down nobody looks more often.
    """
    filled = [1.0]
    for value in examination[1:]:
        filled.append(filled[-1] if np.isnan(value) else min(1.0, float(value)))
    return filled


def error(estimate: Sequence[float], known: Sequence[float]) -> float:
    """Mean relative error, over the places after the first of both."""
    pairs = list(zip(estimate, known))[1:]
    if not pairs:
        return 0.0
    return float(np.mean([abs(a / b - 1) for a, b in pairs]))
