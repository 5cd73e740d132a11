"""Releases whose answers show where they come from."""

import contextlib
import dataclasses
import pathlib
import shutil
import sqlite3
from collections.abc import Sequence

import numpy as np

from sicot_tf import files
from sicot_tf.catalogue import product_index
from sicot_tf.data import generations
from sicot_tf.recognition.releases import release_check
from sicot_tf.recognition.releases import releases
from sicot_tf.recognition.settings import RecognitionSettings
from tests.helpers import tiny_vector_index


@dataclasses.dataclass(frozen=True)
class Marked:
    """A pair that goes live together.

    Attributes:
        mark: start of every title.
        model: SavedModel, `<base>/<version>`.
    """

    mark: str
    model: pathlib.Path
    index_generation: pathlib.Path
    vector_index_generation: pathlib.Path


# (product_id, picture, category, vector) of each.
Pictures = Sequence[tuple[str, int, str | None, Sequence[float]]]


def pictures_of(index_generation: pathlib.Path) -> Pictures:
    """The pictures that an index has embeddings of."""
    embeddings = np.load(index_generation / product_index.EMBEDDINGS)
    with contextlib.closing(product_index.connect(index_generation)) as store:
        places = store.execute(
            "SELECT product_id, picture, category FROM embeddings JOIN "
            "products ON product = products.row ORDER BY embeddings.row"
        ).fetchall()
    return [(*place, row) for place, row in zip(places, embeddings)]


def write(
    root: pathlib.Path,
    models: Sequence[pathlib.Path],
    index_generation: pathlib.Path,
    pictures: Pictures,
) -> list[Marked]:
    """Marked copies of the index for each version of the model.

    Args:
        pictures: of the vector index.
    """
    found = []
    for number, model in enumerate(models, 1):
        mark = f"[release {number}] "
        generation = root / "marked" / f"2026-01-0{number}-mark{number}"
        shutil.copytree(index_generation, generation)
        with (
            contextlib.closing(
                sqlite3.connect(generation / product_index.STORE)
            ) as store,
            store,
        ):
            store.execute("UPDATE products SET title = ? || title", (mark,))
        # The manifest tells the size of each file.
        path = generation / generations.MANIFEST
        manifest = files.read_json(path)
        described = generations.describe_files(generation)
        changed = {product_index.STORE: described[product_index.STORE]}
        manifest["files"] = manifest.get("files", {}) | changed
        files.write_json(path, manifest)
        vectors = tiny_vector_index.write(
            root / "marked_vectors",
            f"2026-02-0{number}-mark{number}",
            pictures,
            saved_model_sha256=product_index.embedding_model_sha256(model),
            product_index_identity=release_check.index_identity(generation),
        )
        found.append(Marked(mark, model, generation, vectors))
    return found


def publish(folder: pathlib.Path, marked: Marked) -> None:
    """Makes a pair live, as `python -m sicot_tf.release` does."""
    releases.publish(
        folder,
        marked.model,
        marked.index_generation,
        RecognitionSettings(),
        release_check.check(marked.model, marked.index_generation),
        vector_index_generation=marked.vector_index_generation,
    )
