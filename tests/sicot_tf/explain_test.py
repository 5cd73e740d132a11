"""The attention page: order, colours, unknown words, escaping."""

import dataclasses
import pathlib
import shutil

import numpy as np
import tensorflow as tf

from sicot_tf import explain
from sicot_tf.training import runs
from tests.helpers import tiny_road


class ExplainTest(tf.test.TestCase):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.trained = runs.load(tiny_road.trained("cotrain"))

    def test_titles(self):
        """Breaks if words lose their weights, or are tokenised otherwise.

        "zeppelin" is in no training title; the model reads 8 words.
        """
        long_title = "new arrival free shipping red green blue yellow circle"
        found = explain.explain_titles(
            self.trained,
            ["New arrival: RED zeppelin circle!", "", long_title],
        )
        self.assertEqual(
            sorted(found[0].words), ["arrival", "circle", "new", "red"]
        )
        self.assertEqual(found[0].unread, ["zeppelin"])
        self.assertAllClose(sum(found[0].weights), 1.0)
        self.assertEqual(
            found[0].weights, sorted(found[0].weights, reverse=True)
        )
        self.assertEqual(found[1].words, [])
        self.assertLen(found[2].words, 8)
        self.assertEqual(found[2].unread, ["circle"])

    def test_unknown_words_take_no_place(self):
        """Breaks if explain cuts a title before unknown words leave it:
        training reads the first 8 words that it knows."""
        known = "red green blue yellow circle square new arrival"
        mixed = "x1 x2 " + known.replace("blue", "x3 blue") + " x4 free"
        plain, found = explain.explain_titles(self.trained, [known, mixed])
        self.assertEqual(found.words, plain.words)
        self.assertAllClose(found.weights, plain.weights)
        self.assertEqual(found.unread, ["x1", "x2", "x3", "x4", "free"])

    def test_legend(self):
        """Breaks if the page says "sum to 1" of weights that do not."""
        legend = " ".join(explain.make_legend(self.trained))
        self.assertIn("sum to 1", legend)
        self.assertIn("behind the first 8 that", legend)
        other = dataclasses.replace(
            self.trained,
            model=dataclasses.replace(
                self.trained.model, attention_activation="sigmoid"
            ),
            train=dataclasses.replace(self.trained.train, shuffle_titles=True),
        )
        legend = " ".join(explain.make_legend(other))
        self.assertNotIn("sum to 1", legend)
        self.assertIn("titles of other records", legend)

    def test_another_vocabulary(self):
        """Breaks if word ids are looked up in a list that is not the run's."""
        folder = pathlib.Path(self.get_temp_dir()) / "run"
        shutil.copytree(self.trained.path, folder)
        words = (folder / "vocabulary.txt").read_text().splitlines()
        (folder / "vocabulary.txt").write_text("\n".join(words[::-1]) + "\n")
        with self.assertRaisesRegex(ValueError, "another list of words"):
            explain.explain_titles(runs.load(folder), ["red circle"])

    def test_the_attention_prefers_words_that_tell(self):
        """Breaks if training leaves noise words as heavy as the product's.

        Every title holds a colour and a shape; the rest is noise.
        """
        titles = [
            f"{colour} new arrival free shipping {shape}"
            for colour in tiny_road.COLOURS
            for shape in tiny_road.SHAPES
        ]
        noise, telling = [], []
        for each in explain.explain_titles(self.trained, titles):
            for word, weight in zip(each.words, each.weights):
                is_noise = word in tiny_road.NOISE_WORDS
                (noise if is_noise else telling).append(weight)
        self.assertGreater(np.mean(telling), np.mean(noise))

    def test_records(self):
        """Breaks if a record is explained with another one's picture."""
        (found,) = explain.explain_records(
            self.trained, tiny_road.generation(), ["blue-circle-0"]
        )
        self.assertEqual(found.caption, "blue circle (blue-circle-0)")
        self.assertIn("blue", found.words)
        image = tf.io.decode_jpeg(found.image).numpy().astype(int)
        blue = image[..., 2] - image[..., 0] > 80
        self.assertGreater(blue.mean(), 0.1)
        with self.assertRaisesRegex(ValueError, r"\['nobody'\]"):
            explain.explain_records(
                self.trained, tiny_road.generation(), ["nobody"]
            )

    def test_page(self):
        """Breaks if colours go to other words, or a title breaks the page."""
        path = pathlib.Path(self.get_temp_dir()) / "attention.html"
        words = ["a", "b", "c", "d", "e", "f", "g"]
        explain.write_page(
            path,
            [
                explain.ExplainedTitle(
                    title="<script>alert(1)</script>",
                    words=words,
                    weights=[0.4, 0.2, 0.1, 0.1, 0.1, 0.06, 0.04],
                    unread=["<b>"],
                )
            ],
            run_name="test",
        )
        page = path.read_text()
        self.assertNotIn("<script>", page)
        for word in words:
            kind = {"a": "most", "b": "most", "c": "most", "d": ""}.get(
                word, "least"
            )
            self.assertIn(f'<span class="word {kind}">{word}<small>', page)
        self.assertIn('<span class="word unread">&lt;b&gt;</span>', page)

    def test_the_command(self):
        """Breaks if the page of a run can't be made from the shell, or a
        run without titles fails with a puzzle."""
        output = tiny_road.run_command(
            "sicot_tf.explain", "--run_dir", self.trained.path
        )
        self.assertIn("Attention page:", output)
        page = (self.trained.path / "attention.html").read_text()
        self.assertEqual(page.count("data:image/jpeg"), 8)
        with self.assertRaisesRegex(RuntimeError, "--streams cotrain"):
            tiny_road.run_command(
                "sicot_tf.explain",
                *("--run_dir", tiny_road.trained("visual")),
                *("--title", "red circle"),
            )


if __name__ == "__main__":
    tf.test.main()
