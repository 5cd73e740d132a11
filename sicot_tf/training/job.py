"""What a worker of a training job is made of: model, step, checkpoints.

Everything is built here, from the settings; `training.loop` runs it.
"""

import dataclasses
import functools
import os
import pathlib
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from sicot_tf import config
from sicot_tf.checkpoints import checkpoints
from sicot_tf.checkpoints import row_slices
from sicot_tf.data import dataset
from sicot_tf.model import sicot
from sicot_tf.model.classifier import costs
from sicot_tf.model.classifier.classifier_trainer import ClassifierTrainer
from sicot_tf.training import regularization
from sicot_tf.training import restoring
from sicot_tf.training import runs
from sicot_tf.training.batches import Batches
from sicot_tf.training.losses import Losses
from sicot_tf.training.losses import make_losses
from sicot_tf.training.optimizers import StreamsOptimizer
from sicot_tf.training.optimizers import make_row_optimizer
from sicot_tf.training.step import TrainingStep
from sicot_tf.training.title_words import shared_words
from sicot_tf.training.title_words import word_rows
from sicot_tf.training.validation import CountRight
from sicot_tf.training.validation import make_count_right
from sicot_tf.workers.collectives import Collectives


@dataclasses.dataclass(frozen=True)
class Job:
    """Model, step, validation and checkpoints of one worker.

    layout: of the classifier, "sharded" or "replicated". restore_from: starts
    from another run; for each kind of rows, how many came from it and how
    many are new. start_word_rows: makes the words' part of the class rows of
    a run that has no checkpoint yet; those restored from another run stay.
    frozen_layers: whose output is kept, see `feature_cache`; None where the
    streams begin with pictures.
    """

    layout: str
    collectives: Collectives
    step: Callable[..., dict[str, tf.Tensor]]
    count_right: CountRight
    checkpoints: checkpoints.Checkpoints
    restore_from: Callable[[pathlib.Path], dict[str, tuple[int, int]]]
    start_word_rows: Callable[[pathlib.Path | None], None]
    frozen_layers: keras.Model | None


def build(
    batches: Batches,
    run_dir: pathlib.Path,
    settings: config.RunConfig,
    strategy: tf.distribute.Strategy,
    collectives: Collectives,
) -> Job:
    """Builds the model with its initial weights, and what trains it.

    All variables are made outside the scope of the strategy; see
    `training.step`.
    """
    # === Model ===
    predicted = _choose_predicted_words(batches, settings, collectives)
    streams = _build_streams(batches, settings, predicted)
    frozen_layers = None
    if settings.train.cached_views:
        frozen_layers = sicot.build_frozen_layers(
            settings.model, settings.train.seed
        )
    losses = make_losses(
        settings.train,
        batches.train_counts,
        None if predicted is None else predicted.columns,
    )
    trainer, layout = _build_classifier(
        batches.num_classes, streams, losses, collectives, settings
    )

    # === Training ===
    optimizer = StreamsOptimizer(
        streams, settings.train, batches.schedule.steps_per_epoch
    )
    is_head = tf.constant(batches.is_head)
    step = TrainingStep(
        *(streams, trainer, optimizer, losses, is_head),
        clip_norm=settings.train.clip_norm,
        is_fixed=settings.train.second_stage != "none",
        collectives=collectives,
        feature_dropout=regularization.make_feature_dropout(
            streams, settings.train, collectives
        ),
    )

    # === Checkpoints ===
    variables, slices = restoring.checkpoint_contents(
        streams, trainer, optimizer.keras_optimizer
    )
    if frozen_layers is not None:
        variables += frozen_layers.variables
    row_names = runs.read_row_names(batches.generation)
    column_names = {}
    if predicted is not None:
        words = [row_names["words"][each] for each in predicted.ids]
        column_names["predicted_words"] = words
    return Job(
        layout=layout,
        collectives=collectives,
        step=step.compiled(strategy),
        count_right=make_count_right(
            sicot.classified_visual_stream(streams), trainer.layer, is_head
        ),
        checkpoints=checkpoints.Checkpoints(
            run_dir / "checkpoints",
            variables,
            slices=slices,
            # These are no rows, but must be the same when a run goes on.
            row_names=row_names | column_names,
            keep=settings.train.keep_checkpoints,
            collectives=collectives,
        ),
        restore_from=functools.partial(
            _restore_from,
            *_taken_from_another(
                *(variables, slices, trainer, optimizer, settings)
            ),
            settings,
            new_row_names=row_names,
            collectives=collectives,
        ),
        start_word_rows=functools.partial(
            word_rows.start,
            run_dir=run_dir,
            batches=batches,
            layer=trainer.layer,
            row_names=row_names,
            collectives=collectives,
        ),
        frozen_layers=frozen_layers,
    )


def _choose_predicted_words(
    batches: Batches, settings: config.RunConfig, collectives: Collectives
) -> shared_words.PredictedWords | None:
    """The words to predict, the same on all workers; None without any."""
    if not settings.train.word_loss_weight:
        return None
    # Files opened for one worker hold its records alone.
    has_all = batches.files.num_workers == 1
    counts = shared_words.count_words(
        batches.annotations,
        dataset.read_manifest(batches.generation)["vocabulary_size"],
        max_words=settings.model.max_words,
        collectives=None if has_all else collectives,
    )
    return shared_words.choose_predicted(
        counts, settings.train.max_predicted_words
    )


def _build_streams(
    batches: Batches,
    settings: config.RunConfig,
    predicted: shared_words.PredictedWords | None,
) -> keras.Model:
    """The streams, their word vectors from word2vec."""
    manifest = dataset.read_manifest(batches.generation)
    streams = sicot.build_streams(
        settings.model,
        vocabulary_size=manifest["vocabulary_size"],
        word_vector_dim=manifest["word_vector_dim"],
        num_predicted_words=0 if predicted is None else len(predicted.ids),
        word_rows_scale=settings.train.word_rows_scale,
        seed=settings.train.seed,
        from_features=settings.train.cached_views > 0,
    )
    if settings.model.streams == "cotrain":
        word_vectors = np.load(batches.generation / "word_vectors.npy")
        restoring.load_word_vectors(streams, word_vectors)
    if predicted is not None:
        # At zero, the first steps would drown in words that are absent.
        streams.get_layer("predicted_words").bias.assign(predicted.log_odds)
    if settings.train.second_stage != "none":
        streams.trainable = False
    return streams


def _build_classifier(
    num_classes: int,
    streams: keras.Model,
    losses: Losses,
    collectives: Collectives,
    settings: config.RunConfig,
) -> tuple[ClassifierTrainer, str]:
    """The classifier in its trainer, and "sharded" or "replicated"."""
    embedding_dim = streams.output["x_v"].shape[-1]
    features_dim = sicot.classified(streams.output, "x_v").shape[-1]
    row_optimizer = make_row_optimizer(settings.train)
    layout = settings.workers.classifier
    if layout == "auto":
        layout = _choose_classifier(
            num_classes,
            embedding_dim,
            len(row_optimizer.slot_names),
            collectives,
        )
    seed = settings.train.seed
    if settings.train.second_stage == "crt":
        # The streams have learned beside the rows of this seed and fit them.
        seed = -1 - seed
    classifier = sicot.build_classifier(
        num_classes,
        features_dim,
        fixed_dim=features_dim - embedding_dim,
        seed=seed,
        logit_memory=settings.workers.logit_memory * 2**20,
        collectives=collectives if layout == "sharded" else None,
        dtype=settings.model.dtype_policy,
    )
    trainer = ClassifierTrainer(
        classifier,
        row_optimizer,
        loss=losses.of_logits,
        logit_offset=losses.logit_offset,
        weight_decay=settings.train.weight_decay,
        clip=settings.train.clip_norm > 0,
        sample_rate=settings.train.sample_rate,
        replicated=layout == "replicated" and collectives.num_workers > 1,
        seed=settings.train.seed,
    )
    return trainer, layout


def _taken_from_another(
    variables: list[Any],
    slices: list[row_slices.RowSlice],
    trainer: ClassifierTrainer,
    optimizer: StreamsOptimizer,
    settings: config.RunConfig,
) -> tuple[list[Any], list[row_slices.RowSlice]]:
    """Variables and rows that `--init_from` restores."""
    # A layer that is dropped in the end learns its words anew.
    variables = [
        each for each in variables if "predicted_words" not in each.path
    ]
    stage = settings.train.second_stage
    if stage == "none":
        return variables, slices
    return restoring.kept_by_second_stage(
        *(variables, slices, trainer, optimizer.keras_optimizer, stage)
    )


def _restore_from(
    variables: list[Any],
    slices: list[row_slices.RowSlice],
    settings: config.RunConfig,
    other_run: pathlib.Path,
    *,
    new_row_names: dict[str, list[str]],
    collectives: Collectives,
) -> dict[str, tuple[int, int]]:
    """Starts from the weights of another run, which knew other rows."""
    axes = {each.row_axis for each in slices}
    # Says so if there is no run.
    word_rows.check_same_kind(runs.load(other_run), settings.train)
    return checkpoints.restore_grown(
        other_run / "checkpoints",
        variables,
        slices,
        old_row_names=runs.read_row_names(other_run),
        new_row_names={
            axis: names for axis, names in new_row_names.items() if axis in axes
        },
        collectives=collectives,
    )


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
