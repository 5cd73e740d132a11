"""From the last checkpoint of a run to a SavedModel of its visual stream."""

import logging
import pathlib
from typing import Any

import keras
import tensorflow as tf

import sicot_tf
from sicot_tf import config
from sicot_tf import files
from sicot_tf.serving import heat_maps
from sicot_tf.serving import saved_model
from sicot_tf.training import calibrations
from sicot_tf.training import restoring
from sicot_tf.training import runs
from sicot_tf.training.title_words import predicted_words

_log = logging.getLogger(__name__)


def export(
    run_dir: pathlib.Path,
    output: pathlib.Path,
    *,
    top_k: int = 5,
    changes: config.PostHocConfig = config.PostHocConfig(),
    calibration: pathlib.Path | None = None,
    use_calibration: bool = True,
    threshold: float | None = None,
    localization_size: int | None = None,
    words: bool = False,
    search: tuple[keras.Model, dict[str, Any]] | None = None,
) -> pathlib.Path:
    """Writes `output/<version>/` from the last checkpoint of a run.

    Args:
        run_dir: a training run.
        output: the model's folder; its name is the model's name.
        top_k: how many SKUs an answer holds.
        changes: of the trained classifier.
        calibration: its file; None for the run's own, if it is there and of
            this checkpoint.
        use_calibration: False leaves the scores as they are.
        threshold: the least score that counts as recognised; None for that of
            the calibration, 0 without one.
        localization_size: side in pixels of the square in which a whole photo
            is looked at for its heat map; None for the default.
        words: whether `recognition` names the words it sees, too.
        search: the network of signature `search`, and what `export.json`
            says of it; None for no such signature.

    Returns:
        The folder of the version, new or the one that holds this very
        checkpoint with the same settings already.

    Raises:
        ValueError: if `run_dir` has no checkpoint, `output` is no place for
            versions, the changes do not go with the training, `calibration`
            is one of other weights, or the run predicts no words.
        OSError: if it can't be written.
    """
    if top_k < 1:
        raise ValueError(f"Expected top_k of 1 or more, received {top_k}.")
    if threshold is not None and not 0 <= threshold <= 1:
        raise ValueError(
            f"Expected a threshold of 0 to 1, received {threshold}."
        )
    run = runs.load(run_dir)
    if localization_size is None:
        localization_size = heat_maps.default_size(run.model.image_size)
    if localization_size < run.model.image_size:
        raise ValueError(
            "Expected a localization_size of at least the model's "
            f"{run.model.image_size} pixels, received {localization_size}."
        )
    visual_stream, classifier, step = restoring.restore_visual(run, changes)
    shown_words = None
    if words:
        features_dim = visual_stream.output.shape[-1]
        shown_words = predicted_words.restore(run, features_dim)
    temperature, found = 1.0, None
    if use_calibration:
        found = calibrations.find(run, visual_stream, classifier, calibration)
    if found:
        temperature = found.temperature
        threshold = found.threshold if threshold is None else threshold
        if threshold is None:
            _log.warning(
                "The calibration found no threshold, so every product "
                "counts as recognised. Give one: --threshold 0.9"
            )
    info = {
        "sicot_tf": sicot_tf.__version__,
        "tensorflow": tf.__version__,
        "model": config.to_dict(run.model),
        "dataset": run.dataset["generation"],
        "step": step,
        "top_k": top_k,
        # What is found is of these weights, so they were hashed already.
        "weights_sha256": found.weights_sha256
        if found
        else calibrations.weights_digest(visual_stream, classifier),
        "temperature": temperature,
        "threshold": threshold or 0.0,
        "localization_size": localization_size,
        "words": words,
    }
    # Versions without any are described as before there were some.
    if changes.given():
        info["post_hoc"] = changes.given()
    if search:
        info["search"] = search[1]
    _log.info("Temperature %(temperature)g, threshold %(threshold)g", info)
    version = saved_model.next_version(output)
    newest = output / str(version - 1)
    info_path = newest / "assets.extra" / "export.json"
    if info_path.exists() and files.read_json(info_path) == info:
        return newest
    calibrations.divide_logits(classifier, temperature)
    try:
        _write(
            *(run, output / str(version), visual_stream, classifier),
            shown_words,
            search[0] if search else None,
            info,
        )
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
    shown_words: predicted_words.RestoredWords | None,
    search_network: keras.Model | None,
    info: dict[str, Any],
) -> None:
    saved_model.write(
        directory,
        image_features=visual_stream,
        classifier=classifier,
        sku_ids=[each["sku_id"] for each in run.classes],
        image_size=run.model.image_size,
        top_k=info["top_k"],
        threshold=info["threshold"],
        localization_size=info["localization_size"],
        word_classifier=shown_words.layer if shown_words else None,
        words=shown_words.words if shown_words else (),
        search_network=search_network,
        export_info=info,
        warmup_image=_warmup_image(run.model.image_size),
    )


def _warmup_image(image_size: int) -> bytes:
    """A grey ramp as JPEG: any picture warms the graph up."""
    ramp = tf.cast(tf.linspace(0, 255, image_size), tf.uint8)
    pixels = tf.broadcast_to(ramp[:, None, None], [image_size, image_size, 3])
    return tf.io.encode_jpeg(pixels).numpy()
