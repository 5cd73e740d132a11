"""`TF_CONFIG`, and workers that come late."""

import json
import os
import socket
import subprocess
import sys
from unittest import mock

import tensorflow as tf

from sicot_tf import exit_codes
from sicot_tf.workers import cluster
from sicot_tf.workers.strategy import make_strategy
from tests.helpers import worker_processes

_WORKERS = ["host0:2222", "host1:2222"]
_WAITS = """
from sicot_tf.workers.strategy import make_strategy
make_strategy(start_timeout=3)
"""


def _tf_config(**changes):
    config = {
        "cluster": {"worker": _WORKERS},
        "task": {"type": "worker", "index": 1},
    }
    return mock.patch.dict(
        os.environ, {"TF_CONFIG": json.dumps(config | changes)}
    )


class ClusterTest(tf.test.TestCase):
    def test_one_worker(self):
        """Breaks if training needs a TF_CONFIG."""
        for value in ("", "{}"):
            with mock.patch.dict(os.environ, {"TF_CONFIG": value}):
                self.assertEqual(cluster.num_workers(), 1)
                self.assertEqual(cluster.worker_index(), 0)
                self.assertEqual(cluster.addresses(), [])

    def test_workers(self):
        """Breaks if a worker takes another one's share."""
        with _tf_config():
            self.assertEqual(cluster.num_workers(), 2)
            self.assertEqual(cluster.worker_index(), 1)
            self.assertEqual(cluster.addresses(), _WORKERS)
            self.assertEqual(cluster.named([1]), "worker 1 (host1:2222)")
        with _tf_config(cluster={"chief": ["h:1"], "worker": _WORKERS}):
            self.assertEqual(cluster.num_workers(), 3)
            self.assertEqual(cluster.worker_index(), 2)
            self.assertEqual(cluster.addresses(), ["h:1", *_WORKERS])

    def test_broken_tf_config(self):
        """Breaks if a typing error ends in a stack trace of TensorFlow."""
        for text, reason in (
            ('{"cluster": ', "it is not JSON"),
            ('["host0:2222"]', "is missing"),
            ('{"cluster": {"worker": ["h:1"]}}', "is missing"),
            ('{"task": {"type": "worker", "index": 0}}', "is missing"),
        ):
            with (
                mock.patch.dict(os.environ, {"TF_CONFIG": text}),
                self.assertRaisesRegex(ValueError, f"{reason}.*Expected"),
            ):
                cluster.num_workers()
        for changes, reason in (
            ({"cluster": {"worker": _WORKERS, "ps": ["h:1"]}}, "jobs .'ps'."),
            ({"cluster": {"evaluator": ["h:1"]}}, "jobs .'evaluator'."),
            ({"cluster": {"chief": _WORKERS}}, "task 1 of job 'worker'"),
            ({"cluster": {"worker": "host0:2222"}}, "not lists"),
            ({"cluster": {"worker": ["host0", "h:1"]}}, "not host:port"),
            ({"cluster": {"worker": ["h:1", "h:1"]}}, "the same address"),
            ({"cluster": {"chief": ["h:1", "h:2"], "worker": _WORKERS}}, "2 c"),
            ({"task": {"type": "worker", "index": 2}}, "task 2 of job"),
            ({"task": {"type": "worker", "index": "1"}}, "is missing"),
            ({"task": {"type": "worker", "index": "1"}}, 'it is "1"'),
            ({"task": {"type": "worker", "index": True}}, "it is true"),
            ({"cluster": {"worker": ["h:0", "h:1"]}}, "'h:0' is not host:port"),
            ({"cluster": {"worker": ["h:1", "h:65536"]}}, "from 1 to 65535"),
            ({"cluster": {"worker": ["h:1", 2222]}}, "2222 is not host:port"),
            ({"cluster": {"worker": ["http://h:1", "h:2"]}}, "not host:port"),
        ):
            with (
                _tf_config(**changes),
                self.assertRaisesRegex(ValueError, f"{reason}.*Expected"),
            ):
                cluster.worker_index()

    def test_taken_port(self):
        """Breaks if two workers with one index share a port in silence."""
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = taken.getsockname()[1]
            workers = {"worker": ["127.0.0.1:1", f"127.0.0.1:{port}"]}
            with (
                _tf_config(cluster=workers),
                self.assertRaisesRegex(OSError, f"listen on port {port}"),
            ):
                make_strategy(start_timeout=1)

    def test_late_worker(self):
        """Breaks if a worker waits for ever, or does not say for whom."""
        addresses = worker_processes.free_addresses(2)
        process = subprocess.run(
            [sys.executable, "-c", _WAITS],
            env=worker_processes.worker_environment(addresses, 0),
            stderr=subprocess.PIPE,
            text=True,
            timeout=120,
        )
        self.assertEqual(process.returncode, exit_codes.START_AGAIN)
        self.assertIn(
            "worker 0 of 2: gave up after 3 of 3 s: no answer from worker 1 "
            f"({addresses[1]})",
            process.stderr,
        )


if __name__ == "__main__":
    tf.test.main()
