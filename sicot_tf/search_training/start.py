"""Where the embedding starts: the main directions of the recogniser's features.

Features behind a ReLU all point the same way, so that cosines of random
projections hardly differ; without their mean, and with strong directions held
back, unlike pictures are apart before the first step.
"""

import keras
import numpy as np
import tensorflow as tf

from sicot_tf.workers.collectives import Collectives

# Pictures that the directions are taken from.
NUM_PICTURES = 2048
_BATCH = 64


def start_embedding(
    search: keras.Model, pictures: tf.data.Dataset, collectives: Collectives
) -> None:
    """Sets kernel and bias of the embeddings; the same on all workers.

    Args:
        pictures: of `image` and `extents`, one by one; the first
            `NUM_PICTURES` are looked at, by the chief.
    """
    names = [name for name in ("embedding", "glimpse") if name in search.output]
    layers = [search.get_layer(name) for name in names]
    if collectives.is_chief:
        features = tf.function(
            keras.Model(search.input, [layer.input for layer in layers])
        )
        parts = [
            # Keras gives the only one of a list without the list.
            [
                each.numpy()
                for each in tf.nest.flatten(features(batch, training=False))
            ]
            for batch in pictures.take(NUM_PICTURES).batch(_BATCH)
        ]
        for layer, rows in zip(layers, zip(*parts)):
            kernel, bias = projection(np.concatenate(rows), layer.units)
            layer.kernel.assign(kernel)
            layer.bias.assign(bias)
    for layer in layers:
        for variable in layer.variables:
            own = variable.numpy() * collectives.is_chief
            variable.assign(collectives.sum_now(own.astype(np.float32)))


def projection(features: np.ndarray, dim: int) -> tuple[np.ndarray, np.ndarray]:
    """Kernel `[features_dim, dim]` and bias `[dim]`: x to (x - mean) P.

    P are the directions of most variance, each divided by the square root of
    its standard deviation; zero where there are fewer than `dim`.
    """
    features = features.astype(np.float64)
    mean = features.mean(axis=0)
    _, deviations, directions = np.linalg.svd(
        features - mean, full_matrices=False
    )
    deviations = deviations[:dim] / np.sqrt(len(features))
    kept = deviations > 1e-6 * max(deviations[0], 1e-12)
    kernel = np.zeros([features.shape[1], dim])
    kernel[:, : len(deviations)][:, kept] = directions[:dim][kept].T / np.sqrt(
        deviations[kept]
    )
    return kernel.astype(np.float32), (-mean @ kernel).astype(np.float32)
