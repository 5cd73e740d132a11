"""The co-training loss of Eq. 1, as weights of rows."""

import numpy as np
import tensorflow as tf


def row_weights(
    weights: tf.Tensor,
    *,
    mixed_loss_weight: float | None,
    total_weight: tf.Tensor,
) -> tf.Tensor:
    """The weight of each row's cross-entropy in the loss.

    Eq. 1 is `1/N sum CE(y, C(x_v)) + lambda 1/N sum CE(y, C(x_m))`. Both
    streams pass the classifier as one stack of rows, those of x_v first; the
    loss is the sum of cross-entropies times these weights, which are also its
    gradient by the cross-entropies.

    Args:
        weights: `[batch]` float32, 0 for rows that only pad a batch.
        mixed_loss_weight: lambda; None without a mixed stream.
        total_weight: scalar float32, N, the weight of the *global* batch, so
            that the workers' losses add up to the loss of one worker.

    Returns:
        `[batch]`, with a mixed stream `[2 * batch]`, float32.
    """
    weights /= total_weight
    if mixed_loss_weight is None:
        return weights
    return tf.concat([weights, mixed_loss_weight * weights], axis=0)


def make_logit_offset(tau: float, counts: np.ndarray) -> tf.Tensor | None:
    """Logit adjustment, `tau * log(share of the records)`; None without tau.

    Args:
        counts: `[num_classes]` integer, training records of each class; a
            class without any counts as one with a single record.
    """
    if not tau:
        return None
    counts = np.maximum(counts, 1)
    shares = counts / counts.sum()
    return tf.constant(tau * np.log(shares), tf.float32)
