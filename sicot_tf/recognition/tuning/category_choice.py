"""Chooses how the category of a photo is found, and what it does to SKUs.

Candidates of a grid are compared on validation pictures. The category is
right if it is one of the true SKU's. The winner of many candidates looks
better than it is: what was chosen on four fifths of the SKUs is therefore also
measured on the last fifth, in turn.
"""

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from sicot_tf.recognition import settings as recognition_settings
from sicot_tf.recognition.stages import category
from sicot_tf.recognition.stages import nearest_pictures
from sicot_tf.recognition.tuning import candidates

WEIGHTS = tuple(number / 10 for number in range(11))
SHARPNESSES = (0.0, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0)
INFLUENCES = (0.0, 0.25, 0.5, 0.75, 1.0)
# Of a true SKU that is not among the model's best, for the log loss.
_LEAST_SCORE = 1e-4


@dataclasses.dataclass(frozen=True)
class AnsweredPicture:
    """A validation picture, and what model and search say of it.

    Attributes:
        sku_id: the true one.
        sku_ids: `[k]`, the model's, best first.
        scores: `[k]`.
        recognised: whether the best score reaches the model's threshold.
        neighbours: its nearest catalogue pictures, nearest first.
    """

    sku_id: str
    sku_ids: list[str]
    scores: list[float]
    recognised: bool
    neighbours: list[nearest_pictures.Neighbour]


def choose(
    pictures: Sequence[AnsweredPicture],
    categories_of: category.CategoriesOf,
    settings: recognition_settings.RecognitionSettings,
) -> tuple[recognition_settings.RecognitionSettings, dict[str, Any]]:
    """Settings with weight, sharpness and influence of the category chosen.

    Weight and sharpness: the most right categories; of equals the smallest
    weight, then the smallest sharpness. Influence: 0, unless another makes
    more SKUs right by more than one standard error of the difference; then the
    smallest that is within one of the best (Breiman et al., 1984).

    Args:
        settings: all that is not chosen here.

    Returns:
        The settings, and what was measured for each candidate, as JSON.

    Raises:
        ValueError: if no true SKU has a category.
    """
    judged = [each for each in pictures if categories_of(each.sku_id)]
    if not judged:
        raise ValueError(
            "Expected pictures of SKUs that have a category in the product "
            f"index, received {len(pictures)} without. Is it the index of this "
            "shop, and do its products have a category?"
        )
    settings, by_category = _choose_category(judged, categories_of, settings)
    settings, by_sku = _choose_influence(pictures, categories_of, settings)
    return settings, {
        "num_pictures": len(pictures),
        "num_skus": len({each.sku_id for each in pictures}),
        "category": by_category,
        "sku": by_sku,
    }


def _choose_category(
    pictures: Sequence[AnsweredPicture],
    categories_of: category.CategoriesOf,
    settings: recognition_settings.RecognitionSettings,
) -> tuple[recognition_settings.RecognitionSettings, dict[str, Any]]:
    """The settings with weight and sharpness, and accuracies of categories."""
    # The simplest first. Without search there is nothing to sharpen.
    grid = [(0.0, settings.category_sharpness)]
    grid += [(weight, s) for weight in WEIGHTS if weight for s in SHARPNESSES]
    right = np.zeros((len(grid), len(pictures)), bool)
    for column, each in enumerate(pictures):
        true = categories_of(each.sku_id)
        model = category.by_model(each.sku_ids, each.scores, categories_of)
        search = {
            sharpness: category.by_search(each.neighbours, sharpness)
            for sharpness in {sharpness for _, sharpness in grid}
        }
        for row, (weight, sharpness) in enumerate(grid):
            fused = category.fuse(model, search[sharpness], weight)
            right[row, column] = next(iter(fused), None) in true
    skus = candidates.numbers([each.sku_id for each in pictures])
    best = candidates.most_right(right, skus)
    searching = [row for row, (weight, _) in enumerate(grid) if weight == 1]
    by_search = searching[candidates.most_right(right[searching], skus)]

    def measured(row: int) -> dict[str, float]:
        weight, sharpness = grid[row]
        difference = right[row].astype(float) - right[0]
        return {
            "search_weight": weight,
            "sharpness": sharpness,
            "right": float(right[row].mean()),
            "standard_error_to_model": candidates.standard_error(
                difference, skus
            ),
        }

    def with_interval(row: int) -> dict[str, float]:
        return {**measured(row), **candidates.accuracy(right[row], skus)}

    weight, sharpness = grid[best]
    settings = dataclasses.replace(
        settings, category_search_weight=weight, category_sharpness=sharpness
    )
    return settings, {
        "num_pictures": len(pictures),
        "by_model": with_interval(0),
        "by_search": with_interval(by_search),
        "fused": with_interval(best),
        "fused_on_other_skus": candidates.accuracy(
            candidates.on_other_skus(right, skus, candidates.most_right), skus
        ),
        "candidates": [measured(row) for row in range(len(grid))],
    }


def _choose_influence(
    pictures: Sequence[AnsweredPicture],
    categories_of: category.CategoriesOf,
    settings: recognition_settings.RecognitionSettings,
) -> tuple[recognition_settings.RecognitionSettings, dict[str, Any]]:
    """The settings with the influence, and the SKU accuracy of each."""
    right = np.zeros((len(INFLUENCES), len(pictures)), bool)
    best_scores = np.zeros(right.shape)
    losses = np.zeros(right.shape)
    # The threshold is one of the model's own best answer.
    recognised = np.zeros(right.shape, bool)
    for column, each in enumerate(pictures):
        fused = category.fuse(
            category.by_model(each.sku_ids, each.scores, categories_of),
            category.by_search(each.neighbours, settings.category_sharpness),
            settings.category_search_weight,
        )
        for row, influence in enumerate(INFLUENCES):
            sku_ids, scores = category.reweight(
                each.sku_ids, each.scores, categories_of, fused, influence
            )
            right[row, column] = sku_ids[0] == each.sku_id
            recognised[row, column] = (
                each.recognised and sku_ids[0] == each.sku_ids[0]
            )
            best_scores[row, column] = scores[0]
            score = dict(zip(sku_ids, scores)).get(each.sku_id, 0.0)
            losses[row, column] = -math.log(max(score, _LEAST_SCORE))
    skus = candidates.numbers([each.sku_id for each in pictures])
    influence = INFLUENCES[candidates.simplest(right, skus)]
    measured = [
        {
            "influence": each,
            **candidates.accuracy(right[row], skus),
            "standard_error_to_0": candidates.standard_error(
                right[row].astype(float) - right[0], skus
            ),
            "mean_score": float(best_scores[row].mean()),
            "log_loss": float(losses[row].mean()),
            "num_recognised": int(recognised[row].sum()),
            "num_recognised_right": int((recognised & right)[row].sum()),
        }
        for row, each in enumerate(INFLUENCES)
    ]
    return dataclasses.replace(settings, category_influence=influence), {
        "on_other_skus": candidates.accuracy(
            candidates.on_other_skus(right, skus, candidates.simplest), skus
        ),
        "candidates": measured,
    }
