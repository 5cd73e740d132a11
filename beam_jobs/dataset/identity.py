"""The name of a generation: a hash of all that shapes it.

Settings, record files, pictures and library versions: equal ones give equal
bytes, so what is there already is found and not built again.
"""

import importlib.metadata
import pathlib
from typing import Any

from beam_jobs.dataset import build_stages
from beam_jobs.records import record_files
from sicot_tf import config
from sicot_tf import files
from sicot_tf.data import dataset
from sicot_tf.data import generations

# Raise it when equal input is to give another generation than before.
_FORMAT_VERSION = 3
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
    survey: record_files.Survey,
    extras: build_stages.Extras,
) -> dict[str, Any]:
    """All that shapes a generation, but for the pictures."""
    return {
        "format_version": _FORMAT_VERSION,
        "config": config.to_dict(dataset_config),
        "inputs": survey.inputs,
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


def _former_name(
    identity: dict[str, Any], generation: pathlib.Path
) -> str | None:
    """What the version of a generation would have named an identity.

    Earlier ones hashed all the settings they knew, which the manifest lists.
    None if the identity has a setting that they had not, or the manifest can't
    be read: another generation's damage is no reason to stop.
    """
    try:
        known = dataset.read_manifest(generation)["config"]
    except (OSError, ValueError, KeyError):
        return None
    defaults = config.to_dict(config.DatasetConfig())
    settings = identity["config"]
    if any(
        settings[name] != defaults[name] for name in settings.keys() - known
    ):
        return None
    shared = {name: settings[name] for name in settings.keys() & known}
    return _digest({**identity, "config": shared})


def _digest(identity: dict[str, Any]) -> str:
    return files.json_sha256(identity)[:12]


def find_finished(
    output: pathlib.Path, asked: dict[str, Any]
) -> pathlib.Path | None:
    """The generation that an equal request has made before.

    Args:
        asked: the identity of a generation with `images`, a hash of its
            pictures.
    """
    asked_name = name(asked)
    for path in sorted(output.glob(f"*/{generations.RUN}")):
        request = files.read_json(path).get("request")
        if request == asked_name or request == _former_name(asked, path.parent):
            generations.check_complete(path.parent)
            return path.parent
    return None
