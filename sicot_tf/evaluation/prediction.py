"""What the visual stream of a run recognises."""

from collections.abc import Callable

import keras
import numpy as np
import tensorflow as tf

from sicot_tf import progress
from sicot_tf.model.classifier import class_sharded_dense

Predict = Callable[[tf.Tensor], dict[str, tf.Tensor]]


def make_predict(
    visual_stream: keras.Model,
    classifier: class_sharded_dense.ClassShardedDense,
    top_k: int = 5,
    temperature: float | None = None,
) -> Predict:
    """A function of images alone: there is no way for a title to get in.

    Args:
        temperature: of the run's calibration, if it has one.

    Returns:
        A function from `[batch, image_size, image_size, 3]` float32, 0 to
        255, to `top_labels` `[batch, k]` int64 and `top_scores` `[batch, k]`
        float32, best first; k is `top_k` or all classes. With a temperature
        also to `calibrated_scores` `[batch]` float32, of the best class.
    """
    k = min(top_k, classifier.num_classes)

    @tf.function(autograph=False, reduce_retracing=True)
    def predict(images: tf.Tensor) -> dict[str, tf.Tensor]:
        x_v = visual_stream({"image": images}, training=False)
        logits = tf.cast(classifier(x_v), tf.float32)
        scores, labels = tf.math.top_k(tf.nn.softmax(logits), k)
        found = {
            "top_labels": tf.cast(labels, tf.int64),
            "top_scores": scores,
        }
        if temperature is not None:
            calibrated = tf.nn.softmax(logits / temperature)
            found["calibrated_scores"] = tf.reduce_max(calibrated, axis=1)
        return found

    return predict


def make_embed(visual_stream: keras.Model) -> Predict:
    """As `make_predict`, but to `features` `[batch, dim]` float32."""

    @tf.function(autograph=False, reduce_retracing=True)
    def embed(images: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"features": visual_stream({"image": images}, training=False)}

    return embed


def predict_records(
    predict: Predict, batches: tf.data.Dataset, description: str
) -> dict[str, np.ndarray]:
    """Runs `predict` over an evaluation dataset.

    Args:
        description: what the progress bar says.

    Returns:
        `labels` `[n]` int64, `record_ids` `[n]` str, and all that `predict`
        returns, `[n, ...]`.
    """
    parts: dict[str, list[np.ndarray]] = {"labels": [], "record_ids": []}
    for batch in progress.bar(batches, description, "batches"):
        parts["labels"].append(batch["label"].numpy())
        record_ids = [each.decode() for each in batch["record_id"].numpy()]
        parts["record_ids"].append(np.array(record_ids))
        for name, value in predict(batch["image"]).items():
            parts.setdefault(name, []).append(value.numpy())
    return {name: np.concatenate(each) for name, each in parts.items()}
