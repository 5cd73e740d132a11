"""What the workers of a training job tell each other, in raw collectives.

The only file that touches TensorFlow's collective ops. `strategy.run` and
Keras know all-reduce of mirrored variables; a classifier that is split over
the workers needs gather and reduce-scatter of features as well.
"""

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

# MultiWorkerMirroredStrategy numbers its groups from 1.
_GROUP_KEY = 1000
# Characters that one worker can tell the others.
_MAX_ANSWER = 2000


class Collectives:
    """Gather, sum and wait, among the workers of a job.

    Every worker must make the same calls in the same order while tracing:
    the n-th call of one worker meets the n-th call of the others. Alone, all
    of them return what they were given. Not differentiable: they are for use
    inside custom gradients.

    Args:
        num_workers: processes that train together.
        worker_index: number of this one, from 0.
    """

    def __init__(self, num_workers: int = 1, worker_index: int = 0):
        if not 0 <= worker_index < num_workers:
            raise ValueError(
                f"Expected a worker_index from 0 to {num_workers - 1}, "
                f"received {worker_index}."
            )
        self.num_workers = num_workers
        self.worker_index = worker_index
        self._instance_keys = itertools.count(1)
        self._sum = tf.function(self.all_reduce, autograph=False)

    @property
    def is_chief(self) -> bool:
        """Whether this worker writes what is the same on all of them."""
        return self.worker_index == 0

    def gather(self, tensor: tf.Tensor) -> tf.Tensor:
        """`[rows, ...]` of every worker to `[num_workers * rows, ...]`.

        All give the same shape; float32, float64, int32 or int64.
        """
        if self.num_workers == 1:
            return tensor
        gathered = tf.raw_ops.CollectiveGatherV2(
            input=tensor, **self._arguments()
        )
        return tf.ensure_shape(
            gathered,
            [self.num_workers * tensor.shape[0], *tensor.shape[1:]],
        )

    def all_reduce(self, tensor: tf.Tensor) -> tf.Tensor:
        """The sum over the workers, the same bits on each of them."""
        if self.num_workers == 1:
            return tensor
        return tf.raw_ops.CollectiveReduceV2(
            input=tensor, merge_op="Add", final_op="Id", **self._arguments()
        )

    def reduce_scatter(self, tensor: tf.Tensor) -> tf.Tensor:
        """`[num_workers * rows, dim]` to this worker's `[rows, dim]` sums.

        An exchange of all with all and a local sum: on CPU
        CollectiveReduceScatterV2 does not exist, and this moves the same
        (num_workers - 1) / num_workers of the bytes.
        """
        if self.num_workers == 1:
            return tensor
        rows, dim = tensor.shape[0] // self.num_workers, tensor.shape[1]
        parts = tf.raw_ops.CollectiveAllToAllV2(
            input=tf.reshape(tensor, [self.num_workers, rows, dim]),
            **self._arguments(),
        )
        parts = tf.ensure_shape(parts, [self.num_workers, rows, dim])
        return tf.reduce_sum(parts, axis=0)

    def all_reduce_packed(self, tensors: list[tf.Tensor]) -> list[tf.Tensor]:
        """Sums of float32 tensors of any shapes, in one collective."""
        if self.num_workers == 1:
            return tensors
        flat = [tf.reshape(each, [-1]) for each in tensors]
        sums = tf.split(
            self.all_reduce(tf.concat(flat, axis=0)),
            [each.shape[0] for each in flat],
        )
        return [
            tf.reshape(each, tensor.shape)
            for each, tensor in zip(sums, tensors)
        ]

    def sum_now(self, values: np.ndarray) -> np.ndarray:
        """The sum over the workers, outside of any traced function."""
        return self._sum(tf.constant(values)).numpy()

    def wait_for_all(self) -> None:
        """Returns when every worker has come here."""
        self.sum_now(np.zeros(1, np.float32))

    def call_on_all(self, function: Callable[[], Any]) -> list[str]:
        """Calls a function on all workers; returns when all are through.

        Returns:
            The text of what it gave, by worker.

        Raises:
            ValueError, OSError: on all workers, that of the first that failed.
        """
        if self.num_workers == 1:
            return [str(function())]
        kind, cause = 0, None
        try:
            text = str(function())
        except ValueError as error:
            kind, text, cause = 1, str(error), error
        except (OSError, tf.errors.OpError) as error:
            kind, text, cause = 2, f"Worker {self.worker_index}: {error}", error
        codes = [kind, *(ord(letter) for letter in text[:_MAX_ANSWER])]
        # float32 like all that goes through collectives; exact below 2^24.
        row = np.zeros([1, 1 + _MAX_ANSWER], np.float32)
        row[0, : len(codes)] = codes
        gathered = self.gather(tf.constant(row)).numpy().astype(int)
        texts = ["".join(map(chr, row[row > 0])) for row in gathered[:, 1:]]
        for kind, text in zip(gathered[:, 0], texts, strict=True):
            if kind:
                raise (ValueError if kind == 1 else OSError)(text) from cause
        return texts

    def _arguments(self) -> dict:
        """Arguments that all raw collectives share.

        No timeout: a watchdog ends the process when a step takes too long,
        while an op that gives up leaves the others' collectives open.
        """
        return {
            "group_size": self.num_workers,
            "group_key": _GROUP_KEY,
            "instance_key": next(self._instance_keys),
            "ordering_token": [],
            "communication_hint": "auto",
        }
