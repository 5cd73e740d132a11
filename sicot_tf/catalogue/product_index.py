"""The product index as the service reads it: SKU ids to products.

`beam_jobs.build_product_index` writes generations of it: a folder each, with
the products in one SQLite file that never changes once it is there. Reading
needs neither Beam nor TensorFlow.
"""

import collections
import contextlib
import dataclasses
import json
import pathlib
import sqlite3
from collections.abc import Iterable
from collections.abc import Iterator
from typing import Any

from sicot_tf import files
from sicot_tf.data import generations

STORE = "products.sqlite"
EMBEDDINGS = "embeddings.npy"

# Raise it when today's readers can't read the new form.
STORE_VERSION = 1

# Rows of `products` count from 1, without gaps, by SKU id and the newest
# first, so what a lookup returns lies on neighbouring pages. Lists and
# attributes are JSON. Rows of `embeddings` count from 0, as in the array;
# `picture` is a place in the product's list of images.
SCHEMA = f"""
PRAGMA user_version = {STORE_VERSION};
CREATE TABLE products (
    row INTEGER PRIMARY KEY,
    product_id TEXT NOT NULL,
    sku_id TEXT NOT NULL,
    title TEXT NOT NULL,
    images TEXT NOT NULL,
    tags TEXT NOT NULL,
    category TEXT,
    attributes TEXT NOT NULL,
    updated_at REAL
) STRICT;
CREATE TABLE tombstones (
    product_id TEXT PRIMARY KEY,
    updated_at REAL
) STRICT, WITHOUT ROWID;
CREATE TABLE embeddings (
    row INTEGER PRIMARY KEY,
    product INTEGER NOT NULL,
    picture INTEGER NOT NULL
) STRICT;
"""
INDEXES = """
CREATE UNIQUE INDEX products_by_id ON products (product_id);
CREATE INDEX products_by_sku ON products (sku_id);
CREATE UNIQUE INDEX embeddings_by_picture ON embeddings (product, picture);
"""

# Ids of one question; SQLite takes some thousands.
_MAX_IDS = 500

# A lookup maps pages of the file instead of copying them.
_MAPPED_BYTES = 1 << 30

_SELECT = (
    "SELECT product_id, sku_id, title, images, tags, category, attributes, "
    "updated_at FROM products"
)


@dataclasses.dataclass(frozen=True)
class Product:
    """One product of the catalogue.

    Attributes:
        sku_id: the class it belongs to; several products may share it.
        images: paths or URIs as the catalogue gave them, the main one first.
        attributes: price, quality and any other field, as given.
        updated_at: seconds since 1970 (UTC); None if the catalogue gave none.
    """

    product_id: str
    sku_id: str
    title: str
    images: list[str]
    tags: list[str]
    category: str | None
    attributes: dict[str, Any]
    updated_at: float | None


class ProductIndex:
    """Lookups in one generation, by any number of threads at once.

    A newer generation is another `ProductIndex`: open it, let new requests
    take it, close this one. Lookups under way when it closes still finish.

    Args:
        path: the folder of all generations (`LATEST` is taken) or of one.

    Raises:
        ValueError: if there is no index, or one of another version.
    """

    def __init__(self, path: pathlib.Path | str):
        self._folder = generations.resolve_generation(path).resolve()
        if not (self._folder / STORE).is_file():
            raise ValueError(
                f"Expected {STORE} in {self._folder}. Is it a product index?"
            )
        # Idle connections: a lookup takes one and puts it back.
        self._idle: collections.deque[sqlite3.Connection] = collections.deque()
        self._closed = False
        with self._connection() as connection:
            (version,) = connection.execute("PRAGMA user_version").fetchone()
            if version != STORE_VERSION:
                raise ValueError(
                    f"{self._folder} is a product index of version {version}, "
                    f"expected {STORE_VERSION}. Build it again."
                )
            (count,) = connection.execute(
                "SELECT max(row) FROM products"
            ).fetchone()
        self._num_products = count or 0

    @property
    def generation(self) -> str:
        """The name of the generation, `<date>-<id>`."""
        return self._folder.name

    @property
    def num_products(self) -> int:
        """How many products there are."""
        return self._num_products

    def products_of(self, sku_id: str, limit: int = 10) -> list[Product]:
        """Products of a SKU class, the newest first; [] if there are none.

        Raises:
            ValueError: if `limit` is negative or the index is closed.
        """
        if limit < 0:
            raise ValueError(f"Expected limit of 0 or more, received {limit}.")
        return self._find(
            "WHERE sku_id = ? ORDER BY row LIMIT ?", sku_id, limit
        )

    def product(self, product_id: str) -> Product | None:
        """The product with this id, or None."""
        found = self._find("WHERE product_id = ?", product_id)
        return found[0] if found else None

    def products(self, product_ids: Iterable[str]) -> dict[str, Product]:
        """Products by id, in few questions; ids without product are left out.

        Raises:
            ValueError: if the index is closed.
        """
        ids = list(product_ids)
        found = {}
        for start in range(0, len(ids), _MAX_IDS):
            part = ids[start : start + _MAX_IDS]
            marks = ",".join("?" * len(part))
            for each in self._find(f"WHERE product_id IN ({marks})", *part):
                found[each.product_id] = each
        return found

    def titled(self, text: str, limit: int = 10) -> list[Product]:
        """Products with a text in their title; reads all titles."""
        return self._find(
            "WHERE instr(lower(title), lower(?)) ORDER BY row LIMIT ?",
            *(text, limit),
        )

    def close(self) -> None:
        """Closes the file; later lookups raise ValueError."""
        self._closed = True
        self._close_idle()

    def __enter__(self) -> "ProductIndex":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _find(self, condition: str, *values: str | int) -> list[Product]:
        try:
            with self._connection() as connection:
                rows = connection.execute(
                    f"{_SELECT} {condition}", values
                ).fetchall()
        except UnicodeEncodeError:
            return []  # No id in the index holds a lone surrogate.
        return [_to_product(row) for row in rows]

    @contextlib.contextmanager
    def _connection(self) -> Iterator[sqlite3.Connection]:
        """A connection that no other thread has meanwhile."""
        if self._closed:
            raise ValueError(f"The product index {self._folder} is closed.")
        try:
            connection = self._idle.pop()
        except IndexError:
            connection = connect(self._folder)
        try:
            yield connection
        finally:
            self._idle.append(connection)
            if self._closed:
                self._close_idle()

    def _close_idle(self) -> None:
        while True:
            try:
                self._idle.pop().close()
            except IndexError:
                return


def _to_product(row: tuple) -> Product:
    product_id, sku_id, title, images, tags, category, attributes, time = row
    return Product(
        product_id=product_id,
        sku_id=sku_id,
        title=title,
        images=json.loads(images),
        tags=json.loads(tags),
        category=category,
        attributes=json.loads(attributes),
        updated_at=time,
    )


def connect(generation: pathlib.Path) -> sqlite3.Connection:
    """Opens the store of a generation for reading, without any lock.

    The connection may pass from thread to thread, but serves one at a time.
    """
    uri = (generation / STORE).resolve().as_uri()
    connection = sqlite3.connect(
        f"{uri}?mode=ro&immutable=1", uri=True, check_same_thread=False
    )
    connection.execute(f"PRAGMA mmap_size = {_MAPPED_BYTES}")
    return connection


def embedding_model_sha256(saved_model: pathlib.Path) -> str:
    """SHA-256 of graph and weights, as a manifest names the model it embeds by.

    Embeddings of two models can't be compared.
    """
    paths = (
        saved_model / "saved_model.pb",
        *sorted(saved_model.glob("variables/*")),
    )
    return files.text_sha256(
        "".join(f"{path.name} {files.sha256(path)}\n" for path in paths)
    )
