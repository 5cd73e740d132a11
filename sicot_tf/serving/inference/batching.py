"""Runs requests of several clients as one batch, as TensorFlow Serving does.

Parameters and codes are those of its BatchingSession. Three things are better:
with nothing running a request never waits for company; one that is bad, late
or cancelled neither fails nor slows the others of its batch; each caller is
released at its own deadline.
"""

import collections
import contextlib
import contextvars
import logging
import threading
import time
from collections.abc import Callable
from collections.abc import Iterator
from collections.abc import Sequence

import numpy as np
import tensorflow as tf
from google.protobuf import message

from sicot_tf.serving import errors
from sicot_tf.serving.inference import batch_queue
from sicot_tf.serving.inference import batch_tensors

_log = logging.getLogger(__name__)

# Receives thread_pool_name of the parameters, rows of the batch, rows with
# padding, seconds that each request waited.
OnBatch = Callable[[str, int, int, list[float]], None]

_is_active = contextvars.ContextVar("is_active", default=lambda: True)


@contextlib.contextmanager
def calling_for(is_active: Callable[[], bool]) -> Iterator[None]:
    """Requests inside are dropped unrun once `is_active()` is false."""
    token = _is_active.set(is_active)
    try:
        yield
    finally:
        _is_active.reset(token)


class BatchScheduler:
    """Threads that run the batches of all models.

    A batch runs as soon as a thread is free and the batch is full, or its
    oldest request has waited `batch_timeout_micros`, or nothing else runs.

    Args:
        parameters: BatchingParameters, their `num_batch_threads` for all
            models; raises tf.errors.InvalidArgumentError if they don't fit
            together.
        on_batch: is told of every batch before it runs; must not block.
    """

    def __init__(
        self, parameters: message.Message, *, on_batch: OnBatch | None = None
    ):
        options = batch_queue.BatchingOptions.from_proto(parameters)
        self._options = options
        self._on_batch = on_batch
        self._condition = threading.Condition()
        # Queues that have batches; the first is served next.
        self._waiting: collections.deque[batch_queue.Queue] = (
            collections.deque()
        )
        self._num_running = 0
        self._closed = False
        self._threads = [
            threading.Thread(
                target=self._serve, name=f"batch-{index}", daemon=True
            )
            for index in range(options.num_batch_threads)
        ]
        for thread in self._threads:
            thread.start()

    def make_runner(
        self,
        raw_run: batch_queue.Run,
        name: str,
        parameters: message.Message | None = None,
    ) -> batch_queue.Run:
        """The same as `raw_run`, together with what others ask for.

        Args:
            raw_run: runs one model version; feeds come sorted by name.
            name: of the model, for messages.
            parameters: other sizes and limits for this version.

        Returns:
            A function for any number of threads; raises what `raw_run` raises
            for this request alone, and tf.errors.OpError if it can't run.
        """
        options = self._options
        if parameters is not None:
            options = batch_queue.BatchingOptions.from_proto(parameters)
        queues = {}

        def run(
            feeds: batch_tensors.Feeds,
            fetches: Sequence[str],
            deadline: float | None = None,
        ) -> list[np.ndarray]:
            size = batch_tensors.batch_size(feeds)
            names = tuple(sorted(set(fetches)))
            # setdefault is atomic; of two new queues one is forgotten.
            queue = queues.setdefault(
                (frozenset(feeds), names),
                batch_queue.Queue(raw_run, name, names, options),
            )
            task = batch_queue.Task(feeds, size, deadline, _is_active.get())
            tasks = self._schedule(queue, task)
            pieces = _wait_for(tasks, deadline)
            values = {
                fetch: arrays[0] if len(arrays) == 1 else np.concatenate(arrays)
                for fetch, *arrays in zip(names, *pieces, strict=True)
            }
            return [values[fetch] for fetch in fetches]

        return run

    def close(self) -> None:
        """Finishes what is queued, then stops the threads."""
        with self._condition:
            self._closed = True
            self._condition.notify_all()
        for thread in self._threads:
            thread.join()

    def _schedule(
        self, queue: batch_queue.Queue, task: batch_queue.Task
    ) -> list[batch_queue.Task]:
        with self._condition:
            if self._closed:
                raise errors.unavailable("The batch scheduler is closed")
            tasks = queue.add(task)
            if queue not in self._waiting:
                self._waiting.append(queue)
            self._condition.notify(len(tasks))
        return tasks

    def _serve(self) -> None:
        """What each thread does until the scheduler is closed."""
        while True:
            with self._condition:
                while (batch := self._next_batch()) is None:
                    if self._closed and not self._waiting:
                        return
                    self._condition.wait(
                        min(
                            map(self._seconds_until_ready, self._waiting),
                            default=None,
                        )
                    )
                self._num_running += 1
                if self._waiting:
                    # Someone has to watch the timeout of the next one.
                    self._condition.notify()
            try:
                self._run_batch(batch)
            # No caller may wait for ever, and the thread has to go on.
            except Exception as error:
                for task in batch.tasks:
                    if not task.future.done():
                        task.future.set_exception(error)
                _log.exception("%s: batch failed", batch.queue.name)
            finally:
                with self._condition:
                    self._num_running -= 1
                # Nor may a thread without work keep a model in memory.
                del batch

    def _next_batch(self) -> batch_queue.Batch | None:
        """Takes the batch to run now, of each queue in turn."""
        for _ in range(len(self._waiting)):
            queue = self._waiting.popleft()
            batch = None
            if self._seconds_until_ready(queue) <= 0:
                batch = queue.batches.popleft()
            if queue.batches:
                self._waiting.append(queue)
            if batch is not None:
                return batch
        return None

    def _seconds_until_ready(self, queue: batch_queue.Queue) -> float:
        """0 or less if the queue's first batch should run."""
        first = queue.batches[0]
        if (
            len(queue.batches) > 1
            or first.size >= queue.options.execution_batch_size
            or self._num_running == 0
            or self._closed
        ):
            return 0
        waited = time.monotonic() - first.tasks[0].enqueued
        return queue.options.batch_timeout_micros / 1e6 - waited

    def _run_batch(self, batch: batch_queue.Batch) -> None:
        tasks = [task for task in batch.tasks if _still_wanted(task)]
        if not tasks:
            return
        if self._on_batch is not None:
            size = sum(task.size for task in tasks)
            now = time.monotonic()
            self._on_batch(
                self._options.thread_pool_name,
                size,
                batch.queue.options.padded_size(size),
                [now - task.enqueued for task in tasks],
            )
        _run_tasks(batch.queue, tasks)


def _still_wanted(task: batch_queue.Task) -> bool:
    """Marks a request as running, or answers why it will not run."""
    if not task.future.set_running_or_notify_cancel():
        return False
    if task.deadline is not None and task.deadline <= time.monotonic():
        task.future.set_exception(_timed_out_in_queue())
        return False
    if not task.is_active():
        task.future.set_exception(errors.cancelled("The caller has left"))
        return False
    return True


def _run_tasks(queue: batch_queue.Queue, tasks: list[batch_queue.Task]) -> None:
    """Answers all of them; if they fail together, each on its own."""
    try:
        outputs = _run_together(queue, tasks)
    # Whatever it is, it is raised again in the callers.
    except Exception as error:
        is_late = isinstance(error, tf.errors.DeadlineExceededError)
        if len(tasks) == 1 or is_late:
            for task in tasks:
                task.future.set_exception(error)
            return
        _log.info(
            "%s: %d requests run one by one: %s", queue.name, len(tasks), error
        )
        for task in tasks:
            _run_tasks(queue, [task])
        return
    for task, values in zip(tasks, outputs, strict=True):
        task.future.set_result(values)


def _run_together(
    queue: batch_queue.Queue, tasks: list[batch_queue.Task]
) -> list[list[np.ndarray]]:
    """One run of the model; for each request the values of the fetches."""
    sizes = [task.size for task in tasks]
    padded_size = queue.options.padded_size(sum(sizes))
    deadlines = [task.deadline for task in tasks]
    latest = None if None in deadlines else max(deadlines)
    merged = batch_tensors.merge(
        [task.feeds for task in tasks],
        padded_size=padded_size,
        pad_variable_length_inputs=queue.options.pad_variable_length_inputs,
    )
    outputs = queue.raw_run(merged, queue.fetches, latest)
    return batch_tensors.split(outputs, sizes, padded_size=padded_size)


def _wait_for(
    tasks: list[batch_queue.Task], deadline: float | None
) -> list[list[np.ndarray]]:
    """The results of all pieces of a request, at its deadline an error."""
    values = []
    try:
        for task in tasks:
            seconds = None
            if deadline is not None:
                seconds = max(0, deadline - time.monotonic())
            values.append(task.future.result(seconds))
    except TimeoutError:
        # Every piece, even after one that already runs.
        if all([task.future.cancel() for task in tasks]):
            raise _timed_out_in_queue() from None
        raise errors.timed_out() from None
    finally:
        # After an error nobody wants the other pieces.
        for task in tasks:
            task.future.cancel()
    return values


def _timed_out_in_queue() -> tf.errors.ResourceExhaustedError:
    return errors.resource_exhausted("Timed out waiting in batching queue")
