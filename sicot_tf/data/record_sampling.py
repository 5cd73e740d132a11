"""Which records a step takes where rare classes shall come more often.

A class is drawn, then a record of it, both anew for each place of each batch:
with replacement, so an epoch repeats some records and misses others.
"""

import dataclasses

import numpy as np
import tensorflow as tf

# A class of n records is drawn in proportion to n to this power: Kang et al.,
# arXiv 1910.09217, section 3.
_POWERS = {"square_root": 0.5, "balanced": 0.0}
# Keeps these draws apart from others by the same seed.
_STREAM = 0x5A4D504C


@dataclasses.dataclass(frozen=True, eq=False)
class RecordSampling:
    """Draws records by their class.

    A function of (seed, step, place in the global batch), so a run resumes
    exactly, on any number of workers.

    Attributes:
        records: `[n]` int64, their numbers, one class after the other.
        starts: `[num_classes + 1]` int64, where each class begins in these.
        chances: `[num_classes]` float64, cumulative, not normalised.
        seed: of the draws.
        from_epoch: before it, records are taken as without sampling.
    """

    records: tf.Tensor
    starts: tf.Tensor
    chances: tf.Tensor
    seed: int
    from_epoch: int = 0

    @classmethod
    def of_labels(
        cls,
        labels: np.ndarray,
        sampling: str,
        *,
        seed: int,
        from_epoch: int = 0,
    ) -> "RecordSampling":
        """Sampling of records with these labels, `[n]` int64.

        Args:
            sampling: "square_root" or "balanced"; a class without records is
                never drawn.
        """
        counts = np.bincount(labels)
        chances = np.where(counts, np.float64(counts) ** _POWERS[sampling], 0.0)
        return cls(
            records=tf.constant(np.argsort(labels, kind="stable"), tf.int64),
            starts=tf.constant(np.cumsum([0, *counts]), tf.int64),
            chances=tf.constant(np.cumsum(chances), tf.float64),
            seed=seed,
            from_epoch=from_epoch,
        )

    def draw(
        self, step: tf.Tensor, places: np.ndarray, batch_size: int
    ) -> tf.Tensor:
        """The records of some places of a batch, `[b]` int64.

        Args:
            step: scalar int64, counted from the start of the run.
            places: `[b]`, in the global batch; those behind it, which pad,
                begin again at its start.
            batch_size: of the global batch.
        """
        # All of the batch, so that a draw does not depend on the workers.
        # float32 would miss classes: it has 2 ** 24 values.
        of_class, of_record = tf.unstack(
            tf.random.stateless_uniform(
                [2, batch_size],
                tf.random.experimental.stateless_fold_in(
                    tf.constant([self.seed, _STREAM], tf.int64), step
                ),
                dtype=tf.float64,
            )
        )
        drawn = tf.searchsorted(
            self.chances, of_class * self.chances[-1], side="right"
        )
        first = tf.gather(self.starts, drawn)
        count = tf.gather(self.starts, drawn + 1) - first
        among = of_record * tf.cast(count, tf.float64)
        records = tf.gather(self.records, first + tf.cast(among, tf.int64))
        return tf.gather(records, places % batch_size)
