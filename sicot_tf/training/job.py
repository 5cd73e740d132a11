"""What a worker of a training job is made of: data, model, checkpoints.

Everything is built here, from the settings; `sicot_tf.train` runs it.
"""

import dataclasses
import os
import pathlib
from collections.abc import Callable

import keras
import numpy as np
import tensorflow as tf

from sicot_tf import config
from sicot_tf.checkpoints import checkpoints
from sicot_tf.data import dataset
from sicot_tf.data.schedule import Schedule
from sicot_tf.evaluation import prediction
from sicot_tf.model import sicot
from sicot_tf.model.classifier import costs
from sicot_tf.model.classifier.classifier_trainer import ClassifierTrainer
from sicot_tf.training import restoring
from sicot_tf.training import runs
from sicot_tf.training.losses import Losses
from sicot_tf.training.losses import make_losses
from sicot_tf.training.optimizers import StreamsOptimizer
from sicot_tf.training.optimizers import make_row_optimizer
from sicot_tf.training.step import TrainingStep
from sicot_tf.workers import cluster
from sicot_tf.workers.collectives import Collectives


@dataclasses.dataclass(frozen=True)
class Data:
    """The records of a job, and which of them a step takes.

    num_classes: of the generation. train_counts: `[num_classes]` training
    records of each class. is_head: `[num_classes]` float32, 1 for head.
    """

    generation: pathlib.Path
    files: dataset.RecordFiles
    val_files: dataset.RecordFiles
    schedule: Schedule
    num_classes: int
    train_counts: np.ndarray
    is_head: np.ndarray

    @classmethod
    def open(
        cls, generation: pathlib.Path, train_config: config.TrainConfig
    ) -> "Data":
        """Opens the files that this worker reads."""
        num_workers = cluster.num_workers()
        own_files = {}
        if train_config.order == "files":
            own_files = {
                "num_workers": num_workers,
                "worker_index": cluster.worker_index(),
            }
        files = dataset.RecordFiles(generation, "train", **own_files)
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
                num_workers,
            ),
            num_classes=len(train_counts),
            train_counts=train_counts,
            is_head=is_head.astype(np.float32),
        )

    def training_batches(
        self,
        first_step: int,
        model_config: config.ModelConfig,
        train_config: config.TrainConfig,
        collectives: Collectives,
    ) -> tf.data.Dataset:
        """This worker's batches from a step to the end of the last epoch."""
        return dataset.make_training_dataset(
            self.files,
            first_step=first_step,
            last_step=train_config.epochs * self.schedule.steps_per_epoch,
            global_batch_size=train_config.global_batch_size,
            seed=train_config.seed,
            image_size=model_config.image_size,
            max_words=model_config.max_words,
            augmentation=train_config.augmentation,
            min_crop_area=train_config.min_crop_area,
            shuffle_titles=train_config.shuffle_titles,
            num_workers=collectives.num_workers,
            worker_index=collectives.worker_index,
        )

    def validation_batches(
        self,
        model_config: config.ModelConfig,
        train_config: config.TrainConfig,
        collectives: Collectives,
    ) -> tf.data.Dataset:
        """This worker's share of the validation records."""
        return dataset.make_evaluation_dataset(
            self.val_files,
            image_size=model_config.image_size,
            batch_size=train_config.global_batch_size,
            max_records=train_config.val_records,
            num_workers=collectives.num_workers,
            worker_index=collectives.worker_index,
        )


@dataclasses.dataclass(frozen=True)
class Job:
    """Model, step, validation and checkpoints of one worker.

    classifier: "sharded" or "replicated". restore_from: starts from another
    run; for each kind of rows, how many came from it and how many are new.
    """

    classifier: str
    collectives: Collectives
    step: Callable[..., dict[str, tf.Tensor]]
    count_right: Callable[[dict[str, tf.Tensor]], tf.Tensor]
    checkpoints: checkpoints.Checkpoints
    restore_from: Callable[[pathlib.Path], dict[str, tuple[int, int]]]


def build(
    data: Data,
    run_dir: pathlib.Path,
    strategy: tf.distribute.Strategy,
    collectives: Collectives,
    model_config: config.ModelConfig,
    train_config: config.TrainConfig,
    workers_config: config.WorkersConfig,
) -> Job:
    """Builds the model with its initial weights, and what trains it.

    All variables are made outside the scope of the strategy; see
    `training.step`.
    """
    # === Model ===
    streams = _build_streams(data, model_config, train_config)
    losses = make_losses(train_config, data.train_counts)
    trainer, layout = _build_classifier(
        data,
        streams.output["x_v"].shape[-1],
        losses,
        collectives,
        model_config,
        train_config,
        workers_config,
    )

    # === Training ===
    optimizer = StreamsOptimizer(
        streams, train_config, data.schedule.steps_per_epoch
    )
    is_head = tf.constant(data.is_head)
    step = TrainingStep(
        streams,
        trainer,
        optimizer,
        losses,
        is_head,
        clip_norm=train_config.clip_norm,
        collectives=collectives,
    )

    # === Checkpoints ===
    variables, slices = restoring.checkpoint_contents(
        streams, trainer, optimizer.keras_optimizer
    )
    row_names = runs.read_row_names(data.generation)

    def restore_from(other_run: pathlib.Path) -> dict[str, tuple[int, int]]:
        # Says so if there is no run.
        runs.load(other_run)
        return checkpoints.restore_grown(
            other_run / "checkpoints",
            variables,
            slices,
            old_row_names=runs.read_row_names(other_run),
            new_row_names=row_names,
            collectives=collectives,
        )

    return Job(
        classifier=layout,
        collectives=collectives,
        step=step.compiled(strategy),
        count_right=prediction.make_count_right(
            sicot.visual_stream(streams), trainer.layer, is_head
        ),
        checkpoints=checkpoints.Checkpoints(
            run_dir / "checkpoints",
            variables,
            slices=slices,
            row_names=row_names,
            keep=train_config.keep_checkpoints,
            collectives=collectives,
        ),
        restore_from=restore_from,
    )


def _build_streams(
    data: Data,
    model_config: config.ModelConfig,
    train_config: config.TrainConfig,
) -> keras.Model:
    """The streams, their word vectors from word2vec."""
    manifest = dataset.read_manifest(data.generation)
    streams = sicot.build_streams(
        model_config,
        vocabulary_size=manifest["vocabulary_size"],
        word_vector_dim=manifest["word_vector_dim"],
        seed=train_config.seed,
    )
    if model_config.streams == "cotrain":
        word_vectors = np.load(data.generation / "word_vectors.npy")
        restoring.load_word_vectors(streams, word_vectors)
    return streams


def _build_classifier(
    data: Data,
    embedding_dim: int,
    losses: Losses,
    collectives: Collectives,
    model_config: config.ModelConfig,
    train_config: config.TrainConfig,
    workers_config: config.WorkersConfig,
) -> tuple[ClassifierTrainer, str]:
    """The classifier in its trainer, and "sharded" or "replicated"."""
    row_optimizer = make_row_optimizer(train_config)
    layout = workers_config.classifier
    if layout == "auto":
        layout = _choose_classifier(
            data.num_classes,
            embedding_dim,
            len(row_optimizer.slot_names),
            collectives,
        )
    classifier = sicot.build_classifier(
        data.num_classes,
        embedding_dim,
        seed=train_config.seed,
        logit_memory=workers_config.logit_memory * 2**20,
        collectives=collectives if layout == "sharded" else None,
        dtype=model_config.dtype_policy,
    )
    trainer = ClassifierTrainer(
        classifier,
        row_optimizer,
        loss=losses.of_logits,
        logit_offset=losses.logit_offset,
        weight_decay=train_config.weight_decay,
        clip=train_config.clip_norm > 0,
        sample_rate=train_config.sample_rate,
        replicated=layout == "replicated" and collectives.num_workers > 1,
        seed=train_config.seed,
    )
    return trainer, layout


def _choose_classifier(
    num_classes: int,
    embedding_dim: int,
    num_slots: int,
    collectives: Collectives,
) -> str:
    """What `--classifier auto` is, the same on all workers."""
    # The mean, so that all workers choose alike.
    memory = collectives.sum_now(np.float64(_device_memory()))
    return costs.choose_classifier(
        num_classes,
        embedding_dim,
        num_slots,
        collectives.num_workers,
        memory / collectives.num_workers,
    )


def _device_memory() -> int:
    """Bytes a worker's device has.

    TensorFlow does not tell a GPU's; 16 GB are those of the paper's P100.
    """
    if tf.config.list_physical_devices("GPU"):
        return 16 * 10**9
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
