"""The Kubernetes manifest: its schema, and its shell script for real."""

import json
import os
import pathlib
import signal
import subprocess
import sys
import unittest
from unittest import mock

import kubernetes_validate
import yaml

from sicot_tf.distribute import cluster
from sicot_tf.distribute import exit_codes

_MANIFEST = pathlib.Path(__file__).parents[1] / "kubernetes" / "train.yaml"
# What the worker of a test does: (last step, last epoch) of what it leaves
# behind is given, and its exit code.
_WORKER = """
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
signal.signal(signal.SIGTERM, lambda *_: sys.exit("saved"))
print("ready", flush=True)
time.sleep(60)
"""


class KubernetesTest(unittest.TestCase):
    def setUp(self):
        super().setUp()
        self.service, self.job = yaml.safe_load_all(_MANIFEST.read_text())
        self.pod = self.job["spec"]["template"]["spec"]
        (self.worker,) = self.pod["containers"]
        folder = self.enterContext(
            __import__("tempfile").TemporaryDirectory()
        )
        self.run_dir = pathlib.Path(folder)

    def _start(self, *command, index=0):
        environment = {
            each["name"]: each["value"] for each in self.worker["env"]
        }
        environment |= {
            "RUN_DIR": str(self.run_dir),
            "JOB_COMPLETION_INDEX": str(index),
            # `python` of the image.
            "PATH": f"{pathlib.Path(sys.executable).parent}:{os.environ['PATH']}",
        }
        return subprocess.Popen(
            [*self.worker["command"], sys.executable, "-c", *command],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def _run(self, *command, index=0):
        process = self._start(*command, index=index)
        output, errors = process.communicate(timeout=60)
        return process.returncode, output, errors
