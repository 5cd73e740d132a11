import json
import pathlib
import tempfile
import unittest

from sicot_tf.catalogue import product_index
from sicot_tf.recognition.releases import release_check
from tests.helpers import tiny_releases
from tests.sicot_tf.catalogue import product_index_test


class ReleaseCheckTest(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = pathlib.Path(folder.name)
        # Its SKUs are cola, with two products, and tea.
        self.index = product_index_test.write_generation(
            self.folder / "index", "2026-01-01-aa"
        )

    def write_model(self, *sku_ids, version="1"):
        return tiny_releases.write_model(
            self.folder / "sicot" / version, sku_ids
        )

    def test_numbers(self):
        """Broken: a model goes live with an index that is not its own."""
        model = self.write_model("milk", "cola", "water", "a\u2028b")
        found = release_check.check(model, self.index)
        self.assertEqual(
            found.as_dict(),
            {
                "num_classes": 4,
                "num_skus": 2,
                "classes_without_product": 3,
                "skus_without_class": 1,
                "sample_classes": ["milk", "water", "a\u2028b"],
                "sample_skus": ["tea"],
                "embeddings": "none",
            },
        )
        # 3 of 4 classes, 1 of 2 SKUs.
        self.assertEqual(found.percent_without_product, 75)
        self.assertEqual(found.percent_without_class, 50)
        self.assertEqual(len(found.faults(49.9)), 2)
        self.assertEqual(
            found.faults(50),
            ["75.0 % of the classes have no product, at most 50 % may."],
        )
        self.assertEqual(found.faults(75), [])

    def test_empty_index(self):
        """Broken: an index without products counts as one that fits."""
        index = product_index_test.write_generation(
            self.folder / "index", "2026-01-02-bb", []
        )
        found = release_check.check(self.write_model("cola"), index)
        self.assertEqual(found.percent_without_class, 100)

    def test_embeddings_of_another_model(self):
        """Broken: pictures are compared across two spaces of embeddings."""
        model = self.write_model("cola", "tea")
        for digest, embeddings, num_faults in (
            (
                product_index.embedding_model_sha256(model),
                "of this model",
                0,
            ),
            ("0" * 64, "of another model", 1),
        ):
            (self.index / "manifest.json").write_text(
                json.dumps({"embeddings": {"saved_model_sha256": digest}})
            )
            found = release_check.check(model, self.index)
            self.assertEqual(found.embeddings, embeddings)
            self.assertEqual(len(found.faults(100)), num_faults)

    def test_newest_version(self):
        """Broken: version 9 goes live instead of 10, or half an export."""
        self.write_model("cola", version="9")
        newest = self.write_model("cola", version="10")
        self.write_model("cola", version=".11.tmp-1")
        (self.folder / "sicot" / "12").mkdir()
        base = self.folder / "sicot"
        self.assertEqual(release_check.newest_version(base), newest)
        self.assertEqual(release_check.newest_version(base / "9"), base / "9")
        with self.assertRaisesRegex(ValueError, "found no version"):
            release_check.newest_version(self.folder)

    def test_damaged_index(self):
        """Broken: a cut index is a traceback, or goes live."""
        model = self.write_model("cola")
        store = self.index / product_index.STORE
        size = store.stat().st_size
        manifest = {"files": {store.name: {"bytes": size}}}
        (self.index / "manifest.json").write_text(json.dumps(manifest))
        release_check.index_identity(self.index)
        store.write_bytes(b"no SQLite " * 100)
        with self.assertRaisesRegex(ValueError, "can't be read"):
            release_check.check(model, self.index)
        with self.assertRaisesRegex(ValueError, f"with {size:,} bytes"):
            release_check.index_identity(self.index)
        store.unlink()
        with self.assertRaisesRegex(ValueError, "it is not there"):
            release_check.check(model, self.index)


if __name__ == "__main__":
    unittest.main()
