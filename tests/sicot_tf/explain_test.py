"""The command that writes the attention page."""

import pathlib
import re

import tensorflow as tf

from tests.helpers import tiny_road


class ExplainTest(tf.test.TestCase):
    def test_the_command(self):
        """Breaks if the page of a run can't be made from the shell, or a
        run without titles fails with a puzzle."""
        run_dir = tiny_road.trained("cotrain")
        noise_words = pathlib.Path(self.get_temp_dir()) / "noise_words.txt"
        noise_words.write_text("\n".join(tiny_road.NOISE_WORDS))
        output = tiny_road.run_command(
            *("sicot_tf.explain", "--run_dir", run_dir),
            *("--title", "red zeppelin"),
            *("--record_id", "red-circle-0", "blue-circle-0"),
            *("--noise_words", noise_words),
        )
        self.assertIn("Attention page:", output)
        self.assertRegex(output, r"red zeppelin\n  red 1\.000 \(zeppelin\)\n")
        page = (run_dir / "attention.html").read_text("utf-8")
        self.assertEqual(page.count("data:image/jpeg"), 2)
        self.assertIn("blue circle (blue-circle-0)", page)
        (finding,) = re.findall(".*times the weight.*", output)
        self.assertIn(f'<p class="finding">{finding}</p>', page)
        self.assertIn("known words of promotion red", page)
        with self.assertRaisesRegex(RuntimeError, "--streams cotrain"):
            tiny_road.run_command(
                "sicot_tf.explain",
                *("--run_dir", tiny_road.trained("visual")),
                *("--title", "red circle"),
            )


if __name__ == "__main__":
    tf.test.main()
