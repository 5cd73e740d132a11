"""From the last checkpoint of a run to a SavedModel of its visual stream."""

import hashlib
import pathlib
from typing import Any

import keras
import tensorflow as tf

import sicot_tf
from sicot_tf import config
from sicot_tf import files
from sicot_tf.serving import saved_model
from sicot_tf.training import restoring
from sicot_tf.training import runs


def export(
    run_dir: pathlib.Path,
    output: pathlib.Path,
    *,
    top_k: int = 5,
    changes: config.PostHocConfig = config.PostHocConfig(),
) -> pathlib.Path:
    """Writes `output/<version>/` from the last checkpoint of a run.

    Args:
        run_dir: a training run.
        output: the model's folder; its name is the model's name.
        top_k: how many SKUs an answer holds.
        changes: of the trained classifier.

    Returns:
        The folder of the version, new or the one that holds this very
        checkpoint already.

    Raises:
        ValueError: if `run_dir` has no checkpoint, `output` is no place for
            versions, or the changes do not go with the training.
        OSError: if it can't be written.
    """
    if top_k < 1:
        raise ValueError(f"Expected top_k of 1 or more, received {top_k}.")
    run = runs.load(run_dir)
    visual_stream, classifier, step = restoring.restore_visual(run, changes)
    info = {
        "sicot_tf": sicot_tf.__version__,
        "tensorflow": tf.__version__,
        "model": config.to_dict(run.model),
        "dataset": run.dataset["generation"],
        "step": step,
        "top_k": top_k,
        "weights_sha256": _digest(visual_stream.variables)
        + _digest(classifier.variables),
    }
    # Versions without any are described as before there were some.
    if changes.given():
        info["post_hoc"] = changes.given()
    version = saved_model.next_version(output)
    newest = output / str(version - 1)
    info_path = newest / "assets.extra" / "export.json"
    if info_path.exists() and files.read_json(info_path) == info:
        return newest
    try:
        _write(run, output / str(version), visual_stream, classifier, info)
    except tf.errors.ResourceExhaustedError as error:
        if "No space left" not in error.message:
            raise
        raise OSError(f"No space left on the disk of {output}.") from error
    return output / str(version)


def _write(
    run: runs.Run,
    directory: pathlib.Path,
    visual_stream: keras.Model,
    classifier: keras.Layer,
    info: dict[str, Any],
) -> None:
    saved_model.write(
        directory,
        image_features=visual_stream,
        classifier=classifier,
        sku_ids=[each["sku_id"] for each in run.classes],
        image_size=run.model.image_size,
        top_k=info["top_k"],
        export_info=info,
        warmup_image=_warmup_image(run.model.image_size),
    )


def _digest(variables: list) -> str:
    """Short hash of variables' values in order."""
    digest = hashlib.sha256()
    for variable in variables:
        digest.update(variable.numpy().tobytes())
    return digest.hexdigest()[:16]


def _warmup_image(image_size: int) -> bytes:
    """A grey ramp as JPEG: any picture warms the graph up."""
    ramp = tf.cast(tf.linspace(0, 255, image_size), tf.uint8)
    pixels = tf.broadcast_to(ramp[:, None, None], [image_size, image_size, 3])
    return tf.io.encode_jpeg(pixels).numpy()
