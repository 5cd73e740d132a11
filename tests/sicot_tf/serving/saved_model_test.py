import io
import json
import pathlib
import subprocess
import sys
import tempfile

import keras
import numpy as np
import PIL.Image
import tensorflow as tf
import tensorflow_text
from tensorflow_serving.apis import prediction_log_pb2

from beam_jobs.pictures import stored_images
from sicot_tf.data import images
from sicot_tf.serving import saved_model
from tests.helpers import picture_formats
from tests.helpers import tiny_server

# Runs with nothing but TensorFlow, as TensorFlow Serving does.
_LOAD_SCRIPT = """
import json
import pathlib
import sys
import tensorflow as tf
from tensorflow.core.protobuf import saved_model_pb2

directory = pathlib.Path(sys.argv[1])
photos = [pathlib.Path(path).read_bytes() for path in sys.argv[2:]]
loaded = tf.saved_model.load(str(directory))

def describe(specs):
    return {
        name: [spec.dtype.name, spec.shape.as_list()]
        for name, spec in specs.items()
    }

signatures = {
    key: [
        describe(function.structured_input_signature[1]),
        describe(function.structured_outputs),
    ]
    for key, function in loaded.signatures.items()
}
batch = tf.constant(photos)
best = loaded.signatures["serving_default"](image_bytes=batch)
embedding = loaded.signatures["embedding"](image_bytes=batch)["embedding"]

graph = saved_model_pb2.SavedModel.FromString(
    (directory / "saved_model.pb").read_bytes()
).meta_graphs[0].graph_def
ops = {node.op for node in graph.node}
for function in graph.library.function:
    ops |= {node.op for node in function.node_def}
ops -= {function.signature.name for function in graph.library.function}

print(json.dumps({
    "signatures": signatures,
    "sku_id": [[item.decode() for item in row] for row in
               best["sku_id"].numpy().tolist()],
    "score": best["score"].numpy().tolist(),
    "recognised": best["recognised"].numpy().tolist(),
    "embedding": embedding.numpy().tolist(),
    "unknown_ops": [op for op in sorted(ops) if not hasattr(tf.raw_ops, op)],
    "graph_variables": sorted(
        node.attr["shared_name"].s.decode()
        for node in graph.node
        # The path of the label table is a string variable.
        if node.op == "VarHandleOp"
        and node.attr["dtype"].type != tf.string.as_datatype_enum
    ),
    "stored_shapes": [
        shape
        for name, shape in tf.train.list_variables(
            str(directory / "variables" / "variables"))
        if name.endswith("VARIABLE_VALUE")
    ],
    "modules": sorted(set(sys.modules) & {"sicot_tf", "tensorflow_text"}),
}))
"""


class CaseFold(keras.layers.Layer):
    """Adds 0, by way of an op that TensorFlow Serving may not have."""

    def call(self, x):
        text = tensorflow_text.case_fold_utf8(tf.strings.as_string(x))
        return x + 0 * tf.strings.to_number(text)


class SavedModelTest(tf.test.TestCase):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        folder = cls.enterClassContext(tempfile.TemporaryDirectory())
        cls.root = pathlib.Path(folder)
        cls.directory = cls.root / "tiny" / "3"
        tiny_server.write_saved_model(cls.directory)
        paths = []
        for seed in (1, 2, 3):
            paths.append(cls.root / f"{seed}.jpg")
            paths[-1].write_bytes(tiny_server.make_jpeg(seed))
        completed = subprocess.run(
            [sys.executable, "-c", _LOAD_SCRIPT, cls.directory, *paths],
            cwd=cls.root,
            check=True,
            stdout=subprocess.PIPE,
        )
        cls.loaded = json.loads(completed.stdout.splitlines()[-1])

    def test_signatures(self):
        """Names, types and shapes are what every client is written for; with
        our code or text ops TensorFlow Serving could not load the graph."""
        self.assertEqual(self.loaded["modules"], [])
        self.assertEqual(self.loaded["unknown_ops"], [])
        side = tiny_server.IMAGE_SIZE
        image_bytes = {"image_bytes": ["string", [None]]}
        best = {
            "sku_id": ["string", [None, 5]],
            "score": ["float32", [None, 5]],
            "recognised": ["bool", [None]],
        }
        self.assertEqual(
            self.loaded["signatures"],
            {
                "serving_default": [image_bytes, best],
                "serving_pixels": [
                    {"image": ["uint8", [None, side, side, 3]]},
                    best,
                ],
                "embedding": [
                    image_bytes,
                    {"embedding": ["float32", [None, 6]]},
                ],
                "recognition": [
                    image_bytes,
                    {
                        "sku_id": ["string", [None, 7]],
                        "score": ["float32", [None, 7]],
                        "recognised": ["bool", [None]],
                        "embedding": ["float32", [None, 6]],
                    },
                ],
                "localization": [
                    image_bytes,
                    {
                        "sku_id": ["string", [None]],
                        "score": ["float32", [None]],
                        "heat_map": ["float32", [None, 32, 32]],
                    },
                ],
            },
        )

    def test_answers_are_those_of_the_keras_model(self):
        """Softmax over all 7 classes, then the best 5, by NumPy here."""
        image_features, classifier = tiny_server.make_model()
        pixels = np.stack(
            [
                images.decode_for_inference(
                    tiny_server.make_jpeg(seed), tiny_server.IMAGE_SIZE
                )
                for seed in (1, 2, 3)
            ]
        )
        features = image_features({"image": pixels}).numpy()
        logits = classifier(features).numpy()
        scores = np.exp(logits - logits.max(1, keepdims=True))
        scores /= scores.sum(1, keepdims=True)
        best = np.argsort(-scores, axis=1)[:, :5]

        self.assertAllClose(self.loaded["embedding"], features, 1e-6, 1e-6)
        self.assertAllClose(
            self.loaded["score"],
            np.take_along_axis(scores, best, axis=1),
            1e-6,
            1e-6,
        )
        self.assertEqual(
            self.loaded["sku_id"],
            [[tiny_server.SKU_IDS[label] for label in row] for row in best],
        )
        # By the best score alone; picture 1 is the one that is not.
        self.assertEqual(
            self.loaded["recognised"],
            (scores.max(axis=1) >= tiny_server.THRESHOLD).tolist(),
        )
        self.assertEqual(self.loaded["recognised"], [False, True, True])

    def test_recognition(self):
        """Breaks if the service gets other scores, embeddings or words than
        the model gives; by NumPy here."""
        image_features, classifier = tiny_server.make_model()
        shown = keras.layers.Dense(12, name="shown")
        shown.build((None, tiny_server.EMBEDDING_DIM))
        words = [f"word {number}" for number in range(12)]
        directory = self.root / "words" / "1"
        tiny_server.write_saved_model(
            directory,
            image_features=image_features,
            classifier=classifier,
            word_classifier=shown,
            words=words,
        )
        photos = [tiny_server.make_jpeg(seed) for seed in (1, 2, 3)]
        answer = tf.saved_model.load(str(directory)).signatures["recognition"](
            image_bytes=tf.constant(photos)
        )
        pixels = np.stack(
            [
                images.decode_for_inference(each, tiny_server.IMAGE_SIZE)
                for each in photos
            ]
        )
        features = image_features({"image": pixels}).numpy()
        self.assertAllClose(answer["embedding"], features, 1e-6, 1e-6)
        logits = classifier(features).numpy()
        scores = np.exp(logits - logits.max(1, keepdims=True))
        scores /= scores.sum(1, keepdims=True)
        order = np.argsort(-scores, axis=1)
        self.assertAllClose(
            answer["score"], np.take_along_axis(scores, order, 1), 1e-5, 1e-6
        )
        self.assertAllEqual(
            answer["sku_id"],
            [[tiny_server.SKU_IDS[i].encode() for i in row] for row in order],
        )
        self.assertAllEqual(answer["recognised"], [False, True, True])
        logits = features @ shown.kernel.numpy() + shown.bias.numpy()
        order = np.argsort(-logits, axis=1)[:, :10]
        self.assertAllEqual(
            answer["word"], [[words[i].encode() for i in row] for row in order]
        )
        self.assertAllClose(
            answer["word_probability"],
            1 / (1 + np.exp(-np.take_along_axis(logits, order, 1))),
            1e-5,
            1e-6,
        )

    def test_localization(self):
        """Breaks if the heat map is another photo's, upside down, or not as
        one sees the photo; by NumPy here."""
        localize = tf.saved_model.load(str(self.directory)).signatures[
            "localization"
        ]
        photo = picture_formats.turned()["PNG, orientation 6<"]
        answer = localize(image_bytes=tf.constant([photo]))
        self.assertAllGreaterEqual(answer["heat_map"], 0)
        # Stored as one sees it, it is the same photo.
        with PIL.Image.open(io.BytesIO(photo)) as image:
            upright = image.transpose(PIL.Image.Transpose.ROTATE_270)
        upright = picture_formats.encode(
            PIL.Image.fromarray(np.array(upright)), "PNG"
        )
        same = localize(image_bytes=tf.constant([upright]))
        self.assertAllClose(answer["heat_map"], same["heat_map"], atol=1e-3)
        self.assertAllClose(answer["score"], same["score"], atol=1e-4)

        size = tiny_server.LOCALIZATION_SIZE
        image_features, classifier = tiny_server.make_model()
        square, whole, (height, width) = images.decode_for_localization(
            tf.constant(upright), tiny_server.IMAGE_SIZE, size
        )
        logits = classifier(image_features({"image": square[np.newaxis]}))
        scores = tf.nn.softmax(logits).numpy()
        self.assertAllClose(answer["score"], scores.max(1), atol=1e-4)
        self.assertEqual(
            answer["sku_id"][0].numpy().decode(),
            tiny_server.SKU_IDS[scores.argmax()],
        )
        features = whole[np.newaxis]
        for layer in image_features.layers[1:-1]:
            features = layer(features, training=False)
        features = features[0].numpy()
        rows, columns = features.shape[:2]
        is_photo = np.s_[
            : int(np.ceil(height * rows)), : int(np.ceil(width * columns))
        ]
        mean = features[is_photo].mean(axis=(0, 1))
        heat = np.linalg.norm(np.maximum(features - mean, 0), axis=-1)
        middles = (np.arange(32) + 0.5) / 32
        for axis, (share, cells) in enumerate(
            ((height, rows), (width, columns))
        ):
            places = (share * middles * size - 0.5) / (size - 1) * (cells - 1)
            heat = np.apply_along_axis(
                lambda line: np.interp(places, np.arange(cells), line),
                axis,
                heat,
            )
        self.assertAllClose(same["heat_map"][0], heat, rtol=1e-4, atol=1e-4)

    def test_rare_formats_are_served_as_they_are_stored(self):
        """Else a palette is nearly white and a phone's photo lies there.

        The exported graph on the file, against that on what a build stores.
        """
        files = picture_formats.served_and_stored() | picture_formats.turned()
        embed = tf.saved_model.load(str(self.directory)).signatures["embedding"]
        names = [
            "PNG type 3, 1 bits, tRNS",
            "PNG type 0, 4 bits",
            "WebP, alpha",
            "WebP, animated",
            "GIF, small transparent frame",
            "BMP, 4 bits",
            "JPEG, CMYK, no Adobe",
            "JPEG, orientation 6>",
            "PNG, orientation 8<",
            "WebP, orientation 3<",
        ]
        stored = [
            stored_images.to_stored_image(
                files[name],
                image_size=64,
                jpeg_quality=95,
                min_image_side=8,
                max_image_pixels=10_000,
            ).jpeg
            for name in names
        ]
        served = embed(image_bytes=tf.constant([files[each] for each in names]))
        expected = embed(image_bytes=tf.constant(stored))
        distance = np.abs(served["embedding"] - expected["embedding"]).max(1)
        # A picture and another one are far apart.
        others = np.abs(np.diff(expected["embedding"], axis=0)).max(1)
        self.assertLess(distance.max(), others.min() / 3)
        for name, (data, word) in picture_formats.stored_only().items():
            with self.subTest(name):
                with self.assertRaisesRegex(
                    tf.errors.InvalidArgumentError, word
                ):
                    embed(image_bytes=tf.constant([data]))

    def test_holds_each_weight_once_and_no_other(self):
        """Twice is twice the memory; a text variable has no business here."""
        self.assertEqual(
            self.loaded["graph_variables"],
            [
                "classifier/bias",
                "classifier/kernel",
                "convolution/bias",
                "convolution/kernel",
                "normalization/beta",
                "normalization/gamma",
                "normalization/moving_mean",
                "normalization/moving_variance",
                "threshold",
            ],
        )
        # Kernel 3 x 3 x 3 x 6 and bias, normalisation, kernel 6 x 7 and bias,
        # threshold.
        self.assertCountEqual(
            self.loaded["stored_shapes"],
            [[3, 3, 3, 6], [6], [6], [6], [6], [6], [6, 7], [7], []],
        )

    def test_what_lies_beside_the_graph(self):
        """Breaks if the first customer waits for graph optimisation, nobody
        knows where a model came from, or half a version looks like one."""
        extra = self.directory / "assets.extra"
        requests = [
            prediction_log_pb2.PredictionLog.FromString(
                record.numpy()
            ).predict_log.request
            for record in tf.data.TFRecordDataset(
                str(extra / "tf_serving_warmup_requests")
            )
        ]
        self.assertEqual(
            [
                (r.model_spec.name, r.model_spec.signature_name, *r.inputs)
                for r in requests
            ],
            [
                ("tiny", "serving_default", "image_bytes"),
                ("tiny", "serving_pixels", "image"),
                ("tiny", "embedding", "image_bytes"),
                ("tiny", "recognition", "image_bytes"),
                ("tiny", "localization", "image_bytes"),
            ],
        )
        info = json.loads((extra / "export.json").read_text("utf-8"))
        self.assertEqual(info, tiny_server.EXPORT_INFO)
        self.assertEqual(
            [child.name for child in self.directory.parent.iterdir()], ["3"]
        )

    def test_failed_exports_leave_nothing(self):
        """Each wrong part is named, and no folder appears or changes."""
        with self.assertRaisesRegex(FileExistsError, "Export to .*tiny/4"):
            tiny_server.write_saved_model(self.directory)
        cases = (
            ({"sku_ids": ["a", "b"]}, r"shape \(1, 2\).*received \(1, 7\)"),
            ({"sku_ids": ["a"] * 7}, "received 7, of which 1"),
            ({"sku_ids": list("abcdef") + ["g\r"]}, "no line break"),
            ({"warmup_image": b"garbage"}, "warm-up image can't be decoded"),
            ({"top_k": 0}, "top_k of 1 or more, received 0"),
        )
        for overrides, text in cases:
            with self.subTest(text):
                with self.assertRaisesRegex(ValueError, text):
                    tiny_server.write_saved_model(
                        self.root / "failed" / "1", **overrides
                    )
        with self.assertRaisesRegex(ValueError, "named by its version"):
            tiny_server.write_saved_model(self.root / "failed" / "latest")
        self.assertFalse((self.root / "failed").exists())

    def test_ops_outside_tensorflow_are_refused(self):
        """They load here and fail in production."""
        features, classifier = tiny_server.make_model()
        folded = keras.Model(features.input, CaseFold()(features.output))
        with self.assertRaisesRegex(ValueError, "CaseFoldUTF8"):
            tiny_server.write_saved_model(
                self.root / "text" / "1",
                image_features=folded,
                classifier=classifier,
            )

    def test_mixed_precision_answers_in_float32_and_top_k_is_capped(self):
        """Clients know no bfloat16; 7 classes can't give 50 answers."""
        image_features, classifier = tiny_server.make_model("mixed_bfloat16")
        directory = self.root / "mixed" / "1"
        tiny_server.write_saved_model(
            directory,
            image_features=image_features,
            classifier=classifier,
            top_k=50,
        )
        signatures = tf.saved_model.load(str(directory)).signatures
        for key in ("serving_default", "embedding"):
            outputs = signatures[key](
                image_bytes=tf.constant([tiny_server.make_jpeg(1)])
            )
            self.assertNotIn(tf.bfloat16, [x.dtype for x in outputs.values()])
        score = signatures["serving_default"].structured_outputs["score"]
        self.assertEqual(score.shape.as_list(), [None, 7])
        self.assertEqual(score.dtype, tf.float32)

    def test_next_version(self):
        """Counts as servers do: 0007 is 7, other names are no versions."""
        model_dir = self.root / "versions"
        self.assertEqual(saved_model.next_version(model_dir), 1)
        for name in ("1", "0007", "9b", ".12.tmp-1", "1_000"):
            (model_dir / name).mkdir(parents=True)
        self.assertEqual(saved_model.next_version(model_dir), 8)


if __name__ == "__main__":
    tf.test.main()
