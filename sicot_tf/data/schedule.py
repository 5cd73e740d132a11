"""Which records a step takes, and which of them a worker.

A function of (seed, epoch, step): a run resumes at any step without reading
what came before, on any number of workers.
"""

import dataclasses

import numpy as np
import tensorflow as tf


@dataclasses.dataclass(frozen=True)
class Schedule:
    """Which records a step takes, and on which worker; the same for all.

    With one record count all workers share the records (`--order exact`):
    worker w takes examples w::num_workers of a global batch that does not
    depend on the number of workers. With one count for each worker, every
    worker passes over its own records (`--order files`). Either way all take
    equally many steps and examples; those that pad have weight 0.

    Attributes:
        record_counts: see `RecordFiles.record_counts`.
        global_batch_size: examples of a step over all workers; with own
            records rounded up to a multiple of the workers.
        num_workers: number of workers.
    """

    record_counts: tuple[int, ...]
    global_batch_size: int
    num_workers: int = 1

    def __post_init__(self):
        if len(self.record_counts) not in (1, self.num_workers):
            raise ValueError(
                f"Expected files opened for 1 or {self.num_workers} workers, "
                f"received files for {len(self.record_counts)}. Give "
                "RecordFiles the same number of workers."
            )

    @property
    def examples_per_worker(self) -> int:
        """Examples that each worker takes in each step."""
        return -(-self.global_batch_size // self.num_workers)

    @property
    def steps_per_epoch(self) -> int:
        """Steps after which every record has been taken once."""
        return num_steps_per_epoch(max(self.record_counts), self._stride)

    def total_weight(self, step: int) -> int:
        """Examples of the global batch of a step, without those that pad.

        Args:
            step: counted from the start of the run.
        """
        start = step % self.steps_per_epoch * self._stride
        return sum(
            min(max(count - start, 0), self._stride)
            for count in self.record_counts
        )

    def take(
        self, step: tf.Tensor, worker_index: int
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """A worker's examples of a step.

        Args:
            step: scalar int64, counted from the start of the run.

        Returns:
            `[examples_per_worker]` int64, positions in the epoch's order of the
            worker's records, and their weights, float32 1 or 0.
        """
        count = self.record_counts[0 if self._is_shared else worker_index]
        places = self.places(worker_index)
        position = step % self.steps_per_epoch * self._stride + places
        is_real = (position < count) & (places < self._stride)
        return position % count, tf.cast(is_real, tf.float32)

    def places(self, worker_index: int) -> np.ndarray:
        """`[examples_per_worker]` places in the batch, its own or the global.

        Those behind it pad.
        """
        places = np.arange(self.examples_per_worker)
        if self._is_shared:
            return worker_index + self.num_workers * places
        return places

    @property
    def _is_shared(self) -> bool:
        return len(self.record_counts) == 1

    @property
    def _stride(self) -> int:
        """How far a step moves on in each of `record_counts`."""
        return (
            self.global_batch_size
            if self._is_shared
            else self.examples_per_worker
        )


def num_steps_per_epoch(num_records: int, batch_size: int) -> int:
    """Steps that see every record once; the last batch may hold padding."""
    return -(-num_records // batch_size)
