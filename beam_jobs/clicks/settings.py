"""What triplets are mined from, and the name that follows from it."""

import dataclasses
import importlib.metadata
import pathlib
from collections.abc import Sequence
from typing import Any

from beam_jobs.records import record_files
from sicot_tf import files
from sicot_tf.catalogue import product_index
from sicot_tf.data import generations

# Raise it when equal input is to give other triplets than before.
_FORMAT_VERSION = 1


@dataclasses.dataclass(frozen=True)
class Settings:
    """What shapes a generation, beside the files it is mined from.

    Attributes:
        negatives: at most so many shown products against a click.
        below: so many places below a click were probably looked at.
        hard_negatives: at most so many near products against a click.
        max_pages_per_hour: a visitor with more is a robot.
        max_clicks_per_hour: also one with more clicks.
        max_weight: of a click, where one at the first place has 1.
        examination: a file with how often each place is looked at; None to
            estimate it from the log.
        val_share: of the query pictures whose rows have no split.
        vector_index: where near products are found; None for none.
        saved_model: the model of its vectors.
        image_size: the shorter side of stored pictures, at most.
        shard_triplets: of a file, at most.
        encoding: of the text of JSON Lines and CSV.
    """

    negatives: int = 2
    below: int = 1
    hard_negatives: int = 2
    max_pages_per_hour: int = 60
    max_clicks_per_hour: int = 120
    max_weight: float = 10.0
    examination: pathlib.Path | None = None
    val_share: float = 0.1
    vector_index: pathlib.Path | None = None
    saved_model: pathlib.Path | None = None
    image_size: int = 256
    shard_triplets: int = 2000
    seed: int = 0
    encoding: str = "utf-8"


def identify(
    clicks: Sequence[record_files.RecordFile],
    catalogue: Sequence[record_files.RecordFile],
    settings: Settings,
) -> dict[str, Any]:
    """All that shapes a generation; its hash is the generation's name."""
    hard = None
    if settings.vector_index is not None:
        index = generations.resolve_generation(settings.vector_index)
        hard = {
            "vector_index": index.name,
            "manifest_sha256": files.sha256(index / generations.MANIFEST),
            "saved_model_sha256": product_index.embedding_model_sha256(
                settings.saved_model
            ),
        }
    numbers = dataclasses.asdict(settings)
    for name in ("examination", "vector_index", "saved_model"):
        del numbers[name]
    return {
        "format_version": _FORMAT_VERSION,
        "settings": numbers,
        "clicks": _digests(clicks),
        "catalogue": _digests(catalogue),
        "examination_sha256": settings.examination
        and files.sha256(settings.examination),
        "hard_negatives": hard,
        "library_versions": {
            name: importlib.metadata.version(name)
            for name in ("duckdb", "numpy", "opencv-python-headless", "pillow")
        },
    }


def _digests(
    found: Sequence[record_files.RecordFile],
) -> list[dict[str, str]]:
    return [
        {"name": each.name, "sha256": record_files.sha256(each.path)}
        for each in found
    ]


def name_of(identity: dict[str, Any]) -> str:
    """The name of a generation."""
    return files.json_sha256(identity)[:12]
