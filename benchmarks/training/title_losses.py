"""What a training step costs with losses on titles, beside the baseline.

Steps of EfficientNet-Lite0 on one worker, in turns. Of wall time and of the
processor time of all threads: the median, and the median of the ratios to the
baseline's with the lowest and the highest. Words are drawn at random.

example:
  python -m benchmarks.training.title_losses
"""

import argparse
import functools
import statistics
from collections.abc import Callable

import numpy as np
import tensorflow as tf

from benchmarks.training import classifier_step_meters as meters
from sicot_tf import config
from sicot_tf.model import sicot
from sicot_tf.model.classifier.classifier_trainer import ClassifierTrainer
from sicot_tf.training.losses import make_losses
from sicot_tf.training.optimizers import StreamsOptimizer
from sicot_tf.training.optimizers import make_row_optimizer
from sicot_tf.training.step import TrainingStep

_NUM_CLASSES = 1000
_WORD_VECTOR_DIM = 128
_MAX_WORDS = 32
# Name of a way to its streams, and whether it predicts words.
_WAYS = {
    "visual": ("visual", False),
    "visual, words predicted": ("visual", True),
    "co-training": ("cotrain", False),
    "co-training, words predicted": ("cotrain", True),
}


def _make_step(
    name: str, image_size: int, num_words: int
) -> Callable[[dict[str, tf.Tensor]], None]:
    streams_name, predicts = _WAYS[name]
    train_config = config.TrainConfig(word_loss_weight=0.3)
    streams = sicot.build_streams(
        config.ModelConfig(
            streams=streams_name,
            backbone="EfficientNetLite0",
            backbone_weights="none",
            image_size=image_size,
            max_words=_MAX_WORDS,
        ),
        vocabulary_size=num_words,
        word_vector_dim=_WORD_VECTOR_DIM,
        num_predicted_words=num_words if predicts else 0,
    )
    columns = np.arange(-1, num_words, dtype=np.int32)
    losses = make_losses(
        train_config,
        np.ones(_NUM_CLASSES, int),
        columns if predicts else None,
    )
    trainer = ClassifierTrainer(
        sicot.build_classifier(_NUM_CLASSES, streams.output["x_v"].shape[-1]),
        make_row_optimizer(train_config),
        loss=losses.of_logits,
    )
    step = TrainingStep(
        *(streams, trainer, StreamsOptimizer(streams, train_config, 1000)),
        *(losses, tf.ones([_NUM_CLASSES])),
    ).compiled(tf.distribute.get_strategy())

    def run(batch: dict[str, tf.Tensor]) -> None:
        results = step(
            batch,
            tf.reduce_sum(batch["weight"]),
            tf.constant(0, tf.int64),
            tf.constant(0.0),
        )
        results["loss"].numpy()

    return run


def _make_batch(
    size: int, image_size: int, num_words: int
) -> dict[str, tf.Tensor]:
    """Titles of 4 to 12 words, as the training step gets them."""
    rng = np.random.default_rng(0)
    titles = rng.integers(1, num_words + 1, (size, _MAX_WORDS))
    lengths = rng.integers(4, 13, size)
    titles[np.arange(_MAX_WORDS) >= lengths[:, None]] = 0
    pixels = rng.uniform(0, 255, (size, image_size, image_size, 3))
    return {
        "image": tf.constant(pixels, tf.float32),
        "title_ids": tf.constant(titles, tf.int32),
        "label": tf.constant(rng.integers(0, _NUM_CLASSES, size)),
        "weight": tf.ones([size]),
    }


def main(argv: list[str] | None = None) -> None:
    """Measures and prints a line for each way."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--batch_size", type=int, default=128)
    parser.add_argument("--image_size", type=int, default=64)
    parser.add_argument("--num_words", type=int, default=5000)
    arguments = parser.parse_args(argv)
    shape = (arguments.image_size, arguments.num_words)
    batch = _make_batch(arguments.batch_size, *shape)
    times = meters.time_rounds(
        {
            name: functools.partial(_make_step(name, *shape), batch)
            for name in _WAYS
        },
        arguments.rounds,
    )
    for name, found in times.items():
        print(name)
        for clock, label in enumerate(("wall", "CPU")):
            seconds = statistics.median(each[clock] for each in found)
            ratios = [
                each[clock] / other[clock]
                for each, other in zip(found, times["visual"])
            ]
            print(
                f"  {label:<5}{1000 * seconds:6.0f} ms   x "
                f"{statistics.median(ratios):.2f} "
                f"({min(ratios):.2f} to {max(ratios):.2f})"
            )


if __name__ == "__main__":
    main()
