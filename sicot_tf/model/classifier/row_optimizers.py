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


@dataclasses.dataclass(frozen=True)
class RowScale:
    """Learnable weight scaling: a class row is a learned factor of its first.

    Kang et al., arXiv 1910.09217, section 4: `row = factor * initial`, where
    the factor starts at 1 and its gradient is `<gradient, initial>`. Biases
    stay as they are. A slot has the shape of its rows, so the factor's own
    slots hold the same number in every column.

    Args:
        optimizer: of the factors; weight decay is on them.
    """

    optimizer: RowSGD | RowAdamW

    @property
    def slot_names(self) -> tuple[str, ...]:
        return ("initial", *self.optimizer.slot_names)

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
        if value.shape.rank == 1:
            return value, slots
        initial, *of_factor = slots
        # Slots start at 0: a row's first update finds its initial value. Not
        # the run's first step, for a step may see a share of the classes.
        is_first = tf.reduce_all(initial == 0, axis=1, keepdims=True)
        initial = tf.where(is_first, value, initial)
        factor = tf.math.divide_no_nan(
            _products(value, initial), _products(initial, initial)
        )
        factor, of_factor = self.optimizer.update(
            factor,
            _products(gradient, initial),
            tuple(each[:, :1] for each in of_factor),
            learning_rate,
            step,
            weight_decay,
        )
        of_factor = (tf.broadcast_to(each, value.shape) for each in of_factor)
        return factor * initial, (initial, *of_factor)


def _products(left: tf.Tensor, right: tf.Tensor) -> tf.Tensor:
    """`[rows, 1]` of `[rows, dim]` each, row by row."""
    return tf.reduce_sum(left * right, axis=1, keepdims=True)


RowOptimizer = RowSGD | RowAdamW | RowScale
