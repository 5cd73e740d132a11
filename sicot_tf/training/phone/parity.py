"""What a model for phones loses against Keras, on validation records."""

import pathlib
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from sicot_tf import progress
from sicot_tf.data import dataset
from sicot_tf.training.phone.conversion import Scores
from sicot_tf.training.phone.interpreter import PhoneModel

SPLIT = "val"
_BATCH_SIZE = 64


def read(
    generation: pathlib.Path,
    split: str,
    image_size: int,
    max_records: int = 0,
) -> tf.data.Dataset:
    """Batches of `dataset.make_evaluation_dataset`.

    Raises:
        ValueError: if there are none.
    """
    records = dataset.RecordFiles(generation, split)
    if not len(records):
        raise ValueError(
            f"Expected {split} records in {generation}, found none. Models for "
            "phones are made and measured with training and validation "
            "records; name another --dataset."
        )
    return dataset.make_evaluation_dataset(
        records,
        image_size=image_size,
        batch_size=_BATCH_SIZE,
        max_records=max_records,
    )


def pixels(batch: dict[str, tf.Tensor]) -> np.ndarray:
    """`[b, image_size, image_size, 3]` uint8: what a phone has."""
    return np.rint(batch["image"].numpy()).astype(np.uint8)


def measure(
    scores: Scores,
    models: Mapping[str, PhoneModel],
    batches: tf.data.Dataset,
    sku_ids: Sequence[str],
    *,
    threshold: float,
) -> dict[str, Any]:
    """Keras on the server's pixels, the phone's models on rounded ones.

    Args:
        scores: the Keras model.
        sku_ids: what the scores stand for; records of others are left out.
        threshold: the least score that counts as recognised.

    Returns:
        `records`, and for `keras` and each model `top1`, the share whose best
        class is right, and `recognised`, that whose best score reaches the
        threshold; for each model also `same_top1`, the share whose best class
        is that of Keras, and `max_difference`, the largest of a score to
        Keras's on the same rounded pixels.

    Raises:
        ValueError: if no record is of a class among `sku_ids`.
    """
    place = {sku_id: label for label, sku_id in enumerate(sku_ids)}
    keras_scores = tf.function(scores, reduce_retracing=True)
    best: dict[str, list[int]] = {name: [] for name in ("keras", *models)}
    top: dict[str, list[float]] = {name: [] for name in best}
    difference = dict.fromkeys(models, 0.0)
    labels: list[int] = []
    for batch in progress.bar(batches, "For phones", "batches"):
        labels += [
            place.get(each.decode(), -1) for each in batch["sku_id"].numpy()
        ]
        rounded = pixels(batch)
        wanted = keras_scores(rounded)["score"].numpy()
        found = {"keras": keras_scores(batch["image"])["score"].numpy()}
        for name, model in models.items():
            found[name] = np.stack([model.scores(each) for each in rounded])
            largest = float(np.abs(found[name] - wanted).max())
            difference[name] = max(difference[name], largest)
        for name, each in found.items():
            best[name] += each.argmax(1).tolist()
            top[name] += each.max(1).tolist()
    known = np.array(labels) >= 0
    if not known.any():
        raise ValueError(
            f"The run knows none of the classes of the {len(labels):,} {SPLIT} "
            "records. Name the --dataset of the run."
        )
    measured: dict[str, Any] = {"split": SPLIT, "records": int(known.sum())}
    answers = {name: np.array(each)[known] for name, each in best.items()}
    for name, answer in answers.items():
        recognised = np.array(top[name])[known] >= threshold
        measured[name] = {
            "top1": float((answer == np.array(labels)[known]).mean()),
            "recognised": float(recognised.mean()),
        }
        if name in models:
            measured[name] |= {
                "same_top1": float((answer == answers["keras"]).mean()),
                "max_difference": difference[name],
            }
    return measured


def findings(description: dict[str, Any], file_names: Mapping[str, str]) -> str:
    """What `measure` found and how large the files are, as a small table."""
    measured = description["measured"]
    lines = [
        f"Of {measured['records']:,} {measured['split']} records:",
        f"{'':8}{'MB':>8}{'top-1':>8}{'loss':>8}{'recognised':>12}"
        f"{'as Keras':>10}{'max diff.':>11}",
    ]
    keras_top1 = measured["keras"]["top1"]
    lines.append(
        f"{'keras':8}{'':8}{keras_top1:8.2%}{'':8}"
        f"{measured['keras']['recognised']:12.2%}"
    )
    for name, file_name in file_names.items():
        each = measured[name]
        megabytes = description["files"][file_name]["bytes"] / 1e6
        lines.append(
            f"{name:8}{megabytes:8.2f}{each['top1']:8.2%}"
            f"{keras_top1 - each['top1']:8.2%}{each['recognised']:12.2%}"
            f"{each['same_top1']:10.2%}{each['max_difference']:11.2g}"
        )
    return "\n".join(lines)
