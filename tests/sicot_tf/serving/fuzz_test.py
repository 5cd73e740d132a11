"""Damaged requests to a server in a process of its own.

The full count: benchmarks/soak/fuzz_serving.py.
"""

import subprocess
import sys
import unittest

from tests.helpers import tiny_server


class FuzzServingTest(unittest.TestCase):
    def test_each_damage_gets_its_code_and_the_server_lives(self):
        """A failure prints a number: --only repeats that request alone."""
        finished = subprocess.run(
            [sys.executable, "-m", "benchmarks.soak.fuzz_serving"]
            + ["--requests", "6000"],
            cwd=tiny_server.PROJECT_DIR,
            capture_output=True,
            text=True,
            check=False,
        )
        self.assertEqual(
            0, finished.returncode, finished.stdout + finished.stderr[-3000:]
        )
        self.assertIn("No wrong answer.", finished.stdout)


if __name__ == "__main__":
    unittest.main()
