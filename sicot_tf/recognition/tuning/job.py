"""Asks model and index about validation pictures, then chooses settings."""

import dataclasses
import logging
import pathlib
from collections.abc import Collection
from collections.abc import Sequence
from typing import Any

import numpy as np

from sicot_tf.data import generation_cache
from sicot_tf.data import generations
from sicot_tf.recognition import settings as recognition_settings
from sicot_tf.recognition.stages import category
from sicot_tf.recognition.stages import sku_categories
from sicot_tf.recognition.tuning import asked_model
from sicot_tf.recognition.tuning import catalogue_search
from sicot_tf.recognition.tuning import category_choice
from sicot_tf.recognition.tuning import labelled_pictures
from sicot_tf.recognition.tuning import search_choice
from sicot_tf.recognition.tuning import seen_scenes
from sicot_tf.stores import locations

_log = logging.getLogger(__name__)
# Nothing is trained on scenes, so theirs may choose as well.
_SCENE_SPLITS = ("train", "val")


def run(
    *,
    model_path: pathlib.Path,
    product_index: locations.Location,
    records: str,
    scenes: str | None,
    split: str,
    vectors: pathlib.Path | None = None,
    queries: str | None = None,
) -> dict[str, Any]:
    """What `recognition.json` holds.

    Args:
        model_path: base path of an exported model, or one version.
        product_index: folder of all generations, or of one.
        records: pattern of labelled pictures.
        scenes: pattern of scenes; None: the boxes' numbers stay.
        split: of the pictures; of scenes all but test are taken.
        vectors: vector index of the release to be; None: it has none.
        queries: pattern of labelled queries, also of SKUs that no record has;
            None: what the search says in the SKU stays.

    Raises:
        ValueError: if one of them is not what it should be.
    """
    pictures = labelled_pictures.read_pictures(records, split)
    generation = generation_cache.local_generation(product_index)
    settings = recognition_settings.RecognitionSettings()
    model = asked_model.AskedModel(model_path)
    categories_of = sku_categories.SkuCategories(generation).of
    if vectors is not None:
        vectors = generations.resolve_generation(vectors)
    with catalogue_search.CatalogueSearch(
        model, generation, vectors
    ) as catalogue:
        if not catalogue.num_pictures:
            _log.warning(
                "%s has no embeddings, so the category is the model's alone. "
                "Build the index with --saved_model.",
                generation,
            )
        answered, _ = ask(model, catalogue, pictures, settings.num_neighbours)
        settings, measured = category_choice.choose(
            answered, categories_of, settings
        )
        measured["num_left_out"] = len(pictures) - len(answered)
        if queries is not None:
            settings, measured["search"] = _choose_search(
                model,
                catalogue,
                labelled_pictures.read_pictures(queries, split),
                labelled_pictures.read_sku_ids(records),
                categories_of,
                settings,
                has_results=vectors is not None,
            )
    if scenes is not None:
        known = labelled_pictures.read_scenes(scenes, _SCENE_SPLITS)
        settings, measured["boxes"] = _choose_boxes(model, known, settings)
    return {
        "settings": dataclasses.asdict(settings),
        "measured": measured,
        "model_version": model.version,
        "index_generation": generation.name,
        "vector_index_generation": vectors and vectors.name,
        "split": split,
    }


def ask(
    model: asked_model.AskedModel,
    catalogue: catalogue_search.CatalogueSearch,
    pictures: Sequence[labelled_pictures.LabelledPicture],
    num_neighbours: int,
) -> tuple[list[category_choice.AnsweredPicture], list[np.ndarray | None]]:
    """Answers to the pictures that can be decoded, and what is looked for."""
    images = [each.image for each in pictures]
    recognised = model.recognise(images)
    queries = catalogue.queries(images, recognised)
    answered, kept = [], []
    for picture, found, query in zip(pictures, recognised, queries):
        if found is None:
            continue
        answered.append(
            category_choice.AnsweredPicture(
                picture.sku_id,
                found.sku_ids,
                found.scores,
                found.recognised,
                catalogue.neighbours(query, num_neighbours),
            )
        )
        kept.append(query)
    return answered, kept


def _choose_search(
    model: asked_model.AskedModel,
    catalogue: catalogue_search.CatalogueSearch,
    pictures: Sequence[labelled_pictures.LabelledPicture],
    known: Collection[str],
    categories_of: category.CategoriesOf,
    settings: recognition_settings.RecognitionSettings,
    *,
    has_results: bool,
) -> tuple[recognition_settings.RecognitionSettings, dict[str, Any]]:
    """The settings with what the search says in the SKU."""
    answered, queries = ask(model, catalogue, pictures, settings.num_neighbours)
    settings, measured = search_choice.choose(
        answered, known, categories_of, settings
    )
    if has_results:
        shares = [
            search_choice.shares_of(each, categories_of, settings)
            for each in answered
        ]
        settings, measured["category_of_results"] = (
            search_choice.choose_certainty(
                [
                    catalogue.ranks(query, next(iter(share), None), each.sku_id)
                    for each, query, share in zip(answered, queries, shares)
                ],
                [next(iter(share.values()), 0.0) for share in shares],
                [each.sku_id for each in answered],
                settings,
            )
        )
    return settings, measured


def _choose_boxes(
    model: asked_model.AskedModel,
    scenes: list[labelled_pictures.Scene],
    settings: recognition_settings.RecognitionSettings,
) -> tuple[recognition_settings.RecognitionSettings, dict[str, Any]]:
    """The settings with those of the boxes, and how well boxes fit."""
    # Takes OpenCV along, which nothing else here needs.
    from sicot_tf.recognition.stages import localization

    seen = seen_scenes.look(model, scenes)
    maps, boxes, sizes = seen.heat_maps, seen.boxes, seen.sizes
    chosen = localization.choose_localization(maps, boxes, sizes, settings)
    return chosen, {
        "splits": list(_SCENE_SPLITS),
        "num_scenes": len(maps),
        "num_objects": sum(map(len, boxes)),
        **{
            name: dataclasses.asdict(
                localization.measure(maps, boxes, sizes, each)
            )
            for name, each in (("default", settings), ("chosen", chosen))
        },
    }
