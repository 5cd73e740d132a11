import numpy as np
import tensorflow as tf

from sicot_tf.model.search import view


def _sigmoid(x):
    return 1 / (1 + np.exp(-x))


class ViewTest(tf.test.TestCase):
    def test_mask_and_its_gradient(self):
        """Breaks if the mask is not the paper's, or moves the box wrongly.

        h'(x) = k h(x) (1 - h(x)); the mask falls when low rises.
        """
        places = np.linspace(0, 1, 7, dtype=np.float32)
        low, high, steepness = 0.25, 0.6, 12.0
        variables = [tf.constant([each]) for each in (low, high)]
        with tf.GradientTape() as tape:
            tape.watch(variables)
            mask = view.soft_mask(places[None], *variables, steepness)
        rise, fall = (_sigmoid(steepness * (places - x)) for x in (low, high))
        self.assertAllClose(mask[0], rise - fall, atol=1e-6)
        by_low, by_high = tape.jacobian(mask, variables)
        self.assertAllClose(
            by_low[0, :, 0], -steepness * rise * (1 - rise), atol=1e-5
        )
        self.assertAllClose(
            by_high[0, :, 0], steepness * fall * (1 - fall), atol=1e-5
        )

    def test_whole_picture_is_resized_as_tensorflow_does(self):
        """Breaks if zooming skips pixels or shifts the picture."""
        rng = np.random.default_rng(0)
        image = rng.uniform(0, 255, (1, 33, 33, 3)).astype(np.float32)
        layer = view.View("zoom", size=16)
        seen = layer(image, np.ones([1, 2], "f"), np.array([[0, 0, 1, 1.0]]))
        resized = tf.image.resize(image, [16, 16], antialias=True)
        self.assertAllClose(seen, resized, atol=1e-2)

    def test_zoom_cuts_out_the_box(self):
        """Breaks if rows and columns are exchanged, or the margin is lost.

        The picture's value is its column + 100 for the lower half. A box of
        20 x 10 pixels has a window of 24, 4 pixels a place of 6.
        """
        columns = np.arange(40, dtype=np.float32)
        image = np.tile(columns, (40, 1))
        image[20:] += 100
        image = np.repeat(image[None, :, :, None], 3, axis=-1)
        box = np.array([[10, 5, 30, 15]], np.float32) / 40
        layer = view.View("zoom", size=6)
        seen = np.array(layer(image, np.ones([1, 2], "f"), box))[0, :, :, 0]
        # Columns 8 to 32, so the places' middles are at 9.5, 13.5, ...
        self.assertAllClose(seen[0], 9.5 + 4 * np.arange(6), atol=1e-3)
        # Rows -2 to 22: the last place is at the edge between rows 19 and 20,
        # so half of what it sees is the lower half.
        self.assertAllClose(seen[-1] - seen[0], [50] * 6, atol=0.1)

    def test_mask_is_grey_outside(self):
        """Breaks if the mask hides the object instead of what surrounds it."""
        image = np.full([1, 33, 33, 3], 255, np.float32)
        box = np.array([[0, 0, 0.5, 1]], np.float32)
        layer = view.View("mask", size=32, steepness=200.0)
        seen = np.array(layer(image, np.ones([1, 2], "f"), box))[0]
        self.assertAllClose(seen[16, 8], [255] * 3, atol=1)
        self.assertAllClose(seen[16, 24], [127.5] * 3, atol=1)

    def test_unknown_kind(self):
        """Breaks if a mistyped view trains something else."""
        with self.assertRaisesRegex(ValueError, "mask_and_zoom"):
            view.View("crop")
