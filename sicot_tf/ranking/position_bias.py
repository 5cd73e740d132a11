"""How often customers look at each place of a result page.

Position-based model: what stands at place k is clicked with the probability
`examination[k] * relevance`. The order of a page follows relevance, so places
can't be compared as they are: only products that are about as similar to their
query are, in cells. Examination and the relevance of each cell are fitted by
EM (Wang et al., Position Bias Estimation for Unbiased Learning to Rank in
Personal Search, WSDM 2018, with a table in place of its regression).
"""

import json
import pathlib

import numpy as np

from sicot_tf import files

# Cells of similarity, times those of the gap to the best of the page.
_SIMILARITY_CELLS = 10
_GAP_CELLS = 10
_ITERATIONS = 500
# Fewer clicks at a place tell nothing of it.
_LEAST_CLICKS = 10
# A click further down would outweigh hundreds.
LEAST = 0.02


def by_power(num_places: int, power: float = 1.0) -> np.ndarray:
    """Examination as `1 / place ** power`, where none is known."""
    return np.arange(1, num_places + 1, dtype=float) ** -power


def read(path: pathlib.Path) -> np.ndarray:
    """The `examination` of a JSON file, as a share of that of the first place.

    The file is a list, or an object that has one under that name, as the
    `summary.json` of a generated shop.

    Raises:
        ValueError: if it is anything else.
    """
    found = files.read_json(path)
    if isinstance(found, dict):
        found = found.get("examination")
    if (
        not isinstance(found, list)
        or not found
        or not all(
            isinstance(each, int | float) and 0 < each < float("inf")
            for each in found
        )
    ):
        raise ValueError(
            f"Expected in {path} a list of numbers above 0, how often each "
            "place is looked at, or an object with it as examination; "
            f"received {json.dumps(found):.100}."
        )
    return np.array(found, float) / found[0]


def at(examination: np.ndarray, positions: np.ndarray) -> np.ndarray:
    """Examination of positions from 1; further down as at the last known."""
    places = np.minimum(np.asarray(positions), len(examination)) - 1
    return np.maximum(examination[places], LEAST)


def cells(similarity: np.ndarray, gap: np.ndarray) -> np.ndarray:
    """`[n]` int cells of about as similar candidates.

    Args:
        similarity: `[n]` to the query.
        gap: `[n]` to the best of the page.
    """

    def quantiles(values: np.ndarray, number: int) -> np.ndarray:
        edges = np.quantile(values, np.linspace(0, 1, number + 1)[1:-1])
        return np.searchsorted(edges, values, side="right")

    return _GAP_CELLS * quantiles(similarity, _SIMILARITY_CELLS) + quantiles(
        gap, _GAP_CELLS
    )


def fit(
    cell: np.ndarray, positions: np.ndarray, clicked: np.ndarray
) -> np.ndarray:
    """The examination of each place, as a share of that of the first.

    Args:
        cell: `[n]` int, of each product that was shown, from `cells`.
        positions: `[n]` int from 1.
        clicked: `[n]` bool.

    Returns:
        `[num_places]` float64 above 0 and at most 1; a place with too few
        clicks has what the one before it has.

    Raises:
        ValueError: if the first place has too few clicks.
    """
    num_places = int(positions.max(initial=1))
    shape = (int(cell.max(initial=0)) + 1, num_places)
    place = (cell, positions - 1)
    shows, clicks = np.zeros(shape), np.zeros(shape)
    np.add.at(shows, place, 1)
    np.add.at(clicks, place, clicked)
    known = clicks.sum(0) >= _LEAST_CLICKS
    if not known[0]:
        raise ValueError(
            f"Expected {_LEAST_CLICKS} clicks or more at the first place of "
            f"the pages of train, received {int(clicks[:, 0].sum())}. Give a "
            "longer log, or say how often places are looked at with "
            "--examination."
        )
    looked = fit_table(shows[:, known], clicks[:, known], _ITERATIONS)
    examination = np.full(num_places, np.nan)
    examination[known] = np.minimum(1, looked / looked[0])
    for each in range(1, num_places):
        if np.isnan(examination[each]):
            examination[each] = examination[each - 1]
    return np.maximum(examination, LEAST)


def fit_table(
    shows: np.ndarray, clicks: np.ndarray, iterations: int
) -> np.ndarray:
    """Maximum likelihood of the position-based model, by EM.

    Each row has a relevance of its own, each column an examination.

    Args:
        shows: `[num_rows, num_places]`, 0 or more; may be fractions. No place
            is without shows.
        clicks: the same shape, at most `shows`.

    Returns:
        `[num_places]` float64, up to a factor.
    """
    used = shows.sum(1) > 0
    shows, clicks = shows[used], clicks[used]
    not_clicked = shows - clicks
    looked = np.full(shows.shape[1], 0.5)
    fits = np.full((len(shows), 1), 0.5)
    for _ in range(iterations):
        rest = np.maximum(1 - looked * fits, 1e-12)
        # Of what was not clicked: looked at although, fitting although.
        seen = clicks + not_clicked * looked * (1 - fits) / rest
        good = clicks + not_clicked * fits * (1 - looked) / rest
        looked = seen.sum(0) / shows.sum(0)
        fits = good.sum(1, keepdims=True) / shows.sum(1, keepdims=True)
    return looked
