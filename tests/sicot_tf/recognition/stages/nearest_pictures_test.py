import concurrent.futures
import math
import pathlib
import tempfile
import unittest

import numpy as np

from sicot_tf.catalogue import product_index
from sicot_tf.recognition.stages import nearest_pictures
from tests.helpers import imports
from tests.helpers import tiny_index

PRODUCTS = (
    ("shop/1", "cola", "drink"),
    ("shop/2 with a long name 名", "tea", "drink"),
    ("shop/3", "pan", None),
)
EMBEDDINGS = (
    (0, 0, (5.0, 0.0)),
    (2, 0, (0.0, 0.1)),
    (1, 0, (0.0, 0.0)),
    (1, 1, (math.nan, 1.0)),
    (1, 2, (-2.0, 0.0)),
)


class NearestPicturesTest(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.index = pathlib.Path(folder.name)

    def open(self, embeddings=EMBEDDINGS):
        generation = tiny_index.write(self.index, "a", PRODUCTS, embeddings)
        pictures = nearest_pictures.NearestPictures(generation)
        self.addCleanup(pictures.close)
        return pictures

    def test_nearest_first(self):
        """Broken: the panel gives other pictures than the ones that look
        alike, or says of another product that it is theirs."""
        pictures = self.open()
        (found,) = pictures.search(np.float32([[300, 400]]), 5)
        # Of unit length: (0.6, 0.8) to (1, 0), (0, 1) and (-1, 0). The squared
        # distance is 2 - 2 * cosine.
        expected = [
            ("shop/3", "pan", None, 0, 2 - 2 * 0.8),
            ("shop/1", "cola", "drink", 0, 2 - 2 * 0.6),
            ("shop/2 with a long name 名", "tea", "drink", 2, 2 + 2 * 0.6),
        ]
        self.assertEqual(len(found), len(expected))
        for neighbour, (*names, distance) in zip(found, expected):
            self.assertEqual(
                [
                    *(neighbour.product_id, neighbour.sku_id),
                    *(neighbour.category, neighbour.picture),
                ],
                names,
            )
            self.assertAlmostEqual(neighbour.distance, distance, places=6)
        (nearest,) = pictures.search(np.float32([[300, 400]]), 1)
        self.assertEqual(nearest, found[:1])

    def test_useless_embeddings(self):
        """Broken: a picture without features is near to every photo, or a
        photo without features is near to every picture."""
        pictures = self.open()
        self.assertEqual(pictures.num_pictures, 3)
        self.assertEqual(pictures.num_left_out, 2)
        found = pictures.search(
            np.float32([[0, 0], [math.nan, 1], [math.inf, 1], [1, 0]]), 1
        )
        self.assertEqual(found[:3], [[], [], []])
        self.assertEqual(found[3][0].sku_id, "cola")

    def test_range_of_distances(self):
        """Broken: rounding gives distances that the API says can't be."""
        vectors = np.random.default_rng(0).normal(size=(30, 7))
        pictures = self.open([(0, i, each) for i, each in enumerate(vectors)])
        found = pictures.search(np.float32([*vectors, *-vectors]), 30)
        distances = [each.distance for row in found for each in row]
        self.assertGreaterEqual(min(distances), 0.0)
        self.assertLessEqual(max(distances), 4.0)
        self.assertAlmostEqual(max(distances), 4.0, places=5)

    def test_without_embeddings(self):
        """Broken: an index that was built without model stops the service."""
        for name, embeddings in (("without", None), ("of no picture", [])):
            with self.subTest(name):
                generation = tiny_index.write(
                    self.index, name, PRODUCTS, embeddings
                )
                if embeddings is not None:
                    np.save(
                        generation / product_index.EMBEDDINGS,
                        np.zeros((0, 2), "<f4"),
                    )
                pictures = nearest_pictures.NearestPictures(generation)
                self.assertEqual(pictures.num_pictures, 0)
                self.assertEqual(
                    pictures.search(np.ones((2, 9), "f4"), 3), [[], []]
                )

    def test_mistakes(self):
        """Broken: vectors of another model are compared, or rows of another
        array are taken for pictures of this index."""
        pictures = self.open()
        with self.assertRaisesRegex(ValueError, r"\[n, 2\], received \[1, 3\]"):
            pictures.search(np.ones((1, 3), "f4"), 1)
        with self.assertRaisesRegex(ValueError, "k of 1 or more, received 0"):
            pictures.search(np.ones((1, 2), "f4"), 0)
        np.save(
            self.index / "a" / product_index.EMBEDDINGS, np.ones((2, 2), "<f4")
        )
        with self.assertRaisesRegex(ValueError, "Expected 5 rows .*received 2"):
            nearest_pictures.NearestPictures(self.index)

    def test_close(self):
        """Broken: what is closed answers with nothing instead of an error."""
        with self.open() as pictures:
            pass
        with self.assertRaisesRegex(ValueError, "closed"):
            pictures.search(np.ones((1, 2), "f4"), 1)

    def test_many_threads(self):
        """Broken: threads get each other's neighbours."""
        pictures = self.open()

        def find(number):
            photo = np.float32([[1, 0], [0, 1], [-1, 0]])[number % 3]
            (found,) = pictures.search(photo[np.newaxis], 1)
            return found[0].sku_id == ("cola", "pan", "tea")[number % 3]

        with concurrent.futures.ThreadPoolExecutor(8) as pool:
            self.assertTrue(all(pool.map(find, range(300))))

    def test_imports_no_tensorflow(self):
        """Broken: the service's process needs the training stack."""
        code = (
            "from sicot_tf.recognition.stages import "
            "category, nearest_pictures, sku_categories"
        )
        found = imports.loaded(code, {"tensorflow", "apache_beam"})
        self.assertEqual(found, set())


if __name__ == "__main__":
    unittest.main()
