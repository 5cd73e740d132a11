"""Files are there as a whole; digests are those of hashlib."""

import hashlib
import os
import pathlib
import signal
import stat
import subprocess
import sys
import tempfile
import unittest

from absl.testing import parameterized

from sicot_tf import files

_KILLED = """
import os, pathlib, signal, sys
from sicot_tf import files

with files.replacing(sys.argv[1]) as temporary:
    with temporary.open("w") as file:
        file.write("half of")
        file.flush()
        os.kill(os.getpid(), signal.SIGKILL)
"""


class ReplacingTest(parameterized.TestCase):
    def setUp(self):
        super().setUp()
        self.folder = pathlib.Path(
            self.enterContext(tempfile.TemporaryDirectory())
        )
        self.path = self.folder / "文件.txt"

    def test_a_killed_write_leaves_the_old_file(self):
        """Breaks if a reader may find half of what a killed process wrote."""
        files.write_text(self.path, "old")
        killed = subprocess.run(
            [sys.executable, "-c", _KILLED, self.path], check=False
        )
        self.assertEqual(killed.returncode, -signal.SIGKILL)
        self.assertEqual(self.path.read_text("utf-8"), "old")
        (left,) = set(self.folder.iterdir()) - {self.path}
        # What builds remove, and no glob of results finds.
        self.assertEqual((left.name[0], left.suffix), (".", ".tmp"))

    def test_an_exception_leaves_nothing(self):
        """Breaks if failed writes pile up, or spoil the old file."""
        files.write_text(self.path, "old")
        with self.assertRaises(ZeroDivisionError):
            files.write_lines(self.path, (f"{1 // n}" for n in (1, 0)))
        with self.assertRaises(UnicodeEncodeError):
            files.write_text(self.path, "\ud800")
        self.assertEqual(list(self.folder.iterdir()), [self.path])
        self.assertEqual(self.path.read_text("utf-8"), "old")

    def test_permissions_are_those_of_open(self):
        """Breaks if only the writer may read what is written."""
        plain = self.folder / "plain"
        before = os.umask(0o027)
        try:
            plain.write_bytes(b"")
            files.write_bytes(self.path, b"")
        finally:
            os.umask(before)
        modes = [
            stat.S_IMODE(path.stat().st_mode) for path in (plain, self.path)
        ]
        self.assertEqual(modes, [0o640, 0o640])

    def test_two_writers_at_once(self):
        """Breaks if two processes that write one file mix their bytes."""
        with files.replacing(self.path) as slow:
            slow.write_text("slow")
            files.write_text(self.path, "fast")
            self.assertEqual(self.path.read_text(), "fast")
        self.assertEqual(self.path.read_text(), "slow")

    def test_another_folder(self):
        """Breaks if unfinished files can get into a finished folder."""
        elsewhere = self.folder / "elsewhere"
        elsewhere.mkdir()
        with files.replacing(self.path, elsewhere) as temporary:
            temporary.write_text("new")
            self.assertEqual(temporary.parent, elsewhere)
            self.assertFalse(self.path.exists())
        self.assertEqual(self.path.read_text(), "new")
        self.assertEqual(list(elsewhere.iterdir()), [])

    def test_lines(self):
        """Breaks if lines get the ends of the machine, or another encoding."""
        files.write_lines(self.path, ["红\r", ""])
        self.assertEqual(self.path.read_bytes(), b"\xe7\xba\xa2\r\n\n")

    def test_json(self):
        """Breaks if JSON is no longer the same bytes, or can't be read."""
        value = {"b": "红", "a": ["\ud800"]}
        files.write_json(self.path, value)
        self.assertEqual(
            self.path.read_text("utf-8"),
            '{\n  "a": [\n    "\\ud800"\n  ],\n  "b": "红"\n}\n',
        )
        self.assertEqual(files.read_json(self.path), value)

    @parameterized.parameters(b"{", b"\xff", b"")
    def test_no_json(self, content):
        """Breaks if the error of a damaged file does not name it."""
        self.path.write_bytes(content)
        with self.assertRaisesRegex(ValueError, "文件.txt is not valid JSON"):
            files.read_json(self.path)

    def test_join(self):
        """Breaks if parts lose their order or their ends."""
        parts = [self.folder / name for name in ("b", "a")]
        for part, content in zip(parts, (b"1\n2", b"\n3\n")):
            part.write_bytes(content)
        files.join(parts, self.folder / "joined")
        self.assertEqual((self.folder / "joined").read_bytes(), b"1\n2\n3\n")

    def test_replacing_a_folder(self):
        """Breaks if half a result is seen, an error costs the earlier one, or
        something else is overwritten."""
        result = self.folder / "results" / "page"
        options = {"known_by": "page.html", "kind": "page"}
        for text in ("first", "second"):
            with files.replacing_folder(result, **options) as unfinished:
                (unfinished / "page.html").write_text(text)
                (unfinished.parent / "scratch").touch()
                self.assertEqual(result.exists(), text == "second")
            self.assertEqual((result / "page.html").read_text(), text)
        with self.assertRaises(KeyError):
            with files.replacing_folder(result, **options):
                raise KeyError
        self.assertEqual((result / "page.html").read_text(), "second")
        self.assertEqual(list(result.parent.iterdir()), [result])
        (result / "page.html").rename(result / "other")
        with self.assertRaisesRegex(ValueError, "absent or an earlier page"):
            with files.replacing_folder(result, **options):
                pass

    def test_folders(self):
        """Breaks if a folder replaces another one, or is not removed."""
        finished = self.folder / "finished"
        finished.mkdir()
        (finished / "file").touch()
        final = self.folder / "final"
        files.rename_folder(finished, final)
        self.assertTrue((final / "file").exists())
        finished.mkdir()
        with self.assertRaises(OSError):
            files.rename_folder(finished, final)
        files.remove_folder(final)
        self.assertEqual(list(self.folder.iterdir()), [finished])


class DigestsTest(unittest.TestCase):
    def test_sha256(self):
        """Breaks if digests are not those of sha256sum."""
        content = b"\x00\xff" * 100_000
        with tempfile.NamedTemporaryFile() as file:
            file.write(content)
            file.flush()
            digest = files.sha256(file.name)
        self.assertEqual(digest, hashlib.sha256(content).hexdigest())
        self.assertEqual(
            files.text_sha256("红"), hashlib.sha256("红".encode()).hexdigest()
        )

    def test_json_sha256(self):
        """Breaks if generations, indexes and checkpoints get other names."""
        self.assertEqual(
            files.json_sha256({"b": "é", "a": [1.5, None]}),
            hashlib.sha256(rb'{"a": [1.5, null], "b": "\u00e9"}').hexdigest(),
        )

    def test_stable_hash(self):
        """Breaks if splits, samples and shards of a data set would change."""
        # printf '0|split|r1' | b2sum -l 64
        self.assertEqual(
            files.stable_hash(0, "split", "r1"), 0xCF39EB364D81BC7D
        )


if __name__ == "__main__":
    unittest.main()
