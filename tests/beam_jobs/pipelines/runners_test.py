"""Errors on their way from a worker, wherever it runs."""

import unittest

import apache_beam as beam
from apache_beam.runners.portability.fn_api_runner import worker_handlers

from beam_jobs.pipelines import runners
from sicot_tf.data import generations

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

    def test_flags_of_beam(self):
        """Breaks if a value that Beam can't take prints all its flags."""
        with self.assertRaisesRegex(ValueError, "Beam does not take this: .*x"):
            runners.make_pipeline_options(
                beam_flags=["--direct_num_workers", "x"]
            )


if __name__ == "__main__":
    unittest.main()
