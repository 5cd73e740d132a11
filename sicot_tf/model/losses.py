"""The co-training loss of Eq. 1 as pure functions of tensors."""

import tensorflow as tf


def softmax_cross_entropy(labels: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
    """`-y log(softmax(logits))` of each row, in float32.

    Args:
        labels: `[batch]` integer.
        logits: `[batch, num_classes]` float.

    Returns:
        `[batch]` float32.
    """
    return tf.nn.sparse_softmax_cross_entropy_with_logits(
        labels=labels, logits=tf.cast(logits, tf.float32)
    )


def cotraining_loss(
    visual_losses: tf.Tensor,
    mixed_losses: tf.Tensor,
    weights: tf.Tensor,
    *,
    mixed_loss_weight: float,
    total_weight: tf.Tensor,
) -> tf.Tensor:
    """Eq. 1: `1/N sum CE(y, C(x_v)) + lambda 1/N sum CE(y, C(x_m))`.

    Args:
        visual_losses: `[batch]` float32, cross-entropy of the visual stream.
        mixed_losses: `[batch]` float32, of the mixed stream.
        weights: `[batch]` float32, 0 for rows that only pad a batch.
        mixed_loss_weight: lambda.
        total_weight: scalar float32, N, the weight of the *global* batch, so
            that the workers' losses add up to the loss of one worker.

    Returns:
        Scalar float32.
    """
    losses = visual_losses + mixed_loss_weight * mixed_losses
    return tf.reduce_sum(weights * losses) / total_weight
