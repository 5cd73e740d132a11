"""The functional model: streams, shared classifier, initial weights."""

import dataclasses

import keras
import numpy as np
import tensorflow as tf
from absl.testing import parameterized

from sicot_tf import config
from sicot_tf.model import sicot

_CONFIG = dataclasses.replace(
    config.ModelConfig(),
    backbone="SmallCNN",
    backbone_weights="none",
    image_size=16,
    max_words=4,
)


def _streams(seed=0, **overrides):
    return sicot.build_streams(
        dataclasses.replace(_CONFIG, **overrides),
        vocabulary_size=9,
        word_vector_dim=6,
        seed=seed,
    )


def _inputs():
    rng = np.random.default_rng(0)
    image = rng.uniform(0, 255, size=(3, 16, 16, 3)).astype(np.float32)
    # Two words; none; an unknown word only, which counts as none.
    ids = np.array([[4, 9, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0]], np.int32)
    return {"image": image, "title_ids": ids}


class SicotTest(tf.test.TestCase, parameterized.TestCase):
    def test_named_inputs_and_outputs(self):
        """Breaks if the contract of the functional model changes."""
        streams = _streams()
        self.assertEqual(set(streams.input), {"image", "title_ids"})
        self.assertEqual(set(streams.output), {"x_v", "x_m", "attention"})
        self.assertEqual(
            streams.output["x_v"].shape, streams.output["x_m"].shape
        )
        visual = _streams(streams="visual")
        self.assertEqual(set(visual.input), {"image"})
        self.assertEqual(set(visual.output), {"x_v"})

    def test_number_of_weights(self):
        """Breaks if a layer is added, lost, or no longer shared.

        Beside the backbone: 10 word vectors of 6, the bilinear form of
        6 x 6 and its gain, the projection to 128; one classifier of 5
        classes for both streams.
        """
        backbone = _streams(streams="visual").count_params()
        self.assertEqual(
            _streams().count_params() - backbone,
            10 * 6 + (6 * 6 + 1) + (6 * 128 + 128),
        )
        classifier = sicot.build_classifier(5, 128)
        self.assertEqual(classifier.count_params(), 5 * 128 + 5)

    def test_mixed_stream(self):
        """Breaks if x_m is not the maximum of two non-negative streams."""
        streams = _streams(seed=3)
        outputs = streams(_inputs())
        x_v, x_m = outputs["x_v"], outputs["x_m"]
        parts = keras.Model(
            streams.input, streams.get_layer("title_projection").output
        )
        x_s = parts(_inputs())
        self.assertGreaterEqual(np.min(x_v), 0)
        self.assertGreaterEqual(np.min(x_s), 0)
        self.assertAllEqual(x_m[0], np.maximum(x_v[0], x_s[0]))
        self.assertGreater(np.sum(x_m[0] > x_v[0]), 0)

    def test_a_picture_without_title_is_mixed_with_nothing(self):
        """Breaks if the bias of the projection leaks into x_m."""
        streams = _streams()
        streams.get_layer("title_projection").bias.assign(tf.fill([128], 5.0))
        outputs = streams(_inputs())
        self.assertAllEqual(outputs["x_m"][1:], outputs["x_v"][1:])
        self.assertAllEqual(outputs["attention"][1:], np.zeros([2, 4]))
        classifier = sicot.build_classifier(5, 128)
        self.assertAllEqual(
            classifier(outputs["x_m"][1:]), classifier(outputs["x_v"][1:])
        )

    def test_gradients_reach_everything_from_both_losses(self):
        """Breaks if a stream is cut off from one of the two losses.

        The paper (section 3.3) tangles the streams in features and
        classifier: the mixed loss must move the backbone, the text layers
        and the classifier; the visual loss the backbone and the classifier.
        """
        streams, classifier = _streams(), sicot.build_classifier(5, 128)
        for output, moved in (("x_v", False), ("x_m", True)):
            with tf.GradientTape() as tape:
                logits = classifier(streams(_inputs())[output])
                loss = tf.reduce_sum(tf.square(logits))
            variables = streams.trainable_variables
            gradients = tape.gradient(loss, variables + classifier.weights)
            for variable, gradient in zip(variables, gradients):
                if "word" in variable.path or "title" in variable.path:
                    self.assertEqual(
                        gradient is not None
                        and np.any(tf.convert_to_tensor(gradient)),
                        moved,
                        msg=variable.path,
                    )
                elif "kernel" in variable.path:
                    self.assertTrue(np.any(gradient), msg=variable.path)
            self.assertTrue(np.any(gradients[-1]))

    def test_initial_weights_depend_on_seed_and_path_alone(self):
        """Breaks if the baseline starts from other weights than the
        co-training run, or a seed no longer decides them."""
        cotrain, visual = _streams(), _streams(streams="visual")
        by_path = {each.path: each.numpy() for each in cotrain.weights}
        for variable in visual.weights:
            self.assertAllEqual(variable.numpy(), by_path[variable.path])
        other = {each.path: each.numpy() for each in _streams(1).weights}
        self.assertNotAllEqual(
            other["word_attention/kernel"], by_path["word_attention/kernel"]
        )

    @parameterized.parameters(
        ("mean", 0, True),
        # Two directions of 3 units: 4 gates of 6 + 3 inputs and a bias.
        ("bilstm", 2 * 4 * 3 * (6 + 3 + 1), False),
        ("bilstm_attention", 2 * 4 * 3 * (6 + 3 + 1) + 6 * 6 + 6, True),
    )
    def test_title_encoders(self, name, num_weights, has_word_weights):
        """Breaks if an encoder of Table 3 changes more than the way from
        word vectors to one vector, can't be saved, or is not seeded."""
        streams = _streams(title_encoder=name)
        default = _streams()
        self.assertEqual(
            streams.count_params() - default.count_params(),
            num_weights - (6 * 6 + 1),
        )
        self.assertEqual(
            {each.path for each in streams.weights if "lstm" not in each.path},
            {each.path for each in default.weights if "/" in each.path}
            - {"word_attention/kernel", "word_attention/score_gain"},
        )
        outputs, same = streams(_inputs()), _streams(title_encoder=name)
        for key, value in same(_inputs()).items():
            self.assertAllEqual(outputs[key], value)
        self.assertAllEqual(outputs["x_m"][1:], outputs["x_v"][1:])
        self.assertNotAllEqual(outputs["x_m"][0], outputs["x_v"][0])
        self.assertEqual("attention" in outputs, has_word_weights)
        if has_word_weights:
            self.assertAllClose(
                tf.reduce_sum(outputs["attention"], 1), [1, 0, 0]
            )
            sicot.semantic_stream(streams)
        else:
            with self.assertRaisesRegex(ValueError, "words no weights"):
                sicot.semantic_stream(streams)
        path = f"{self.get_temp_dir()}/streams.keras"
        streams.save(path)
        again = keras.models.load_model(path)
        self.assertAllClose(again(_inputs())["x_m"], outputs["x_m"])

    def test_neck(self):
        """Breaks if the neck does not set the size of both streams, or lets
        x_v become negative."""
        streams = _streams(neck_dim=24)
        outputs = streams(_inputs())
        self.assertEqual(outputs["x_v"].shape, (3, 24))
        self.assertEqual(outputs["x_m"].shape, (3, 24))
        self.assertGreaterEqual(np.min(outputs["x_v"]), 0)

    def test_frozen_backbone(self):
        """Breaks if a frozen backbone is still trained."""
        streams = _streams(freeze_backbone=True)
        self.assertEqual(
            {each.path.split("/")[0] for each in streams.trainable_variables},
            {"word_vectors", "word_attention", "title_projection"},
        )

    def test_frozen_word_vectors(self):
        """Breaks if --no-train_word_vectors trains them."""
        streams = _streams(train_word_vectors=False)
        self.assertNotIn(
            "word_vectors/embeddings",
            [each.path for each in streams.trainable_variables],
        )

    def test_visual_stream_has_no_text(self):
        """Breaks if a text variable could be exported."""
        visual = sicot.visual_stream(_streams())
        paths = " ".join(each.path for each in visual.weights)
        self.assertNotRegex(paths, "word|title|attention")
        self.assertAllClose(
            visual({"image": _inputs()["image"]}),
            _streams()(_inputs())["x_v"],
        )

    def test_mixed_precision(self):
        """Breaks if bfloat16 reaches the logits, or the policy leaks."""
        streams = _streams(dtype_policy="mixed_bfloat16")
        outputs = streams(_inputs())
        self.assertEqual(outputs["x_m"].dtype, tf.bfloat16)
        logits = sicot.build_classifier(5, 128)(outputs["x_m"])
        self.assertEqual(logits.dtype, tf.float32)
        self.assertEqual(keras.config.dtype_policy().name, "float32")

    def test_saving_and_loading(self):
        """Breaks if a layer of the model can't be serialised."""
        streams = _streams()
        path = f"{self.get_temp_dir()}/streams.keras"
        streams.save(path)
        again = keras.models.load_model(path)
        for name, value in streams(_inputs()).items():
            self.assertAllClose(again(_inputs())[name], value)


if __name__ == "__main__":
    tf.test.main()
