"""One step of co-training under `strategy.run`.

`Model.fit` fails under `MultiWorkerMirroredStrategy` with two workers
(Keras 3.10 to 3.15), so the step is explicit, for one worker as for many.

All variables are plain ones, made outside the strategy's scope: those of the
classifier differ from worker to worker, and the others start equal by their
seeds and stay equal by one packed all-reduce. Mirrored variables would want a
collective for each statistic of each BatchNormalization, 106 a step for
ResNet-50.
"""

import dataclasses
from collections.abc import Callable
from typing import Any
from typing import NamedTuple

import keras
import tensorflow as tf

from sicot_tf.model import sicot
from sicot_tf.model.classifier.classifier_trainer import ClassifierStep
from sicot_tf.model.classifier.classifier_trainer import ClassifierTrainer
from sicot_tf.training import meters
from sicot_tf.training import regularization
from sicot_tf.training.losses import Losses
from sicot_tf.training.losses import example_weights
from sicot_tf.training.optimizers import StreamsOptimizer
from sicot_tf.workers.collectives import Collectives

Batch = dict[str, tf.Tensor]


def make_repeatable(seed: int) -> None:
    """Makes equal seeds train the same bit for bit, in the whole process."""
    keras.utils.set_random_seed(seed)
    tf.config.experimental.enable_op_determinism()
    # An AddN of three terms or more begins with the one whose memory it may
    # reuse (tensorflow/core/kernels/aggregate_ops.cc), whichever that is in
    # this run. This pass makes one of several sums of two.
    tf.config.optimizer.set_experimental_options(
        {"arithmetic_optimization": False}
    )


class _Examples(NamedTuple):
    """A worker's batch as its classifier sees it: the streams stacked.

    features: `[examples, ...]`; labels: `[examples]` int64; weights:
    `[examples]` float32, over the weight of the global batch.
    """

    features: tf.Tensor
    labels: tf.Tensor
    weights: tf.Tensor


# Compared and hashed as an object, for it holds tensors.
@dataclasses.dataclass(frozen=True, eq=False)
class TrainingStep:
    """Trains on one batch.

    Args:
        trainer: of the classifier.
        optimizer: of all the rest.
        is_head: `[num_classes]` float32, 1 for head classes.
        clip_norm: longest gradient; 0: not clipped.
        is_fixed: whether the streams, none of which is then trainable, run as
            in inference.
        collectives: of the job.
        feature_dropout: on x_v, or None.
    """

    streams: keras.Model
    trainer: ClassifierTrainer
    optimizer: StreamsOptimizer
    losses: Losses
    is_head: tf.Tensor
    clip_norm: float = 0.0
    is_fixed: bool = False
    collectives: Collectives = dataclasses.field(default_factory=Collectives)
    feature_dropout: regularization.FeatureDropout | None = None

    def compiled(
        self, strategy: tf.distribute.Strategy
    ) -> Callable[..., dict[str, tf.Tensor]]:
        """The step as a function that every worker calls alike.

        Returns:
            A function of this worker's batch (see
            `dataset.make_training_dataset`), the scalar float32 weight of the
            global batch, the scalar int64 step, and a scalar float32 that is
            summed and returned as `asked_to_stop`. It updates the model,
            unless something is not finite on any worker, and returns sums
            over the global batch: `loss`, `loss_visual`, `loss_mixed` and
            those on features (already divided by the weight), `num_head`,
            `num_tail` records and `correct_head`, `correct_tail` of the visual
            stream, `entropy` (of the word weights, 1 = mean pooling) and
            `num_titles` it counts; and `learning_rate`, `is_finite` and, with
            clipping, `gradient_norm`.
        """

        @tf.function(autograph=False)
        def training_step(
            batch: Batch,
            total_weight: tf.Tensor,
            step: tf.Tensor,
            asked_to_stop: tf.Tensor,
        ) -> dict[str, tf.Tensor]:
            return strategy.run(
                self._on_worker, args=(batch, total_weight, step, asked_to_stop)
            )

        return training_step

    def _on_worker(
        self,
        batch: Batch,
        total_weight: tf.Tensor,
        step: tf.Tensor,
        asked_to_stop: tf.Tensor,
    ) -> dict[str, tf.Tensor]:
        """`compiled`, as each worker runs it."""
        # === Forward ===
        old_statistics = [tf.identity(each.value) for each in self._statistics]
        outputs = self._forward(batch, step)
        examples = self._stack(batch, outputs, total_weight)
        feature_loss, feature_losses = self.losses.of_features(
            batch, outputs, total_weight, self.collectives.num_workers
        )

        # === Classifier and backward ===
        learning_rate = self.optimizer.learning_rate(step)
        classified = regularization.classify(
            *(self.trainer, batch, *examples),
            learning_rate=learning_rate,
            step=self.optimizer.num_updates,
        )
        gradients = self._backward(
            examples.features, classified.features_gradient, feature_loss
        )

        # === All workers ===
        scalars = meters.sums(
            batch, outputs, examples.weights, classified, self.is_head
        )
        if feature_loss is not None:
            scalars["loss"] += feature_loss
        scalars |= feature_losses
        scalars["asked_to_stop"] = asked_to_stop
        scalars["squared_norm"] = classified.squared_norm
        summed = self._sum_over_workers(
            gradients, classified.row_gradients, scalars
        )
        scalars = summed["scalars"]
        squared_norm = scalars.pop("squared_norm") + _squared_norm(
            summed["gradients"] + summed["row_gradients"]
        )
        is_finite = classified.is_finite & tf.math.is_finite(squared_norm)

        # === Update ===
        scale = self._scale(squared_norm)
        tf.cond(
            is_finite,
            lambda: self._update(classified, summed, scale, learning_rate),
            lambda: _assign(self._statistics, old_statistics),
        )
        scalars["learning_rate"] = learning_rate
        scalars["is_finite"] = is_finite
        if self.clip_norm:
            scalars["gradient_norm"] = tf.sqrt(squared_norm)
        return scalars

    def _forward(self, batch: Batch, step: tf.Tensor) -> dict[str, tf.Tensor]:
        """Outputs of the streams, which may see less than losses do."""
        inputs = {
            name: batch.get(f"seen_{name}", batch[name])
            for name in self.streams.input
        }
        if self.feature_dropout is None:
            return self.streams(inputs, training=not self.is_fixed)
        return self.feature_dropout.outputs(
            inputs, step, training=not self.is_fixed
        )

    @property
    def _statistics(self) -> list[Any]:
        """Of BatchNormalization; their mean over the workers is kept."""
        if self.is_fixed:
            return []
        return [
            each
            for each in self.streams.non_trainable_variables
            if each.name in ("moving_mean", "moving_variance")
        ]

    def _stack(
        self,
        batch: Batch,
        outputs: dict[str, tf.Tensor],
        total_weight: tf.Tensor,
    ) -> _Examples:
        """Both streams, which share the classifier, as one stack."""
        has_titles = "x_m" in outputs
        names = ["x_v", "x_m"] if has_titles else ["x_v"]
        return _Examples(
            tf.concat(
                [sicot.classified(outputs, name) for name in names], axis=0
            ),
            tf.concat([batch["label"]] * len(names), axis=0),
            example_weights(
                batch["weight"],
                mixed_loss_weight=(
                    self.losses.mixed_loss_weight if has_titles else None
                ),
                total_weight=total_weight,
            ),
        )

    def _backward(
        self,
        features: tf.Tensor,
        by_features: tf.Tensor,
        feature_loss: tf.Tensor | None,
    ) -> list[tf.Tensor]:
        """Gradients of the streams' variables by all losses of this worker."""
        targets = [features]
        upstream = [tf.cast(by_features, features.dtype)]
        if feature_loss is not None:
            targets.append(feature_loss)
            upstream.append(tf.ones_like(feature_loss))
        gradients = tf.gradients(
            targets,
            [each.value for each in self.streams.trainable_variables],
            upstream,
            # Sums of two, where a tape has one AddN: see `make_repeatable`.
            aggregation_method=tf.AggregationMethod.EXPERIMENTAL_TREE,
        )
        return [tf.convert_to_tensor(each) for each in gradients]

    def _sum_over_workers(
        self,
        gradients: list[tf.Tensor],
        row_gradients: list[tf.Tensor],
        scalars: dict[str, tf.Tensor],
    ) -> dict[str, Any]:
        """All that the workers add up, in one collective; means of statistics.

        Sums of what was given, by the names of the arguments, and the means
        of `_statistics` as `statistics`.
        """
        packed = {
            "gradients": gradients,
            "row_gradients": row_gradients,
            "statistics": [
                each.value / self.collectives.num_workers
                for each in self._statistics
            ],
            "scalars": tf.stack(list(scalars.values())),
        }
        summed = tf.nest.pack_sequence_as(
            packed,
            self.collectives.all_reduce_packed(tf.nest.flatten(packed)),
        )
        summed["scalars"] = dict(zip(scalars, tf.unstack(summed["scalars"])))
        return summed

    def _update(
        self,
        classified: ClassifierStep,
        summed: dict[str, Any],
        scale: tf.Tensor,
        learning_rate: tf.Tensor,
    ) -> None:
        """New values of all variables."""
        if classified.finish is not None:
            classified.finish(scale, summed["row_gradients"])
        self.optimizer.update(
            [scale * each for each in summed["gradients"]], learning_rate
        )
        _assign(self._statistics, summed["statistics"])

    def _scale(self, squared_norm: tf.Tensor) -> tf.Tensor:
        """What clipping multiplies all gradients by."""
        if not self.clip_norm:
            return tf.constant(1.0)
        return tf.minimum(1.0, self.clip_norm / tf.sqrt(squared_norm))


def _squared_norm(gradients: list[tf.Tensor]) -> tf.Tensor:
    """Of all of them together, scalar float32."""
    if not gradients:  # The visual stream alone, on a frozen backbone.
        return tf.constant(0.0)
    squares = [tf.reduce_sum(tf.square(each)) for each in gradients]
    return tf.reduce_sum(tf.stack(squares))


def _assign(variables: list[Any], values: list[tf.Tensor]) -> None:
    for variable, value in zip(variables, values, strict=True):
        variable.assign(value)
