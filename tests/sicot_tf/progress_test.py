"""Progress of long work where nobody watches a terminal."""

import contextlib
import io
import sys

import tensorflow as tf

from sicot_tf import progress


class _Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


class ProgressTest(tf.test.TestCase):
    def test_lines_where_there_is_no_terminal(self):
        """Breaks if a log file fills with carriage returns, or the last count
        is not told."""
        with (
            contextlib.redirect_stderr(io.StringIO()) as errors,
            self.assertLogs("sicot_tf.progress", "INFO") as logged,
        ):
            self.assertEqual(
                list(progress.bar(range(3), "Titles", "titles")), [0, 1, 2]
            )
            with progress.bar(description="Files", unit="files") as bar:
                bar.set_postfix({"rejected": 1}, refresh=False)
                bar.update(7)
        self.assertEqual(errors.getvalue(), "")
        titles, files = (each.getMessage() for each in logged.records)
        self.assertRegex(titles, r"^Titles: 3/3 titles, 00:00<00:00, .*/s$")
        self.assertRegex(files, r"^Files: 7 files, 00:00, .*/s, rejected=1$")

    def test_nothing_done_is_not_told(self):
        """Breaks if work that was done before is told as this job's."""
        with self.assertNoLogs("sicot_tf.progress"):
            with progress.bar(
                description="Parts", unit="parts", initial=4, total=4
            ):
                pass

    def test_bar_on_a_terminal(self):
        """Breaks if a person sees no bar."""
        with contextlib.redirect_stderr(_Terminal()) as screen:
            for _ in progress.bar([1], "Titles", "titles"):
                self.assertIs(sys.stderr, screen)
        self.assertIn("100%", screen.getvalue())
        self.assertIn("\r", screen.getvalue())
