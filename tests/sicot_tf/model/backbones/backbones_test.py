"""Tests of the visual backbones."""

import os
import pathlib
import subprocess
import sys

import keras
import numpy as np
import tensorflow as tf

from sicot_tf.model.backbones import backbones
from sicot_tf.model.backbones import efficientnet_lite


def _images(image_size):
    rng = np.random.default_rng(0)
    shape = (2, image_size, image_size, 3)
    return rng.uniform(0, 255, shape).astype(np.float32)


class BuildBackboneTest(tf.test.TestCase):
    def test_inputs_and_features(self):
        """Fails if the contract with the streams is broken."""
        for name, dim in (
            ("SmallCNN", 128),
            ("EfficientNetLite0", 1280),
            ("ResNet50", 2048),
            # Stands in no public sub-module of keras.applications.
            ("MobileNetV3Small", 576),
        ):
            with self.subTest(name):
                model = backbones.build_backbone(
                    name, image_size=32, weights="none"
                )
                self.assertEqual(model.name, "backbone")
                self.assertEqual(model.input.name, "image")
                self.assertEqual(model.input.shape, (None, 32, 32, 3))
                features = model(_images(32)).numpy()
                self.assertEqual(features.shape, (2, dim))
                if name != "MobileNetV3Small":
                    self.assertAllGreaterEqual(features, 0.0)
                    self.assertGreater(features.max(), 0.0)

    def test_small_cnn_size(self):
        """Fails if the backbone of the tests changes by accident.

        3*9*32 + 32, 32*9*64 + 64, 64*9*128 + 128.
        """
        model = backbones.build_backbone(
            "SmallCNN", image_size=16, weights="none"
        )
        self.assertEqual(model.count_params(), 896 + 18_496 + 73_856)

    def test_equal_whatever_was_built_before(self):
        """Fails if weights or names depend on the history of the process.

        The convolutions of Xception's shortcuts have no name of their own.
        """

        def build(name):
            return backbones.build_backbone(
                name, image_size=71, weights="none", seed=4
            )

        names = ("Xception", "MobileNet")
        first = [build(name) for name in names]
        second = [build(name) for name in reversed(names)][::-1]
        for one, other in zip(first, second, strict=True):
            self.assertEqual(
                [layer.name for layer in one.layers],
                [layer.name for layer in other.layers],
            )
            for a, b in zip(one.weights, other.weights, strict=True):
                self.assertEqual(a.path, b.path)
                self.assertTrue(np.array_equal(a, b), a.path)
        self.assertIn(
            "conv2d_4/kernel", [weight.path for weight in first[0].weights]
        )

    def test_seed(self):
        """Fails if the seed has no effect."""
        one, other = (
            backbones.build_backbone(
                "SmallCNN", image_size=8, weights="none", seed=seed
            )
            for seed in (0, 1)
        )
        self.assertNotAllEqual(one.weights[0], other.weights[0])

    def test_seeding_spares_pretrained_weights(self):
        """Fails if random weights overwrite those of ImageNet."""
        model = backbones.build_backbone(
            "EfficientNetLite0", image_size=32, weights="imagenet", seed=3
        )
        plain = efficientnet_lite.EfficientNetLite0(32, "imagenet")
        self.assertAllEqual(model(_images(32)), plain(_images(32)))

    def test_loads_files_of_keras_applications(self):
        """Fails if the files Keras publishes don't fit, or land elsewhere.

        Published files are of the older .h5 kind; `save` still writes it.
        """
        for name, image_size, file in (
            ("Xception", 71, "notop.h5"),
            ("MobileNet", 32, "notop.weights.h5"),
        ):
            published = getattr(keras.applications, name)(
                include_top=False,
                weights=None,
                input_shape=(image_size, image_size, 3),
                pooling="avg",
            )
            path = pathlib.Path(self.get_temp_dir()) / file
            if file == "notop.h5":
                published.save(path)
            else:
                published.save_weights(path)
            model = backbones.build_backbone(
                name, image_size=image_size, weights=str(path)
            )
            pixels = _images(image_size)
            # Both families scale to -1 .. 1.
            expected = published(pixels / 127.5 - 1.0)
            self.assertAllClose(model(pixels), expected)

    def test_pixels_stay_float32_under_bfloat16(self):
        """Fails if pixels lose all behind the point before they are scaled.

        bfloat16 has 8 significant bits: 200.4 would become 200.
        """
        previous = keras.config.dtype_policy()
        keras.config.set_dtype_policy("mixed_bfloat16")
        try:
            for name, layer, expected in (
                # Blue first, less the means of ImageNet.
                ("ResNet50", "preprocess_image", [96.461, 83.621, 76.72]),
                ("EfficientNetLite0", "scale_pixels", [73.4 / 128] * 3),
                ("SmallCNN", "scale_pixels", [200.4 / 127.5 - 1.0] * 3),
            ):
                model = backbones.build_backbone(
                    name, image_size=32, weights="none"
                )
                scaled = keras.Model(model.input, model.get_layer(layer).output)
                image = keras.Input((32, 32, 3), dtype="float32")
                outer = keras.Model(image, scaled(image))
                pixels = outer(tf.fill([1, 32, 32, 3], 200.4))
                self.assertEqual(pixels.dtype, tf.float32)
                self.assertAllClose(pixels[0, 0, 0], expected, atol=1e-4)
                self.assertEqual(model.output.dtype, "bfloat16")
        finally:
            keras.config.set_dtype_policy(previous)

    def test_backbone_is_serialisable(self):
        """Fails if a saved model can't be built again from its config."""
        model = backbones.build_backbone(
            "MobileNet", image_size=32, weights="none"
        )
        again = keras.Model.from_config(model.get_config())
        again.set_weights(model.get_weights())
        self.assertAllEqual(model(_images(32)), again(_images(32)))

    def test_unknown_names(self):
        """Fails if a slip of the pen isn't answered with the right name."""
        for name, message in (
            ("resnet50", "Did you mean ResNet50.*SmallCNN.*Xception"),
            ("EfficientNetB0", "Use EfficientNetV2B0"),
            ("vgg16", "Did you mean VGG16"),
            ("preprocess_input", "Unknown backbone"),
        ):
            with self.assertRaisesRegex(ValueError, message):
                backbones.build_backbone(name, image_size=32, weights="none")

    def test_images_too_small(self):
        """Fails if the smallest size of a family isn't told."""
        with self.assertRaisesRegex(ValueError, "InceptionV3.*74.*75x75"):
            backbones.build_backbone(
                "InceptionV3", image_size=74, weights="none"
            )

    def test_bad_weights(self):
        """Fails if a wrong weight file is loaded, or the error is a riddle."""
        folder = pathlib.Path(self.get_temp_dir())
        (folder / "text.weights.h5").write_text("no weights")
        other = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)])
        other.save_weights(folder / "other.weights.h5")
        for name, weights, message in (
            ("SmallCNN", "imagenet", "no ImageNet weights"),
            ("SmallCNN", "missing.weights.h5", "which is no file"),
            ("SmallCNN", folder / "text.weights.h5", "doesn't fit SmallCNN"),
            ("SmallCNN", folder / "other.weights.h5", "doesn't fit SmallCNN"),
        ):
            with self.assertRaisesRegex(ValueError, message):
                backbones.build_backbone(
                    name, image_size=32, weights=str(weights)
                )

    def test_offline(self):
        """Fails if a machine without internet gets no advice.

        A proxy nobody listens on stands for the missing network, an empty
        folder for the cache of weights.
        """
        program = (
            "from sicot_tf.model.backbones import backbones\n"
            "backbones.build_backbone("
            "'MobileNet', image_size=32, weights='imagenet')"
        )
        environment = os.environ | {
            "KERAS_HOME": self.get_temp_dir(),
            # Port 9 discards; nobody has served it for decades.
            "https_proxy": "http://127.0.0.1:9",
            "no_proxy": "",
        }
        result = subprocess.run(
            [sys.executable, "-c", program],
            env=environment,
            capture_output=True,
            text=True,
        )
        self.assertEqual(result.returncode, 1)
        self.assertRegex(
            result.stderr, "ValueError: .* MobileNet couldn't be downloaded"
        )
        self.assertIn("offline, give the path", result.stderr)


if __name__ == "__main__":
    tf.test.main()


class SplitTest(tf.test.TestCase):
    def test_both_halves_are_the_backbone(self):
        """Fails if a cut loses a branch, or a half has other weights."""
        for name, layer in (
            ("SmallCNN", "conv2"),
            ("EfficientNetLite0", "block5c_add"),
            # Sums and products between its layers have no layer.
            ("MobileNetV3Small", "conv_1_bn"),
        ):
            with self.subTest(name):
                whole = backbones.build_backbone(
                    name, image_size=32, weights="none"
                )
                first, second = backbones.split(whole, layer)
                self.assertEqual(
                    first.output.name, whole.get_layer(layer).output.name
                )
                self.assertAllEqual(
                    second(first(_images(32))), whole(_images(32))
                )
                self.assertLen(
                    whole.variables,
                    len(first.variables) + len(second.variables),
                )

    def test_no_cut_through_a_block(self):
        """Fails if a half would lack the shortcut around this layer."""
        whole = backbones.build_backbone(
            "EfficientNetLite0", image_size=32, weights="none"
        )
        with self.assertRaisesRegex(ValueError, "block5b_add, block5c_add"):
            backbones.split(whole, "block5c_depthwise_conv")
