"""Trains a ranker by LambdaRank, and chooses its floor of similarity."""

import dataclasses

import lightgbm
import numpy as np

from sicot_tf import settings
from sicot_tf.ranking import metrics
from sicot_tf.ranking import ranker
from sicot_tf.ranking import training_examples

# How clicks at places that few look at are made up for.
DEBIASING = ("inverse_propensity", "position", "none")
AT = 20
_setting = settings.setting

# More of it is never worse: whatever else clicks seem to say is chance.
_NOT_WORSE = ("similarity", "similarity_gap", "click_rate")
# Products that nobody has measured are ranked, too: in training so many are
# as if not, or LightGBM would take what is missing for 0.
_MISSING_SHARE = 0.05
# Equal input, equal trees. One thread: it is fast enough, and several that wait
# for each other are slower beside other work.
_ALIKE = {
    "deterministic": True,
    "force_row_wise": True,
    "num_threads": 1,
    "verbosity": -1,
}
# Floors are tried at these shares of the gaps between shown products and the
# best of their page.
_KEPT_GAIN = 0.9
_FLOOR_SHARES = np.linspace(0.05, 1.0, 20)


@dataclasses.dataclass(frozen=True)
class Settings:
    """Of the trees.

    A page of 600 takes 2 ms with the most trees of 31 leaves.
    """

    __post_init__ = settings.check

    num_trees: int = _setting(200, "most trees", least=1, most=1000)
    num_leaves: int = _setting(15, "leaves of a tree", least=2, most=127)
    learning_rate: float = _setting(
        0.05, "what a tree adds", least=1e-4, most=1
    )
    min_leaf: int = _setting(50, "fewest products in a leaf", least=1)
    patience: int = _setting(
        30, "trees without gain on val before the end", least=1
    )
    seed: int = _setting(0, "of everything", most=2**31 - 1)


@dataclasses.dataclass(frozen=True)
class Trained:
    """A ranker's trees.

    Attributes:
        ndcg: NDCG at 20 of clicks on val, by inverse propensity, after each
            tree.
    """

    booster: lightgbm.Booster
    ndcg: tuple[float, ...]


def train(
    train_examples: training_examples.Examples,
    val_examples: training_examples.Examples,
    examination: np.ndarray,
    debiasing: str,
    settings: Settings,
) -> Trained:
    """Trains until the clicks of val are not ordered better any more.

    Equal input gives equal trees. Val is weighed by inverse propensity
    whatever training does, so that its NDCG can be compared.

    Raises:
        ValueError: if train or val has no click to learn from.
    """
    data, val = _datasets(
        train_examples, val_examples, examination, debiasing, settings
    )
    history: dict[str, dict[str, list[float]]] = {}
    booster = lightgbm.train(
        {
            "objective": "lambdarank",
            "metric": "ndcg",
            "eval_at": [AT],
            "learning_rate": settings.learning_rate,
            "num_leaves": settings.num_leaves,
            "min_data_in_leaf": settings.min_leaf,
            "monotone_constraints": [
                int(name in _NOT_WORSE) for name in ranker.NAMES
            ],
            "monotone_constraints_method": "intermediate",
            "seed": settings.seed,
            **_ALIKE,
        },
        data,
        settings.num_trees,
        valid_sets=[val],
        valid_names=["val"],
        callbacks=[
            lightgbm.early_stopping(settings.patience, verbose=False),
            lightgbm.record_evaluation(history),
        ],
    )
    return Trained(booster, tuple(history["val"][f"ndcg@{AT}"]))


def _datasets(
    train_examples: training_examples.Examples,
    val_examples: training_examples.Examples,
    examination: np.ndarray,
    debiasing: str,
    settings: Settings,
) -> tuple[lightgbm.Dataset, lightgbm.Dataset]:
    rows = _forget_some(train_examples.rows, settings.seed)
    of_train = {"feature_name": list(ranker.NAMES), "params": _ALIKE}
    if debiasing == "position":
        data = lightgbm.Dataset(
            rows,
            train_examples.clicked.astype(int),
            group=train_examples.sizes,
            position=train_examples.positions - 1,
            **of_train,
        )
        num_clicks = train_examples.clicked.sum()
    else:
        compared = training_examples.compare(
            train_examples,
            examination if debiasing == "inverse_propensity" else None,
        )
        data = _compared(rows, compared, of_train)
        num_clicks = len(compared.sizes)
    in_val = training_examples.compare(val_examples, examination)
    for split, number in (("train", num_clicks), ("val", len(in_val.sizes))):
        if not number:
            raise ValueError(
                f"Expected clicks on pages of {split} with two known products "
                "or more, found none. Give a longer log."
            )
    val = _compared(
        val_examples.rows, in_val, {"reference": data, "params": _ALIKE}
    )
    return data, val


def _compared(
    rows: np.ndarray,
    comparisons: training_examples.Comparisons,
    settings: dict[str, object],
) -> lightgbm.Dataset:
    clicked = np.zeros(len(comparisons.rows), int)
    clicked[comparisons.clicked] = 1
    return lightgbm.Dataset(
        rows[comparisons.rows],
        clicked,
        group=comparisons.sizes,
        # All rows of a group: what pulls one up pushes others down as much.
        weight=np.repeat(comparisons.weights, comparisons.sizes),
        **settings,
    )


def _forget_some(rows: np.ndarray, seed: int) -> np.ndarray:
    """Rows of which some have nothing but their similarity."""
    rows = rows.copy()
    rng = np.random.default_rng(seed)
    unknown = rng.random(len(rows)) < _MISSING_SHARE
    rows[unknown, len(ranker.SIMILARITY_NAMES) :] = np.nan
    return rows


@dataclasses.dataclass(frozen=True)
class Floor:
    """The chosen floor of similarity, and what was tried.

    Attributes:
        value: how much less similar than the best a product may be.
        tried: floors with NDCG at 20 of the clicks of val, by inverse
            propensity; the last one lets all pass.
    """

    value: float
    tried: tuple[tuple[float, float], ...]


def choose_floor(
    scores: np.ndarray,
    val_examples: training_examples.Examples,
    examination: np.ndarray,
) -> Floor:
    """The narrowest floor that keeps nearly all that the trees gain on val.

    The gain is that of NDCG at 20 over the order of similarity alone, which a
    floor of 0 gives; 90 % of that of the best floor have to stay. A wider
    floor would let quality show other things for next to nothing.

    Args:
        scores: `[n]` of the trees for `val_examples`.
    """
    gaps = -val_examples.rows[:, 1]
    tried = [0.0, *np.unique(np.quantile(gaps, _FLOOR_SHARES)).tolist()]
    compared = training_examples.compare(val_examples, examination)
    weights = compared.weights / compared.weights.sum()
    means = []
    for floor in tried:
        kept = with_floor(scores, val_examples, floor)
        found = metrics.comparison_ndcg(kept, compared, AT)
        means.append(float(weights @ found))
    wanted = means[0] + _KEPT_GAIN * (max(means) - means[0])
    floor = next(floor for floor, mean in zip(tried, means) if mean >= wanted)
    return Floor(floor, tuple(zip(tried, means)))


def with_floor(
    scores: np.ndarray, examples: training_examples.Examples, floor: float
) -> np.ndarray:
    """`ranker.keep_floor` of each page."""
    kept = np.array(scores, np.float64)
    for start, stop in zip(examples.starts[:-1], examples.starts[1:]):
        kept[start:stop] = ranker.keep_floor(
            kept[start:stop], examples.rows[start:stop, 0], floor
        )
    return kept
