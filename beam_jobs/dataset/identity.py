"""The name of a generation: a hash of all that shapes it.

Settings, record files, pictures and library versions: equal ones give equal
bytes, so what is there already is found and not built again.
"""

import importlib.metadata
from collections.abc import Sequence
from typing import Any

from beam_jobs.dataset import build_stages
from sicot_tf import config
from sicot_tf import files
from sicot_tf.data import generations
from sicot_tf.stores import folder
from sicot_tf.stores import locations

# Raise it when equal input is to give another generation than before.
_FORMAT_VERSION = 4
# The libraries whose version shapes the bytes of a generation.
_LIBRARIES = (
    "duckdb",
    "gensim",
    "numpy",
    "opencv-python-headless",
    "Pillow",
    "rjieba",
    "tensorflow",
    "tensorflow-text",
)


def identify(
    dataset_config: config.DatasetConfig,
    inputs: Sequence[dict[str, Any]],
    extras: build_stages.Extras,
) -> dict[str, Any]:
    """All that shapes a generation, but for the pictures.

    Args:
        inputs: what tells each record file from others.
    """
    return {
        "format_version": _FORMAT_VERSION,
        "config": config.to_dict(dataset_config),
        "inputs": inputs,
        **extras.identity,
        "library_versions": {
            name: importlib.metadata.version(name) for name in _LIBRARIES
        },
    }


def name(identity: dict[str, Any]) -> str:
    """A hash in which settings at their defaults have no part.

    So a new setting gives no generation another name. A default that changes
    has to raise `_FORMAT_VERSION`.
    """
    defaults = config.to_dict(config.DatasetConfig())
    settings = {
        name: value
        for name, value in identity["config"].items()
        if value != defaults[name]
    }
    return _digest({**identity, "config": settings})


def _digest(identity: dict[str, Any]) -> str:
    return files.json_sha256(identity)[:12]


# === What was asked for before ===

# In a folder of generations: `<request>` names the one that it has given.
_REQUESTS = ".requests"


def remember(output: folder.Folder, request: str, generation: str) -> None:
    """Notes what a request has given."""
    output.put(f"{_REQUESTS}/{request}", f"{generation}\n".encode())


def find_finished(output: folder.Folder, request: str) -> str | None:
    """The generation that an equal request has given before.

    Args:
        request: the `name` of an identity with `images`, a hash of the state
            of its pictures.
    """
    try:
        generation = output.get(f"{_REQUESTS}/{request}").decode().strip()
    except FileNotFoundError:
        return None
    return generation if is_built(output, generation) else None


def is_built(output: folder.Folder, generation: str) -> bool:
    """Whether there is a generation of this name.

    Raises:
        ValueError: if there is a folder of it that has lost its manifest.
    """
    if output.exists(f"{generation}/{generations.MANIFEST}"):
        return True
    place = locations.join(output.location, generation)
    # On a store it may be on its way.
    if not locations.is_remote(place) and place.exists():
        generations.check_complete(place)
    return False
