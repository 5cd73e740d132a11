"""A vector index of a handful of pictures."""

import json
import pathlib
from collections.abc import Sequence

import numpy as np

from sicot_tf.catalogue import vector_index
from sicot_tf.catalogue import vectors
from sicot_tf.data import generations

MODEL_SHA256 = "ab" * 32


def write(
    folder: pathlib.Path,
    name: str,
    pictures: Sequence[tuple[str, int, str | None, Sequence[float]]],
    *,
    signature: str = "embedding",
    saved_model_sha256: str = MODEL_SHA256,
    product_index_identity: str = "",
) -> pathlib.Path:
    """A generation, and LATEST that names it.

    Args:
        pictures: (product_id, picture, category, vector of any length).
    """
    generation = folder / name
    generation.mkdir(parents=True)
    rows = np.array([vector for *_, vector in pictures], np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    found = vector_index.build(
        generation, [vectors.VectorRow(*row) for *row, _ in pictures], rows
    )
    manifest = {
        "format_version": vector_index.FORMAT_VERSION,
        "signature": signature,
        "saved_model_sha256": saved_model_sha256,
        "product_index": {"identity": product_index_identity},
        "folded_updates": 0,
        **found,
    }
    (generation / generations.MANIFEST).write_text(json.dumps(manifest))
    generations.point_latest(generation)
    return generation
