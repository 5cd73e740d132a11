"""Row optimizers: equal to the Keras optimizers they stand for."""

import keras
import numpy as np
import tensorflow as tf
from absl.testing import parameterized

from sicot_tf.model.classifier import row_optimizers

# A schedule: another rate in each step.
_LEARNING_RATES = (0.1, 0.3, 0.2, 0.05, 0.5)
_WEIGHT_DECAY = 0.03


class RowOptimizersTest(parameterized.TestCase, tf.test.TestCase):
    def setUp(self):
        super().setUp()
        random = np.random.default_rng(0)
        self.value = random.normal(size=[7, 3]).astype(np.float32)
        self.gradients = random.normal(
            size=[len(_LEARNING_RATES), 7, 3]
        ).astype(np.float32)
        # Adam divides by the root of the squares: 0 and almost 0 as well.
        self.gradients[:, 0] = 0.0
        self.gradients[:, 1] *= 1e-6

    def rows(self, optimizer, weight_decay, jit_compile):
        """Value and slots after each step."""
        update = tf.function(optimizer.update, jit_compile=jit_compile)
        value = tf.constant(self.value)
        slots = tuple(tf.zeros_like(value) for _ in optimizer.slot_names)
        history = []
        for step, learning_rate in enumerate(_LEARNING_RATES):
            value, slots = update(
                value,
                tf.constant(self.gradients[step]),
                slots,
                tf.constant(learning_rate),
                tf.constant(step, tf.int64),
                weight_decay,
            )
            history.append([value, *slots])
        return history

    def keras_rows(self, optimizer, slot_names, weight_decay):
        """The same by a Keras optimizer; weight_decay goes to the gradient."""
        variable = keras.Variable(self.value, name="rows")
        optimizer.build([variable])
        slots = [
            each
            for name in slot_names
            for each in optimizer.variables
            if each.path.endswith(f"rows_{name}")
        ]
        self.assertLen(slots, len(slot_names))
        history = []
        for learning_rate, gradient in zip(_LEARNING_RATES, self.gradients):
            optimizer.learning_rate = learning_rate
            gradient = tf.constant(gradient) + weight_decay * variable.value
            optimizer.apply([gradient], [variable])
            history.append([each.numpy() for each in (variable, *slots)])
        return history

    @parameterized.product(
        weight_decay=(0.0, _WEIGHT_DECAY), jit_compile=(False, True)
    )
    def test_sgd(self, weight_decay, jit_compile):
        """Breaks if rows train otherwise than the rest of the model."""
        history = self.rows(
            row_optimizers.RowSGD(0.9), weight_decay, jit_compile
        )
        expected = self.keras_rows(
            keras.optimizers.SGD(momentum=0.9), ["momentum"], weight_decay
        )
        self.check(history, expected)

    @parameterized.product(
        weight_decay=(0.0, _WEIGHT_DECAY), jit_compile=(False, True)
    )
    def test_adamw(self, weight_decay, jit_compile):
        """Breaks on coupled decay, or a wrong correction of the means."""
        history = self.rows(
            row_optimizers.RowAdamW(), weight_decay, jit_compile
        )
        expected = self.keras_rows(
            keras.optimizers.AdamW(weight_decay=weight_decay),
            ["momentum", "velocity"],
            0.0,
        )
        self.check(history, expected)

    @parameterized.product(
        name=("sgd", "adamw"),
        weight_decay=(0.0, _WEIGHT_DECAY),
        jit_compile=(False, True),
    )
    def test_scale(self, name, weight_decay, jit_compile):
        """Breaks if a row leaves its direction, or its length is not learned
        as a Keras optimizer learns a factor of the initial row.

        Row 2 is 0 and has none. By the chain rule the gradient of a factor
        is <gradient, initial row>.
        """
        self.value[2] = 0.0
        factors = keras.Variable(np.ones([7, 1], np.float32), name="factors")
        if name == "sgd":
            inner = row_optimizers.RowSGD(0.9)
            optimizer = keras.optimizers.SGD(momentum=0.9)
        else:
            inner = row_optimizers.RowAdamW()
            optimizer = keras.optimizers.AdamW(weight_decay=weight_decay)
        optimizer.build([factors])
        history = self.rows(
            row_optimizers.RowScale(inner), weight_decay, jit_compile
        )
        for step, (rows, initial, *_) in enumerate(history):
            by_factor = np.sum(
                self.gradients[step] * self.value, axis=1, keepdims=True
            )
            if name == "sgd":
                by_factor += weight_decay * factors.numpy()
            optimizer.learning_rate = _LEARNING_RATES[step]
            optimizer.apply([tf.constant(by_factor)], [factors])
            self.assertAllEqual(initial, self.value)
            self.assertAllClose(
                rows, factors.numpy() * self.value, rtol=1e-5, atol=1e-5
            )

    def test_scale_of_biases_and_late_rows(self):
        """Breaks if biases learn, or rows that a first step did not see
        (`--sample_rate`) have lost their direction."""
        scale = row_optimizers.RowScale(row_optimizers.RowSGD(0.9))
        arguments = (tf.constant(0.1), tf.constant(7, tf.int64), 0.0)
        bias, zeros = tf.constant(self.value[:, 0]), tf.zeros([7])
        gradient = tf.constant(self.gradients[0])
        unchanged, slots = scale.update(
            bias, gradient[:, 0], (zeros, zeros), *arguments
        )
        self.assertAllEqual(unchanged, bias)
        self.assertAllEqual(slots, [zeros, zeros])
        rows, (initial, _) = scale.update(
            tf.constant(self.value),
            gradient,
            (tf.zeros([7, 3]), tf.zeros([7, 3])),
            *arguments,
        )
        self.assertAllEqual(initial, self.value)
        factors = 1 - 0.1 * np.sum(
            self.gradients[0] * self.value, axis=1, keepdims=True
        )
        self.assertAllClose(rows, factors * self.value)

    def check(self, history, expected):
        for step, pairs in enumerate(zip(history, expected)):
            for actual, wanted in zip(*pairs):
                # A few roundings of float32 (6e-8) a step.
                self.assertAllClose(
                    actual, wanted, rtol=1e-6, atol=1e-6, msg=f"step {step}"
                )


if __name__ == "__main__":
    tf.test.main()
