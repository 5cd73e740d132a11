"""The attention page: order, colours, unknown words, harmless HTML."""

import dataclasses
import pathlib
import shutil

import numpy as np
import tensorflow as tf

from sicot_tf.evaluation import attention_page
from sicot_tf.training import restoring
from sicot_tf.training import runs
from tests.helpers import html_pages
from tests.helpers import tiny_road


def _explain(run, *texts):
    return attention_page.explain_titles(
        restoring.restore_attention(run),
        run.row_names["words"],
        run.model.max_words,
        [attention_page.Title(text) for text in texts],
    )


def _texts(words):
    return [word.text for word in words]


class AttentionPageTest(tf.test.TestCase):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.trained = runs.load(tiny_road.trained("cotrain"))

    def test_titles(self):
        """Breaks if words lose their weights, or are tokenised otherwise.

        "zeppelin" is in no training title; the model reads 8 words.
        """
        long_title = "new arrival free shipping red green blue yellow circle"
        found = _explain(
            self.trained, "New arrival: RED zeppelin circle!", "", long_title
        )
        self.assertEqual(
            sorted(_texts(found[0].words)), ["arrival", "circle", "new", "red"]
        )
        self.assertEqual(_texts(found[0].unread), ["zeppelin"])
        weights = [word.weight for word in found[0].words]
        self.assertAllClose(sum(weights), 1.0)
        self.assertEqual(weights, sorted(weights, reverse=True))
        self.assertEqual(found[1].words, [])
        self.assertLen(found[2].words, 8)
        self.assertEqual(_texts(found[2].unread), ["circle"])

    def test_repeated_words(self):
        """Breaks if a word stands there twice, or its weights are lost.

        All places of a word weigh the same; of 9 known words the model reads
        8, so the last "red" has no weight.
        """
        (found,) = _explain(
            self.trained,
            "red x1 new red x2 x1 circle red free free free red",
        )
        times = {word.text: word.times for word in found.words}
        self.assertEqual(times, {"red": 3, "new": 1, "circle": 1, "free": 3})
        self.assertAllClose(sum(word.weight for word in found.words), 1.0)
        (red,) = (word for word in found.words if word.text == "red")
        # By the attention itself, place by place.
        ids = [
            self.trained.row_names["words"].index(w)
            for w in (
                "red",
                "new",
                "red",
                "circle",
                "red",
                "free",
                "free",
                "free",
            )
        ]
        weights = restoring.restore_attention(self.trained)(
            {"title_ids": tf.constant([ids])}
        )
        self.assertAllClose(red.weight, float(weights[0, 0]) * 3, rtol=1e-5)
        self.assertEqual(red.label, "red × 3")
        self.assertEqual(
            [word.label for word in found.unread], ["x1 × 2", "x2", "red"]
        )

    def test_unknown_words_take_no_place(self):
        """Breaks if explain cuts a title before unknown words leave it:
        training reads the first 8 words that it knows."""
        known = "red green blue yellow circle square new arrival"
        mixed = "x1 x2 " + known.replace("blue", "x3 blue") + " x4 free"
        plain, found = _explain(self.trained, known, mixed)
        self.assertEqual(found.words, plain.words)
        self.assertEqual(_texts(found.unread), ["x1", "x2", "x3", "x4", "free"])

    def test_legend(self):
        """Breaks if the page says "sum to 1" of weights that do not."""
        model, train = self.trained.model, self.trained.train
        legend = " ".join(attention_page.make_legend(model, train))
        self.assertIn("sum to 1", legend)
        self.assertIn("behind the first 8 that", legend)
        legend = " ".join(
            attention_page.make_legend(
                dataclasses.replace(model, attention_activation="sigmoid"),
                dataclasses.replace(train, shuffle_titles=True),
            )
        )
        self.assertNotIn("sum to 1", legend)
        self.assertIn("titles of other records", legend)

    def test_another_vocabulary(self):
        """Breaks if word ids are looked up in a list that is not the run's."""
        folder = pathlib.Path(self.get_temp_dir()) / "run"
        shutil.copytree(self.trained.path, folder)
        words = (folder / "vocabulary.txt").read_text().splitlines()
        (folder / "vocabulary.txt").write_text("\n".join(words[::-1]) + "\n")
        with self.assertRaisesRegex(ValueError, "another list of words"):
            _explain(runs.load(folder), "red circle")

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
        for each in _explain(self.trained, *titles):
            for word in each.words:
                is_noise = word.text in tiny_road.NOISE_WORDS
                (noise if is_noise else telling).append(word.weight)
        self.assertGreater(np.mean(telling), np.mean(noise))

    def test_records(self):
        """Breaks if a record is explained with another one's picture."""
        (found,) = attention_page.read_records(
            tiny_road.generation(),
            ["blue-circle-0"],
            {"blue-circle": "blue circle"},
        )
        self.assertEqual(found.caption, "blue circle (blue-circle-0)")
        self.assertIn("blue", found.text)
        image = tf.io.decode_jpeg(found.image).numpy().astype(int)
        blue = image[..., 2] - image[..., 0] > 80
        self.assertGreater(blue.mean(), 0.1)
        self.assertLen(
            attention_page.read_records(tiny_road.generation(), [], {}), 8
        )
        with self.assertRaisesRegex(ValueError, r"\['nobody'\]"):
            attention_page.read_records(tiny_road.generation(), ["nobody"], {})

    def _write(self, title, words, unread, **changes):
        path = pathlib.Path(self.get_temp_dir()) / "attention.html"
        explained = attention_page.ExplainedTitle(
            title,
            [
                attention_page.Word(word, weight=1 / (i + 2))
                for i, word in enumerate(words)
            ],
            [attention_page.Word(word) for word in unread],
        )
        attention_page.write_page(
            path, [explained], **({"run_name": "test"} | changes)
        )
        return path.read_text("utf-8")

    def test_page(self):
        """Breaks if colours or weights go to other words."""
        page = self._write(attention_page.Title("a g"), list("abcdefg"), ["h"])
        for word, kind, weight in (
            ("a", "most", "0.500"),
            ("c", "most", "0.250"),
            ("d", "", "0.200"),
            ("e", "least", "0.167"),
            ("g", "least", "0.125"),
        ):
            self.assertIn(
                f'<span class="word {kind}">{word}<small>{weight}</small>',
                page,
            )
        self.assertIn('<span class="word unread">h</span>', page)
        # The most important words of a short title keep their colour.
        page = self._write(attention_page.Title("a b"), ["a", "b"], [])
        self.assertIn('<span class="word most">b<small>', page)
        self.assertNotIn("no words", page)
        page = self._write(attention_page.Title("!"), [], [])
        self.assertIn("no words", page)

    def test_known_noise_words(self):
        """Breaks if a word of promotion looks trusted, or an unimportant word
        of the product looks like promotion."""
        page = self._write(
            attention_page.Title("a b c d e f"),
            list("abcdef"),
            ["g"],
            noise_words=frozenset("bdg"),
            findings=["0.5 times"],
        )
        for word, kind in (
            *(("a", "most"), ("b", "least"), ("c", "most")),
            *(("d", "least"), ("e", ""), ("f", ""), ("g", "unread")),
        ):
            self.assertIn(f'<span class="word {kind}">{word}<', page)
        self.assertIn('<p class="finding">0.5 times</p>', page)
        legend = attention_page.make_legend(
            self.trained.model, self.trained.train, knows_noise_words=True
        )
        self.assertIn("known words of promotion red", legend[0])

    def test_escapes_everything(self):
        """Breaks if a product's title runs as a script in a browser."""
        attack = html_pages.ATTACK
        page = self._write(
            attention_page.Title(
                attack, b"JPEG", f"{attack} ({attack})", attack
            ),
            [attack],
            [attack],
            run_name=attack,
            legend=[attack],
            findings=[attack],
        )
        # Title of the window and the page, finding, legend, caption, source,
        # title, words.
        html_pages.assert_harmless(self, page, times=10)


if __name__ == "__main__":
    tf.test.main()
