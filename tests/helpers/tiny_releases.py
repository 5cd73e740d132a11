"""Folders that look like an exported model, and the index built for it."""

import json
import pathlib
from collections.abc import Sequence

from sicot_tf.recognition.releases import release_check
from sicot_tf.recognition.releases import releases
from sicot_tf.recognition.settings import RecognitionSettings
from tests.sicot_tf.catalogue import product_index_test


def write_model(
    version_folder: pathlib.Path, sku_ids: Sequence[str], weights: str = "w"
) -> pathlib.Path:
    """What a release reads of a SavedModel; no server could load it."""
    for name, text in {
        "saved_model.pb": "graph",
        "assets/sku_ids.txt": "".join(f"{each}\n" for each in sku_ids),
        "assets.extra/export.json": json.dumps({"weights_sha256": weights}),
        "variables/variables.index": weights,
    }.items():
        path = version_folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, "utf-8")
    return version_folder


def write_pair(
    folder: pathlib.Path, version: int
) -> tuple[pathlib.Path, pathlib.Path]:
    """Model and index of a version; the index's only title is the version."""
    return (
        write_model(folder / "sicot" / str(version), ["cola"], str(version)),
        product_index_test.write_generation(
            folder / "index", f"index-{version}", [("p", "cola", str(version))]
        ),
    )


def publish(
    folder: pathlib.Path, version: int, to: str = "releases", **settings: float
) -> releases.Release:
    """Writes a pair unless it is there, and makes it live in `folder/to`."""
    model = folder / "sicot" / str(version)
    index = folder / "index" / f"index-{version}"
    if not model.exists():
        write_pair(folder, version)
    return releases.publish(
        folder / to,
        model,
        index,
        RecognitionSettings(**settings),
        release_check.check(model, index),
    )
