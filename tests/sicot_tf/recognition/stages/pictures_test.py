import hashlib
import json
import pathlib
import tempfile
import unittest

from sicot_tf.catalogue import product_index
from sicot_tf.recognition.stages import pictures
from tests.helpers import tiny_index


class PicturesTest(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.root = pathlib.Path(folder.name)

    def test_urls(self):
        """Breaks if a path of this machine, or a script, becomes a link."""
        root = pictures.Pictures(self.root)
        for image in (
            "https://img.example/a.jpg",
            "http://img.example/a.jpg",
        ):
            self.assertEqual(root.url("p", 0, image), image)
        for image in ("s3://b/a.jpg", "javascript://x", "file:///etc/passwd"):
            self.assertIsNone(root.url("p", 0, image))
        url = root.url("p/1", 3, "images/a.jpg")
        self.assertRegex(url, r"^/v1/pictures/[A-Za-z0-9_-]+$")
        # A script without // is a path here, so it becomes an id.
        self.assertTrue(
            root.url("p", 0, "javascript:alert(1)").startswith("/v1/")
        )
        self.assertNotEqual(url, root.url("p/1", 2, "images/a.jpg"))
        self.assertNotEqual(
            url, pictures.Pictures(self.root, b"key").url("p/1", 3, "a")
        )
        with self.assertLogs(pictures.__name__, "WARNING") as logs:
            nowhere = pictures.Pictures(None)
            for _ in range(2):
                self.assertIsNone(nowhere.url("p", 0, "images/a.jpg"))
        self.assertEqual(len(logs.output), 1)

    def test_of_two_indexes(self):
        """Breaks if a visitor of one variant sees the picture that another
        variant's index has at this place of the product."""
        (self.root / "old.jpg").write_bytes(b"\xff\xd8\xff\xe0" + bytes(20))
        (self.root / "p.jpg").write_bytes(b"\xff\xd8\xff\xe0" + bytes(20))
        generation = tiny_index.write(
            self.root / "index", "2026-aa", [("p", "sku", None)]
        )
        root = pictures.Pictures(None, b"key").within(self.root)
        with product_index.ProductIndex(generation) as index:
            found = {}
            for place, image in ((0, "p.jpg"), (0, "old.jpg"), (1, "p.jpg")):
                _, _, identity = root.url("p", place, image).rpartition("/")
                found[place, image] = root.find(identity, index)
        path = self.root.resolve() / "p.jpg"
        self.assertEqual(
            found,
            {
                (0, "p.jpg"): (path, "image/jpeg"),
                (0, "old.jpg"): None,
                (1, "p.jpg"): None,
            },
        )

    def test_given_root_counts(self):
        """Breaks if a folder beside the index is read although another one
        was named."""
        given = pictures.Pictures(self.root)
        self.assertIs(given.within(self.root / "other"), given)

    def test_find_root(self):
        """Breaks if the pictures of the demo need a flag, or those of another
        catalogue with the same file names are shown."""
        content = b'{"product_id": "p"}\n'
        (self.root / "index" / "2026-aa").mkdir(parents=True)
        for folder, text in (("other", b"{}"), ("shop", content)):
            (self.root / folder).mkdir()
            (self.root / folder / "catalogue.jsonl").write_bytes(text)
        manifest = self.root / "index" / "2026-aa" / "manifest.json"
        given = {
            "name": "catalogue.jsonl",
            "sha256": hashlib.sha256(content).hexdigest(),
        }
        manifest.write_text(json.dumps({"inputs": [given]}))
        self.assertEqual(
            pictures.find_root(manifest.parent),
            (self.root / "shop").resolve(),
        )
        (self.root / "shop" / "catalogue.jsonl").write_bytes(b"changed")
        self.assertIsNone(pictures.find_root(manifest.parent))
        manifest.write_text("{}")
        self.assertIsNone(pictures.find_root(manifest.parent))


if __name__ == "__main__":
    unittest.main()
