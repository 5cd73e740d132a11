"""Starting, watching and restarting the worker processes of one machine."""

import json
import os
import pathlib
import signal
import subprocess
import sys
import tempfile
import time
import unittest
from unittest import mock

from sicot_tf import exit_codes
from sicot_tf.workers import local_workers


def _worker(folder, behaviour):
    """What a worker process of a test does; no TensorFlow: starts fast."""
    folder = pathlib.Path(folder)
    index = 0
    if "TF_CONFIG" in os.environ:
        config = json.loads(os.environ["TF_CONFIG"])
        index = config["task"]["index"]
    attempt = len(list(folder.glob(f"started-{index}-*")))
    stop = []
    signal.signal(signal.SIGTERM, lambda *_: stop.append(1))
    (folder / f"started-{index}-{attempt}").write_text(
        json.dumps({"pid": os.getpid(), **os.environ})
    )
    print(f"worker {index}, attempt {attempt}")
    if behaviour == "waits":
        while not stop:
            time.sleep(0.01)
        (folder / f"saved-{index}").write_text("")
        sys.exit(0)
    if behaviour == "ends":
        sys.exit(0)
    if behaviour == "bad input" and index == 1:
        print("error: no such file.", file=sys.stderr)
        sys.exit(exit_codes.BAD_INPUT)
    if behaviour == "is killed" and index == 1:
        # Each time but the last it gets one step further.
        if attempt < 4:
            (folder / f"step-{attempt}").write_text("")
            os.kill(os.getpid(), signal.SIGKILL)
        sys.exit(0)
    if behaviour == "is killed" and attempt == 4:
        sys.exit(0)
    if behaviour == "raises" and index == 1:
        raise RuntimeError("the reason")
    if behaviour == "hangs" and index == 0:
        time.sleep(600)
    # What the watchdog does when another worker is gone.
    while not (folder / f"started-1-{attempt}").exists():
        time.sleep(0.01)
    time.sleep(0.2)
    sys.exit(exit_codes.START_AGAIN)


def _run(folder, behaviour, num_workers="2"):
    """The process that starts the workers."""
    folder = pathlib.Path(folder)
    if behaviour == "hangs":
        local_workers._SECONDS_TO_END = 0.5
    code = local_workers.run(
        int(num_workers),
        "tests.sicot_tf.workers.local_workers_test",
        ["worker", str(folder), behaviour],
        log_dir=folder / "logs",
        progress=lambda: len(list(folder.glob("step-*"))),
    )
    print(f"code {code}")


class LocalWorkersTest(unittest.TestCase):
    def setUp(self):
        super().setUp()
        self.folder = pathlib.Path(
            self.enterContext(tempfile.TemporaryDirectory())
        )
        root = str(pathlib.Path(__file__).parents[3])
        self.enterContext(mock.patch.dict(os.environ, {"PYTHONPATH": root}))

    def _start(self, behaviour, num_workers=2):
        return subprocess.Popen(
            [sys.executable, "-m", "tests.sicot_tf.workers.local_workers_test"]
            + ["run", str(self.folder), behaviour, str(num_workers)],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def _output(self, behaviour, num_workers=2):
        process = self._start(behaviour, num_workers)
        output, _ = process.communicate(timeout=120)
        self.assertEqual(process.returncode, 0, msg=output)
        return output

    def _started(self):
        """What the workers saw, by worker and attempt."""
        found = {}
        for path in self.folder.glob("started-*"):
            _, index, attempt = path.name.split("-")
            if text := path.read_text():
                found[int(index), int(attempt)] = json.loads(text)
        return found

    def _wait_until_started(self, number):
        deadline = time.monotonic() + 60
        while len(found := self._started()) < number:
            self.assertLess(time.monotonic(), deadline)
            time.sleep(0.02)
        return found

    def _assert_gone(self, pid):
        """Nobody waits for an orphan's code here; a zombie is gone, too."""
        deadline = time.monotonic() + 30
        status = pathlib.Path(f"/proc/{pid}/stat")
        while status.exists() and status.read_text().split()[2] != "Z":
            self.assertLess(time.monotonic(), deadline)
            time.sleep(0.05)

    def test_all_end_well(self):
        """Breaks if workers do not form a cluster, or share all the cores."""
        cores = local_workers.num_cores()
        settings = {"CUDA_VISIBLE_DEVICES": "4,6,7", "OMP_NUM_THREADS": "5"}
        with mock.patch.dict(os.environ, settings):
            output = self._output("ends", num_workers=3)
        self.assertIn("worker 0, attempt 0", output)
        self.assertNotIn("worker 1", output)
        self.assertIn("code 0", output)
        log = self.folder / "logs" / "worker-2.log"
        self.assertIn("worker 2, attempt 0", log.read_text())
        started = self._started()
        self.assertEqual(sorted(started), [(0, 0), (1, 0), (2, 0)])
        configs = [json.loads(each["TF_CONFIG"]) for each in started.values()]
        self.assertEqual(configs[0]["cluster"], configs[1]["cluster"])
        self.assertEqual(len(set(configs[0]["cluster"]["worker"])), 3)
        for (index, _), each in started.items():
            self.assertEqual(each["CUDA_VISIBLE_DEVICES"], "467"[index])
            # Set by the user, and not.
            self.assertEqual(each["OMP_NUM_THREADS"], "5")
            self.assertEqual(
                each["TF_NUM_INTRAOP_THREADS"], str(max(1, cores // 3))
            )

    def test_one_worker(self):
        """Breaks if one worker is taken for a cluster."""
        self.assertIn("code 0", self._output("ends", num_workers=1))
        self.assertNotIn("TF_CONFIG", self._started()[0, 0])

    def test_started_again_while_it_gets_on(self):
        """Breaks if a killed worker ends a job that makes progress.

        Four kills, more than would be forgiven without progress, each on
        fresh ports.
        """
        output = self._output("is killed")
        self.assertIn("code 0", output)
        self.assertEqual(output.count("Starting all workers again"), 4)
        self.assertIn("worker 1 was ended by SIGKILL", output)
        started = self._started()
        self.assertEqual(len(started), 10)
        ports = {
            json.loads(each["TF_CONFIG"])["cluster"]["worker"][0]
            for each in started.values()
        }
        self.assertEqual(len(ports), 5)

    def test_gives_up_without_progress(self):
        """Breaks if a hopeless job runs for ever, or hides the reason.

        Worker 1 fails, worker 0 follows with START_AGAIN: the code and the
        log are those of worker 1.
        """
        output = self._output("raises")
        self.assertIn("code 1\n", output)
        self.assertIn("3 failures in a row without a new checkpoint", output)
        self.assertIn(str(self.folder / "logs"), output)
        self.assertEqual(output.count("RuntimeError: the reason"), 3)
        self.assertEqual(len(self._started()), 6)

    def test_bad_input_is_not_tried_again(self):
        """Breaks if a wrong path costs three starts, or has to be looked up
        in a worker's log."""
        output = self._output("bad input")
        self.assertIn(f"code {exit_codes.BAD_INPUT}", output)
        self.assertIn("error: worker 1: no such file.\n", output)
        self.assertNotIn("The job failed", output)
        self.assertEqual(len(self._started()), 2)

    def test_hung_worker_is_killed(self):
        """Breaks if a worker that does not end blocks the restart."""
        output = self._output("hangs")
        self.assertEqual(output.count("Worker 0 does not end: killed"), 3)
        # Who hangs is to blame, not who noticed it.
        self.assertIn(f"code {128 + signal.SIGKILL}", output)

    def test_signals(self):
        """Breaks if workers that are asked to stop do not all save.

        Ctrl-C and SIGTERM alike; and a kill of the parent leaves no orphans.
        """
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGKILL):
            for path in self.folder.glob("*-*"):
                path.unlink()
            process = self._start("waits")
            started = self._wait_until_started(2)
            process.send_signal(number)
            output, _ = process.communicate(timeout=60)
            for each in started.values():
                self._assert_gone(each["pid"])
            saved = len(list(self.folder.glob("saved-*")))
            if number == signal.SIGKILL:
                self.assertEqual(process.returncode, -signal.SIGKILL)
                self.assertEqual(saved, 0)
            else:
                self.assertIn("code 0", output)
                self.assertEqual(saved, 2)

    def test_errors(self):
        """Breaks if a cluster is started inside a cluster."""
        arguments = {"log_dir": self.folder, "progress": int}
        with self.assertRaisesRegex(ValueError, "num_workers >= 1"):
            local_workers.run(0, "module", [], **arguments)
        with (
            mock.patch.dict(os.environ, {"TF_CONFIG": "{}"}),
            self.assertRaisesRegex(ValueError, "without --num_workers"),
        ):
            local_workers.run(2, "module", [], **arguments)


if __name__ == "__main__":
    {"run": _run, "worker": _worker}[sys.argv[1]](*sys.argv[2:])
