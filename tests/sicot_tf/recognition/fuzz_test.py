"""Damaged requests to the recognition service in a process of its own.

The full count: benchmarks/soak/fuzz_recognition.py.
"""

import contextlib
import io
import pathlib
import tempfile
import unittest

from benchmarks.soak import fuzz_recognition
from tests.helpers import tiny_server

_NUM_REQUESTS = 300


class FuzzRecognitionTest(unittest.TestCase):
    def test_each_damage_gets_its_code_and_the_service_lives(self):
        """Breaks if a damaged photo, form, parameter or path has another code
        than it should, or no refusal; if a file leaks, HTML runs, memory
        grows, or a good photo is answered otherwise behind it.

        A failure prints a number: --only repeats that request alone.
        """
        server = tiny_server.shared()
        output = io.StringIO()
        with (
            tempfile.TemporaryDirectory() as folder,
            contextlib.redirect_stdout(output),
        ):
            failures = fuzz_recognition.fuzz(
                pathlib.Path(folder),
                range(_NUM_REQUESTS),
                server.tiny,
                *("--model", "tiny", "--model_server", server.grpc_address),
            )
        self.assertEqual(failures, [])
        # All kinds of requests were there.
        for kind in (
            "photo: flipped",
            "form:",
            "parameter:",
            "picture: path",
            "search: forged",
        ):
            self.assertIn(kind, output.getvalue())


if __name__ == "__main__":
    unittest.main()
