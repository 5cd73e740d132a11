"""The weight of known words of promotion against uniform weight."""

import pathlib
import shutil

import numpy as np
import tensorflow as tf

from sicot_tf.evaluation import noise_words
from sicot_tf.training import restoring
from sicot_tf.training import runs
from tests.helpers import tiny_road

_NOISE = frozenset(tiny_road.NOISE_WORDS)


def _uniform(inputs, training):
    """The weights of an attention that has learned nothing."""
    is_word = tf.cast(inputs["title_ids"] != 0, tf.float32)
    return is_word / tf.reduce_sum(is_word, axis=1, keepdims=True)


class NoiseWordsTest(tf.test.TestCase):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.trained = runs.load(tiny_road.trained("cotrain"))

    def _measure(self, attention, words=_NOISE, generation=None):
        generation = generation or tiny_road.generation()
        return noise_words.measure(attention, self.trained, generation, words)

    def test_relative_weights(self):
        """Breaks if padding, or titles of one kind of words, count.

        Two of three words of the first title are promotion and have 0.2 of
        its weight: 0.2 / (2 / 3) = 0.3. Weights of 1 and 3 without a fixed
        sum: promotion has 0.25 of them, a half if they were uniform.
        """
        weights = [
            *([0.8, 0.15, 0.05, 0.0], [3.0, 1.0, 9.0, 9.0]),
            *([0.5, 0.5, 0.0, 0.0], [0.5, 0.5, 0.0, 0.0]),
        ]
        is_word = [[1, 1, 1, 0], [1, 1, 0, 0], [1, 1, 0, 0], [1, 1, 0, 0]]
        is_noise = [[0, 1, 1, 0], [0, 1, 0, 0], [0, 0, 0, 0], [1, 1, 0, 0]]
        found = noise_words._relative_weights(
            np.array(weights),
            np.array(is_word, bool),
            np.array(is_noise, bool),
        )
        self.assertAllClose(found, [0.3, 0.5])

    def test_uniform_weights(self):
        """Breaks if an attention that has learned nothing is not at 1."""
        found = self._measure(_uniform)
        self.assertAllClose((found.mean, found.low, found.high), (1, 1, 1))
        # Of the 32 training titles each has words of promotion beside colour
        # and shape.
        self.assertEqual(found.num_titles, 32)

    def test_a_trained_run(self):
        """Breaks if ids are looked up in another list: the attention has
        learned to leave promotion less weight."""
        attention = restoring.restore_attention(self.trained)
        found = self._measure(attention)
        self.assertLess(found.high, 1.0)
        self.assertBetween(found.mean, found.low, found.high)
        self.assertIn(f"have {found.mean:.2f} times", found.sentence())

    def test_another_generation(self):
        """Breaks if its ids are taken for those of the run: here they stand
        for words of promotion that the run does not know."""
        folder = pathlib.Path(self.get_temp_dir()) / "generation"
        shutil.copytree(tiny_road.generation(), folder)
        path = folder / "vocabulary.txt"
        words = [
            f"very-{word}" if word in _NOISE else word
            for word in path.read_text().splitlines()
        ]
        path.write_text("\n".join(words) + "\n")
        with self.assertRaisesRegex(ValueError, "titles of .*generation hold"):
            self._measure(_uniform, generation=folder)

    def test_read(self):
        """Breaks if words are not those of a vocabulary, or an empty file
        gives a puzzle."""
        path = pathlib.Path(self.get_temp_dir()) / "words.txt"
        path.write_text("Free shipping\n\nBARGAIN!\n")
        self.assertEqual(
            noise_words.read(path), {"free", "shipping", "bargain"}
        )
        path.write_text("\n!\n")
        with self.assertRaisesRegex(ValueError, "one a line, found none"):
            noise_words.read(path)

    def test_unknown_words(self):
        """Breaks if words that no title holds give a mean of nothing."""
        with self.assertRaisesRegex(ValueError, r"received \['bargain'\]"):
            self._measure(_uniform, frozenset(["bargain"]))


if __name__ == "__main__":
    tf.test.main()
