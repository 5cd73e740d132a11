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
    """The optimizer of all but the classifier's rows.

    The step gives it learning rate and weight decay, for both depend on the
    variable.
    """
    if train_config.optimizer == "adamw":
        return keras.optimizers.Adam()
    return keras.optimizers.SGD(momentum=train_config.momentum)


def make_row_optimizer(
    train_config: config.TrainConfig,
) -> row_optimizers.RowOptimizer:
    """The same rule for the classifier's rows."""
    if train_config.optimizer == "adamw":
        return row_optimizers.RowAdamW()
    return row_optimizers.RowSGD(train_config.momentum)
