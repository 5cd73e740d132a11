"""Trains a run until its last epoch; read from top to bottom.

The loop is an explicit step under `strategy.run`. What a step sees depends on
(seed, epoch, step) alone, so a run that was killed goes on from its last
checkpoint with the same loss curve.
"""

import logging
import pathlib

import tensorflow as tf

from sicot_tf import config
from sicot_tf.data import dataset
from sicot_tf.data import generation_cache
from sicot_tf.stores import locations
from sicot_tf.training import feature_cache
from sicot_tf.training import meters
from sicot_tf.training import runs
from sicot_tf.training import steps
from sicot_tf.training.batches import Batches
from sicot_tf.training.job import Job
from sicot_tf.training.job import build
from sicot_tf.training.step import make_repeatable
from sicot_tf.training.validation import validate
from sicot_tf.workers import cluster
from sicot_tf.workers.collectives import Collectives
from sicot_tf.workers.strategy import make_strategy
from sicot_tf.workers.watchdog import Watchdog

_log = logging.getLogger(__name__)


def train(
    dataset_dir: locations.Location,
    run_dir: pathlib.Path,
    settings: config.RunConfig,
    init_from: pathlib.Path | None = None,
) -> bool:
    """Trains until the last epoch, resuming where `run_dir` left off.

    Args:
        dataset_dir: a dataset generation, or the folder of generations, here
            or on a store.
        run_dir: where configuration, checkpoints and logs lie; all workers
            see it.
        init_from: a run whose weights a new one starts from.

    Returns:
        Whether the last epoch is done; False after SIGTERM.

    Raises:
        ValueError: if `run_dir` holds a run with other settings.
        FloatingPointError: if steps stay not finite.
    """
    # === Records and workers ===
    collectives = Collectives(cluster.num_workers(), cluster.worker_index())
    generation = generation_cache.local_generation(
        dataset_dir, Batches.wanted(settings.train)
    )
    batches = Batches.open(generation, settings.model, settings.train)
    runs.create(
        run_dir,
        generation,
        dataset.read_manifest(generation),
        settings.model,
        settings.train,
        write=collectives.is_chief,
    )
    make_repeatable(settings.train.seed)
    strategy = make_strategy(settings.workers.start_timeout)

    with Watchdog() as guard:
        # === Model, from a checkpoint if there is one ===
        with guard.limit(settings.workers.start_timeout, "The start"):
            job = build(batches, run_dir, settings, strategy, collectives)
            step = job.checkpoints.restore_latest()
            kept_rows = {}
            if init_from and not step:
                kept_rows = job.restore_from(init_from)
            if not step:
                job.start_word_rows(init_from)
        if job.frozen_layers is not None and step < batches.last_step:
            batches = feature_cache.with_features(
                batches, job.frozen_layers, run_dir, collectives
            )
        if collectives.is_chief:
            _log.info("%s", _summary(batches, job, step))
            for axis, (old, new) in kept_rows.items():
                _log.info("%s: %d from %s, %d new", axis, old, init_from, new)

        # === Steps ===
        if step < batches.last_step:
            with meters.Report(
                run_dir, step, batches.last_step, enabled=collectives.is_chief
            ) as report:
                training = _training(batches, job, settings, guard, report)
                step = steps.train(training, guard, report, step)
        # Who leaves first is gone for the others.
        collectives.wait_for_all()
    if step < batches.last_step and collectives.is_chief:
        _log.info("Stopped at step %d; the same command goes on.", step)
    return step >= batches.last_step


def _summary(batches: Batches, job: Job, step: int) -> str:
    """What is trained now, in a line."""
    model_config, last_step = batches.model_config, batches.last_step
    if step >= last_step:
        return f"Already trained, at step {step} of {last_step}."
    num_workers = job.collectives.num_workers
    parts = [
        f"{model_config.streams}: {sum(batches.files.record_counts)} records",
        f"{batches.num_classes} classes",
        f"{batches.train_config.epochs} epochs of "
        f"{batches.schedule.steps_per_epoch} steps",
    ]
    if num_workers > 1:
        parts += [f"{num_workers} workers", f"{job.layout} classifier"]
    if step:
        parts.append(f"resumed at step {step}")
    if batches.train_config.second_stage != "none":
        parts.append("classifier alone")
    elif model_config.freeze_backbone:
        parts.append("backbone frozen")
    if batches.train_config.record_sampling != "records":
        parts.append(f"{batches.train_config.record_sampling} sampling")
    return ", ".join(parts)


def _training(
    batches: Batches,
    job: Job,
    settings: config.RunConfig,
    guard: Watchdog,
    report: meters.Report,
) -> steps.Training:
    """What goes on in the steps."""
    train_config = settings.train
    steps_per_epoch = batches.schedule.steps_per_epoch

    def take_step(
        batch: dict[str, tf.Tensor], step: int, asked_to_stop: float
    ) -> steps.Results:
        results = job.step(
            batch,
            tf.constant(batches.schedule.total_weight(step), tf.float32),
            tf.constant(step, tf.int64),
            tf.constant(asked_to_stop, tf.float32),
        )
        return {name: each.numpy() for name, each in results.items()}

    def write(results: steps.Results, step: int, seconds: float) -> None:
        report.write(
            meters.curve_row(results, step, steps_per_epoch),
            images_per_second=train_config.global_batch_size / seconds,
        )

    def validation(patience: float) -> dict[str, float]:
        return validate(
            job.count_right,
            batches.validation(),
            job.collectives,
            lambda: guard.limit(patience, "Validation"),
        )

    return steps.Training(
        batches=batches.training,
        take_step=take_step,
        write=write,
        validate=validation if len(batches.val_files) else None,
        checkpoints=job.checkpoints,
        last_step=batches.last_step,
        steps_per_epoch=steps_per_epoch,
        checkpoint_steps=train_config.checkpoint_steps,
        log_steps=train_config.log_steps,
        start_timeout=settings.workers.start_timeout,
        worker_timeout=settings.workers.worker_timeout,
    )
