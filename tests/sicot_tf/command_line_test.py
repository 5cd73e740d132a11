"""Mistakes of a user end in a sentence, bugs in a traceback."""

import contextlib
import io
import json
import os
import pathlib
import subprocess
import sys

import numpy as np
import tensorflow as tf
from absl.testing import parameterized

from sicot_tf import command_line
from sicot_tf import config
from sicot_tf import evaluate
from sicot_tf import explain
from sicot_tf import export
from sicot_tf import files
from sicot_tf import plan
from sicot_tf import train
from sicot_tf.workers import cluster

_RUN = {
    "model": {},
    "train": {},
    "dataset": {
        "path": "nowhere",
        "generation": "0",
        "num_classes": 1,
        "vocabulary_size": 1,
        "word_vector_dim": 1,
        "head_threshold": 1,
    },
}


def _end(main, *arguments):
    """Exit code and what was written to stderr."""
    errors = io.StringIO()
    with contextlib.redirect_stderr(errors):
        try:
            main([str(argument) for argument in arguments])
        except SystemExit as stopped:
            return stopped.code, errors.getvalue()
    return 0, errors.getvalue()


class CommandLineTest(tf.test.TestCase, parameterized.TestCase):
    def setUp(self):
        super().setUp()
        self.folder = pathlib.Path(self.get_temp_dir())

    def test_what_is_a_mistake(self):
        """Breaks if a bug loses its traceback, or a mistake gets one."""

        def caught(function):
            try:
                function()
            except Exception as error:
                return command_line.is_mistake(error)

        self.assertTrue(caught(lambda: files.read_json(self.folder / "none")))
        (self.folder / "x").write_bytes(b"\xff")
        self.assertTrue(caught(lambda: files.read_json(self.folder / "x")))
        self.assertTrue(caught(lambda: config.TrainConfig(epochs=0)))
        # int() was called wrongly by our code, which raises nothing itself.
        self.assertFalse(caught(lambda: cluster._answers("host:port")))
        # NumPy was called wrongly; a key of our own is missing.
        self.assertFalse(caught(lambda: np.zeros(3).reshape(2)))
        self.assertFalse(caught(lambda: {}["a"]))

    def test_codes(self):
        """Breaks if a scheduler starts again what fails again, or Ctrl-C
        looks like a crash."""
        for error, code in (
            (OSError(28, "No space left on device"), 1),
            (KeyboardInterrupt(), 130),
        ):
            with self.assertRaises(SystemExit) as stopped:
                with contextlib.redirect_stderr(io.StringIO()):
                    with command_line.mistakes_in_a_sentence():
                        raise error
            self.assertEqual(stopped.exception.code, code)
        with self.assertRaises(ZeroDivisionError):
            with command_line.mistakes_in_a_sentence():
                1 / 0

    @parameterized.parameters(
        ("{", "is not valid JSON"),
        ("[]", "does not describe a training run"),
        ("{}", "does not describe a training run"),
        (json.dumps(_RUN | {"dataset": {}}), "does not describe a training"),
        (json.dumps(_RUN | {"model": {"image_size": "big"}}), "whole number"),
        (json.dumps(_RUN | {"model": {"what": 1}}), "Unknown settings"),
        (json.dumps(_RUN), "nowhere"),
    )
    def test_broken_runs(self, text, said):
        """Breaks if a run that is damaged ends a command in a traceback."""
        (self.folder / "config.json").write_text(text)
        code, errors = _end(evaluate.main, "--run_dir", self.folder)
        self.assertEqual(code, 2)
        self.assertRegex(errors, f"^error: .*{said}.*\n$")

    def test_nothing_there(self):
        """Breaks if a folder without run, checkpoint or data is a puzzle."""
        for main in (evaluate.main, explain.main, export.main):
            code, errors = _end(main, "--run_dir", self.folder)
            self.assertEqual(code, 2)
            self.assertIn("found no config.json", errors)
        (self.folder / "config.json").write_text(json.dumps(_RUN))
        (self.folder / "vocabulary.txt").write_text("a\n")
        for content, said in (
            ('{"sku_id": "a", "train": 1, "head": true}', "a checkpoint in"),
            ('{"sku_id": "a"}', "classes.jsonl, line 1: expected a class"),
            ("\xff", "classes.jsonl, line 1: expected a class"),
        ):
            (self.folder / "classes.jsonl").write_text(content)
            code, errors = _end(export.main, "--run_dir", self.folder)
            self.assertEqual(code, 2)
            self.assertIn(said, errors)
        code, errors = _end(
            train.main, "--dataset", self.folder, "--run_dir", "x"
        )
        self.assertEqual(code, 2)
        self.assertIn("manifest.json", errors)

    @parameterized.parameters(
        (train.main, "--epochs", "-1", "--epochs to be a whole number of 1"),
        (train.main, "--global_batch_size", "0", "number of 1 or more"),
        (train.main, "--learning_rate", "nan", "received nan"),
        (train.main, "--lambda", "-1", "--lambda to be a number of 0 or more"),
        (train.main, "--sample_rate", "2", "at most 1, received 2.0"),
        (train.main, "--num_workers", "-1", "--num_workers"),
        (evaluate.main, "--batch_size", "0", "batch_size of 1 or more"),
        (plan.main, "--num_classes", "0", "num_classes"),
        (plan.main, "--device_memory", "nan", "device_memory"),
    )
    def test_nonsense(self, main, flag, value, said):
        """Breaks if a number that makes no sense starts any work."""
        required = ("--dataset", "nowhere") if main is train.main else ()
        code, errors = _end(main, *required, f"{flag}={value}")
        self.assertEqual(code, 2)
        self.assertIn(said, errors)
        self.assertNotIn("Traceback", errors)

    def test_the_process(self):
        """Breaks if a worker of TF_CONFIG shows a traceback after all."""
        task = {"type": "worker", "index": "0"}
        finished = subprocess.run(
            [sys.executable, "-m", "sicot_tf.train", "--dataset", "nowhere"],
            env=os.environ
            | {
                "TF_CONFIG": json.dumps(
                    {"cluster": {"worker": ["h:1", "h:2"]}, "task": task}
                )
            },
            capture_output=True,
            text=True,
            check=False,
        )
        self.assertEqual(finished.returncode, 2)
        self.assertIn('it is "0". Expected', finished.stderr)
        self.assertNotIn("Traceback", finished.stderr)


if __name__ == "__main__":
    tf.test.main()


class OneVoiceTest(tf.test.TestCase):
    def test_log(self):
        """Breaks if --verbosity does nothing, other packages fill the log, or
        results and log are mixed."""
        script = (
            "import logging\n"
            "from sicot_tf import command_line\n"
            "parser = command_line.ArgumentParser('sicot_tf.x', '', '')\n"
            "parser.parse_args()\n"
            "logging.getLogger('sicot_tf.data').info('ours')\n"
            "logging.getLogger('beam_jobs.status').warning('%d left', 3)\n"
            "logging.getLogger('apache_beam').info('theirs')\n"
            "print('result')\n"
        )
        for verbosity, expected in (
            ((), r"\d\d:\d\d:\d\d INFO ours\n[\d:]{8} WARNING 3 left\n"),
            (("--verbosity", "warning"), r"[\d:]{8} WARNING 3 left\n"),
            (("--verbosity", "error"), ""),
        ):
            ended = subprocess.run(
                [sys.executable, "-c", script, *verbosity],
                capture_output=True,
                text=True,
                check=True,
            )
            self.assertRegex(ended.stderr, rf"\A{expected}\Z")
            self.assertEqual(ended.stdout, "result\n")

    def test_tensorflow_starts_silently(self):
        """Breaks if every command begins with a screen about GPUs that are
        not there, if asking for it shows nothing, or if what is no chatter is
        lost."""
        script = (
            "import os, sys\n"
            "from sicot_tf import command_line\n"
            "command_line.set_up_logging(sys.argv[1])\n"
            "command_line.import_tensorflow()\n"
            "import tensorflow as tf\n"
            "tf.constant(1) + 1\n"
            "os.write(2, b'after\\n')\n"
        )
        environment = {
            name: value
            for name, value in os.environ.items()
            if name != "TF_CPP_MIN_LOG_LEVEL"
        }
        silent, asked = (
            subprocess.run(
                [sys.executable, "-c", script, verbosity],
                capture_output=True,
                text=True,
                check=True,
                env=environment,
            ).stderr
            for verbosity in ("info", "debug")
        )
        self.assertEqual(silent, "after\n")
        self.assertIn("oneDNN", asked)
