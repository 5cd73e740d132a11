"""The temperature against NumPy, on logits whose temperature is known."""

import numpy as np
import tensorflow as tf

from sicot_tf.evaluation.calibration import temperature


def _records(num_records, scale, seed=0):
    """Labels drawn from the softmax of logits, and the logits times `scale`.

    So the temperature that gives the probabilities back is `scale`.
    """
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, 2, (num_records, 6))
    shares = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    labels = (shares.cumsum(1) < rng.uniform(size=(num_records, 1))).sum(1)
    return (scale * logits).astype(np.float32), np.minimum(labels, 5)


def _cross_entropy(logits, labels, value):
    logits = logits.astype(np.float64) / value
    total = np.log(np.exp(logits).sum(1))
    return (total - logits[np.arange(len(labels)), labels]).mean()


class TemperatureTest(tf.test.TestCase):
    def test_least_cross_entropy_of_a_grid(self):
        """Breaks if a gradient is wrong, or a last, smaller batch is lost:
        70 records are two batches of 32 and one of 6."""
        logits, labels = _records(70, 3.0)
        found = temperature.fit(tf.identity, logits, labels, batch_size=32)
        grid = np.geomspace(found / 2, found * 2, 2001)
        best = min(grid, key=lambda each: _cross_entropy(logits, labels, each))
        # Neighbours on the grid differ by 0.07 %.
        self.assertAllClose(found, best, rtol=1e-3)

    def test_known_temperatures_come_back(self):
        """Breaks if scores of an over- or underconfident model stay wrong;
        20,000 labels leave about 1 % of chance."""
        for scale in (0.25, 1.0, 4.0):
            logits, labels = _records(20_000, scale)
            found = temperature.fit(tf.identity, logits, labels, 5000)
            self.assertAllClose(found, scale, rtol=0.04, msg=scale)

    def test_bounds(self):
        """Breaks if the search runs away where no finite temperature is the
        best one: all right, or all wrong."""
        logits = np.float32([[2, 1, 0], [0, 3, 1]])
        right, wrong = np.array([0, 1]), np.array([2, 0])
        for labels, bound in (
            (right, temperature.LEAST),
            (wrong, temperature.MOST),
        ):
            found = temperature.fit(tf.identity, logits, labels)
            self.assertAllClose(found, bound, rtol=1e-3)
        # Equal logits say nothing; whatever comes out is a number.
        found = temperature.fit(tf.identity, 0 * logits, right)
        self.assertBetween(found, temperature.LEAST, temperature.MOST)

    def test_top_scores(self):
        """Breaks if the temperature changes which class is best, or a score
        is not softmax(logits / T), by NumPy here."""
        logits, _ = _records(7, 2.0)
        labels, before, after = temperature.top_scores(
            tf.identity, logits, 2.0, batch_size=3
        )
        self.assertAllEqual(labels, logits.argmax(1))
        for found, value in ((before, 1), (after, 2)):
            shares = np.exp(logits / value)
            shares /= shares.sum(1, keepdims=True)
            self.assertAllClose(found, shares.max(1))


if __name__ == "__main__":
    tf.test.main()
