"""Optimizers of class rows: values in, values out.

A Keras optimizer wants the whole gradient of a variable. At a million classes
that is as large as the weights, so here a block of them is updated where its
gradient is made, inside one compiled function. The rules are those of Keras.
"""

import dataclasses

import tensorflow as tf

Slots = tuple[tf.Tensor, ...]


@dataclasses.dataclass(frozen=True)
class RowSGD:
    """SGD with momentum, as `keras.optimizers.SGD(momentum=...)`.

    Args:
        momentum: of the velocity, the only slot.
    """

    momentum: float
    slot_names = ("momentum",)

    def update(
        self,
        value: tf.Tensor,
        gradient: tf.Tensor,
        slots: Slots,
        learning_rate: tf.Tensor,
        step: tf.Tensor,
        weight_decay: float,
    ) -> tuple[tf.Tensor, Slots]:
        """New class rows and slots.

        Args:
            value: `[rows, ...]` float32, as are gradient and slots.
            learning_rate: scalar float32.
            step: scalar int64, updates made before this one.
            weight_decay: L2, added to the gradient.
        """
        if weight_decay:
            gradient += weight_decay * value
        velocity = self.momentum * slots[0] - learning_rate * gradient
        return value + velocity, (velocity,)


@dataclasses.dataclass(frozen=True)
class RowAdamW:
    """Adam with decoupled weight decay, as `keras.optimizers.AdamW`."""

    beta_1: float = 0.9
    beta_2: float = 0.999
    epsilon: float = 1e-7
    slot_names = ("momentum", "velocity")

    def update(
        self,
        value: tf.Tensor,
        gradient: tf.Tensor,
        slots: Slots,
        learning_rate: tf.Tensor,
        step: tf.Tensor,
        weight_decay: float,
    ) -> tuple[tf.Tensor, Slots]:
        """New class rows and slots; arguments as in `RowSGD.update`."""
        count = tf.cast(step + 1, tf.float32)
        rate = (
            learning_rate
            * tf.sqrt(1 - tf.pow(self.beta_2, count))
            / (1 - tf.pow(self.beta_1, count))
        )
        if weight_decay:
            value -= learning_rate * weight_decay * value
        momentum, velocity = slots
        momentum += (gradient - momentum) * (1 - self.beta_1)
        velocity += (tf.square(gradient) - velocity) * (1 - self.beta_2)
        value -= momentum * rate / (tf.sqrt(velocity) + self.epsilon)
        return value, (momentum, velocity)


RowOptimizer = RowSGD | RowAdamW
