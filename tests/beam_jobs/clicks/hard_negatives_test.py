import pathlib
import tempfile

import numpy as np
import PIL.Image
import tensorflow as tf

from beam_jobs import mine_clicks
from beam_jobs.clicks import write_shards
from sicot_tf.catalogue import product_index
from sicot_tf.data import generations
from tests.helpers import mistakes
from tests.helpers import tiny_clicks
from tests.helpers import tiny_vector_index

# Product to the grey of its picture; the query's is 100.
_GREYS = {"a": 100, "b": 102, "c": 104, "d": 106, "e": 120, "f": 250}


class _Model(tf.Module):
    """The angle of the mean grey: equal greys have equal vectors."""

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string)])
    def embed(self, image_bytes):
        angles = tf.map_fn(
            lambda image: (
                tf.reduce_mean(tf.cast(tf.io.decode_jpeg(image), tf.float32))
                / 256
            ),
            image_bytes,
            fn_output_signature=tf.float32,
        )
        return {"embedding": tf.stack([tf.cos(angles), tf.sin(angles)], 1)}


class HardNegativesTest(tf.test.TestCase):
    def setUp(self):
        super().setUp()
        holder = tempfile.TemporaryDirectory()
        self.addCleanup(holder.cleanup)
        self.folder = pathlib.Path(holder.name)
        (self.folder / "pictures").mkdir()
        for name, grey in {**_GREYS, "query": 100}.items():
            pixels = np.full((16, 16, 3), grey, np.uint8)
            PIL.Image.fromarray(pixels).save(
                self.folder / "pictures" / f"{name}.png"
            )
        skus = {name: f"sku {name}" for name in _GREYS}
        # b is the same thing as a, of another seller.
        tiny_clicks.write_catalogue(self.folder, {**skus, "b": "sku a"})
        tiny_clicks.write_rows(
            self.folder / "clicks.jsonl",
            [
                tiny_clicks.row("1", "fa", 2),
                # c was clicked for this picture, too.
                tiny_clicks.row("2", "c", 1),
            ],
        )
        model = _Model()
        self.model = self.folder / "model"
        tf.saved_model.save(
            model, str(self.model), signatures={"embedding": model.embed}
        )
        self.sha256 = product_index.embedding_model_sha256(self.model)

    def _mine(self):
        mine_clicks.main(
            [
                *("--clicks", str(self.folder / "clicks.jsonl")),
                *("--catalogue", str(self.folder / "catalogue.jsonl")),
                *("--output", str(self.folder / "triplets")),
                *("--vector_index", str(self.folder / "index")),
                *("--saved_model", str(self.model)),
                *("--hard_negatives", "2"),
            ]
        )
        return generations.resolve_generation(self.folder / "triplets")

    def _write_index(self, sha256):
        tiny_vector_index.write(
            self.folder / "index",
            "g1",
            [
                (name, 0, None, (np.cos(grey / 256), np.sin(grey / 256)))
                for name, grey in [*_GREYS.items(), ("gone", 101)]
            ],
            saved_model_sha256=sha256,
        )

    def test_nearest_that_nobody_clicked(self):
        """Breaks if a near product is a negative that was clicked, is of the
        clicked SKU, or the catalogue has lost; or if another is nearer."""
        self._write_index(self.sha256)
        (path,) = self._mine().glob("train-*.tfrecord")
        found = set()
        for example in tf.data.TFRecordDataset(str(path)):
            parsed = tf.io.parse_single_example(
                example, write_shards.TRIPLET_FEATURES
            )
            names = ("query_id", "positive_id", "negative_id", "negative_kind")
            found.add(tuple(parsed[name].numpy().decode() for name in names))
        # Nearest to 100: a, (gone), b, c, d, e, f.
        self.assertEqual(
            found,
            {
                ("1", "a", "f", "shown"),
                ("1", "a", "d", "hard"),
                ("1", "a", "e", "hard"),
                ("2", "c", "b", "hard"),
                ("2", "c", "d", "hard"),
            },
        )

    def test_index_of_another_model(self):
        """Breaks if vectors of two models are compared."""
        self._write_index("cd" * 32)
        with mistakes.assert_told(self, "--saved_model that made the vectors"):
            self._mine()


if __name__ == "__main__":
    tf.test.main()
