"""Chooses what the search says in the SKU, and when a category narrows it.

On validation queries, of SKUs that the classifier knows and of others that it
can't know. Weight and sharpness: the most right SKUs of all queries; of equals
the smallest weight, then the smallest sharpness. What has a weight has another
threshold than the classifier alone: the smallest at which as many of the
recognised are right. The category narrows results from where on as many true
SKUs are among the first twenty, or more; where it is no gain, never.
"""

import dataclasses
from collections.abc import Collection
from collections.abc import Sequence
from typing import Any

import numpy as np

from sicot_tf.recognition import settings as recognition_settings
from sicot_tf.recognition.stages import category
from sicot_tf.recognition.stages import sku_search
from sicot_tf.recognition.tuning import candidates
from sicot_tf.recognition.tuning import category_choice

WEIGHTS = tuple(number / 10 for number in range(11))
SHARPNESSES = (2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0)
# The simplest first: never.
CERTAINTIES = (1.0, 0.95, 0.9, 0.8, 0.7, 0.5, 0.0)


@dataclasses.dataclass(frozen=True)
class Ranks:
    """Where the first product of the true SKU stands, from 0.

    Attributes:
        everywhere: among all results; None: nowhere.
        within: among those of the surest category and others that look at
            least as much alike as the best of it.
    """

    everywhere: int | None
    within: int | None


def choose(
    queries: Sequence[category_choice.AnsweredPicture],
    known: Collection[str],
    categories_of: category.CategoriesOf,
    settings: recognition_settings.RecognitionSettings,
) -> tuple[recognition_settings.RecognitionSettings, dict[str, Any]]:
    """Settings with weight, sharpness and threshold of the search.

    Args:
        queries: with the neighbours that the service will ask for.
        known: SKUs that the classifier was trained on.
        settings: with all that concerns the category chosen.

    Returns:
        The settings, and what was measured, as JSON.
    """
    grid = [(0.0, settings.sku_search_sharpness)]
    grid += [(weight, s) for weight in WEIGHTS if weight for s in SHARPNESSES]
    right = np.zeros((len(grid), len(queries)), bool)
    scores = np.zeros(right.shape)
    for column, each in enumerate(queries):
        fused = _with_category(each, categories_of, settings)
        shares = {
            sharpness: sku_search.shares(each.neighbours, sharpness)
            for sharpness in {sharpness for _, sharpness in grid}
        }
        for row, (weight, sharpness) in enumerate(grid):
            sku_ids, found = sku_search.fuse(*fused, shares[sharpness], weight)
            right[row, column] = sku_ids[0] == each.sku_id
            scores[row, column] = found[0]
    skus = candidates.numbers([each.sku_id for each in queries])
    best = candidates.most_right(right, skus)
    weight, sharpness = grid[best]
    recognised = np.array(
        [
            each.recognised
            and _with_category(each, categories_of, settings)[0][0]
            == each.sku_ids[0]
            for each in queries
        ]
    )
    aim = _share(right[0][recognised])
    threshold = _threshold(right[best], scores[best], aim)
    settings = dataclasses.replace(
        settings,
        sku_search_weight=weight,
        sku_search_sharpness=sharpness,
        sku_search_threshold=threshold if weight else 1.0,
    )
    if weight:
        now_recognised = scores[best] >= threshold
    else:
        now_recognised = recognised
    alone = [row for row, (each, _) in enumerate(grid) if each == 1]
    search = alone[candidates.most_right(right[alone], skus)]
    on_others = candidates.on_other_skus(right, skus, candidates.most_right)
    is_known = np.array([each.sku_id in known for each in queries])
    return settings, {
        "weight": weight,
        "sharpness": sharpness,
        "threshold": settings.sku_search_threshold,
        "groups": {
            name: {
                "num_queries": int(group.sum()),
                "recogniser": _accuracy(right[0], skus, group),
                "search": _accuracy(right[search], skus, group),
                "fused": _accuracy(right[best], skus, group),
                "fused_on_other_skus": _accuracy(on_others, skus, group),
                "recognised_by_recogniser": _recognised(
                    right[0], recognised, group
                ),
                "recognised_by_fused": _recognised(
                    right[best], now_recognised, group
                ),
            }
            for name, group in (
                ("all", np.ones(len(queries), bool)),
                ("known", is_known),
                ("unknown", ~is_known),
            )
            if group.any()
        },
        "candidates": [
            {
                "weight": each[0],
                "sharpness": each[1],
                **{
                    name: _share(right[row][group])
                    for name, group in (
                        ("known", is_known),
                        ("unknown", ~is_known),
                    )
                },
            }
            for row, each in enumerate(grid)
        ],
    }


def choose_certainty(
    ranks: Sequence[Ranks],
    shares: Sequence[float],
    sku_ids: Sequence[str],
    settings: recognition_settings.RecognitionSettings,
) -> tuple[recognition_settings.RecognitionSettings, dict[str, Any]]:
    """Settings with the share from which on a category narrows results.

    Args:
        ranks: of each query.
        shares: of the surest category of each query.
        sku_ids: the true ones.
    """
    right = np.array(
        [
            [
                _is_shown(each.within if share > certainty else each.everywhere)
                for each, share in zip(ranks, shares, strict=True)
            ]
            for certainty in CERTAINTIES
        ]
    )
    skus = candidates.numbers(sku_ids)
    best = candidates.simplest(right, skus)
    return dataclasses.replace(settings, search_certainty=CERTAINTIES[best]), {
        "certainty": CERTAINTIES[best],
        "candidates": [
            {
                "certainty": certainty,
                "num_narrowed": sum(share > certainty for share in shares),
                **candidates.accuracy(right[row], skus),
            }
            for row, certainty in enumerate(CERTAINTIES)
        ],
    }


def _with_category(
    query: category_choice.AnsweredPicture,
    categories_of: category.CategoriesOf,
    settings: recognition_settings.RecognitionSettings,
) -> tuple[list[str], list[float]]:
    """The recogniser's SKUs and scores, as the panel has them."""
    return category.reweight(
        query.sku_ids,
        query.scores,
        categories_of,
        shares_of(query, categories_of, settings),
        settings.category_influence,
    )


def shares_of(
    query: category_choice.AnsweredPicture,
    categories_of: category.CategoriesOf,
    settings: recognition_settings.RecognitionSettings,
) -> dict[str, float]:
    """Shares of a query's categories, the largest first."""
    return category.fuse(
        category.by_model(query.sku_ids, query.scores, categories_of),
        category.by_search(query.neighbours, settings.category_sharpness),
        settings.category_search_weight,
    )


def _is_shown(rank: int | None) -> bool:
    return rank is not None and rank < 20


def _threshold(right: np.ndarray, scores: np.ndarray, aim: float) -> float:
    """The smallest score from which on at least that share is right."""
    order = np.argsort(-scores, kind="stable")
    shares = np.cumsum(right[order]) / np.arange(1, len(order) + 1)
    # Equal scores are recognised together.
    ends = np.append(np.diff(scores[order]) != 0, True)
    good = np.flatnonzero(ends & (shares >= aim))
    return float(min(scores[order][good[-1]], 1.0)) if len(good) else 1.0


def _accuracy(
    right: np.ndarray, skus: np.ndarray, group: np.ndarray
) -> dict[str, float]:
    return candidates.accuracy(right[group], candidates.numbers(skus[group]))


def _recognised(
    right: np.ndarray, recognised: np.ndarray, group: np.ndarray
) -> dict[str, int]:
    return {
        "num": int((recognised & group).sum()),
        "num_right": int((recognised & right & group).sum()),
    }


def _share(right: np.ndarray) -> float:
    """Of those that are right; 1 without any: then none is wrong."""
    return float(right.mean()) if len(right) else 1.0
