import pathlib
import tempfile

import PIL.Image
import tensorflow as tf

from sicot_tf.recognition.tuning import asked_model
from sicot_tf.recognition.tuning import labelled_pictures
from sicot_tf.recognition.tuning import seen_scenes


class FirstPixels(tf.Module):
    """The heat map is the red of the upper left 2 x 3 pixels."""

    @tf.function(
        input_signature=[tf.TensorSpec([None], tf.string, name="image_bytes")]
    )
    def localization(self, image_bytes):
        red = tf.map_fn(
            lambda data: tf.io.decode_png(data, 3)[:2, :3, 0],
            image_bytes,
            fn_output_signature=tf.TensorSpec([2, 3], tf.uint8),
        )
        return {"heat_map": tf.cast(red, tf.float32)}


class SeenScenesTest(tf.test.TestCase):
    def test_look(self):
        """Broken: a heat map is laid beside boxes of another scene, or on a
        photo that lies on its side."""
        with tempfile.TemporaryDirectory() as name:
            folder = pathlib.Path(name)
            module = FirstPixels()
            tf.saved_model.save(
                module,
                str(folder / "7"),
                {"localization": module.localization},
            )
            upright = PIL.Image.new("RGB", (9, 5), (3, 0, 0))
            upright.putpixel((2, 0), (200, 0, 0))
            upright.save(folder / "a.png")
            turned = PIL.Image.Exif()
            turned[0x0112] = 6
            PIL.Image.new("RGB", (8, 4), (7, 0, 0)).save(
                folder / "c.png", exif=turned
            )
            (folder / "b.png").write_bytes(b"no picture")
            model = asked_model.AskedModel(folder / "7")
            self.assertEqual(model.version, 7)
            seen = seen_scenes.look(
                model,
                [
                    labelled_pictures.Scene(
                        folder / f"{letter}.png", [box], [""]
                    )
                    for letter, box in (
                        ("a", (0, 1, 2, 3)),
                        ("b", (1, 1, 2, 3)),
                        ("c", (2, 1, 3, 3)),
                    )
                ],
            )
        self.assertEqual(seen.boxes, [[(0, 1, 2, 3)], [(2, 1, 3, 3)]])
        self.assertEqual(seen.sizes, [(9, 5), (4, 8)])
        self.assertAllEqual(
            seen.heat_maps, [[[3, 3, 200], [3, 3, 3]], [[7] * 3] * 2]
        )


if __name__ == "__main__":
    tf.test.main()
