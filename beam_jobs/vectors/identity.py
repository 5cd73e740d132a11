"""What a vector index is built from, and the name that follows from it."""

import dataclasses
import pathlib
from typing import Any

import numpy as np

from beam_jobs.catalogue import embedding_model
from sicot_tf import files
from sicot_tf.catalogue import product_index
from sicot_tf.catalogue import vector_index
from sicot_tf.data import generations
from sicot_tf.recognition.releases import release_check

SEARCH = "search"


@dataclasses.dataclass(frozen=True)
class Settings:
    """What shapes a generation.

    Attributes:
        product_index: a generation of it.
        date: the first part of the generation's name, YYYY-MM-DD.
        saved_model: the model that embeds all pictures; None: the vectors are
            those that the product index has.
        delta: on top of the generation that `LATEST` names.
        image_root: folder of relative picture paths; None: it is looked for.
        recall: share of the 60 most similar that a search has to find.
        seed: of the training of the indexes.
    """

    product_index: pathlib.Path
    date: str
    saved_model: pathlib.Path | None = None
    delta: bool = False
    image_root: pathlib.Path | None = None
    recall: float = 0.99
    seed: int = 0


def identify(
    settings: Settings, base: pathlib.Path | None, folded_updates: int
) -> dict[str, Any]:
    """All that shapes a generation; its hash is the generation's id.

    Args:
        base: the generation under a delta.
        folded_updates: number of the last live change that goes in.

    Raises:
        ValueError: if model, product index and base do not fit together.
    """
    signature, dim, sha256 = _vectors_of(settings)
    found = {
        "format_version": vector_index.FORMAT_VERSION,
        "date": settings.date,
        "mode": "delta" if settings.delta else "full",
        "base": None,
        "dim": dim,
        "signature": signature,
        "saved_model_sha256": sha256,
        "product_index": {
            "generation": settings.product_index.name,
            "identity": release_check.index_identity(settings.product_index),
        },
        "folded_updates": folded_updates,
        "recall": settings.recall,
        "seed": settings.seed,
    }
    if base is not None:
        manifest = files.read_json(base / generations.MANIFEST)
        same = ("format_version", "dim", "signature", "saved_model_sha256")
        if any(manifest[key] != found[key] for key in same):
            raise ValueError(
                f"The vectors of {base} are by another model (signature "
                f"{manifest['signature']}, {manifest['saved_model_sha256'][:8]}"
                f") than these ({signature}, {sha256[:8]}), so a delta can't "
                "add to them. Build all of them: leave --delta out."
            )
        found["base"] = {
            "generation": base.name,
            "sha256": files.sha256(base / generations.MANIFEST),
        }
    return found


def name_of(identity: dict[str, Any]) -> str:
    """The name of a generation, `<date>-<id>`."""
    return f"{identity['date']}-{files.json_sha256(identity)[:12]}"


def is_up_to_date(base: pathlib.Path, identity: dict[str, Any]) -> bool:
    """Whether a delta on top of `base` would change nothing."""
    manifest = files.read_json(base / generations.MANIFEST)
    same = ("product_index", "folded_updates", "signature")
    return all(manifest[key] == identity[key] for key in same)


def _vectors_of(settings: Settings) -> tuple[str, int, str]:
    """Signature, size and SHA-256 of the model that the vectors are by."""
    if settings.saved_model is not None:
        names = embedding_model.signature_names(settings.saved_model)
        signature = SEARCH if SEARCH in names else embedding_model.EMBEDDING
        dim, sha256 = embedding_model.read_signature(
            settings.saved_model, signature
        )
        return signature, dim, sha256
    folder = settings.product_index
    manifest = files.read_json(folder / generations.MANIFEST)
    if not manifest.get("embeddings"):
        raise ValueError(
            f"{folder} has no embeddings of its pictures. Give --saved_model, "
            "or build it with beam_jobs.build_product_index --saved_model."
        )
    embeddings = np.load(folder / product_index.EMBEDDINGS, mmap_mode="r")
    sha256 = manifest["embeddings"]["saved_model_sha256"]
    return embedding_model.EMBEDDING, embeddings.shape[1], sha256


def takes_stored(settings: Settings, identity: dict[str, Any]) -> bool:
    """Whether the product index has these vectors already."""
    if identity["signature"] != embedding_model.EMBEDDING:
        return False
    manifest = files.read_json(settings.product_index / generations.MANIFEST)
    stored = manifest.get("embeddings") or {}
    return stored.get("saved_model_sha256") == identity["saved_model_sha256"]
