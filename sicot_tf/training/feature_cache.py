"""What frozen layers make of the pictures, computed once for many runs.

<parent of the run>/frozen_features/<digest>/train.npy and val.npy. The digest
is of the layers' weights, the records and the views: a run finds exactly what
it would compute.
"""

import dataclasses
import fcntl
import hashlib
import pathlib
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from sicot_tf import files
from sicot_tf import progress
from sicot_tf.data import dataset
from sicot_tf.training.batches import Batches
from sicot_tf.workers.collectives import Collectives

_BATCH_SIZE = 64


def with_features(
    batches: Batches,
    frozen_layers: keras.Model,
    run_dir: pathlib.Path,
    collectives: Collectives,
) -> Batches:
    """The same batches, with features in place of images.

    Args:
        frozen_layers: with the weights that the run starts from.
        run_dir: its parent keeps the features.

    Raises:
        ValueError: with `--order files`, where no worker has all records.
    """
    if batches.train_config.order == "files":
        raise ValueError(
            "--cached_views wants all records in one place: train with "
            "--order exact."
        )
    folder = (
        run_dir.parent / "frozen_features" / _digest(batches, frozen_layers)
    )
    # The chief computes, the others wait; all then read the same files.
    collectives.call_on_all(
        lambda: (
            collectives.is_chief and _compute(batches, frozen_layers, folder)
        )
    )
    train, val = (
        np.load(folder / f"{split}.npy", mmap_mode="r")
        for split in ("train", "val")
    )
    return dataclasses.replace(batches, train_features=train, val_features=val)


def _digest(batches: Batches, frozen_layers: keras.Model) -> str:
    """Of all that the features depend on."""
    train, model = batches.train_config, batches.model_config
    weights = [
        hashlib.sha256(each.numpy().tobytes()).hexdigest()
        for each in frozen_layers.variables
    ]
    return files.json_sha256(
        {
            "generation": batches.generation.name,
            "image_size": model.image_size,
            "augmentation": train.augmentation,
            "min_crop_area": train.min_crop_area,
            "views": train.cached_views,
            "dtype_policy": model.dtype_policy,
            "layers": [each.name for each in frozen_layers.layers],
            "weights": weights,
        }
    )[:16]


def _compute(
    batches: Batches, frozen_layers: keras.Model, folder: pathlib.Path
) -> None:
    """Writes both files, unless they are there."""
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / "lock", "w", encoding="utf-8") as lock:
        # Runs that start together compute the features once.
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / "val.npy").exists():
            image_size = batches.model_config.image_size
            train = batches.train_config
            views = [
                dataset.make_views_dataset(
                    batches.files,
                    view=view,
                    image_size=image_size,
                    batch_size=_BATCH_SIZE,
                    augmentation=train.augmentation,
                    min_crop_area=train.min_crop_area,
                )
                for view in range(train.cached_views)
            ]
            _write(folder / "train.npy", frozen_layers, batches.files, views)
            center = dataset.make_evaluation_dataset(
                batches.val_files, image_size=image_size, batch_size=_BATCH_SIZE
            ).map(
                tf.autograph.experimental.do_not_convert(
                    lambda batch: batch["image"]
                )
            )
            _write(
                folder / "val.npy", frozen_layers, batches.val_files, [center]
            )


def _write(
    path: pathlib.Path,
    frozen_layers: keras.Model,
    record_files: dataset.RecordFiles,
    views: list[tf.data.Dataset],
) -> None:
    """`[len(record_files), len(views), ...]` float32."""

    @tf.function(autograph=False, reduce_retracing=True)
    def pass_through(images: tf.Tensor) -> tf.Tensor:
        return tf.cast(frozen_layers(images, training=False), tf.float32)

    shape = frozen_layers.output.shape[1:]
    with files.replacing(path) as temporary:
        features: Any = np.lib.format.open_memmap(
            temporary,
            mode="w+",
            dtype=np.float32,
            shape=(len(record_files), len(views), *shape),
        )
        total = len(views) * -(-len(record_files) // _BATCH_SIZE)
        with progress.bar(
            None, f"frozen features of {path.stem}", "batches", total=total
        ) as bar:
            for number, images in enumerate(views):
                first = 0
                for batch in images:
                    last = first + len(batch)
                    features[first:last, number] = pass_through(batch).numpy()
                    first = last
                    bar.update()
        features.flush()
