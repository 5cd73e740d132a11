"""A product index with pictures, and a model that embeds them, for tests."""

import json
import pathlib
import sqlite3
from collections.abc import Mapping
from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from sicot_tf.catalogue import product_index
from sicot_tf.data import generations

DIM = 12


class _Model(tf.Module):
    """Four corners' colours, unit or not: no weights, the same everywhere."""

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string)])
    def embedding(self, image_bytes):
        return {"embedding": tf.map_fn(_colours, image_bytes, tf.float32)}

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string)])
    def search(self, image_bytes):
        colours = tf.map_fn(_colours, image_bytes, tf.float32)
        boxes = tf.tile([[0.0, 0.0, 1.0, 1.0]], [tf.size(image_bytes), 1])
        # Another space than that of `embedding`.
        unit = tf.math.l2_normalize(tf.reverse(colours, [1]), axis=1)
        return {"embedding": unit, "box": boxes}


def _colours(data):
    image = tf.io.decode_image(data, 3, expand_animations=False)
    small = tf.image.resize(tf.cast(image, tf.float32), (2, 2))
    return tf.ensure_shape(tf.reshape(small - 100.0, [-1]), [DIM])


def write_model(
    version_folder: pathlib.Path, *, search: bool = True, salt: str = ""
) -> pathlib.Path:
    """A SavedModel with `embedding`, and `search` if wanted.

    Args:
        salt: another one is another model, which answers the same.
    """
    model = _Model()
    model.salt = tf.Variable(salt)
    signatures = {"embedding": model.embedding}
    if search:
        signatures["search"] = model.search
    tf.saved_model.save(model, str(version_folder), signatures)
    return version_folder


def colours(picture: bytes) -> np.ndarray:
    """`[DIM]` float32: what `embedding` says of a picture."""
    return _colours(tf.constant(picture)).numpy()


def searched(picture: bytes) -> np.ndarray:
    """`[DIM]` float32: what `search` says of a picture."""
    vector = colours(picture)[::-1].astype(np.float64)
    return (vector / np.linalg.norm(vector)).astype(np.float32)


def picture(seed: int) -> bytes:
    """A picture; another for each seed."""
    corners = np.random.default_rng(seed).integers(0, 256, (2, 2, 3))
    image = corners.astype(np.uint8).repeat(8, 0).repeat(8, 1)
    return tf.io.encode_png(image).numpy()


def write_index(
    index: pathlib.Path,
    name: str,
    products: Mapping[str, tuple[str | None, Sequence[str]]],
    *,
    updated_at: Mapping[str, float] | None = None,
    tombstones: Mapping[str, float] | None = None,
    vectors: Mapping[str, Sequence[float]] | None = None,
    sha256: str = "stored model",
) -> pathlib.Path:
    """A generation of a product index, and LATEST that names it.

    Args:
        products: category and images, by product_id.
        vectors: stored embeddings by image; None: the index has none.
        sha256: of the model that they are by.
    """
    generation = index / name
    generation.mkdir(parents=True)
    store = sqlite3.connect(generation / product_index.STORE)
    store.execute("PRAGMA synchronous = OFF")
    store.executescript(product_index.SCHEMA)
    rows = []
    for row, (product_id, (category, images)) in enumerate(products.items(), 1):
        store.execute(
            "INSERT INTO products VALUES (?, ?, ?, ?, ?, '[]', ?, '{}', ?)",
            (
                *(row, product_id, f"sku of {product_id}"),
                *(f"title of {product_id}", json.dumps(list(images))),
                *(category, (updated_at or {}).get(product_id)),
            ),
        )
        for place, image in enumerate(images):
            if vectors is not None and image in vectors:
                rows.append((row, place, vectors[image]))
    store.executemany(
        "INSERT INTO tombstones VALUES (?, ?)", (tombstones or {}).items()
    )
    manifest = {"name": name, "embeddings": None}
    if vectors is not None:
        manifest["embeddings"] = {"dim": DIM, "saved_model_sha256": sha256}
        store.executemany(
            "INSERT INTO embeddings VALUES (?, ?, ?)",
            [(n, row, place) for n, (row, place, _) in enumerate(rows)],
        )
        array = np.array([vector for *_, vector in rows], "<f4")
        np.save(
            generation / product_index.EMBEDDINGS, array.reshape(len(rows), DIM)
        )
    store.executescript(product_index.INDEXES)
    store.commit()
    store.close()
    (generation / generations.MANIFEST).write_text(json.dumps(manifest))
    generations.point_latest(generation)
    return generation
