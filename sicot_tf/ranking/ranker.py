"""A trained order of search results: similarity first, then quality."""

import pathlib
from collections.abc import Sequence

import lightgbm
import numpy as np

from sicot_tf import files
from sicot_tf.data import generations
from sicot_tf.ranking import product_features

MODEL = "model.txt"
# Raise it when today's readers can't read the new form.
FORMAT_VERSION = 1

# `similarity_gap` is that to the best of the page, 0 or less.
SIMILARITY_NAMES = ("similarity", "similarity_gap")
NAMES = (*SIMILARITY_NAMES, *product_features.NAMES)


def page_features(
    similarities: np.ndarray, of_products: np.ndarray
) -> np.ndarray:
    """What a ranker is given: `[n, NAMES]` float32, a row a candidate.

    Args:
        similarities: `[n]`, all candidates of one query.
        of_products: `[n, product_features.NAMES]` float32.
    """
    similarities = np.asarray(similarities, np.float32)
    best = similarities.max(initial=-np.inf)
    return np.column_stack([similarities, similarities - best, of_products])


def keep_floor(
    scores: np.ndarray, similarities: np.ndarray, floor: float
) -> np.ndarray:
    """Scores by which no candidate below the floor passes one above it.

    Those below stand behind all others, the most similar first.

    Args:
        scores: `[n]`, higher is better.
        similarities: `[n]`, all candidates of one query.
        floor: how much less similar than the best a candidate may be.

    Returns:
        `[n]` float64.
    """
    similarities = np.asarray(similarities, np.float32)
    kept = np.array(scores, np.float64)
    is_below = below_floor(similarities, floor)
    if is_below.any():
        worst = kept[~is_below].min()
        # Of equal ones the first stays first.
        order = np.argsort(-similarities[is_below], kind="stable")
        places = np.empty(len(order))
        places[order] = np.arange(1, len(order) + 1)
        kept[is_below] = worst - places
    return kept


def below_floor(similarities: np.ndarray, floor: float) -> np.ndarray:
    """`[n]` bool: which candidates of one query quality may not move up."""
    similarities = np.asarray(similarities, np.float32)
    return similarities < similarities.max(initial=-np.inf) - floor


class Ranker:
    """Orders what a search has found; any number of threads may ask.

    Attributes:
        generation: its name.
        similarity_floor: how much less similar than the best of all
            candidates one may be; those below are never moved above others.
    """

    def __init__(
        self,
        booster: lightgbm.Booster,
        features: product_features.ProductFeatures,
        *,
        similarity_floor: float,
        generation: str = "",
    ):
        self.generation = generation
        self.similarity_floor = similarity_floor
        self._booster = booster
        self._features = features

    @classmethod
    def open(cls, folder: pathlib.Path | str) -> "Ranker":
        """Reads a generation of `sicot_tf.train_ranker`, or the newest.

        Raises:
            ValueError: if there is none, or one of another form.
        """
        folder = generations.resolve_generation(folder)
        manifest = files.read_json(folder / generations.MANIFEST)
        version = manifest.get("format_version")
        if version != FORMAT_VERSION or not (folder / MODEL).is_file():
            raise ValueError(
                f"Expected a ranker of version {FORMAT_VERSION} with {MODEL} "
                f"in {folder}, found version {version}. Train it again with "
                "python -m sicot_tf.train_ranker."
            )
        for name in (MODEL, product_features.FEATURES):
            generations.check_size(
                folder / name, manifest["files"][name]["bytes"]
            )
        booster = lightgbm.Booster(model_file=folder / MODEL)
        if booster.feature_name() != list(NAMES):
            raise ValueError(
                f"Expected a ranker of {', '.join(NAMES)}, the one in {folder} "
                f"asks for {', '.join(booster.feature_name())}. Train it "
                "again with python -m sicot_tf.train_ranker."
            )
        return cls(
            booster,
            product_features.ProductFeatures(
                folder / product_features.FEATURES
            ),
            similarity_floor=manifest["similarity_floor"],
            generation=folder.name,
        )

    def scores(
        self, similarities: np.ndarray, product_ids: Sequence[str]
    ) -> np.ndarray:
        """How good each candidate of a query is; higher is better.

        A product without features is judged by its similarity. Equal scores
        keep the order of the candidates if they are sorted stably.

        Args:
            similarities: `[n]` finite, of all candidates of one query.
            product_ids: `n` of them.

        Returns:
            `[n]` float64.

        Raises:
            ValueError: if the two do not fit, or a similarity is not finite.
        """
        similarities = np.asarray(similarities, np.float32)
        if similarities.shape != (len(product_ids),):
            raise ValueError(
                f"Expected one similarity for each of {len(product_ids)} "
                f"products, received the shape {similarities.shape}."
            )
        if not len(product_ids):
            return np.empty(0)
        if not np.isfinite(similarities).all():
            raise ValueError(
                "Expected finite similarities, received NaN or infinity. Leave "
                "such candidates out."
            )
        rows = page_features(similarities, self._features.of(product_ids))
        # More threads cost more than they give, and belong to the search.
        scores = self._booster.predict(rows, num_threads=1)
        return keep_floor(scores, similarities, self.similarity_floor)
