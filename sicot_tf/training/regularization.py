"""What makes a step harder to learn by heart: dropout on x_v, soft targets.

The noise of a step is a function of (seed, step) and of an example's place in
the global batch, so that a resumed run and any number of workers see the same.
Pictures are mixed, and words left out, where records are read:
`dataset.make_training_dataset`.
"""

from typing import Any

import keras
import tensorflow as tf

from sicot_tf import config
from sicot_tf.model import sicot
from sicot_tf.model.classifier.classifier_trainer import ClassifierStep
from sicot_tf.model.classifier.classifier_trainer import ClassifierTrainer
from sicot_tf.workers.collectives import Collectives

# Beside the seed; a classifier that samples classes has 0.
_NOISE = 1


class FeatureDropout:
    """The streams in training, with inverted dropout on `x_v`.

    It comes before the classifier and all that the streams make of `x_v`.
    `keras.layers.Dropout` has a state of its own: it would differ between
    workers, and start again with a resumed run.

    Args:
        rate: share of the features that become 0; the others are divided by
            1 - rate.
        collectives: of the job; worker w of M takes rows w::M of the noise.
    """

    def __init__(
        self,
        streams: keras.Model,
        rate: float,
        seed: int,
        collectives: Collectives,
    ):
        self._visual_stream = sicot.visual_stream(streams)
        self._after_visual_stream = sicot.after_visual_stream(streams)
        self._rate = rate
        self._seed = seed
        self._collectives = collectives

    def outputs(
        self,
        inputs: dict[str, tf.Tensor],
        step: tf.Tensor,
        training: bool = True,
    ) -> dict[str, tf.Tensor]:
        """As `streams(inputs, training)`; step: scalar int64."""
        others = dict(inputs)
        x_v = self._visual_stream(
            {"image": others.pop("image")}, training=training
        )
        x_v *= tf.cast(self.factors(x_v.shape, step), x_v.dtype)
        outputs = {"x_v": x_v}
        if self._after_visual_stream is not None:
            outputs |= self._after_visual_stream(
                [x_v, *others.values()], training=training
            )
        return outputs

    def factors(self, shape: tuple[int, int], step: tf.Tensor) -> tf.Tensor:
        """`[batch, dim]` float32 of this worker: 0 or 1 / (1 - rate)."""
        num_examples, dim = shape
        num_workers = self._collectives.num_workers
        noise = tf.random.stateless_uniform(
            [num_workers * num_examples, dim],
            tf.random.experimental.stateless_fold_in(
                tf.constant([self._seed, _NOISE], tf.int64), step
            ),
        )[self._collectives.worker_index :: num_workers]
        return tf.cast(noise >= self._rate, tf.float32) / (1.0 - self._rate)


def make_feature_dropout(
    streams: keras.Model,
    train_config: config.TrainConfig,
    collectives: Collectives,
) -> FeatureDropout | None:
    """What the settings ask for; None without `--dropout`."""
    if not train_config.dropout:
        return None
    return FeatureDropout(
        streams, train_config.dropout, train_config.seed, collectives
    )


def classify(
    trainer: ClassifierTrainer,
    batch: dict[str, tf.Tensor],
    features: tf.Tensor,
    labels: tf.Tensor,
    weights: tf.Tensor,
    **settings: Any,
) -> ClassifierStep:
    """`trainer.step`, on the soft targets of mixup where a batch has them.

    The cross-entropy with a target of two labels is the sum of both, by their
    shares, so each example passes the classifier twice: exact for any loss on
    logits, and with sampled classes both labels are among them. It doubles
    the classifier's work of a step.

    Args:
        batch: with `partner_label` and `own_share` if it is mixed.
        features: `[n * batch, dim]` of n streams; labels and weights alike.

    Returns:
        Of each example the loss on its soft target, and whether no class
        beats its own label.
    """
    if "partner_label" not in batch:
        return trainer.step(features, labels, weights, **settings)
    num_examples = labels.shape[0]
    num_streams = num_examples // batch["label"].shape[0]
    partner_labels, own_share = (
        tf.concat([batch[name]] * num_streams, axis=0)
        for name in ("partner_label", "own_share")
    )
    found = trainer.step(
        tf.concat([features, features], axis=0),
        tf.concat([labels, partner_labels], axis=0),
        tf.concat([own_share * weights, (1 - own_share) * weights], axis=0),
        **settings,
    )
    own, partner = tf.split(found.losses, 2)
    by_own, by_partner = tf.split(found.features_gradient, 2)
    return found._replace(
        losses=own_share * own + (1 - own_share) * partner,
        is_best=found.is_best[:num_examples],
        features_gradient=by_own + by_partner,
    )
