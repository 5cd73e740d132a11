"""The temperature that makes softmax scores probabilities."""

from collections.abc import Callable

import numpy as np
import tensorflow as tf

LEAST = 0.05
MOST = 20.0

_NUM_STEPS = 60
_TOLERANCE = 1e-6


def fit(
    classifier: Callable[[tf.Tensor], tf.Tensor],
    features: np.ndarray,
    labels: np.ndarray,
    batch_size: int = 64,
) -> float:
    """The temperature of the least cross-entropy, from LEAST to MOST.

    Temperature scaling (Guo et al., 2017, arXiv 1706.04599). Cross-entropy is
    convex in 1 / temperature: Newton's method, kept between two bounds that
    draw together. The logits of all records are never held at once.

    Args:
        classifier: from `[batch, dim]` to logits `[batch, classes]`.
        features: `[n, dim]` float32.
        labels: `[n]` integers.
    """

    @tf.function(autograph=False, reduce_retracing=True)
    def slope_and_curvature(
        x: tf.Tensor, label: tf.Tensor, scale: tf.Tensor
    ) -> tf.Tensor:
        logits = tf.cast(classifier(x), tf.float32)
        logits -= tf.reduce_max(logits, axis=1, keepdims=True)
        shares = tf.nn.softmax(scale * logits)
        mean = tf.reduce_sum(shares * logits, axis=1, keepdims=True)
        variance = tf.reduce_sum(shares * tf.square(logits - mean), axis=1)
        of_label = tf.gather(logits, label, axis=1, batch_dims=1)
        terms = tf.stack([mean[:, 0] - of_label, variance])
        return tf.reduce_sum(tf.cast(terms, tf.float64), axis=1)

    low, high, scale = 1 / MOST, 1 / LEAST, 1.0
    for _ in range(_NUM_STEPS):
        slope, curvature = sum(
            slope_and_curvature(
                tf.constant(features[start : start + batch_size]),
                tf.constant(labels[start : start + batch_size]),
                tf.constant(scale, tf.float32),
            ).numpy()
            for start in range(0, len(labels), batch_size)
        )
        low, high = (low, scale) if slope > 0 else (scale, high)
        following = scale - slope / curvature if curvature else np.inf
        if abs(following - scale) > _TOLERANCE * scale:
            if not low < following < high:
                following = np.sqrt(low * high)
        if abs(following - scale) <= _TOLERANCE * scale:
            break
        scale = following
    return float(1 / scale)


def top_scores(
    classifier: Callable[[tf.Tensor], tf.Tensor],
    features: np.ndarray,
    temperature: float,
    batch_size: int = 64,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The best class of each record, with and without the temperature.

    Returns:
        Its label `[n]` int64, its score `[n]` float32 before calibration,
        and after.
    """

    @tf.function(autograph=False, reduce_retracing=True)
    def best(x: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        logits = tf.cast(classifier(x), tf.float32)
        before, after = (
            tf.reduce_max(tf.nn.softmax(each), axis=1)
            for each in (logits, logits / temperature)
        )
        return tf.argmax(logits, axis=1), before, after

    parts = [
        [
            each.numpy()
            for each in best(tf.constant(features[start:][:batch_size]))
        ]
        for start in range(0, len(features), batch_size)
    ]
    labels, before, after = (np.concatenate(each) for each in zip(*parts))
    return labels, before, after
