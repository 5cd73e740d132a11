"""The folder of a training run: what it was made from and its curves.

config.json      model, training and dataset, with versions
classes.jsonl    the classes in the order of their labels
vocabulary.txt   the words in the order of their ids, from 1
metrics.jsonl    the loss curve and validation accuracies
checkpoints/     the last few
logs/            for TensorBoard
worker_logs/     what the workers of --num_workers printed, but the first
"""

import dataclasses
import functools
import json
import os
import pathlib
import shutil
from typing import Any

import keras
import numpy as np
import tensorflow as tf

import sicot_tf
from sicot_tf import config
from sicot_tf import files
from sicot_tf.data import dataset
from sicot_tf.data import generation_cache
from sicot_tf.stores import locations

# Copied, so that a run can be exported without its dataset.
_COPIES = ("classes.jsonl", "vocabulary.txt")


@dataclasses.dataclass(frozen=True)
class Run:
    """A training run as its folder describes it."""

    path: pathlib.Path
    model: config.ModelConfig
    train: config.TrainConfig
    # Path or URL, generation and sizes of the dataset.
    dataset: dict[str, Any]

    @functools.cached_property
    def classes(self) -> list[dict[str, Any]]:
        """The classes in the order of their labels."""
        return dataset.read_classes(self.path / "classes.jsonl")

    @functools.cached_property
    def train_counts(self) -> np.ndarray:
        """`[num_classes]` int64, training records of each class."""
        return np.array([each["train"] for each in self.classes])

    @functools.cached_property
    def row_names(self) -> dict[str, list[str]]:
        """`read_row_names` of the run."""
        return read_row_names(self.path)

    @property
    def dataset_location(self) -> locations.Location:
        """Where the generation lay that it was trained on."""
        return locations.location(self.dataset["path"])

    @property
    def sku_ids(self) -> list[str]:
        """What the labels stand for."""
        return self.row_names["classes"]


def read_row_names(path: pathlib.Path) -> dict[str, list[str]]:
    """SKU ids and words of a run or a dataset, in the order of their rows.

    Row 0 of the word vectors belongs to padding.
    """
    classes = dataset.iterate_classes(path / "classes.jsonl")
    words = (path / "vocabulary.txt").read_text("utf-8").splitlines()
    return {
        "classes": [each["sku_id"] for each in classes],
        "words": ["", *words],
    }


def create(
    path: pathlib.Path,
    generation: pathlib.Path,
    manifest: dict[str, Any],
    model_config: config.ModelConfig,
    train_config: config.TrainConfig,
    *,
    write: bool = True,
) -> None:
    """Makes the folder of a run, or checks that it holds this very run.

    More epochs are allowed; nothing else of the model, the training or the
    data may differ, for the checkpoints would not fit it. A run that has none
    yet, because its first start failed, is described anew.

    Args:
        write: False only checks; of several workers one writes.

    Raises:
        ValueError: naming the settings that differ.
    """
    values = {
        "model": config.to_dict(model_config),
        "train": config.to_dict(train_config),
        "dataset": {
            "path": str(generation_cache.origin(generation.resolve())),
            "generation": generation.name,
            "num_classes": manifest["num_classes"],
            "vocabulary_size": manifest["vocabulary_size"],
            "word_vector_dim": manifest["word_vector_dim"],
            "head_threshold": manifest["long_tail"]["head_threshold"],
        },
        "versions": {
            "sicot_tf": sicot_tf.__version__,
            "tensorflow": tf.__version__,
            "keras": keras.__version__,
        },
    }
    config_path = path / "config.json"
    if config_path.exists() and any(path.glob("checkpoints/step-*")):
        differences = _differences(_read_config(config_path), values)
        if differences:
            raise ValueError(
                f"{path} holds a run with other settings: "
                f"{'; '.join(differences)}. Choose another --run_dir (with "
                f"--init_from {path} it starts from these weights), or delete "
                "this one."
            )
    if not write:
        return
    path.mkdir(parents=True, exist_ok=True)
    for name in _COPIES:
        with files.replacing(path / name) as temporary:
            shutil.copyfile(generation / name, temporary)
    files.write_json(config_path, values)


def load(path: pathlib.Path) -> Run:
    """Reads the description of a run.

    Raises:
        ValueError: if the folder holds no run, or a damaged one.
    """
    if not (path / "config.json").exists():
        raise ValueError(
            f"Expected the folder of a training run, found no config.json in "
            f"{path}. Train first: python -m sicot_tf.train --help"
        )
    values = _read_config(path / "config.json")
    try:
        return Run(
            path=path,
            model=config.from_dict(config.ModelConfig, values["model"]),
            train=config.from_dict(config.TrainConfig, values["train"]),
            dataset=values["dataset"],
        )
    except ValueError as error:
        raise ValueError(f"{path / 'config.json'}: {error}") from error


def _read_config(path: pathlib.Path) -> dict[str, dict[str, Any]]:
    """What `create` wrote; another JSON file is a ValueError."""
    match files.read_json(path):
        case {
            "model": dict(),
            "train": dict(),
            "dataset": {
                "path": str(),
                "generation": str(),
                "num_classes": int(),
                "vocabulary_size": int(),
                "word_vector_dim": int(),
                "head_threshold": int(),
            },
        } as values:
            return values
    raise ValueError(
        f"{path} does not describe a training run: model, train or dataset is "
        "missing in it or broken. Copy it again, or train a new run."
    )


class Curve:
    """Rows of `metrics.jsonl`, one a line, each on disk when it is written.

    Rows behind the step a run resumes from are dropped: they are computed
    again, and come out the same.

    Args:
        path: the file.
        last_step: the step of the checkpoint the run goes on from.
    """

    def __init__(self, path: pathlib.Path, last_step: int):
        rows = [row for row in read_curve(path) if row["step"] <= last_step]
        files.write_lines(path, map(json.dumps, rows))
        self._lines = open(path, "a", encoding="utf-8")

    def write(self, row: dict[str, Any]) -> None:
        """Appends a row."""
        self._lines.write(json.dumps(row) + "\n")
        self._lines.flush()
        os.fsync(self._lines.fileno())

    def close(self) -> None:
        """Ends the file."""
        self._lines.close()


def read_curve(path: pathlib.Path) -> list[dict[str, Any]]:
    """The rows of a curve; a last line cut by a kill is left out."""
    rows = []
    if path.exists():
        for line in path.read_text("utf-8").splitlines(keepends=True):
            if not line.endswith("\n"):
                break
            try:
                rows.append(json.loads(line))
                rows[-1]["step"]
            except (ValueError, KeyError, TypeError) as error:
                raise ValueError(
                    f"{path} is damaged at {line.strip()[:80]!r}. Remove the "
                    "file: only the loss curve so far is lost."
                ) from error
    return rows


def _differences(old: dict[str, Any], new: dict[str, Any]) -> list[str]:
    """Settings of a run that differ, as `name: old, now new`.

    A run made before a setting existed has its default.
    """
    old = dict(old)
    for group, kind in (
        ("model", config.ModelConfig),
        ("train", config.TrainConfig),
    ):
        old[group] = config.to_dict(config.from_dict(kind, old[group]))
    found = []
    for group in ("model", "train", "dataset"):
        for name in sorted(old[group].keys() | new[group].keys()):
            before, now = old[group].get(name), new[group].get(name)
            # A dataset may move; its generation says whether it is the same.
            if before != now and name not in ("epochs", "path"):
                found.append(f"{name}: {before!r}, now {now!r}")
    return found
