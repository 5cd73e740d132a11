"""The schedule of the learning rate."""

import tensorflow as tf

from sicot_tf.training.optimizers import StepDecay


class StepDecayTest(tf.test.TestCase):
    def test_schedule_of_the_paper(self):
        """Breaks if "step 1, gamma 0.8" is not a decay once an epoch.

        0.1 * 0.8 ** e: 0.1, 0.08, 0.064; epoch 10: 0.0107, 20: 0.00115.
        """
        schedule = StepDecay(0.1, 0.8, decay_steps=100)
        for step, expected in (
            (0, 0.1),
            (99, 0.1),
            (100, 0.08),
            (250, 0.064),
            (1000, 0.010737),
            (2000, 0.0011529),
        ):
            self.assertAllClose(schedule(step), expected, rtol=1e-4)
        # Steps behind the reach of float32 are still told apart.
        exact = StepDecay(1.0, 0.5, decay_steps=2.0**24 + 1)
        self.assertAllClose(exact(2**24), 1.0)
        self.assertAllClose(exact(2**24 + 1), 0.5)

    def test_warmup(self):
        """Breaks if warm-up is not linear, or shifts no decay."""
        # In a graph, as the optimizer calls it.
        schedule = tf.function(
            StepDecay(1.0, 0.5, decay_steps=10, warmup_steps=4)
        )
        found = [
            float(schedule(tf.constant(step))) for step in (0, 1, 3, 4, 13, 14)
        ]
        self.assertAllClose(found, [0.25, 0.5, 1.0, 1.0, 1.0, 0.5])


if __name__ == "__main__":
    tf.test.main()
