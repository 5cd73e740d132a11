"""The Kubernetes manifest: its schema, and its shell script for real."""

import contextlib
import io
import os
import pathlib
import re
import signal
import subprocess
import sys
import tempfile
import unittest
from unittest import mock

import kubernetes_validate
import yaml

from sicot_tf import exit_codes
from sicot_tf import train
from sicot_tf.workers import cluster

_MANIFEST = pathlib.Path(__file__).parents[1] / "kubernetes" / "train.yaml"
# Stands for the training: leaves a curve that ends at (step, epoch) and its
# checkpoint, ends with a code.
_TRAINS = """
import json, os, pathlib, sys
run = pathlib.Path(os.environ["RUN_DIR"])
step, epoch, code = map(int, sys.argv[1:])
(run / "checkpoints" / f"step-{step:08d}").mkdir(parents=True, exist_ok=True)
with open(run / "metrics.jsonl", "a") as lines:
    lines.write(json.dumps({"step": step, "epoch": epoch}) + "\\n")
print(os.environ["TF_CONFIG"])
sys.exit(code)
"""
_WAITS = """
import signal, sys, time
signal.signal(signal.SIGTERM, lambda *_: sys.exit(print("saved")))
print("ready", flush=True)
time.sleep(60)
"""


class KubernetesTest(unittest.TestCase):
    def setUp(self):
        super().setUp()
        self.service, self.job = yaml.safe_load_all(_MANIFEST.read_text())
        self.pod = self.job["spec"]["template"]["spec"]
        (self.worker,) = self.pod["containers"]
        self.settings = {
            each["name"]: each["value"] for each in self.worker["env"]
        }
        self.run_dir = self.enterContext(tempfile.TemporaryDirectory())

    def _start(self, *command, index=0):
        """The container of a worker, with another command to run."""
        python = pathlib.Path(sys.executable).parent
        return subprocess.Popen(
            [*self.worker["command"], sys.executable, "-c", *command],
            env=self.settings
            | {
                "RUN_DIR": self.run_dir,
                "JOB_COMPLETION_INDEX": str(index),
                "PATH": f"{python}:{os.environ['PATH']}",
            },
            stdout=subprocess.PIPE,
            text=True,
        )

    def _run(self, *command, index=0):
        process = self._start(*command, index=index)
        output, _ = process.communicate(timeout=60)
        return process.returncode, output

    def test_schema(self):
        """Breaks if Kubernetes would refuse the manifest.

        Against the schemas of an old version, which knows all of its fields,
        and of the newest one.
        """
        versions = ("1.29", kubernetes_validate.latest_version())
        for manifest in (self.service, self.job):
            for version in versions:
                kubernetes_validate.validate(manifest, version, strict=True)
        with self.assertRaises(kubernetes_validate.ValidationError):
            self.job["spec"]["parallelism"] = "four"
            kubernetes_validate.validate(self.job, versions[1], strict=True)

    def test_names_fit_together(self):
        """Breaks if the workers cannot find each other or the volume."""
        number = int(self.settings["NUM_WORKERS"])
        self.assertEqual(self.job["spec"]["completions"], number)
        self.assertEqual(self.job["spec"]["parallelism"], number)
        name = self.service["metadata"]["name"]
        self.assertEqual(self.pod["subdomain"], name)
        self.assertEqual(
            self.service["spec"]["selector"],
            {"job-name": self.job["metadata"]["name"]},
        )
        self.assertEqual(
            self.worker["volumeMounts"][0]["name"],
            self.pod["volumes"][0]["name"],
        )
        rules = self.job["spec"]["podFailurePolicy"]["rules"]
        self.assertEqual(
            [(rule["action"], rule["onExitCodes"]["values"])
             for rule in rules[:2]],
            [("FailJob", [exit_codes.BAD_INPUT]),
             ("Ignore", [exit_codes.START_AGAIN])],
        )  # fmt: skip

    def test_arguments(self):
        """Breaks if the training does not know what the manifest asks for."""
        arguments = [
            re.sub(r"\$\((\w+)\)", lambda name: self.settings[name[1]], each)
            for each in self.worker["args"]
        ]
        self.assertEqual(arguments[:3], ["python", "-m", "sicot_tf.train"])
        self.assertIn(f"--run_dir={self.settings['RUN_DIR']}", arguments)
        with (
            contextlib.redirect_stdout(io.StringIO()),
            self.assertRaises(SystemExit) as end,
        ):
            train.main([*arguments[3:], "--help"])
        self.assertEqual(end.exception.code, 0)

    def test_workers_by_their_index(self):
        """Breaks if a worker gets a TF_CONFIG that the training refuses.

        It also ends with 0 only when the last epoch is saved: the manifest's
        20 epochs here are steps 0 to 200.
        """
        code, output = self._run(_TRAINS, "200", "20", "0", index=3)
        self.assertEqual(code, 0)
        with mock.patch.dict(os.environ, {"TF_CONFIG": output}):
            self.assertEqual(cluster.num_workers(), 4)
            self.assertEqual(cluster.worker_index(), 3)
            name = self.job["metadata"]["name"]
            service = self.service["metadata"]["name"]
            port = self.service["spec"]["ports"][0]["port"]
            self.assertEqual(
                cluster.addresses()[3], f"{name}-3.{service}:{port}"
            )
        # Nothing more to do: the command is not run.
        self.assertEqual(self._run("raise ValueError"), (0, ""))

    def test_exit_codes(self):
        """Breaks if Kubernetes takes an unfinished training for a finished."""
        for step, epoch, code, expected in (
            (100, 10, 0, exit_codes.START_AGAIN),
            (110, 11, exit_codes.BAD_INPUT, exit_codes.BAD_INPUT),
            (120, 12, 1, 1),
        ):
            found, _ = self._run(_TRAINS, str(step), str(epoch), str(code))
            self.assertEqual(found, expected)

    def test_sigterm(self):
        """Breaks if an evicted worker is killed before it saves."""
        process = self._start(_WAITS)
        self.assertEqual(process.stdout.readline(), "ready\n")
        process.send_signal(signal.SIGTERM)
        output, _ = process.communicate(timeout=60)
        self.assertEqual(output, "saved\n")
        self.assertEqual(process.returncode, exit_codes.START_AGAIN)


if __name__ == "__main__":
    unittest.main()
