"""Processes of this machine that share out inputs among them.

Each runs one pipeline for all the inputs that it gets, and takes the next one
when it has finished the last. FnApiRunner's own processes divide all inputs at
the start, and a pipeline waits for ever when one of them is killed; a pipeline
for each input would cost a tenth of a second every time (Beam 2.77).
"""

import concurrent.futures
import concurrent.futures.process
import multiprocessing
from collections.abc import Callable
from collections.abc import Iterator
from collections.abc import Sequence
from typing import Any

import apache_beam as beam

from beam_jobs.pipelines import worker

# In a process of the pool.
_inputs: Sequence[Any] = ()


class ProcessPool:
    """A pool of processes; a context that ends with them.

    Attributes:
        pool: for work that is not a pipeline.
        number: of processes.
    """

    def __init__(self, number: int):
        # Neither TensorFlow nor gRPC survive a fork.
        context = multiprocessing.get_context("spawn")
        self.number = number
        self._num_taken = context.Value("q", 0)
        self.pool = concurrent.futures.ProcessPoolExecutor(
            number,
            context,
            worker.start_in_pool,
            (self._num_taken, *worker.arguments()),
        )

    def __enter__(self) -> "ProcessPool":
        return self

    def __exit__(self, *_: object) -> None:
        self.pool.shutdown(cancel_futures=True)

    def run(
        self,
        function: Callable[..., Any],
        inputs: Sequence[Any],
        arguments: Callable[[int], tuple[Any, ...]],
    ) -> Iterator[Any]:
        """Calls a function in each process; gives the results as they come.

        Args:
            function: has `TakeInputsFn` take the inputs, each of which one
                process gets.
            arguments: the number of a process to the arguments.

        Raises:
            ChildProcessError: if a process was killed.
        """
        self._num_taken.value = 0
        jobs = []
        try:
            for number in range(min(self.number, len(inputs))):
                jobs.append(
                    self.pool.submit(_call, inputs, function, arguments(number))
                )
            for job in concurrent.futures.as_completed(jobs):
                yield job.result()
        except concurrent.futures.process.BrokenProcessPool as error:
            raise ChildProcessError(
                "A process of this job was killed; if nobody did so, memory "
                "was short: take fewer processes. The same command goes on "
                "where this one ended."
            ) from error
        finally:
            # One that was killed may hold the lock for ever.
            if self._num_taken.get_lock().acquire(timeout=1):
                self._num_taken.value = len(inputs)
                self._num_taken.get_lock().release()
            # What they do now would not be told from the work of a next call.
            concurrent.futures.wait(jobs)


class TakeInputsFn(beam.DoFn):
    """In a process of `ProcessPool.run`: anything to inputs, one by one."""

    def process(self, _: Any) -> Iterator[Any]:
        """Gives the next one once all steps that follow have had the last.

        So there must be no shuffle right behind it.
        """
        while True:
            with worker.num_taken.get_lock():
                number = worker.num_taken.value
                worker.num_taken.value += 1
            if number >= len(_inputs):
                return
            yield _inputs[number]


def _call(
    inputs: Sequence[Any],
    function: Callable[..., Any],
    arguments: tuple[Any, ...],
) -> Any:
    global _inputs
    _inputs = inputs
    return function(*arguments)
