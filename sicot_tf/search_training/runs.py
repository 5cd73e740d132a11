"""The folder of a search training run.

config.json      settings, the recogniser it started from, the triplets
metrics.jsonl    the loss curve and validation recall
checkpoints/     the last few
logs/            for TensorBoard
worker_logs/     what the workers of --num_workers printed, but the first
"""

import dataclasses
import pathlib
from typing import Any

import keras
import tensorflow as tf

import sicot_tf
from sicot_tf import config
from sicot_tf import files
from sicot_tf.model.search import network
from sicot_tf.search_training import settings
from sicot_tf.training import runs

CONFIG = "config.json"


@dataclasses.dataclass(frozen=True)
class SearchRun:
    """A run as its folder describes it; `model` is the recogniser's."""

    path: pathlib.Path
    search: settings.SearchConfig
    model: config.ModelConfig
    triplets: str


def recogniser_model(
    run: runs.Run, search: settings.SearchConfig
) -> config.ModelConfig:
    """The recogniser's backbone as it is trained here."""
    model = dataclasses.replace(
        run.model, streams="visual", backbone_weights="none", neck_dim=0
    )
    if search.frozen_until:
        model = dataclasses.replace(
            model, freeze_backbone=False, frozen_until=search.frozen_until
        )
    return model


def build_network(
    model: config.ModelConfig, search: settings.SearchConfig
) -> keras.Model:
    """The network of a run, with new weights."""
    return network.build(
        model,
        embedding_dim=search.embedding_dim,
        view_kind=search.view,
        steepness=search.steepness,
        with_box=not search.without_box,
        seed=search.seed,
    )


def create(
    path: pathlib.Path,
    search: settings.SearchConfig,
    model: config.ModelConfig,
    generation: pathlib.Path,
    init_from: pathlib.Path,
    *,
    write: bool,
) -> None:
    """Makes the folder of a run, or checks that it holds this very run.

    More epochs are allowed. A run without a checkpoint is described anew.

    Raises:
        ValueError: naming the settings that differ.
    """
    values = {
        "search": config.to_dict(search),
        "model": config.to_dict(model),
        "triplets": generation.name,
        "init_from": str(init_from),
        "versions": {
            "sicot_tf": sicot_tf.__version__,
            "tensorflow": tf.__version__,
            "keras": keras.__version__,
        },
    }
    if (path / CONFIG).exists() and any(path.glob("checkpoints/step-*")):
        old = load(path)
        differences = [
            *_differences(old.search, search),
            *_differences(old.model, model),
        ]
        if old.triplets != generation.name:
            differences.append(
                f"triplets: {old.triplets!r}, now {generation.name!r}"
            )
        if differences:
            raise ValueError(
                f"{path} holds a run with other settings: "
                f"{'; '.join(differences)}. Choose another --run_dir, or "
                "delete this one."
            )
    if write:
        path.mkdir(parents=True, exist_ok=True)
        files.write_json(path / CONFIG, values)


def load(path: pathlib.Path) -> SearchRun:
    """Reads the description of a run.

    Raises:
        ValueError: if the folder holds no search run, or a damaged one.
    """
    if not (path / CONFIG).exists():
        raise ValueError(
            f"Expected the folder of a search run, found no {CONFIG} in "
            f"{path}. Train one: python -m sicot_tf.train_search --help"
        )
    match files.read_json(path / CONFIG):
        case {
            "search": dict(search),
            "model": dict(model),
            "triplets": str(triplets),
        }:
            return SearchRun(
                path=path,
                search=config.from_dict(settings.SearchConfig, search),
                model=config.from_dict(config.ModelConfig, model),
                triplets=triplets,
            )
    raise ValueError(
        f"{path / CONFIG} does not describe a search run; a run of "
        "sicot_tf.train belongs to --run_dir of sicot_tf.export. Name a run of "
        "sicot_tf.train_search."
    )


def _differences(old: Any, new: Any) -> list[str]:
    """Settings that differ, as `name: old, now new`."""
    old, new = config.to_dict(old), config.to_dict(new)
    return [
        f"{name}: {old[name]!r}, now {value!r}"
        for name, value in new.items()
        if name != "epochs" and old[name] != value
    ]
