import pathlib
import signal
import subprocess
import sys
import tempfile
import textwrap
import time
import unittest

_PROJECT_DIR = pathlib.Path(__file__).parents[3]
_PATIENCE_SECONDS = 30
# A supervisor whose child does what `code` says.
_PROGRAM = """
import os, sys
from sicot_tf.serving import supervisor
def command(num_restarts):
    return [sys.executable, "-c", sys.argv[1], str(num_restarts),
            str(os.getpid())]
code = supervisor.run(command, first_delay_seconds=0.01)
heavy = {"tensorflow", "numpy", "grpc"} & set(sys.modules)
print("heavy imports:", sorted(heavy))
raise SystemExit(code)
"""
_WAITS_FOR_SIGNAL = """
import signal, sys, time
signal.signal(signal.SIGTERM, lambda *_: sys.exit(3))
signal.signal(signal.SIGINT, lambda *_: sys.exit(4))
print("waiting", flush=True)
time.sleep(60)
"""


class SupervisorTest(unittest.TestCase):
    def start(self, code):
        process = subprocess.Popen(
            [sys.executable, "-c", _PROGRAM, textwrap.dedent(code)],
            cwd=_PROJECT_DIR,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.addCleanup(self.end, process)
        return process

    def end(self, process):
        process.kill()
        process.wait()
        process.stdout.close()
        process.stderr.close()

    def run_to_end(self, code):
        process = self.start(code)
        output, errors = process.communicate(timeout=_PATIENCE_SECONDS)
        return process.returncode, output, errors

    def test_restarts_after_a_crash_and_passes_the_exit_code_on(self):
        """A fault in a kernel costs seconds, not the night."""
        code, output, errors = self.run_to_end(
            """
            import os, signal, sys
            numbers = [signal.SIGSEGV, signal.SIGABRT, signal.SIGKILL]
            restarts = int(sys.argv[1])
            print("restarts:", restarts, flush=True)
            if restarts < 3:
                os.kill(os.getpid(), numbers[restarts])
            sys.exit(7)
            """
        )
        self.assertEqual(code, 7)
        self.assertEqual(
            output.splitlines(),
            [*[f"restarts: {n}" for n in range(4)], "heavy imports: []"],
        )
        self.assertIn("died of SIGSEGV in native code. Restart 1 in", errors)
        self.assertIn("died of SIGABRT in native code. Restart 2 in", errors)
        self.assertIn(
            "died of SIGKILL, perhaps because memory ran out. Restart 3",
            errors,
        )

    def test_gives_up(self):
        """A model that always crashes must be seen by the orchestrator."""
        code, _, errors = self.run_to_end(
            "import os, signal; os.kill(os.getpid(), signal.SIGABRT)"
        )
        self.assertEqual(code, 128 + signal.SIGABRT)
        self.assertEqual(errors.count("Restart"), 4)
        self.assertIn("the 5th time within a minute", errors)

    def test_ordinary_ends_are_no_crashes(self):
        """Wrong flags, a bad model, a deliberate end: no restart."""
        for code, expected in (
            ("raise SystemExit(255)", 255),
            ("pass", 0),
            # Not SIGHUP: under nohup it is ignored.
            ("import os, signal; os.kill(os.getpid(), signal.SIGUSR1)", 138),
        ):
            received, _, errors = self.run_to_end(code)
            self.assertEqual(received, expected)
            self.assertNotIn("Restart", errors)

    def test_signals_are_passed_on(self):
        """The server drains; its exit code is the answer."""
        for number, code in ((signal.SIGTERM, 3), (signal.SIGINT, 4)):
            process = self.start(_WAITS_FOR_SIGNAL)
            self.assertEqual(process.stdout.readline(), "waiting\n")
            process.send_signal(number)
            self.assertEqual(process.wait(_PATIENCE_SECONDS), code)

    def test_stopped_while_it_starts(self):
        """A server that dies of SIGTERM, not yet able to drain, is no fault."""
        process = self.start(
            "import time; print('waiting', flush=True); time.sleep(60)"
        )
        self.assertEqual(process.stdout.readline(), "waiting\n")
        process.terminate()
        self.assertEqual(process.wait(_PATIENCE_SECONDS), 0)

    def test_the_server_ends_with_its_supervisor(self):
        """Else it would keep the ports, and nobody could stop it."""
        with tempfile.TemporaryDirectory() as folder:
            path = pathlib.Path(folder, "ended")
            process = self.start(
                f"""
                import os, signal, sys, time
                from sicot_tf.serving import supervisor
                def end(*_):
                    open({str(path)!r}, "w").close()
                    sys.exit()
                signal.signal(signal.SIGTERM, end)
                supervisor.end_with_parent(int(sys.argv[2]))
                print("waiting", flush=True)
                time.sleep(60)
                """
            )
            self.assertEqual(process.stdout.readline(), "waiting\n")
            process.kill()
            deadline = time.monotonic() + _PATIENCE_SECONDS
            while not path.exists():
                self.assertLess(time.monotonic(), deadline)
                time.sleep(0.01)

    def test_a_server_without_its_supervisor_does_not_start(self):
        """The supervisor may die before the server could ask for the signal."""
        completed = subprocess.run(
            [
                *(sys.executable, "-c"),
                "from sicot_tf.serving import supervisor\n"
                "supervisor.end_with_parent(1234567)",
            ],
            cwd=_PROJECT_DIR,
            check=False,
        )
        self.assertEqual(completed.returncode, 128 + signal.SIGTERM)


if __name__ == "__main__":
    unittest.main()
