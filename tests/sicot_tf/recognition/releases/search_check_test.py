import json
import pathlib
import tempfile
import unittest

import numpy as np

from sicot_tf import files
from sicot_tf.catalogue import product_index
from sicot_tf.catalogue import vector_index
from sicot_tf.catalogue.vectors import VectorRow
from sicot_tf.data import generations
from sicot_tf.recognition.releases import open_release
from sicot_tf.recognition.releases import release_check
from sicot_tf.recognition.releases import releases
from sicot_tf.recognition.releases import search_check
from sicot_tf.recognition.settings import RecognitionSettings
from tests.helpers import tiny_releases


def write_vectors(root, name, model, index):
    """A generation for a model and a product index, of one picture."""
    folder = root / name
    folder.mkdir(parents=True)
    built = vector_index.build(
        folder, [VectorRow("p", 0, None)], np.eye(4, dtype=np.float32)[:1]
    )
    manifest = {
        "format_version": vector_index.FORMAT_VERSION,
        "signature": "search",
        "saved_model_sha256": product_index.embedding_model_sha256(model),
        "product_index": {
            "generation": index.name,
            "identity": release_check.index_identity(index),
        },
        "folded_updates": 0,
        "files": generations.describe_files(folder),
    }
    files.write_json(folder / generations.MANIFEST, {**built, **manifest})
    generations.point_latest(folder)
    return folder


class SearchCheckTest(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = pathlib.Path(folder.name)
        self.releases = self.folder / "releases"

    def write(self, version):
        """Model, product index and vector index of a version."""
        pair = tiny_releases.write_pair(self.folder, version)
        vectors = write_vectors(
            self.folder / "vectors", f"vectors-{version}", *pair
        )
        return *pair, vectors

    def publish(self, model, index, vectors=None, ranker=None):
        return releases.publish(
            self.releases,
            model,
            index,
            RecognitionSettings(),
            release_check.check(model, index),
            vector_index_generation=vectors,
            ranker=ranker,
        )

    def test_goes_live_and_back_together(self):
        """Broken: after a roll-back new vectors are searched by what an old
        model says of a photo."""
        first, second = self.write(1), self.write(2)
        for parts in (first, second):
            release = self.publish(*parts)
            self.assertEqual(releases.live(self.releases), release)
        releases.roll_back(self.releases)
        live = releases.live(self.releases)
        self.assertEqual(
            (live.model_folder, live.index_generation),
            first[:2],
        )
        self.assertEqual(live.vector_index_generation, first[2])
        opened = open_release.OpenRelease(live)
        self.addCleanup(opened.close)
        self.assertEqual(opened.vector_index.generation, "vectors-1")
        [[hit]] = opened.vector_index.search(np.eye(4, dtype=np.float32)[:1], 1)
        self.assertEqual((hit.product_id, hit.similarity), ("p", 1.0))
        self.assertIsNone(opened.ranker)

    def test_same_again(self):
        """Broken: a line that runs twice swaps; or new vectors alone don't
        become live."""
        model, index, vectors = self.write(1)
        without = self.publish(model, index)
        self.assertIsNone(without.vector_index_generation)
        release = self.publish(model, index, vectors)
        self.assertNotEqual(release.name, without.name)
        self.assertEqual(self.publish(model, index, vectors), release)

    def test_mismatch(self):
        """Broken: vectors of another model or catalogue go live."""
        model, index, vectors = self.write(1)
        other_model, other_index, _ = self.write(2)
        # As the manifests of two real ones do, it differs.
        (other_index / generations.MANIFEST).write_text('{"date": "other"}')
        for pair, expected in (
            ((model, index), ""),
            ((other_model, index), "made by another model than"),
            ((model, other_index), "those of the product index index-1"),
        ):
            with self.subTest(expected):
                found = search_check.find_mismatch(vectors, *pair)
                self.assertIn(expected, found)
                self.assertEqual(bool(found), bool(expected))
                if expected:
                    with self.assertRaisesRegex(ValueError, expected):
                        self.publish(*pair, vectors)
        self.assertIsNone(releases.live_name(self.releases))

    def test_faults(self):
        """Broken: a release is in use whose vectors are cut or replaced."""
        release = self.publish(*self.write(1))
        path = release.vector_index_generation / "rows.npy"
        whole = path.read_bytes()
        path.write_bytes(whole[:-1])
        self.assertIn("missing or cut", releases.find_fault(release))
        path.write_bytes(whole)
        self.assertEqual(releases.find_fault(release), "")
        manifest = release.vector_index_generation / generations.MANIFEST
        manifest.write_text(manifest.read_text() + "\n")
        self.assertIn("has changed", releases.find_fault(release))
        manifest.unlink()
        self.assertIn("it is not there", releases.find_fault(release))

    def test_old_releases_still_open(self):
        """Broken: what was published before there was search can't be used
        any more."""
        release = self.publish(*tiny_releases.write_pair(self.folder, 1))
        path = self.releases / f"{release.name}.json"
        contents = json.loads(path.read_text())
        for name in (
            "vector_index_generation",
            "vector_index_identity",
            "ranker",
            "ranker_identity",
        ):
            self.assertIsNone(contents.pop(name))
        path.write_text(json.dumps(contents))
        self.assertEqual(releases.live(self.releases), release)
        opened = open_release.OpenRelease(release)
        self.addCleanup(opened.close)
        self.assertIsNone(opened.vector_index)

    def test_ranker_alone(self):
        """Broken: a ranker without anything to order is taken."""
        pair = tiny_releases.write_pair(self.folder, 1)
        with self.assertRaisesRegex(ValueError, "Give --vector_index too"):
            self.publish(*pair, ranker=self.folder)


if __name__ == "__main__":
    unittest.main()
