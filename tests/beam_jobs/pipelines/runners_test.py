"""How inputs come to workers, and errors back from them."""

import os
import pathlib
import tempfile
import time
import unittest

import apache_beam as beam
from apache_beam.runners.portability.fn_api_runner import worker_handlers

from beam_jobs.pipelines import runners
from sicot_tf.data import generations
from sicot_tf.stores import local_folder

# The message has neither the step nor a traceback.
_MESSAGE = (
    r"\AExpected a folder with manifest\.json, .* found neither in nowhere\. "
    r".* has finished\.\Z"
)


class _ResolveFn(beam.DoFn):
    """Meets a mistake of the user."""

    def process(self, path):
        yield generations.resolve_generation(path)


class _DivideFn(beam.DoFn):
    """Has a bug."""

    def process(self, path):
        yield len(path) // 0


class _FirstIsSlowFn(beam.DoFn):
    """Is not done with input 0 before all others are."""

    def __init__(self, folder, num_inputs):
        self._folder = folder
        self._num_inputs = num_inputs

    def process(self, number):
        deadline = time.monotonic() + 60
        while not number and len(os.listdir(self._folder)) < (
            self._num_inputs - 1
        ):
            if time.monotonic() > deadline:
                raise ValueError("Inputs are left behind a slow one.")
            time.sleep(0.01)
        (self._folder / str(number)).touch()
        yield {"inputs": 1, "sum": number}


class _MistakeAtOnceFn(beam.DoFn):
    """A mistake at input 0; others note that they were worked on."""

    def __init__(self, folder):
        self._folder = folder

    def process(self, number):
        if not number:
            generations.resolve_generation("nowhere")
        time.sleep(0.05)
        (self._folder / str(number)).touch()
        yield number


class RunnersTest(unittest.TestCase):
    def _mistake(self, run, *arguments):
        with self.assertRaisesRegex(ValueError, _MESSAGE):
            run(*arguments, ["nowhere"], beam.ParDo(_ResolveFn()))

    def test_this_process(self):
        """Breaks if a mistake carries the name of a step, or a bug is told as
        if the user had made it."""
        options = runners.make_pipeline_options()
        self._mistake(runners.run, options)
        with self.assertRaises(ZeroDivisionError):
            runners.run(options, ["nowhere"], beam.ParDo(_DivideFn()))

    def test_processes_of_beam(self):
        """Breaks if a mistake ends as the traceback of another process."""
        options = runners.make_pipeline_options(num_processes=2)
        self._mistake(runners.run, options)

    def test_a_worker_that_is_late(self):
        """Breaks if a mistake of one worker has the job wait for ever for
        another that was still starting."""
        connection = worker_handlers.ControlConnection()
        connection.close()
        connection.set_input([])
        self.assertIs(
            connection._push_queue.get(timeout=10),
            worker_handlers.BeamFnControlServicer._DONE_MARKER,
        )

    def test_own_processes(self):
        """Breaks if a mistake ends as the traceback of another process."""
        options = runners.make_pipeline_options(num_processes=2)
        self._mistake(runners.run_each, options)

    def test_no_input_waits_for_a_slow_one(self):
        """Breaks if inputs are divided before they are worked on, or one is
        worked on twice or not at all, also in a second call."""
        options = runners.make_pipeline_options(num_processes=2)
        with (
            tempfile.TemporaryDirectory() as name,
            runners.local_processes(options) as processes,
        ):
            for number in (6, 3):
                folder = pathlib.Path(name, str(number))
                folder.mkdir()
                _, total = runners.sum_each(
                    options,
                    range(number),
                    beam.ParDo(_FirstIsSlowFn(folder, number)),
                    local_folder.LocalFolder(pathlib.Path(name)),
                    processes,
                )
                # 0 + 1 + ... + (number - 1)
                expected = number * (number - 1) // 2
                self.assertEqual({"inputs": number, "sum": expected}, total)

    def test_a_mistake_ends_all_processes(self):
        """Breaks if the other process works on after a mistake: an hour of
        parts, before the message comes."""
        options = runners.make_pipeline_options(num_processes=2)
        with tempfile.TemporaryDirectory() as name:
            transform = beam.ParDo(_MistakeAtOnceFn(pathlib.Path(name)))
            with self.assertRaisesRegex(ValueError, _MESSAGE):
                runners.run_each(options, range(1000), transform)
            self.assertLess(len(os.listdir(name)), 999)

    def test_flags_of_beam(self):
        """Breaks if a value that Beam can't take prints all its flags."""
        with self.assertRaisesRegex(ValueError, "Beam does not take this: .*x"):
            runners.make_pipeline_options(
                beam_flags=["--direct_num_workers", "x"]
            )


if __name__ == "__main__":
    unittest.main()
