"""A training pass of EfficientNet-Lite0 with fused and with Keras's own norms.

Forward and backward, 32 images of 96 pixels, in turns; the median of the
ratios of neighbouring turns and their quartiles.

example:
  python -m benchmarks.training.batch_normalization
"""

import argparse
import statistics
import time
from collections.abc import Callable

import keras
import numpy as np
import tensorflow as tf
import tqdm

from sicot_tf.model.backbones import backbones
from sicot_tf.model.backbones import batch_normalization


def _with_norms_of_keras(backbone: keras.Model) -> keras.Model:
    def unfuse(layer: keras.Layer) -> keras.Layer:
        layer_class = type(layer)
        if layer_class is batch_normalization.BatchNormalization:
            layer_class = keras.layers.BatchNormalization
        return layer_class.from_config(layer.get_config())

    copy = keras.models.clone_model(backbone, clone_function=unfuse)
    copy.set_weights(backbone.get_weights())
    return copy


def _make_pass(model: keras.Model) -> Callable[[tf.Tensor], list[tf.Tensor]]:
    @tf.function
    def train(images: tf.Tensor) -> list[tf.Tensor]:
        features = model(images, training=True)
        variables = [each.value for each in model.trainable_variables]
        return tf.gradients(features, variables)

    return train


def main(argv: list[str] | None = None) -> None:
    """Measures and prints the ratio."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--rounds", type=int, default=15)
    arguments = parser.parse_args(argv)
    fused = backbones.build_backbone(
        "EfficientNetLite0", image_size=96, weights="none"
    )
    passes = [_make_pass(fused), _make_pass(_with_norms_of_keras(fused))]
    images = tf.constant(
        np.random.default_rng(0).uniform(0, 255, (32, 96, 96, 3)), tf.float32
    )
    for train in passes:
        train(images)
    ratios = []
    for _ in tqdm.trange(arguments.rounds, unit=" rounds"):
        seconds = []
        for train in passes:
            started = time.perf_counter()
            train(images)[0].numpy()
            seconds.append(time.perf_counter() - started)
        ratios.append(seconds[0] / seconds[1])
    low, middle, high = statistics.quantiles(ratios, n=4)
    print(f"fused / Keras: {middle:.2f} ({low:.2f} to {high:.2f})")


if __name__ == "__main__":
    main()
