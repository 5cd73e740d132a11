"""Asks model and index about validation pictures, then chooses settings."""

import dataclasses
import logging
import pathlib
from typing import Any

import numpy as np

from sicot_tf.data import generations
from sicot_tf.recognition import settings as recognition_settings
from sicot_tf.recognition.stages import nearest_pictures
from sicot_tf.recognition.stages import sku_categories
from sicot_tf.recognition.tuning import asked_model
from sicot_tf.recognition.tuning import category_choice
from sicot_tf.recognition.tuning import labelled_pictures
from sicot_tf.recognition.tuning import seen_scenes

_log = logging.getLogger(__name__)
# Nothing is trained on scenes, so theirs may choose as well.
_SCENE_SPLITS = ("train", "val")


def run(
    *,
    model_path: pathlib.Path,
    product_index: pathlib.Path,
    records: str,
    scenes: str | None,
    split: str,
) -> dict[str, Any]:
    """What `recognition.json` holds.

    Args:
        model_path: base path of an exported model, or one version.
        product_index: folder of all generations, or of one.
        records: pattern of labelled pictures.
        scenes: pattern of scenes; None: the boxes' numbers stay.
        split: of the pictures; of scenes all but test are taken.

    Raises:
        ValueError: if one of them is not what it should be.
    """
    pictures = labelled_pictures.read_pictures(records, split)
    generation = generations.resolve_generation(product_index)
    settings = recognition_settings.RecognitionSettings()
    model = asked_model.AskedModel(model_path)
    answered = _ask(model, generation, pictures, settings.num_neighbours)
    settings, measured = category_choice.choose(
        answered, sku_categories.SkuCategories(generation).of, settings
    )
    measured["num_left_out"] = len(pictures) - len(answered)
    if scenes is not None:
        known = labelled_pictures.read_scenes(scenes, _SCENE_SPLITS)
        settings, measured["boxes"] = _choose_boxes(model, known, settings)
    return {
        "settings": dataclasses.asdict(settings),
        "measured": measured,
        "model_version": model.version,
        "index_generation": generation.name,
        "split": split,
    }


def _ask(
    model: asked_model.AskedModel,
    generation: pathlib.Path,
    pictures: list[labelled_pictures.LabelledPicture],
    num_neighbours: int,
) -> list[category_choice.AnsweredPicture]:
    """Answers to the pictures that can be decoded."""
    with nearest_pictures.NearestPictures(generation) as catalogue:
        if not catalogue.num_pictures:
            _log.warning(
                "%s has no embeddings, so the category is the model's alone. "
                "Build the index with --saved_model.",
                generation,
            )
        answered = []
        for picture, recognised in zip(
            pictures, model.recognise([each.image for each in pictures])
        ):
            if recognised is None:
                continue
            (neighbours,) = catalogue.search(
                recognised.embedding[np.newaxis], num_neighbours
            )
            answered.append(
                category_choice.AnsweredPicture(
                    picture.sku_id,
                    recognised.sku_ids,
                    recognised.scores,
                    recognised.recognised,
                    neighbours,
                )
            )
    return answered


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
