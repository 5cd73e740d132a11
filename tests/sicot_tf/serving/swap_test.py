"""New versions and SIGTERM under load, in short.

A minute of it, and memory over 50 swaps: benchmarks/soak/soak_serving.py.
"""

import subprocess
import sys
import unittest

from tests.helpers import tiny_server


class ServingSwapTest(unittest.TestCase):
    def test_no_request_fails(self):
        """Three swaps, then SIGTERM to one of two servers, 8 clients.

        A failure: customers see errors at each release of a model or server.
        """
        finished = subprocess.run(
            [sys.executable, "-m", "benchmarks.soak.soak_serving"]
            + ["--clients", "8", "--seconds", "4", "--swap_seconds", "1"]
            + ["--memory_swaps", "0"],
            cwd=tiny_server.PROJECT_DIR,
            capture_output=True,
            text=True,
            check=False,
        )
        self.assertEqual(
            0, finished.returncode, finished.stdout + finished.stderr[-3000:]
        )
        self.assertIn("Nothing failed.", finished.stdout)


if __name__ == "__main__":
    unittest.main()
