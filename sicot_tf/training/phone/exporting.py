"""From an exported version to its files for phones, tried and measured.

model_float.tflite   32-bit weights
model_int8.tflite    8-bit weights and activations
labels.txt           the SKU id of each score, one a line
phone.json           what goes in and comes out, sizes, what was measured
"""

import dataclasses
import logging
import pathlib
from typing import Any

import numpy as np
import tensorflow as tf

import sicot_tf
from sicot_tf import config
from sicot_tf import files
from sicot_tf.data import dataset
from sicot_tf.data import generation_cache
from sicot_tf.data import generations
from sicot_tf.stores import locations
from sicot_tf.training import calibrations
from sicot_tf.training import restoring
from sicot_tf.training import runs
from sicot_tf.training.phone import conversion
from sicot_tf.training.phone import interpreter
from sicot_tf.training.phone import parity

MODELS = {"float": "model_float.tflite", "int8": "model_int8.tflite"}
LABELS = "labels.txt"
DESCRIPTION = "phone.json"
_FORMAT_VERSION = 1

_log = logging.getLogger(__name__)


def export(
    run_dir: pathlib.Path,
    version: pathlib.Path,
    output: pathlib.Path,
    *,
    dataset_dir: locations.Location | None = None,
    num_pictures: int = 200,
) -> dict[str, Any]:
    """Writes the folder for phones; it appears, or is replaced, as a whole.

    Temperature, threshold and changes after training are the version's.

    Args:
        run_dir: a training run.
        version: the SavedModel that was exported from its last checkpoint.
        output: the folder; absent, or an earlier one.
        dataset_dir: a dataset; None for the one the run trained on.
        num_pictures: training records that the ranges of the 8-bit model are
            taken from.

    Returns:
        What stands in `phone.json`.

    Raises:
        ValueError: if the version is not of these weights, or there are no
            training or validation records, or LiteRT isn't installed.
        OSError: if it can't be written.
    """
    if num_pictures < 1:
        raise ValueError(
            f"Expected 1 representative picture or more, received "
            f"{num_pictures}."
        )
    interpreter.check_installed()
    run = runs.load(run_dir)
    # Phones have no bfloat16; the weights are float32 at any rate.
    run = dataclasses.replace(
        run, model=dataclasses.replace(run.model, dtype_policy="float32")
    )
    image_size = run.model.image_size
    info = files.read_json(version / "assets.extra" / "export.json")
    changes = config.PostHocConfig(**info.get("post_hoc", {}))
    visual_stream, classifier, step = restoring.restore_visual(run, changes)
    if (
        calibrations.weights_digest(visual_stream, classifier)
        != info["weights_sha256"]
    ):
        raise ValueError(
            f"Expected {version} to hold the weights of step {step} of "
            f"{run_dir}; they are others. Export the run again."
        )
    calibrations.divide_logits(classifier, info["temperature"])
    scores = conversion.make_scores(visual_stream, classifier)

    # === Converted, tried ===
    generation = generation_cache.local_generation(
        dataset_dir or run.dataset_location,
        dataset.wanted(**{"train": (1, 0), parity.SPLIT: (1, 0)}),
    )
    sample = parity.read(generation, "train", image_size, num_pictures)
    pictures = np.concatenate([parity.pixels(batch) for batch in sample])
    _log.info("Converts, with the ranges of %d pictures", len(pictures))
    contents = {
        "float": conversion.convert_float(scores, image_size),
        "int8": conversion.convert_int8(scores, image_size, pictures),
    }
    measured = parity.measure(
        scores,
        {name: interpreter.PhoneModel(each) for name, each in contents.items()},
        parity.read(generation, parity.SPLIT, image_size),
        run.sku_ids,
        threshold=info["threshold"],
    )

    # === Written ===
    description = {
        "format_version": _FORMAT_VERSION,
        "input": {
            "name": "image",
            "shape": [1, image_size, image_size, 3],
            "type": "uint8",
        },
        "output": {
            "name": "score",
            "shape": [1, run.dataset["num_classes"]],
            "type": "float32",
        },
        "threshold": info["threshold"],
        "temperature": info["temperature"],
        "post_hoc": info.get("post_hoc", {}),
        "weights_sha256": info["weights_sha256"],
        "step": step,
        "dataset": generation.name,
        "representative_pictures": len(pictures),
        "measured": measured,
        "sicot_tf": sicot_tf.__version__,
        "tensorflow": tf.__version__,
    }
    with files.replacing_folder(
        output, known_by=DESCRIPTION, kind="export for phones"
    ) as folder:
        for name, content in contents.items():
            files.write_bytes(folder / MODELS[name], content)
        files.write_lines(folder / LABELS, run.sku_ids)
        description["files"] = generations.describe_files(folder)
        files.write_json(folder / DESCRIPTION, description)
    return description
