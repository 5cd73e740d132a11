"""The records of a job, and which of them a step takes."""

import dataclasses
import functools
import pathlib

import numpy as np
import tensorflow as tf

from sicot_tf import config
from sicot_tf.data import annotations
from sicot_tf.data import dataset
from sicot_tf.data import generation_cache
from sicot_tf.data.record_sampling import RecordSampling
from sicot_tf.data.schedule import Schedule
from sicot_tf.workers import cluster


@dataclasses.dataclass(frozen=True)
class Batches:
    """What this worker reads.

    num_classes: of the generation. train_counts: `[num_classes]` training
    records of each class. is_head: `[num_classes]` float32, 1 for head.
    train_features, val_features: taken for the images, see `feature_cache`.
    """

    generation: pathlib.Path
    files: dataset.RecordFiles
    val_files: dataset.RecordFiles
    schedule: Schedule
    num_classes: int
    train_counts: np.ndarray
    is_head: np.ndarray
    model_config: config.ModelConfig
    train_config: config.TrainConfig
    train_features: np.ndarray | None = None
    val_features: np.ndarray | None = None

    @staticmethod
    def wanted(train_config: config.TrainConfig) -> generation_cache.Wanted:
        """The files that this worker reads."""
        return dataset.wanted(train=_train_share(train_config), val=(1, 0))

    @classmethod
    def open(
        cls,
        generation: pathlib.Path,
        model_config: config.ModelConfig,
        train_config: config.TrainConfig,
    ) -> "Batches":
        """Opens the files that this worker reads."""
        files = dataset.RecordFiles(
            generation, "train", *_train_share(train_config)
        )
        train_counts, is_head = np.array(
            [
                (each["train"], each["head"])
                for each in dataset.iterate_classes(
                    generation / "classes.jsonl"
                )
            ]
        ).T
        return cls(
            generation=generation,
            files=files,
            val_files=dataset.RecordFiles(generation, "val"),
            schedule=Schedule(
                files.record_counts,
                train_config.global_batch_size,
                cluster.num_workers(),
            ),
            num_classes=len(train_counts),
            train_counts=train_counts,
            is_head=is_head.astype(np.float32),
            model_config=model_config,
            train_config=train_config,
        )

    @property
    def last_step(self) -> int:
        """The step that ends the last epoch."""
        return self.train_config.epochs * self.schedule.steps_per_epoch

    def training(self, first_step: int) -> tf.data.Dataset:
        """This worker's batches from a step to the end of the last epoch."""
        return dataset.make_training_dataset(
            self.files,
            first_step=first_step,
            last_step=self.last_step,
            global_batch_size=self.train_config.global_batch_size,
            seed=self.train_config.seed,
            image_size=self.model_config.image_size,
            max_words=self.model_config.max_words,
            augmentation=self.train_config.augmentation,
            min_crop_area=self.train_config.min_crop_area,
            shuffle_titles=self.train_config.shuffle_titles,
            features=self.train_features,
            word_dropout=self.train_config.word_dropout,
            mixup=self.train_config.mixup,
            sampling=self._sampling(),
            **_share(),
        )

    @functools.cached_property
    def annotations(self) -> annotations.Annotations:
        """Labels of this worker's records, and the titles they train with."""
        found = annotations.read(self.files)
        if self.train_config.shuffle_titles:
            found = annotations.shuffled(found, self.train_config.seed)
        return found

    def _sampling(self) -> RecordSampling | None:
        """What draws records by their class; None: each comes once."""
        sampling = self.train_config.record_sampling
        if sampling == "records":
            return None
        return RecordSampling.of_labels(
            self.annotations.labels,
            sampling,
            seed=self.train_config.seed,
            from_epoch=self.train_config.sampling_from_epoch,
        )

    def validation(self) -> tf.data.Dataset:
        """This worker's share of the validation records."""
        return dataset.make_evaluation_dataset(
            self.val_files,
            image_size=self.model_config.image_size,
            batch_size=self.train_config.global_batch_size,
            max_records=self.train_config.val_records,
            features=self.val_features,
            **_share(),
        )


def _train_share(train_config: config.TrainConfig) -> tuple[int, int]:
    if train_config.order == "files":
        return cluster.num_workers(), cluster.worker_index()
    return 1, 0


def _share() -> dict[str, int]:
    """Which share of what all workers read is this worker's."""
    return {
        "num_workers": cluster.num_workers(),
        "worker_index": cluster.worker_index(),
    }
