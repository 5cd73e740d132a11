"""What the visual stream of a run recognises."""

from collections.abc import Callable

import keras
import numpy as np
import tensorflow as tf

from sicot_tf import progress
from sicot_tf.model.classifier import class_sharded_dense

Predict = Callable[[tf.Tensor], tuple[tf.Tensor, tf.Tensor]]


def make_predict(
    visual_stream: keras.Model,
    classifier: class_sharded_dense.ClassShardedDense,
    top_k: int = 5,
) -> Predict:
    """A function of images alone: there is no way for a title to get in.

    Returns:
        A function from `[batch, image_size, image_size, 3]` float32, 0 to
        255, to the best scores `[batch, k]` float32 and their labels
        `[batch, k]` int32, best first; k is `top_k` or all classes.
    """
    k = min(top_k, classifier.num_classes)

    @tf.function(reduce_retracing=True)
    def predict(images: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        x_v = visual_stream({"image": images}, training=False)
        scores = tf.nn.softmax(tf.cast(classifier(x_v), tf.float32))
        return tf.math.top_k(scores, k)

    return predict


def predict_records(
    predict: Predict, batches: tf.data.Dataset, description: str
) -> dict[str, np.ndarray]:
    """Runs `predict` over an evaluation dataset.

    Args:
        description: what the progress bar says.

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
    for batch in progress.bar(batches, description, "batches"):
        scores, labels = predict(batch["image"])
        found["labels"].append(batch["label"].numpy())
        record_ids = [each.decode() for each in batch["record_id"].numpy()]
        found["record_ids"].append(np.array(record_ids))
        found["top_labels"].append(labels.numpy().astype(np.int64))
        found["top_scores"].append(scores.numpy())
    return {name: np.concatenate(parts) for name, parts in found.items()}
