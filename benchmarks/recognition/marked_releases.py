"""Releases whose answers show where they come from."""

import contextlib
import dataclasses
import pathlib
import shutil
import sqlite3
from collections.abc import Sequence

from sicot_tf import files
from sicot_tf.catalogue import product_index
from sicot_tf.data import generations
from sicot_tf.recognition.releases import release_check
from sicot_tf.recognition.releases import releases
from sicot_tf.recognition.settings import RecognitionSettings


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


def write(
    root: pathlib.Path,
    models: Sequence[pathlib.Path],
    index_generation: pathlib.Path,
) -> list[Marked]:
    """A marked copy of the index for each version of the model."""
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
        found.append(Marked(mark, model, generation))
    return found


def publish(folder: pathlib.Path, marked: Marked) -> None:
    """Makes a pair live, as `python -m sicot_tf.release` does."""
    releases.publish(
        folder,
        marked.model,
        marked.index_generation,
        RecognitionSettings(),
        release_check.check(marked.model, marked.index_generation),
    )
