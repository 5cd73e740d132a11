"""Every command answers before anything heavy is imported."""

import pathlib
import subprocess
import sys

import tensorflow as tf
from absl.testing import parameterized

_ROOT = pathlib.Path(__file__).parents[1]
_COMMANDS = sorted(
    f"{path.parent.name}.{path.stem}"
    for folder in ("sicot_tf", "beam_jobs")
    for path in (_ROOT / folder).glob("*.py")
    if "\ndef main(" in path.read_text("utf-8")
)
# Each takes tenths of a second or more to import.
_HEAVY = (
    "PIL",
    "apache_beam",
    "cv2",
    "duckdb",
    "gensim",
    "google.protobuf",
    "grpc",
    "keras",
    "matplotlib",
    "numpy",
    "pyarrow",
    "starlette",
    "tensorflow",
    "uvicorn",
)
_SCRIPT = """
import runpy, sys
module, heavy, *sys.argv[1:] = sys.argv[1:]
try:
    runpy.run_module(module, run_name="__main__", alter_sys=True)
except SystemExit as end:
    print("exit code", end.code)
print("imported:", *sorted(set(heavy.split(",")) & set(sys.modules)))
"""


def _run(command, *arguments):
    script = [sys.executable, "-c", _SCRIPT, command, ",".join(_HEAVY)]
    return subprocess.run(
        [*script, *arguments], capture_output=True, text=True, cwd=_ROOT
    )


class CommandsTest(tf.test.TestCase, parameterized.TestCase):
    @parameterized.parameters(_COMMANDS)
    def test_help(self, command):
        """Breaks if --help takes seconds, tells no example, or if the log's
        level can't be chosen."""
        ended = _run(command, "--help")
        self.assertEqual(ended.stderr, "")
        self.assertEndsWith(ended.stdout, "exit code 0\nimported:\n")
        self.assertIn(f"python -m {command}", ended.stdout)
        self.assertIn("examples:\n", ended.stdout)
        self.assertIn("--verbosity", ended.stdout)

    # `serve` warns of unknown flags: they may be another server's.
    @parameterized.parameters(
        command for command in _COMMANDS if command != "sicot_tf.serve"
    )
    def test_mistyped_flag(self, command):
        """Breaks if a typing mistake fills a screen, costs seconds, or ends
        with a code that a scheduler would start again."""
        ended = _run(command, "--nonsense")
        self.assertRegex(ended.stderr, r"\Aerror: .* See .* --help\.\n\Z")
        self.assertEndsWith(ended.stdout, "exit code 2\nimported:\n")
