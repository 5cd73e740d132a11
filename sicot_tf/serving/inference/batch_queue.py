"""A bounded queue of batches, with TensorFlow Serving's sizes.

Not safe for threads: `batching` holds a lock around it.
"""

import collections
import dataclasses
import os
import time
from collections.abc import Callable
from collections.abc import Sequence
from concurrent import futures

import numpy as np
from google.protobuf import message

from sicot_tf.serving import errors
from sicot_tf.serving.inference import batch_tensors

# run(feeds, fetches, deadline) -> values of the fetches. The deadline is a time
# of `time.monotonic`; None: no limit.
Run = Callable[
    [batch_tensors.Feeds, Sequence[str], float | None], list[np.ndarray]
]

# Those that this process may use; macOS can't tell.
_NUM_CPUS = (
    len(os.sched_getaffinity(0))
    if hasattr(os, "sched_getaffinity")
    else os.cpu_count() or 1
)


@dataclasses.dataclass(frozen=True)
class BatchingOptions:
    """TensorFlow Serving's BatchingParameters, with its defaults.

    Raises tf.errors.InvalidArgumentError if they don't fit together.
    """

    max_batch_size: int = 1000
    batch_timeout_micros: int = 0
    max_enqueued_batches: int = 10
    num_batch_threads: int = _NUM_CPUS
    thread_pool_name: str = ""
    allowed_batch_sizes: tuple[int, ...] = ()
    pad_variable_length_inputs: bool = False
    enable_large_batch_splitting: bool = False
    max_execution_batch_size: int | None = None

    @classmethod
    def from_proto(cls, parameters: message.Message) -> "BatchingOptions":
        """Reads a BatchingParameters message; what is not set, is default."""
        values = {
            "allowed_batch_sizes": tuple(parameters.allowed_batch_sizes),
            "pad_variable_length_inputs": parameters.pad_variable_length_inputs,
        }
        for field in dataclasses.fields(cls):
            if field.name not in values and parameters.HasField(field.name):
                values[field.name] = getattr(parameters, field.name).value
        return cls(**values)

    def __post_init__(self):
        for name, least in (
            ("num_batch_threads", 1),
            ("max_batch_size", 1),
            ("batch_timeout_micros", 0),
            ("max_enqueued_batches", 1),
        ):
            value = getattr(self, name)
            if value < least:
                raise errors.invalid(
                    f"Expected {name} of {least} or more, received {value}"
                )
        sizes = self.allowed_batch_sizes
        if sizes and sizes[-1] != self.max_batch_size:
            raise errors.invalid(
                "Last entry in allowed_batch_sizes must match max_batch_size; "
                f"last entry was {sizes[-1]}; expected {self.max_batch_size}"
            )
        if not 0 < self.execution_batch_size <= self.max_batch_size:
            raise errors.invalid(
                "Expected max_execution_batch_size from 1 to max_batch_size, "
                f"{self.max_batch_size}, received {self.execution_batch_size}"
            )

    @property
    def execution_batch_size(self) -> int:
        """Most rows of one run, without padding."""
        if (
            self.enable_large_batch_splitting
            and self.max_execution_batch_size is not None
        ):
            return self.max_execution_batch_size
        return self.max_batch_size

    def padded_size(self, size: int) -> int:
        """Rows that a run of `size` rows really has."""
        if size == 0:
            return 0
        return next(
            (each for each in self.allowed_batch_sizes if each >= size), size
        )


@dataclasses.dataclass(eq=False)
class Task:
    """One request, or a piece of a large one, on its way through a queue."""

    feeds: batch_tensors.Feeds
    size: int
    deadline: float | None
    is_active: Callable[[], bool]
    enqueued: float = dataclasses.field(default_factory=time.monotonic)
    # Values of the queue's fetches; cancelled by a caller who left.
    future: futures.Future = dataclasses.field(default_factory=futures.Future)


@dataclasses.dataclass(eq=False)
class Batch:
    """Requests that run together, oldest first, and their rows."""

    queue: "Queue"
    tasks: list[Task] = dataclasses.field(default_factory=list)
    size: int = 0


class Queue:
    """Batches of one signature of one model version that wait for a thread.

    The last batch is open: it takes requests until it is full.
    """

    def __init__(
        self,
        raw_run: Run,
        name: str,
        fetches: tuple[str, ...],
        options: BatchingOptions,
    ):
        self.raw_run = raw_run
        self.name = name
        self.fetches = fetches
        self.options = options
        self.batches: collections.deque[Batch] = collections.deque()

    def add(self, task: Task) -> list[Task]:
        """Takes a request in; returns it, or the pieces it was cut into.

        Raises tf.errors.InvalidArgumentError if it is larger than a batch,
        UnavailableError if the queue is full.
        """
        self._check_room(task.size)
        tasks = [task]
        if self.options.enable_large_batch_splitting:
            tasks = _cut(task, self._room(), self.options.execution_batch_size)
        for each in tasks:
            if not self.batches or each.size > self._room():
                self.batches.append(Batch(self))
            self.batches[-1].tasks.append(each)
            self.batches[-1].size += each.size
        return tasks

    def _room(self) -> int:
        """Rows that the open batch can still take."""
        size = self.batches[-1].size if self.batches else 0
        return self.options.execution_batch_size - size

    def _check_room(self, size: int) -> None:
        options = self.options
        if size > options.max_batch_size:
            raise errors.invalid(
                f"Task size {size} is larger than maximum input batch size "
                f"{options.max_batch_size}"
            )
        # TensorFlow Serving's queue always has an open batch.
        num_batches = max(1, len(self.batches))
        num_free = options.max_enqueued_batches - num_batches
        rows = self._room()
        if options.enable_large_batch_splitting:
            rows += num_free * options.execution_batch_size
        elif num_free > 0:
            rows = options.max_batch_size
        if size > rows:
            raise errors.unavailable(
                "The batch scheduling queue to which this task was submitted "
                f"is full; currently {num_batches} batches enqueued and "
                f"max_enqueued_batches is {options.max_enqueued_batches}"
            )


def _cut(task: Task, room: int, most: int) -> list[Task]:
    """Pieces of a request: the first fills `room` rows, others `most`."""
    if task.size <= room:
        return [task]
    starts = [*range(room % most, task.size, most)]
    if starts[0] > 0:
        starts.insert(0, 0)
    return [
        dataclasses.replace(
            task,
            feeds={
                name: array[start:end] for name, array in task.feeds.items()
            },
            size=end - start,
            future=futures.Future(),
        )
        for start, end in zip(starts, [*starts[1:], task.size], strict=True)
    ]
