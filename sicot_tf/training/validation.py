"""Accuracy on the validation records, while a run trains."""

from collections.abc import Callable
from contextlib import AbstractContextManager

import keras
import numpy as np
import tensorflow as tf

from sicot_tf.model.classifier.class_sharded_dense import ClassShardedDense
from sicot_tf.workers.collectives import Collectives

CountRight = Callable[[dict[str, tf.Tensor]], tf.Tensor]


def make_count_right(
    visual_stream: keras.Model,
    classifier: ClassShardedDense,
    is_head: tf.Tensor,
) -> CountRight:
    """A function that counts what is recognised, for validation.

    Args:
        visual_stream: `image` to what the classifier gets of `x_v`.
        is_head: `[num_classes]` float32, 1 for head classes.

    Returns:
        A function of a batch of `dataset.make_evaluation_dataset`, which
        every worker must call equally often; it returns `[2, 2]` float32 of
        this worker's examples: for head and tail their number, and of those
        whose best class is their label.
    """

    @tf.function(autograph=False, reduce_retracing=True)
    def count_right(batch: dict[str, tf.Tensor]) -> tf.Tensor:
        x_v = visual_stream({"image": batch["image"]}, training=False)
        _, best = classifier.top_k(x_v, 1)
        right = tf.cast(best[:, 0] == batch["label"], tf.float32)
        in_head = tf.gather(is_head, batch["label"])
        groups = batch["weight"] * tf.stack([in_head, 1 - in_head])
        return tf.stack(
            [tf.reduce_sum(groups, 1), tf.reduce_sum(groups * right, 1)], 1
        )

    return count_right


def validate(
    count_right: CountRight,
    batches: tf.data.Dataset,
    collectives: Collectives,
    limit: Callable[[], AbstractContextManager],
) -> dict[str, float]:
    """Accuracy of the visual stream, by group, as a row of the curve.

    Args:
        limit: of the time of a batch, and of a sum over the workers.
    """
    counts = np.zeros([2, 2], np.float32)
    for batch in batches:
        with limit():
            counts += count_right(batch).numpy()
    with limit():
        counts = collectives.sum_now(counts)
    row = {"val_top1": float(counts[:, 1].sum() / counts[:, 0].sum())}
    for name, (num_rows, num_right) in zip(("head", "tail"), counts):
        if num_rows:
            row[f"val_top1_{name}"] = float(num_right / num_rows)
    return row
