"""The nearest products of a query, in the index in use."""

import pathlib
from collections.abc import Iterator
from collections.abc import Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from sicot_tf import progress
from sicot_tf.catalogue import product_index
from sicot_tf.catalogue import vector_index

# Batches are cut from the sorted queries: equal input, equal bits.
_BATCH = 32
# Pictures looked at: of many, several are of one product, or were clicked.
_NEIGHBOURS = 60

# Query picture, rank, product id, place of the product's picture.
Hit = tuple[str, int, str, int]


def find(
    folder: pathlib.Path,
    queries: Mapping[str, tuple[str, int, int]],
    index_folder: pathlib.Path,
    saved_model: pathlib.Path,
) -> Iterator[Hit]:
    """The products nearest to each query, each with its nearest picture.

    Args:
        folder: of the stored pictures.
        queries: path to name of the JPEGs, offset, length.
        index_folder: a vector index, or one of its generations.
        saved_model: the version whose signature made its vectors.

    Raises:
        ValueError: if the index is of another model.
    """
    index = vector_index.VectorIndex(index_folder)
    try:
        _check_model(index, saved_model)
        model = tf.saved_model.load(str(saved_model))
        embed = model.signatures[index.signature]
        paths = sorted(queries)
        with progress.bar(
            description="Near products", total=len(paths), unit="queries"
        ) as bar:
            for first in range(0, len(paths), _BATCH):
                batch = paths[first : first + _BATCH]
                pictures = [_read(folder, *queries[each]) for each in batch]
                vectors = _embed(embed, pictures)
                hits = index.search(vectors, _NEIGHBOURS)
                for path, found in zip(batch, hits, strict=True):
                    yield from _products(path, found)
                bar.update(len(batch))
    finally:
        index.close()


def _check_model(
    index: vector_index.VectorIndex, saved_model: pathlib.Path
) -> None:
    sha256 = product_index.embedding_model_sha256(saved_model)
    if sha256 != index.saved_model_sha256:
        raise ValueError(
            f"Expected --saved_model that made the vectors of --vector_index, "
            f"SHA-256 {index.saved_model_sha256[:12]}, received {saved_model}, "
            f"{sha256[:12]}. Name that one, or build the index again."
        )


def _read(folder: pathlib.Path, jpegs: str, offset: int, length: int) -> bytes:
    with (folder / jpegs).open("rb") as file:
        file.seek(offset)
        return file.read(length)


def _embed(embed: Any, pictures: list[bytes]) -> np.ndarray:
    """`[n, dim]` float32 of length 1."""
    vectors = embed(image_bytes=tf.constant(pictures))["embedding"].numpy()
    norms = np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors / np.maximum(norms, np.finfo(np.float32).tiny)


def _products(path: str, found: list[Any]) -> Iterator[Hit]:
    seen = set()
    for hit in found:
        if hit.product_id not in seen:
            yield path, len(seen), hit.product_id, hit.picture
            seen.add(hit.product_id)
