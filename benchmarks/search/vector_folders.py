"""Generations of a vector index without a product index behind them."""

import pathlib
from typing import Any

from sicot_tf import files
from sicot_tf.catalogue import vector_index
from sicot_tf.data import generations

MODEL = "0" * 64


def publish(
    finished: pathlib.Path, name: str, written: dict[str, Any], folded: int
) -> pathlib.Path:
    """Adds a manifest, renames the folder to its name, points LATEST to it.

    Args:
        finished: a folder beside the generations.
        written: what `vector_index.build` returned.
        folded: the number of the last update that is in it.
    """
    manifest = written | {
        "format_version": vector_index.FORMAT_VERSION,
        "signature": "search",
        "saved_model_sha256": MODEL,
        "folded_updates": folded,
        "files": generations.describe_files(finished),
    }
    files.write_json(finished / generations.MANIFEST, manifest)
    generation = finished.with_name(name)
    generations.publish(finished, generation)
    generations.point_latest(generation)
    return generation
