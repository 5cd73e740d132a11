"""Lost and hung workers: real processes, really killed."""

import contextlib
import os
import pathlib
import signal
import subprocess
import sys
import tempfile
import time
from unittest import mock

import tensorflow as tf

from sicot_tf import exit_codes
from sicot_tf.workers import cluster
from sicot_tf.workers import watchdog
from sicot_tf.workers.collectives import Collectives
from sicot_tf.workers.strategy import make_strategy
from tests.helpers import worker_processes

# The promise is 30 s; the machine of a test may be busy.
_TIMEOUT = 60


def _work(folder, behaviour, limit):
    """A worker of a test: works as it is told, until somebody is gone."""
    with watchdog.worker_failures():
        strategy = make_strategy()
        index = cluster.worker_index()
        collectives = Collectives(cluster.num_workers(), index)

        @tf.function
        def step():
            return strategy.run(lambda: collectives.all_reduce(tf.ones([2])))

        with watchdog.Watchdog() as guard:
            with guard.limit(120, "The first step"):
                step().numpy()
            (pathlib.Path(folder) / f"ready-{index}").write_text("")
            if behaviour == "raises":
                while not (pathlib.Path(folder) / "ready-0").exists():
                    time.sleep(0.01)
                raise ValueError("no such file")
            while True:
                if behaviour == "computes":
                    time.sleep(0.1)
                    continue
                with guard.limit(float(limit), "Step 2"):
                    step().numpy()


class WorkersTest(tf.test.TestCase):
    """Several workers each; what becomes of the others when one fails."""

    def _start(self, *behaviours, limit=600):
        """Workers that have all taken a step, and their addresses."""
        folder = pathlib.Path(self.enterContext(tempfile.TemporaryDirectory()))
        addresses = worker_processes.free_addresses(len(behaviours))
        self.outputs = [
            folder / f"output-{index}" for index in range(len(behaviours))
        ]
        workers = []
        for index, behaviour in enumerate(behaviours):
            with open(self.outputs[index], "wb") as output:
                worker = subprocess.Popen(
                    [sys.executable, __file__]
                    + [str(folder), behaviour, str(limit)],
                    env=worker_processes.worker_environment(addresses, index),
                    stdout=output,
                    stderr=subprocess.STDOUT,
                )
            workers.append(worker)
            self.addCleanup(worker.wait)
            self.addCleanup(worker.kill)
        deadline = time.monotonic() + 120
        while len(list(folder.glob("ready-*"))) < len(behaviours):
            self.assertLess(time.monotonic(), deadline, msg=self._texts())
            time.sleep(0.05)
        return workers, addresses

    def _texts(self):
        return [path.read_text("utf-8", "replace") for path in self.outputs]

    def _assert_starts_again(self, worker):
        code = worker.wait(_TIMEOUT)
        self.assertEqual(code, exit_codes.START_AGAIN, msg=self._texts())

    def test_chief_is_killed(self):
        """Breaks if a lost chief leaves workers behind.

        One worker waits in a collective, another one is busy on its own.
        """
        workers, addresses = self._start("steps", "steps", "computes")
        workers[0].kill()
        for index in (1, 2):
            self._assert_starts_again(workers[index])
            text = self._texts()[index]
            self.assertIn(f"worker {index} of 3: ", text)
            self.assertIn(
                f"no answer any more from worker 0 ({addresses[0]})", text
            )
            self.assertIn("goes on from its last checkpoint", text)

    def test_worker_raises(self):
        """Breaks if an error of the program hangs in teardown, or is lost.

        The chief is busy on its own, a third one in a collective.
        """
        workers, addresses = self._start("computes", "raises", "steps")
        self.assertEqual(
            workers[1].wait(_TIMEOUT), exit_codes.BAD_INPUT, msg=self._texts()
        )
        self.assertIn("Traceback", self._texts()[1])
        self.assertIn("ValueError: no such file", self._texts()[1])
        self._assert_starts_again(workers[0])
        self.assertIn(f"worker 1 ({addresses[1]})", self._texts()[0])
        self._assert_starts_again(workers[2])
        self.assertIn("worker 2 of 3: ", self._texts()[2])

    def test_worker_hangs(self):
        """Breaks if a worker that is stopped holds up the job for ever.

        Its port answers, so it is the limit of 2 s that ends the chief. When
        the worker wakes up, it finds the chief gone.
        """
        workers, _ = self._start("steps", "computes", limit=2)
        workers[1].send_signal(signal.SIGSTOP)
        self._assert_starts_again(workers[0])
        self.assertIn("limit: 2 s", self._texts()[0])
        self.assertIn("step().numpy()", self._texts()[0])
        workers[1].send_signal(signal.SIGCONT)
        self._assert_starts_again(workers[1])
        self.assertIn("worker 0", self._texts()[1])


class OneWorkerTest(tf.test.TestCase):
    def test_limit_in_time(self):
        """Breaks if a limit counts on after its block, or in the outer one."""
        with watchdog.Watchdog() as guard:
            with guard.limit(600, "outer"):
                with guard.limit(0.001, "inner"):
                    pass
                with (
                    contextlib.suppress(KeyError),
                    guard.limit(0.001, "inner"),
                ):
                    raise KeyError
                # The thread looks twice a second.
                time.sleep(1.2)

    def test_exceptions_pass(self):
        """Breaks if one worker hides exceptions from its caller."""
        with mock.patch.dict(os.environ):
            os.environ.pop("TF_CONFIG", None)
            with (
                self.assertRaisesRegex(KeyError, "x"),
                watchdog.worker_failures(),
            ):
                raise KeyError("x")

    def test_lost_worker(self):
        """Breaks if a failing disk is taken for a lost worker."""
        for error, expected in (
            (tf.errors.UnavailableError(None, None, "gs://x: timeout"), False),
            (ValueError("Collective ops is aborted by"), False),
            (
                tf.errors.UnavailableError(
                    None, None, "Collective ops is aborted by: Socket closed"
                ),
                True,
            ),
            (
                tf.errors.InternalError(
                    None, None, "RPC: /tensorflow.CoordinationService/Get"
                ),
                True,
            ),
        ):
            self.assertEqual(watchdog.is_lost_worker(error), expected)


if __name__ == "__main__":
    _work(*sys.argv[1:])
