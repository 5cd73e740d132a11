"""Heat maps of scenes, with the boxes that they should lead to."""

import dataclasses
import io
import pathlib
from collections.abc import Sequence

import numpy as np
import PIL.Image

from sicot_tf.data.decoding import picture_files
from sicot_tf.recognition.tuning import asked_model
from sicot_tf.recognition.tuning import labelled_pictures


@dataclasses.dataclass(frozen=True)
class SeenScenes:
    """Scenes that the model has looked at, one for each place in the lists.

    Attributes:
        heat_maps: `[h, w]` float32, row 0 at the top.
        boxes: the true ones, in pixels of the photo as one sees it.
        sizes: width and height of that photo.
    """

    heat_maps: list[np.ndarray]
    boxes: list[list[tuple[int, int, int, int]]]
    sizes: list[tuple[int, int]]


def look(
    model: asked_model.AskedModel, scenes: Sequence[labelled_pictures.Scene]
) -> SeenScenes:
    """Asks the model for heat maps; leaves out what can't be decoded."""
    seen = SeenScenes([], [], [])
    images = [each.image for each in scenes]
    for scene, heat_map in zip(scenes, model.heat_maps(images)):
        if heat_map is not None:
            seen.heat_maps.append(heat_map)
            seen.boxes.append(scene.boxes)
            seen.sizes.append(_size(scene.image))
    return seen


def _size(path: pathlib.Path) -> tuple[int, int]:
    """Width and height as one sees the photo, after its Exif turn."""
    content = path.read_bytes()
    with PIL.Image.open(io.BytesIO(content)) as image:
        width, height = image.size
    # 5 to 8 lie on their side.
    if picture_files.read_orientation(content) > 4:
        return height, width
    return width, height
