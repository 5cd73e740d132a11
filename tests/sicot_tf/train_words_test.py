"""Training that predicts the title's words: workers, resuming, export."""

import shutil

import numpy as np
import tensorflow as tf

from sicot_tf.training import exporting
from sicot_tf.training import restoring
from sicot_tf.training import runs
from sicot_tf.training.title_words import predicted_words
from tests.helpers import tiny_road

# 32 records in batches of 8: 4 steps an epoch, 8 in all.
_FLAGS = (
    *(*tiny_road.TRAIN_FLAGS, "--epochs", "2", "--checkpoint_steps", "3"),
    *("--streams", "visual", "--word_loss_weight", "0.3"),
)


def _train(run_dir, *flags):
    """Trains; what was logged."""
    return tiny_road.log_of_command(
        "sicot_tf.train",
        *("--dataset", tiny_road.generation(), "--run_dir", run_dir),
        *(*_FLAGS, *flags),
    )


def _curve(run_dir):
    rows = runs.read_curve(run_dir / "metrics.jsonl")
    names = ("loss", "loss_visual", "loss_words")
    return np.array([[row[n] for n in names] for row in rows if "loss" in row])


class TrainWordsTest(tf.test.TestCase):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.folder = tiny_road.generation().parent.parent / "train_words"
        cls.whole = cls.folder / "whole"
        # It predicted no words: theirs start anew.
        cls.start = ("--init_from", tiny_road.trained("visual"))
        _train(cls.whole, *cls.start)

    def test_the_curve(self):
        """Breaks if the words are left out of the loss, or not learned.

        The first loss is that of the log-odds of the words.
        """
        loss, visual, words = _curve(self.whole).T
        self.assertLen(loss, 8)
        self.assertAllClose(loss, visual + 0.3 * words)
        self.assertLess(words[0], 10 * np.log(2))
        self.assertLess(words[-1], words[0])

    def test_resumed(self):
        """Breaks if a killed run differs from an uninterrupted one."""
        resumed = self.folder / "resumed"
        shutil.copytree(self.whole, resumed)
        shutil.rmtree(resumed / "checkpoints" / "step-00000008")
        shutil.rmtree(resumed / "checkpoints" / "step-00000006")
        self.assertIn("resumed at step 3", _train(resumed))
        self.assertAllEqual(_curve(resumed), _curve(self.whole))
        first, second = map(tiny_road.read_checkpoint, (self.whole, resumed))
        self.assertIn("predicted_words/kernel", first)
        for name, value in first.items():
            self.assertAllEqual(value, second[name], msg=name)

    def test_two_workers_train_like_one(self):
        """Breaks if the words of one worker's titles count twice or never."""
        workers = self.folder / "workers"
        _train(
            workers,
            *(*self.start, "--num_workers", "2", "--classifier", "sharded"),
        )
        self.assertAllClose(_curve(workers), _curve(self.whole), rtol=1e-5)
        first, second = map(tiny_road.read_checkpoint, (self.whole, workers))
        for name, value in first.items():
            self.assertAllClose(value, second[name], atol=1e-5, msg=name)

    def test_words_are_shown(self):
        """Breaks if an export with words gives others than the run learned,
        or their probabilities to others of them."""
        run = runs.load(self.whole)
        stream, _, _ = restoring.restore_visual(run)
        found = predicted_words.restore(run, stream.output.shape[-1])
        trained = tiny_road.read_checkpoint(self.whole)
        for weight in found.layer.weights:
            self.assertTrue(
                any(
                    np.array_equal(weight, value)
                    for name, value in trained.items()
                    if "predicted_words" in name
                )
            )
        directory = exporting.export(
            self.whole, self.folder / "words_model", top_k=8, words=True
        )
        recognise = tf.saved_model.load(str(directory)).signatures[
            "recognition"
        ]
        picture = tf.io.encode_png(
            np.random.default_rng(0)
            .integers(0, 256, (tiny_road.IMAGE_SIZE,) * 2 + (3,))
            .astype(np.uint8)
        )
        answer = recognise(image_bytes=picture[None])
        probabilities = tf.sigmoid(found.layer(answer["embedding"]))[0].numpy()
        best = np.argsort(-probabilities)[:10]
        self.assertAllClose(
            answer["word_probability"][0], probabilities[best], atol=1e-6
        )
        self.assertEqual(
            [each.decode() for each in answer["word"][0].numpy()],
            [found.words[each] for each in best],
        )
        self.assertContainsSubset(
            found.words,
            [*tiny_road.COLOURS, *tiny_road.SHAPES, *tiny_road.NOISE_WORDS],
        )

    def test_words_stay_behind(self):
        """Breaks if an exported model holds the words, or differs."""
        directory = exporting.export(self.whole, self.folder / "model", top_k=8)
        served = tf.saved_model.load(str(directory))
        stream, classifier, _ = restoring.restore_visual(runs.load(self.whole))
        shapes = tf.train.load_checkpoint(
            str(directory / "variables" / "variables")
        ).get_variable_to_shape_map()
        self.assertEqual(
            sum(np.prod(shape) for shape in shapes.values() if shape),
            sum(
                each.shape.num_elements()
                for each in stream.variables + classifier.variables
            ),
        )
        self.assertNotIn(
            b"predicted_words", (directory / "saved_model.pb").read_bytes()
        )
        size = tiny_road.IMAGE_SIZE
        image = np.random.default_rng(0).integers(0, 256, (4, size, size, 3))
        image = tf.constant(image, tf.uint8)
        answer = served.signatures["serving_pixels"](image=image)
        scores = tf.nn.softmax(
            classifier(stream({"image": tf.cast(image, tf.float32)}))
        )
        self.assertAllClose(
            answer["score"], np.sort(scores)[:, ::-1], atol=1e-6
        )


if __name__ == "__main__":
    tf.test.main()
