"""The losses of a training step: a new one is written and added here.

A loss on logits is a function of `LogitStatistics` and labels `[N]`, of the
examples of all workers, that gives `[N]` losses. The statistics are what is
known of logits that lie on several workers; TensorFlow differentiates by them.

A loss on features is a function of a worker's batch and of the outputs of the
streams (`x_v`, `x_m`, `attention`, `word_logits`). It gives `[batch]` losses,
of which the mean counts as in Eq. 1, or a scalar, of which the mean over the
workers does.

`make_losses` puts together what the settings ask for.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from sicot_tf import config
from sicot_tf.model.classifier import post_hoc
from sicot_tf.model.classifier import sharded_softmax
from sicot_tf.model.classifier.sharded_softmax import LogitStatistics


class FeatureLoss(NamedTuple):
    """A loss on features, its weight, and its name in the curve."""

    name: str
    weight: float
    loss: Callable[[dict[str, tf.Tensor], dict[str, tf.Tensor]], tf.Tensor]


# Compared and hashed by identity: tensors can't be compared for a dict key.
@dataclasses.dataclass(frozen=True, eq=False)
class Losses:
    """What a step minimises.

    mixed_loss_weight: lambda of Eq. 1. logit_offset: `[num_classes]` float32
    added to the logits while training, or None. on_logits, on_features: all
    are added up; see above.
    """

    mixed_loss_weight: float
    on_logits: tuple[sharded_softmax.LogitLoss, ...]
    on_features: tuple[FeatureLoss, ...] = ()
    logit_offset: tf.Tensor | None = None

    def of_logits(
        self, statistics: LogitStatistics, labels: tf.Tensor
    ) -> tf.Tensor:
        """`[N]` sums of the losses on logits, without the examples' weights."""
        return sharded_softmax.sum_in_order(
            loss(statistics, labels) for loss in self.on_logits
        )

    def of_features(
        self,
        batch: dict[str, tf.Tensor],
        outputs: dict[str, tf.Tensor],
        total_weight: tf.Tensor,
        num_workers: int,
    ) -> tuple[tf.Tensor | None, dict[str, tf.Tensor]]:
        """This worker's share of the losses on features.

        Returns:
            Their weighted sum, None without any, and each without its weight
            by its name in the curve.
        """
        shares = {}
        for name, _, loss in self.on_features:
            values = tf.cast(loss(batch, outputs), tf.float32)
            if values.shape.rank == 0:
                shares[f"loss_{name}"] = values / num_workers
            else:
                weights = batch["weight"] / total_weight
                shares[f"loss_{name}"] = tf.reduce_sum(weights * values)
        if not shares:
            return None, {}
        total = sharded_softmax.sum_in_order(
            each.weight * share
            for each, share in zip(self.on_features, shares.values())
        )
        return total, shares


def make_losses(
    train_config: config.TrainConfig,
    train_counts: np.ndarray,
    word_columns: np.ndarray | None = None,
) -> Losses:
    """The losses that the settings ask for.

    Args:
        train_counts: `[num_classes]` integer, training records of each class.
        word_columns: see `predicted_words`; None if none are predicted.
    """
    if train_config.label_aware_smoothing:
        smoothing = label_aware_smoothing(
            train_counts,
            most_frequent=train_config.label_aware_smoothing,
            rarest=train_config.label_smoothing,
        )
        on_logits = [
            functools.partial(
                label_aware_cross_entropy, smoothing=tf.constant(smoothing)
            )
        ]
    else:
        on_logits = [
            functools.partial(
                smoothed_cross_entropy, smoothing=train_config.label_smoothing
            )
        ]
    on_features: list[FeatureLoss] = []
    if word_columns is not None:
        loss = functools.partial(
            predicted_words, word_columns=tf.constant(word_columns)
        )
        on_features.append(
            FeatureLoss("words", train_config.word_loss_weight, loss)
        )
    if train_config.distillation_weight:
        on_features.append(
            FeatureLoss(
                "distillation", train_config.distillation_weight, distillation
            )
        )
    return Losses(
        mixed_loss_weight=train_config.mixed_loss_weight,
        on_logits=tuple(on_logits),
        on_features=tuple(on_features),
        logit_offset=make_logit_offset(
            train_config.logit_adjustment, train_counts
        ),
    )


# === On logits ===


def smoothed_cross_entropy(
    statistics: LogitStatistics, labels: tf.Tensor, smoothing: float
) -> tf.Tensor:
    """`[N]` cross-entropy with a part of the label's probability on all."""
    del labels  # All have the same smoothing.
    return sharded_softmax.cross_entropy(statistics, smoothing)


def label_aware_smoothing(
    counts: np.ndarray, *, most_frequent: float, rarest: float
) -> np.ndarray:
    """`[num_classes]` float32, the concave form of Zhong et al.

    `rarest + (most_frequent - rarest) * sin(pi / 2 * x)`, where x goes from 0
    at the fewest training records to 1 at the most (MiSLAS, CVPR 2021, section
    3.2). Frequent classes are predicted too surely, rare ones are not.

    Args:
        counts: `[num_classes]` integer, training records of each class.

    Raises:
        ValueError: unless 0 <= rarest <= most_frequent < 1.
    """
    if not 0 <= rarest <= most_frequent < 1:
        raise ValueError(
            "Expected a label_aware_smoothing from label_smoothing up, below "
            f"1, received {most_frequent} with a label_smoothing of {rarest}."
        )
    fewest, most = counts.min(), counts.max()
    share = (counts - fewest) / max(1, most - fewest)
    smoothing = rarest + (most_frequent - rarest) * np.sin(np.pi / 2 * share)
    return smoothing.astype(np.float32)


def label_aware_cross_entropy(
    statistics: LogitStatistics, labels: tf.Tensor, smoothing: tf.Tensor
) -> tf.Tensor:
    """`[N]` cross-entropy, smoothed by `[num_classes]` of the label's class."""
    return sharded_softmax.cross_entropy(
        statistics, tf.gather(smoothing, labels)
    )


def make_logit_offset(tau: float, counts: np.ndarray) -> tf.Tensor | None:
    """Logit adjustment, `tau * log(share of the records)`; None without tau.

    Args:
        counts: `[num_classes]` integer, training records of each class.
    """
    if not tau:
        return None
    return tf.constant(tau * post_hoc.log_shares(counts), tf.float32)


# === On features ===


def predicted_words(
    batch: dict[str, tf.Tensor],
    outputs: dict[str, tf.Tensor],
    word_columns: tf.Tensor,
) -> tf.Tensor:
    """`[batch]` sigmoid cross-entropy, summed over the predicted words.

    0 for a record without any of these words: its title may be missing.

    Args:
        word_columns: `[vocabulary_size + 1]` int32, by word id its place in
            `word_logits`, -1 for words that are not predicted.
    """
    logits = outputs["word_logits"]
    targets = word_targets(
        batch["title_ids"], word_columns, num_words=logits.shape[1]
    )
    losses = tf.nn.sigmoid_cross_entropy_with_logits(targets, logits)
    return tf.reduce_max(targets, axis=1) * tf.reduce_sum(losses, axis=1)


def word_targets(
    title_ids: tf.Tensor, word_columns: tf.Tensor, num_words: int
) -> tf.Tensor:
    """`[batch, max_words]` ids to `[batch, num_words]` float32, 1 or 0."""
    num_records = title_ids.shape[0]
    columns = tf.gather(word_columns, title_ids)
    places = columns + num_words * tf.range(num_records)[:, None]
    # The highest, for a title may repeat a word; places below 0 are dropped.
    found = tf.math.unsorted_segment_max(
        tf.ones_like(places),
        tf.where(columns < 0, -1, places),
        num_records * num_words,
    )
    found = tf.reshape(found, [num_records, num_words])
    return tf.cast(found > 0, tf.float32)


def distillation(
    batch: dict[str, tf.Tensor], outputs: dict[str, tf.Tensor]
) -> tf.Tensor:
    """`[batch]` mean squared distance of x_v from x_m, which is held.

    The visual stream learns from the mixed one: where a title raises a
    feature above the picture's. FitNets (arXiv 1412.6550, equation 3), whose
    distance is exact wherever the classes lie; that of softened softmaxes
    would want the logits of both streams side by side.
    """
    del batch
    x_v, x_m = (tf.cast(outputs[name], tf.float32) for name in ("x_v", "x_m"))
    distance = tf.square(x_v - tf.stop_gradient(x_m))
    return tf.reduce_mean(distance, axis=1)


# === Weights of examples ===


def example_weights(
    weights: tf.Tensor,
    *,
    mixed_loss_weight: float | None,
    total_weight: tf.Tensor,
) -> tf.Tensor:
    """The weight of each example's loss on logits.

    Eq. 1 is `1/N sum CE(y, C(x_v)) + lambda 1/N sum CE(y, C(x_m))`. Both
    streams pass the classifier as one stack of examples, those of x_v first.

    Args:
        weights: `[batch]` float32, 0 for records that only pad a batch.
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
