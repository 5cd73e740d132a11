"""What a product index is built from, and the name that follows from it."""

import dataclasses
import importlib.metadata
import pathlib
import sqlite3
from collections.abc import Sequence
from typing import Any

from beam_jobs.catalogue import embedding_model
from beam_jobs.records import record_files
from sicot_tf import files
from sicot_tf.catalogue import product_index
from sicot_tf.data import generations
from sicot_tf.data import publishing
from sicot_tf.stores import locations
from sicot_tf.stores import opening

# Raise it when equal input is to give another generation than before.
_FORMAT_VERSION = 3


@dataclasses.dataclass(frozen=True)
class Settings:
    """What shapes a generation, beside the files it is built from.

    Attributes:
        date: the first part of the generation's name, YYYY-MM-DD.
        mode: `full`, or `delta` on top of a base.
        base: the generation under a delta; None for `LATEST`.
        labels: a `classes.jsonl`, or a file with a SKU id a line.
        saved_model: the model that embeds all pictures.
        image_root: folder of relative picture paths; None for the folder of
            the catalogue file.
        encoding: of the text of JSON Lines and CSV.
    """

    date: str
    mode: str = "full"
    base: locations.Location | None = None
    labels: locations.Location | None = None
    saved_model: pathlib.Path | None = None
    image_root: str | None = None
    encoding: str = "utf-8"


def find_base(
    index: locations.Location, settings: Settings
) -> locations.Location | None:
    """The generation under a delta."""
    if settings.mode == "full":
        if settings.base is not None:
            raise ValueError("A base is for --mode delta only.")
        return None
    if settings.base is not None:
        named = settings.base
        if not locations.is_remote(named):
            inside = locations.join(index, str(named))
            if opening.open_folder(inside).exists(generations.MANIFEST):
                named = inside
        return publishing.resolve_generation(named)
    base = publishing.latest(index)
    if base is None:
        raise ValueError(
            f"{index} has no index for a delta to stand on. Build one with "
            "--mode full first, or name one with --base."
        )
    return base


def identify(
    catalogue: Sequence[record_files.RecordFile],
    settings: Settings,
    base: locations.Location | None,
) -> dict[str, Any]:
    """All that shapes a generation; its hash is the generation's id."""
    embeddings = None
    libraries = {name: importlib.metadata.version(name) for name in ("duckdb",)}
    libraries["sqlite"] = sqlite3.sqlite_version
    if settings.saved_model is not None:
        dim, sha256 = embedding_model.read_signature(settings.saved_model)
        embeddings = {"dim": dim, "saved_model_sha256": sha256}
        libraries["tensorflow"] = importlib.metadata.version("tensorflow")
    base_identity = None
    if base is not None:
        manifest = opening.open_folder(base).get_json(generations.MANIFEST)
        base_identity = {
            "generation": locations.name(base),
            "sha256": manifest["files"][product_index.STORE]["sha256"],
        }
        if embeddings and manifest["embeddings"] != embeddings:
            raise ValueError(
                f"{base} has no embeddings of {settings.saved_model}, so a "
                "delta can't add to them. Build with --mode full."
            )
        if manifest["store_version"] != product_index.STORE_VERSION:
            raise ValueError(
                f"{base} is of another version. Build with --mode full."
            )
    return {
        "format_version": _FORMAT_VERSION,
        "store_version": product_index.STORE_VERSION,
        "date": settings.date,
        "mode": settings.mode,
        "encoding": settings.encoding,
        "base": base_identity,
        "inputs": [
            {"name": file.name, "sha256": _sha256(file.path)}
            for file in catalogue
        ],
        "labels_sha256": settings.labels and _sha256(str(settings.labels)),
        "embeddings": embeddings,
        "library_versions": libraries,
    }


def _sha256(path: str) -> str:
    try:
        return record_files.sha256(path)
    except OSError as error:
        raise ValueError(f"{path} can't be read: {error}") from error


def name_of(identity: dict[str, Any]) -> str:
    """The name of a generation, `<date>-<id>`."""
    return f"{identity['date']}-{files.json_sha256(identity)[:12]}"


def is_same_delta(base: locations.Location, identity: dict[str, Any]) -> bool:
    """Whether `base` came of the same delta, whatever it stood on."""
    before = opening.open_folder(base).get_json(generations.MANIFEST)
    return all(
        before.get(key) == identity[key] for key in identity if key != "base"
    )
