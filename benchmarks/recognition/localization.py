"""How well boxes fit, and whether crops are recognised better than the photo.

Asks an exported model itself, without a server, about scenes whose boxes are
known, and about pictures of one product that fill the photo. Intervals of 95 %
draw scenes, or SKUs, anew.

examples:
  python -m benchmarks.recognition.localization
  python -m benchmarks.recognition.localization --split test
"""

import argparse
import pathlib

import numpy as np

from sicot_tf import command_line
from sicot_tf.recognition import settings as recognition_settings
from sicot_tf.recognition.stages import localization
from sicot_tf.recognition.stages import photos

_MARGINS = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6)


def main() -> None:
    """Prints the tables."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--model", type=pathlib.Path, default="saved_models/sicot"
    )
    parser.add_argument("--scenes", default="demo/shop/scenes-*.jsonl")
    parser.add_argument("--records", default="demo/shop/records-*.jsonl")
    parser.add_argument(
        "--split",
        choices=("train+val", "val", "test"),
        default="train+val",
        help="of scenes, on which nothing is trained; pictures are those of "
        "val or test (default: %(default)s)",
    )
    parser.add_argument(
        "--num_pictures",
        type=int,
        default=300,
        help="pictures of one product; 0 for none (default: %(default)s)",
    )
    parser.add_argument(
        "--settings",
        type=pathlib.Path,
        help="what tune_recognition wrote (default: the default settings)",
    )
    arguments = parser.parse_args()
    command_line.import_tensorflow()
    from sicot_tf.recognition.tuning import asked_model
    from sicot_tf.recognition.tuning import labelled_pictures

    splits = arguments.split.split("+")
    settings = recognition_settings.RecognitionSettings()
    if arguments.settings:
        settings = recognition_settings.read(arguments.settings)
    asked = Asked(asked_model.AskedModel(arguments.model), settings)
    print(
        f"threshold {settings.heat_threshold:g}, mass {settings.heat_mass:g}, "
        f"margin {settings.box_margin:g}"
    )
    _measure_scenes(
        asked,
        labelled_pictures.read_scenes(arguments.scenes, splits),
        arguments.split,
    )
    if arguments.num_pictures:
        pictures = labelled_pictures.read_pictures(
            arguments.records, splits[-1]
        )
        drawn = np.random.default_rng(0).permutation(len(pictures))
        _measure_pictures(
            asked,
            [pictures[each] for each in drawn[: arguments.num_pictures]],
            splits[-1],
        )


class Asked:
    """A model, and the boxes that the settings make of its heat maps."""

    def __init__(self, model, settings):
        self._model, self._settings = model, settings

    def whole(self, images):
        """`[photos]` best SKUs and `[photos]` scores."""
        return self._best([each.read_bytes() for each in images])

    def boxes(self, images):
        """Those that are found in each photo, the main one first."""
        found = []
        for image, heat_map in zip(images, self._model.heat_maps(images)):
            photo = photos.read(image.read_bytes())
            found.append(
                localization.find_boxes(
                    heat_map,
                    width=photo.width,
                    height=photo.height,
                    settings=self._settings,
                )
            )
        return found

    def crops(self, images, boxes, margin=0.0):
        """`[boxes]` best SKUs and scores, cut as the service cuts.

        Args:
            images: of each box.
            boxes: as many.
            margin: by which they grow.
        """
        pictures = []
        for image, box in zip(images, boxes):
            photo = photos.read(image.read_bytes())
            size = {"width": photo.width, "height": photo.height}
            grown = localization.grow(box, margin, **size)
            pictures += photos.encode_crops(
                photo, [localization.to_square(grown, **size)]
            )
        return self._best(pictures)

    def _best(self, pictures):
        answers = self._model.recognise(pictures)
        return (
            np.array([each.sku_ids[0] for each in answers]),
            np.array([each.scores[0] for each in answers]),
        )


def _measure_scenes(asked, scenes, split):
    images = [each.image for each in scenes]
    # Of each object: its scene, box and SKU.
    owners = np.repeat(range(len(scenes)), [len(s.boxes) for s in scenes])
    known = [box for each in scenes for box in each.boxes]
    sku_ids = np.array([sku for each in scenes for sku in each.sku_ids])
    object_images = [images[each] for each in owners]
    found = asked.boxes(images)
    fit = [
        max(found[owner], key=lambda each: localization.overlap(each, box))
        for owner, box in zip(owners, known)
    ]
    objects = [localization.overlap(*both) for both in zip(fit, known)]
    main = [
        max(localization.overlap(boxes[0], each) for each in scene.boxes)
        for boxes, scene in zip(found, scenes)
    ]
    scene_numbers = np.arange(len(scenes))
    print(f"{len(scenes)} {split} scenes, {len(known)} objects")
    _print("IoU in %, objects", objects, owners)
    _print("IoU in %, main box", main, scene_numbers)

    def is_there(answered):
        return np.array(
            [sku in scene.sku_ids for sku, scene in zip(answered, scenes)]
        )

    _print_ways(
        asked, images, [boxes[0] for boxes in found], is_there, scene_numbers
    )
    print("of each object, its SKU in %")
    answered, _ = asked.crops(object_images, fit)
    _print("crop of the box that fits best", answered == sku_ids, owners)
    for margin in _MARGINS:
        answered, _ = asked.crops(object_images, known, margin)
        _print(
            f"crop of the known box, margin {margin:g}",
            answered == sku_ids,
            owners,
        )


def _measure_pictures(asked, pictures, split):
    images = [each.image for each in pictures]
    sku_ids = np.array([each.sku_id for each in pictures])
    _, numbers = np.unique(sku_ids, return_inverse=True)
    print(f"{len(pictures)} {split} pictures of one product each")
    _print_ways(
        asked,
        images,
        [boxes[0] for boxes in asked.boxes(images)],
        lambda answered: answered == sku_ids,
        numbers,
    )


def _print_ways(asked, images, main_boxes, is_right, groups):
    """The whole photo, its main crop, and the surer one, as the service."""
    whole_skus, whole_scores = asked.whole(images)
    crop_skus, crop_scores = asked.crops(images, main_boxes)
    whole, crop = is_right(whole_skus), is_right(crop_skus)
    surer = np.where(whole_scores >= crop_scores, whole, crop)
    print("best SKU in the photo in %")
    _print("whole photo", whole, groups)
    _print("main crop", crop, groups)
    _print("the surer one of both", surer, groups)
    _print("main crop less whole photo", crop * 1.0 - whole, groups)
    _print("surer one less whole photo", surer * 1.0 - whole, groups)


def _print(name, values, groups):
    from sicot_tf.recognition.tuning import candidates

    found = candidates.accuracy(np.asarray(values, float), groups)
    value, low, high = (100 * found[each] for each in ("right", "low", "high"))
    print(f"  {name:<34}{value:6.1f} ({low:5.1f} to {high:5.1f})", flush=True)


if __name__ == "__main__":
    main()
