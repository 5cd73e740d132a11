"""Records drawn by their class: how often, and the same for any workers."""

import numpy as np
import tensorflow as tf
from absl.testing import parameterized

from sicot_tf.data.record_sampling import RecordSampling

# Stored order is random; class 3 has no records.
_COUNTS = np.array([100, 9, 1, 0, 16])
_LABELS = np.random.default_rng(0).permutation(np.repeat(np.arange(5), _COUNTS))
_BATCH = 4096


def _draw(sampling, step, places=np.arange(_BATCH), seed=0):
    made = RecordSampling.of_labels(_LABELS, sampling, seed=seed)
    return made.draw(tf.constant(step, tf.int64), places, _BATCH).numpy()


class RecordSamplingTest(parameterized.TestCase, tf.test.TestCase):
    @parameterized.parameters(("square_root", 0.5), ("balanced", 0.0))
    def test_frequencies(self, sampling, power):
        """Breaks if classes, or the records of one, are drawn otherwise.

        32,768 draws of 126 records. Summed over the records, the squared
        deviations over their expected numbers have mean 125 and variance
        2 * 125; the seed is fixed.
        """
        drawn = np.concatenate([_draw(sampling, step) for step in range(8)])
        weights = np.where(_COUNTS, np.float64(_COUNTS) ** power, 0)
        shares = weights / weights.sum()
        expected = drawn.size * (shares / np.maximum(_COUNTS, 1))[_LABELS]
        found = np.bincount(drawn, minlength=_LABELS.size)
        squares = np.sum((found - expected) ** 2 / expected)
        print(f"{sampling}: squared deviations {squares:.1f} of 125")
        self.assertLess(squares, 125 + 4 * np.sqrt(250))
        classes = np.bincount(_LABELS[drawn], minlength=5) / drawn.size
        # Four deviations of a share, at most sqrt(0.25 / 32768) = 0.003.
        self.assertAllClose(classes, shares, atol=0.011)

    def test_any_number_of_workers(self):
        """Breaks if a batch depends on how many workers share it."""
        whole = _draw("balanced", 5)
        for workers in (2, 3):
            places = np.arange(-(-_BATCH // workers)) * workers
            parts = [
                _draw("balanced", 5, places + worker)
                for worker in range(workers)
            ]
            self.assertAllEqual(np.stack(parts, 1).reshape(-1)[:_BATCH], whole)

    def test_draws_differ(self):
        """Breaks if every step, or every seed, draws the same."""
        first = _draw("balanced", 0)
        self.assertAllEqual(first, _draw("balanced", 0))
        for other in (_draw("balanced", 1), _draw("balanced", 0, seed=1)):
            self.assertLess(np.mean(first == other), 0.2)


if __name__ == "__main__":
    tf.test.main()
