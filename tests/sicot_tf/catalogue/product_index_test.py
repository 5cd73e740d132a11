import concurrent.futures
import json
import pathlib
import sqlite3
import tempfile
import unittest

from sicot_tf.catalogue import product_index
from sicot_tf.data import generations
from tests.helpers import imports

# (product_id, sku_id, title), in the order of the store.
PRODUCTS = (
    ("shop/3", "cola", "新款 Cola"),
    ("shop/1", "cola", "Cola can"),
    ("shop/2", "tea", "Tea"),
)


def write_generation(
    index: pathlib.Path, name: str, products=PRODUCTS
) -> pathlib.Path:
    """A generation with these products, written by hand, and LATEST."""
    generation = index / name
    generation.mkdir(parents=True)
    store = sqlite3.connect(generation / product_index.STORE)
    store.executescript(product_index.SCHEMA)
    for row, (product_id, sku_id, title) in enumerate(products, start=1):
        store.execute(
            "INSERT INTO products VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                *(row, product_id, sku_id, title),
                json.dumps([f"{product_id}.jpg"]),
                json.dumps(["drink"]),
                None,
                json.dumps({"price": 1.5}),
                float(-row),
            ),
        )
    store.executescript(product_index.INDEXES)
    store.commit()
    store.close()
    (generation / generations.MANIFEST).write_text("{}")
    generations.point_latest(generation)
    return generation


class ProductIndexTest(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        # A name that a URI has to escape.
        self.index = pathlib.Path(folder.name, "an index? #1 100%")
        self.generation = write_generation(self.index, "2026-01-01-aa")

    def open(self, path=None):
        index = product_index.ProductIndex(path or self.index)
        self.addCleanup(index.close)
        return index

    def test_products_of_a_sku(self):
        """Broken: the panel shows other products than those of the class."""
        index = self.open()
        self.assertEqual(index.num_products, 3)
        self.assertEqual(index.generation, "2026-01-01-aa")
        self.assertEqual(
            index.products_of("cola", 1),
            [
                product_index.Product(
                    product_id="shop/3",
                    sku_id="cola",
                    title="新款 Cola",
                    images=["shop/3.jpg"],
                    tags=["drink"],
                    category=None,
                    attributes={"price": 1.5},
                    updated_at=-1.0,
                )
            ],
        )
        # In the order of the rows.
        ids = [each.product_id for each in index.products_of("cola")]
        self.assertEqual(ids, ["shop/3", "shop/1"])
        self.assertEqual(index.products_of("cola", 0), [])

    def test_unknown_ids(self):
        """Broken: a class without products, or a wild id, is an error."""
        index = self.open()
        for unknown in ("", "col", "cola ", "'; DROP TABLE products", "\ud800"):
            with self.subTest(ascii(unknown)):
                self.assertEqual(index.products_of(unknown), [])
                self.assertIsNone(index.product(unknown))
        with self.assertRaisesRegex(ValueError, "limit of 0 or more"):
            index.products_of("cola", -1)

    def test_product(self):
        """Broken: a product is not found by its own id."""
        index = self.open()
        self.assertEqual(index.product("shop/2").title, "Tea")

    def test_many_threads(self):
        """Broken: threads share a cursor and get each other's rows."""
        index = self.open()

        def look_up(number):
            product_id, sku_id, title = PRODUCTS[number % 3]
            titles = [each.title for each in index.products_of(sku_id)]
            return title in titles and index.product(product_id).title == title

        with concurrent.futures.ThreadPoolExecutor(8) as pool:
            self.assertTrue(all(pool.map(look_up, range(2000))))

    def test_stays_on_its_generation(self):
        """Broken: requests under way see two generations at once."""
        old = self.open()
        write_generation(self.index, "2026-01-02-bb", PRODUCTS[:1])
        self.assertEqual(self.open().num_products, 1)
        self.assertEqual(self.open().generation, "2026-01-02-bb")
        self.assertEqual(len(old.products_of("cola")), 2)
        self.assertEqual(self.open(self.generation).num_products, 3)

    def test_empty(self):
        """Broken: an index without products can't be opened."""
        write_generation(self.index, "2026-01-02-bb", ())
        index = self.open()
        self.assertEqual(index.num_products, 0)
        self.assertEqual(index.products_of("cola"), [])

    def test_close(self):
        """Broken: lookups after close open the file again."""
        with product_index.ProductIndex(self.index) as index:
            index.products_of("cola")
        with self.assertRaisesRegex(ValueError, "is closed"):
            index.products_of("cola")

    def test_never_writes(self):
        """Broken: a reader changes the file, or leaves others beside it."""
        before = (self.generation / product_index.STORE).read_bytes()
        self.open().products_of("cola")
        connection = product_index.connect(self.generation)
        self.addCleanup(connection.close)
        with self.assertRaisesRegex(sqlite3.OperationalError, "readonly"):
            connection.execute("DELETE FROM products")
        after = (self.generation / product_index.STORE).read_bytes()
        self.assertEqual(before, after)
        names = {path.name for path in self.generation.iterdir()}
        self.assertEqual(names, {product_index.STORE, generations.MANIFEST})

    def test_what_is_no_index(self):
        """Broken: an error that names neither the folder nor the way out."""
        with self.assertRaisesRegex(ValueError, "Build it first"):
            product_index.ProductIndex(self.index / "nowhere")
        store = sqlite3.connect(self.generation / product_index.STORE)
        store.execute("PRAGMA user_version = 99")
        store.close()
        with self.assertRaisesRegex(ValueError, "version 99, expected 1"):
            product_index.ProductIndex(self.index)
        (self.generation / product_index.STORE).unlink()
        with self.assertRaisesRegex(ValueError, "Is it a product index"):
            product_index.ProductIndex(self.index)

    def test_imports_neither_beam_nor_tensorflow(self):
        """Broken: the service starts slowly and needs the training stack."""
        found = imports.loaded(
            "from sicot_tf.catalogue import product_index",
            {"tensorflow", "apache_beam", "pyarrow", "duckdb", "numpy"},
        )
        self.assertEqual(found, set())


if __name__ == "__main__":
    unittest.main()
