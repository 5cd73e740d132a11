import dataclasses

import tensorflow as tf

from sicot_tf.training import runs
from sicot_tf.training.title_words import predicted_words
from tests.helpers import tiny_road


class PredictedWordsTest(tf.test.TestCase):
    """What is restored stands in tests/sicot_tf/train_words_test.py."""

    def test_mistakes(self):
        """Breaks if words are promised that nothing was trained to predict,
        or whose names nobody knows."""
        run = runs.load(tiny_road.trained("visual"))
        with self.assertRaisesRegex(ValueError, "export it without --words"):
            predicted_words.restore(run, 4)
        run = dataclasses.replace(
            run,
            train=dataclasses.replace(run.train, word_loss_weight=0.3),
            dataset=run.dataset | {"path": "/nowhere"},
        )
        with self.assertRaisesRegex(ValueError, "in /nowhere.*Put it back"):
            predicted_words.restore(run, 4)


if __name__ == "__main__":
    tf.test.main()
