"""A product index of a handful of products, written by hand."""

import json
import pathlib
import sqlite3
from collections.abc import Sequence

import numpy as np

from sicot_tf.catalogue import product_index
from sicot_tf.data import generations


def write(
    index: pathlib.Path,
    name: str,
    products: Sequence[tuple[str, str, str | None]],
    embeddings: Sequence[tuple[int, int, Sequence[float]]] | None = None,
) -> pathlib.Path:
    """A generation, and LATEST that names it.

    Args:
        products: (product_id, sku_id, category), in the order of the store.
        embeddings: (place in `products`, picture, vector); None: the index has
            no embeddings.
    """
    generation = index / name
    generation.mkdir(parents=True)
    store = sqlite3.connect(generation / product_index.STORE)
    store.executescript(product_index.SCHEMA)
    store.executemany(
        "INSERT INTO products VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
        [
            (
                *(row, product_id, sku_id, f"title of {product_id}"),
                *(json.dumps([f"{product_id}.jpg"]), "[]", category, "{}"),
                None,
            )
            for row, (product_id, sku_id, category) in enumerate(products, 1)
        ],
    )
    if embeddings is not None:
        store.executemany(
            "INSERT INTO embeddings VALUES (?, ?, ?)",
            [
                (row, place + 1, picture)
                for row, (place, picture, _) in enumerate(embeddings)
            ],
        )
        np.save(
            generation / product_index.EMBEDDINGS,
            np.array([vector for *_, vector in embeddings], "<f4"),
        )
    store.executescript(product_index.INDEXES)
    store.commit()
    store.close()
    (generation / generations.MANIFEST).write_text("{}")
    generations.point_latest(generation)
    return generation
