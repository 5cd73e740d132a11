import keras
import numpy as np
import tensorflow as tf

from sicot_tf.serving import heat_maps
from tests.helpers import tiny_server


def _features(model, image):
    """All layers between the input and the pooling, one after another."""
    for layer in model.layers[1:-1]:
        image = layer(image, training=False)
    return image


class HeatMapsTest(tf.test.TestCase):
    def test_heat(self):
        """Breaks if what is below the mean heats, or repeated borders count
        in the mean.

        Channel 0 of the photo's cells, the left ones: 1, 3, 1, 3, mean 2;
        channel 1: 0, 4, 4, 0, mean 2.
        """
        features = np.array(
            [
                [[1, 0], [3, 4], [90, 90]],
                [[1, 4], [3, 0], [90, 90]],
            ],
            np.float32,
        )
        heat = heat_maps.heat(
            tf.constant(features[np.newaxis]), tf.constant([[1.0, 0.6]])
        )
        self.assertAllClose(heat[0, :, :2], [[0, 5**0.5], [2, 1]])

    def test_padding_is_cut_off(self):
        """Breaks if a heat map is moved, stretched, turned, or shows what is
        no part of the photo."""
        size, cells = 65, 5
        # Heat is a ramp, so that linear interpolation gives it again: cell c
        # looks at pixel 16 c.
        pixels = 16 * np.arange(cells)
        ramp = 1000.0 * pixels[:, None] + pixels
        extents = np.array([[1, 0.5], [0.5, 1]], np.float32)
        cut = heat_maps.cut_padding(
            tf.constant(np.stack([ramp] * 2), tf.float32), extents, size
        )
        self.assertEqual(cut.shape, [2, 32, 32])
        middles = (np.arange(32) + 0.5) / 32
        for found, (height, width) in zip(cut.numpy(), extents):
            rows, columns = (
                np.clip(share * middles * size - 0.5, 0, size - 1)
                for share in (height, width)
            )
            self.assertAllClose(found, 1000 * rows[:, None] + columns, 1e-5)

    def test_layers_before_the_pooling(self):
        """Breaks if another layer than the pooling's input is the map, or
        weights are not the model's own; also inside a model in a model."""
        model, _ = tiny_server.make_model()
        image = keras.Input((16, 16, 3), name="image")
        nested = keras.Model({"image": image}, model({"image": image}) * 2)
        photo = np.random.default_rng(0).uniform(0, 255, (2, 25, 19, 3))
        photo = photo.astype(np.float32)
        for each in (model, nested):
            features = heat_maps.before_pooling(each)({"image": photo})
            self.assertEqual(features.shape, [2, 23, 17, 6])
            self.assertAllClose(features, _features(model, photo), atol=1e-5)

    def test_mistakes(self):
        """Breaks if an export without heat maps fails later, or unsaid."""
        image = keras.Input((4, 4, 3), name="image")
        flat = keras.Model({"image": image}, keras.layers.Flatten()(image))
        with self.assertRaisesRegex(ValueError, "GlobalAveragePooling2D"):
            heat_maps.before_pooling(flat)

    def test_default_size(self):
        """32 k + 1, where all strides pad both sides alike."""
        self.assertEqual(heat_maps.default_size(64), 385)
        self.assertEqual(heat_maps.default_size(224), 449)
        self.assertEqual(heat_maps.default_size(230), 449)


if __name__ == "__main__":
    tf.test.main()
