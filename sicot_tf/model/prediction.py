"""What the visual stream recognises; the same for validation and tables."""

from collections.abc import Callable

import keras
import numpy as np
import tensorflow as tf
import tqdm

Predict = Callable[[tf.Tensor], tuple[tf.Tensor, tf.Tensor]]


def make_predict(
    visual_stream: keras.Model, classifier: keras.layers.Layer, top_k: int = 5
) -> Predict:
    """A function of images alone: there is no way for a title to get in.

    Returns:
        A function from `[batch, image_size, image_size, 3]` float32, 0 to
        255, to the best scores `[batch, k]` float32 and their labels
        `[batch, k]` int32, best first; k is `top_k` or all classes.
    """
    k = min(top_k, classifier.units)

    @tf.function(reduce_retracing=True)
    def predict(images: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        x_v = visual_stream({"image": images}, training=False)
        scores = tf.nn.softmax(tf.cast(classifier(x_v), tf.float32))
        return tf.math.top_k(scores, k)

    return predict


def predict_records(
    predict: Predict, batches: tf.data.Dataset, *, progress: str = ""
) -> dict[str, np.ndarray]:
    """Runs `predict` over an evaluation dataset.

    Args:
        progress: what a progress bar calls it; empty: no bar.

    Returns:
        `labels` `[n]` int64, `record_ids` `[n]` str, `top_labels` `[n, k]`
        int64 and `top_scores` `[n, k]` float32.
    """
    found: dict[str, list[np.ndarray]] = {
        "labels": [],
        "record_ids": [],
        "top_labels": [],
        "top_scores": [],
    }
    for batch in tqdm.tqdm(batches, desc=progress, disable=not progress):
        scores, labels = predict(batch["image"])
        found["labels"].append(batch["label"].numpy())
        record_ids = [each.decode() for each in batch["record_id"].numpy()]
        found["record_ids"].append(np.array(record_ids))
        found["top_labels"].append(labels.numpy().astype(np.int64))
        found["top_scores"].append(scores.numpy())
    return {name: np.concatenate(parts) for name, parts in found.items()}
