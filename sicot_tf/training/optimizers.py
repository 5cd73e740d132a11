"""Optimizers of a training run, and the schedule of their learning rate."""

from typing import Any

import keras
import tensorflow as tf

from sicot_tf import config
from sicot_tf.model.classifier import row_optimizers


@keras.saving.register_keras_serializable(package="sicot_tf")
class StepDecay(keras.optimizers.schedules.LearningRateSchedule):
    """`initial * decay_rate ** floor(step / decay_steps)`, after a warm-up.

    The paper (section 4.3) says "step 1, gamma 0.8" and not of what; one
    epoch is the reading under which learning goes on after 100 steps.
    """

    def __init__(
        self,
        initial: float,
        decay_rate: float,
        decay_steps: float,
        warmup_steps: float = 0.0,
    ):
        self.initial = initial
        self.decay_rate = decay_rate
        self.decay_steps = decay_steps
        self.warmup_steps = warmup_steps

    def __call__(self, step: Any) -> tf.Tensor:
        # float64 counts steps exactly up to 2 ** 53; float32 up to 16.7 M.
        step = tf.cast(step, tf.float64)
        decays = tf.floor(
            tf.maximum(step - self.warmup_steps, 0.0) / self.decay_steps
        )
        rate = self.initial * tf.pow(
            tf.constant(self.decay_rate, tf.float64), decays
        )
        if self.warmup_steps:
            rate *= tf.minimum((step + 1.0) / self.warmup_steps, 1.0)
        return tf.cast(rate, tf.float32)

    def get_config(self) -> dict[str, float]:
        return {
            "initial": self.initial,
            "decay_rate": self.decay_rate,
            "decay_steps": self.decay_steps,
            "warmup_steps": self.warmup_steps,
        }


def make_schedule(
    train_config: config.TrainConfig, steps_per_epoch: int
) -> StepDecay:
    """The paper's schedule in steps."""
    return StepDecay(
        train_config.learning_rate,
        train_config.decay_rate,
        train_config.decay_epochs * steps_per_epoch,
        train_config.warmup_epochs * steps_per_epoch,
    )


def make_optimizer(
    train_config: config.TrainConfig,
) -> keras.optimizers.Optimizer:
    """The optimizer of all but the class rows.

    Without learning rate and weight decay: both depend on the variable.
    """
    if train_config.optimizer == "adamw":
        return keras.optimizers.Adam()
    return keras.optimizers.SGD(momentum=train_config.momentum)


def make_row_optimizer(
    train_config: config.TrainConfig,
) -> row_optimizers.RowOptimizer:
    """The same rule for the class rows, or for their lengths alone."""
    if train_config.optimizer == "adamw":
        optimizer = row_optimizers.RowAdamW()
    else:
        optimizer = row_optimizers.RowSGD(train_config.momentum)
    if train_config.second_stage == "lws":
        return row_optimizers.RowScale(optimizer)
    return optimizer


class StreamsOptimizer:
    """Updates the variables of the streams: all but the class rows.

    Args:
        streams: their backbone may have a pace of its own.
    """

    def __init__(
        self,
        streams: keras.Model,
        train_config: config.TrainConfig,
        steps_per_epoch: int,
    ):
        self.learning_rate = make_schedule(train_config, steps_per_epoch)
        self.keras_optimizer = make_optimizer(train_config)
        self.keras_optimizer.build(streams.trainable_variables)
        self._variables = streams.trainable_variables
        self._backbone_ids = {
            id(variable)
            for layer in streams.layers
            if layer.name == "backbone"
            for variable in layer.trainable_variables
        }
        self._config = train_config

    @property
    def num_updates(self) -> tf.Tensor:
        """Updates made so far, scalar int64."""
        return tf.cast(self.keras_optimizer.iterations.value, tf.int64)

    def update(
        self, gradients: list[tf.Tensor], learning_rate: tf.Tensor
    ) -> None:
        """One update of every variable, in the order of the model's."""
        for gradient, variable in zip(gradients, self._variables, strict=True):
            self._update_variable(gradient, variable, learning_rate)
        self.keras_optimizer.iterations.assign_add(1)

    def _update_variable(
        self, gradient: tf.Tensor, variable: Any, learning_rate: tf.Tensor
    ) -> None:
        """Weight decay, the backbone's own pace, and the optimizer's rule."""
        if id(variable) in self._backbone_ids:
            learning_rate *= self._config.backbone_learning_rate_factor
        decays = len(variable.shape) > 1 and not _is_word_vectors(variable)
        if decays and self._config.weight_decay:
            decay = self._config.weight_decay * variable.value
            if self._config.optimizer == "adamw":
                variable.assign_sub(learning_rate * decay)
            else:
                gradient += decay
        self.keras_optimizer.update_step(gradient, variable, learning_rate)


def _is_word_vectors(variable: Any) -> bool:
    return variable.path.endswith("word_vectors/embeddings")
