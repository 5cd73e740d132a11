"""Both models answer as the function that they were made from."""

import keras
import numpy as np
import tensorflow as tf

from sicot_tf.training.phone import conversion
from sicot_tf.training.phone import interpreter

_SIZE = 8


def _scores():
    """A network that needs no training: mean colours to three classes."""
    image = keras.Input([_SIZE, _SIZE, 3], name="image")
    features = keras.layers.GlobalAveragePooling2D()(
        keras.layers.Rescaling(1 / 255)(image)
    )
    stream = keras.Model({"image": image}, features)
    classifier = keras.layers.Dense(
        3, kernel_initializer=keras.initializers.Constant(4 * np.eye(3))
    )
    return conversion.make_scores(stream, classifier)


def _pictures():
    """Noise that is brightest in one colour, in turn; never 0 nor 255."""
    pictures = np.random.default_rng(0).integers(20, 120, [12, 8, 8, 3])
    pictures[np.arange(12), :, :, np.arange(12) % 3] += 110
    return pictures.astype(np.uint8)


class ConversionTest(tf.test.TestCase):
    def test_float(self):
        """Breaks if the weights are not those of the network, or the input
        is not plain pixels."""
        pictures = _pictures()
        scores = _scores()
        model = interpreter.PhoneModel(conversion.convert_float(scores, _SIZE))
        # By NumPy: softmax of four times the mean colour.
        logits = 4 * pictures.mean((1, 2)) / 255
        expected = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
        self.assertAllClose(
            [model.scores(each) for each in pictures], expected, atol=1e-5
        )

    def test_int8_takes_pixels_as_they_are(self):
        """Breaks if a phone has to convert pixels, which it is not told, or
        if a float operation is left."""
        pictures = _pictures()
        scores = _scores()
        model = interpreter.PhoneModel(
            conversion.convert_int8(scores, _SIZE, pictures)
        )
        self.assertEqual((model.input_scale, model.input_zero_point), (1, 0))
        found = np.array([model.scores(each) for each in pictures])
        self.assertAllClose(found, scores(pictures)["score"], atol=0.03)
        self.assertAllEqual(found.argmax(1), np.arange(12) % 3)
        # Integers inside: scores come in steps.
        self.assertAllEqual(found * 256, np.rint(found * 256))


if __name__ == "__main__":
    tf.test.main()
