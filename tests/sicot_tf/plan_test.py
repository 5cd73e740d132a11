"""The printed table and the command line of the calculator."""

import contextlib
import io
import unittest

from sicot_tf import plan


def _printed(*flags):
    output = io.StringIO()
    with contextlib.redirect_stdout(output):
        plan.main(list(flags))
    return output.getvalue()


class PlanTest(unittest.TestCase):
    def test_the_command(self):
        """Breaks if the table loses a column or the road its next step."""
        lines = _printed("--bandwidth", "0.2", "--latency", "3").splitlines()
        self.assertEqual(lines[1].split(), ["replicated", "sharded"])
        rows = {line[:34].strip(): line[34:].split() for line in lines}
        self.assertEqual(rows["collectives in a step"], ["1", "4"])
        self.assertEqual(
            rows["class rows and biases"], ["8.20", "GB", "1.02", "GB"]
        )
        self.assertIn("their time", rows)
        self.assertIn("sicot_tf.train", lines[-1])
        self.assertIn("--classifier sharded", lines[-1])
        small = _printed("--num_classes", "1000", "--streams", "1")
        self.assertIn("--classifier replicated --streams visual", small)
        self.assertNotIn("their time", small)
        small = _printed("--bfloat16", "--sample_rate", "0.1")
        self.assertIn("mixed_bfloat16 --sample_rate 0.1\n", small)
        words = _printed("--word_dim", "128")
        self.assertIn("word vectors of classes", words)
        self.assertIn("--word_rows_scale", words)
        large = _printed("--num_classes", "100000000")
        self.assertIn("does not fit", large)
        self.assertIn("computed again", large)

    def test_old_flag(self):
        """Breaks if the former --head_memory is gone, or is not told."""
        error = io.StringIO()
        with contextlib.redirect_stderr(error):
            printed = _printed("--head_memory", "3")
        self.assertIn("--logit_memory 3", printed)
        self.assertIn("--head_memory is called --logit_mem", error.getvalue())

    def test_kind_errors(self):
        """Breaks if nonsense is answered with a table or a traceback."""
        for flags, words in (
            (("--num_classes", "7"), "num_classes of at least 8"),
            (("--workers", "0"), "num_workers of at least 1"),
            (("--sample_rate", "0"), "above 0 and at most 1"),
            (("--bandwidth", "1"), "belong together"),
            (("--bandwidth", "0", "--latency", "1"), "above 0"),
            (("--backbone_memory", "16"), "below --device_memory"),
        ):
            error = io.StringIO()
            with contextlib.redirect_stderr(error):
                with self.assertRaises(SystemExit):
                    plan.main(list(flags))
            self.assertIn(words, error.getvalue())


if __name__ == "__main__":
    unittest.main()
