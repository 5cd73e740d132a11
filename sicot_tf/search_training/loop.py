"""Trains a search run until its last epoch; read from top to bottom.

As `training.loop`: what a step sees depends on (seed, epoch, step) alone, so a
run that was killed goes on from its last checkpoint with the same curve.
"""

import logging
import pathlib
from typing import Any

import numpy as np
import tensorflow as tf

from sicot_tf.data import generation_cache
from sicot_tf.search_training import runs
from sicot_tf.search_training import settings
from sicot_tf.search_training.job import Job
from sicot_tf.search_training.job import build
from sicot_tf.stores import locations
from sicot_tf.training import meters
from sicot_tf.training import runs as recogniser_runs
from sicot_tf.training import steps
from sicot_tf.training.step import make_repeatable
from sicot_tf.workers import cluster
from sicot_tf.workers.collectives import Collectives
from sicot_tf.workers.strategy import make_strategy
from sicot_tf.workers.watchdog import Watchdog

_log = logging.getLogger(__name__)


def train(
    triplets_dir: locations.Location,
    run_dir: pathlib.Path,
    init_from: pathlib.Path,
    search: settings.SearchConfig,
    workers: settings.WorkersConfig,
) -> bool:
    """Trains until the last epoch, resuming where `run_dir` left off.

    Args:
        triplets_dir: a generation of `mine_clicks`, or their folder, here or on
            a store.
        run_dir: all workers see it.
        init_from: a recogniser's run, whose backbone a new run starts from.

    Returns:
        Whether the last epoch is done; False after SIGTERM.

    Raises:
        ValueError: if `run_dir` holds a run with other settings, or a folder
            is not what it should be.
        FloatingPointError: if steps stay not finite.
    """
    # === Triplets and workers ===
    collectives = Collectives(cluster.num_workers(), cluster.worker_index())
    generation = generation_cache.local_generation(triplets_dir)
    model = runs.recogniser_model(recogniser_runs.load(init_from), search)
    runs.create(
        *(run_dir, search, model, generation, init_from),
        write=collectives.is_chief,
    )
    make_repeatable(search.seed)
    strategy = make_strategy(workers.start_timeout)

    with Watchdog() as guard:
        # === Network, from a checkpoint if there is one ===
        with guard.limit(workers.start_timeout, "The start"):
            job = build(
                generation, run_dir, search, model, strategy, collectives
            )
            step = job.checkpoints.restore_latest()
            if not step:
                job.restore_from(init_from)
        if collectives.is_chief:
            _log.info("%s", _summary(job, search, step))

        # === Steps ===
        if step < job.last_step:
            with meters.Report(
                run_dir, step, job.last_step, enabled=collectives.is_chief
            ) as report:
                training = _training(job, search, workers, guard, report)
                step = steps.train(training, guard, report, step)
        # Who leaves first is gone for the others.
        collectives.wait_for_all()
    if step < job.last_step and collectives.is_chief:
        _log.info("Stopped at step %d; the same command goes on.", step)
    return step >= job.last_step


def _summary(job: Job, search: settings.SearchConfig, step: int) -> str:
    """What is trained now, in a line."""
    if step >= job.last_step:
        return f"Already trained, at step {step} of {job.last_step}."
    schedule = job.schedule
    parts = [
        f"{schedule.record_counts[0]} triplets",
        f"{search.epochs} epochs of {schedule.steps_per_epoch} steps",
        "whole pictures" if search.without_box else f"view {search.view}",
    ]
    if schedule.num_workers > 1:
        parts.append(f"{schedule.num_workers} workers")
    if search.shuffle_clicks:
        parts.append("clicks shuffled")
    if step:
        parts.append(f"resumed at step {step}")
    return ", ".join(parts)


def _training(
    job: Job,
    search: settings.SearchConfig,
    workers: settings.WorkersConfig,
    guard: Watchdog,
    report: meters.Report,
) -> steps.Training:
    """What goes on in the steps."""
    steps_per_epoch = job.schedule.steps_per_epoch

    def take_step(
        batch: dict[str, tf.Tensor], step: int, asked_to_stop: float
    ) -> steps.Results:
        results = job.step(
            batch,
            tf.constant(step, tf.int64),
            tf.constant(asked_to_stop, tf.float32),
        )
        return {name: each.numpy() for name, each in results.items()}

    def write(results: steps.Results, step: int, seconds: float) -> None:
        report.write(
            _curve_row(results, step, steps_per_epoch),
            triplets_per_second=search.global_batch_size / seconds,
        )

    def validate(_: float) -> dict[str, float]:
        recall = job.validation.recall(
            lambda: guard.limit(workers.start_timeout, "Validation")
        )
        return {"val_recall_1": recall}

    return steps.Training(
        batches=job.batches,
        take_step=take_step,
        write=write,
        validate=validate if job.validation is not None else None,
        checkpoints=job.checkpoints,
        last_step=job.last_step,
        steps_per_epoch=steps_per_epoch,
        checkpoint_steps=search.checkpoint_steps,
        log_steps=search.log_steps,
        start_timeout=workers.start_timeout,
        worker_timeout=workers.worker_timeout,
    )


def _curve_row(
    results: dict[str, np.ndarray], step: int, steps_per_epoch: int
) -> dict[str, Any]:
    """One row of the loss curve."""
    row = meters.start_row(results, step, steps_per_epoch)
    if "skipped" in row:
        return row
    names = ("loss", "train_first", "box_area", "gradient_norm")
    return row | {name: float(results[name]) for name in names}
