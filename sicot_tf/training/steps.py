"""The steps of a training: when to write, validate, save and stop.

What is trained, a recogniser or a search network, comes in as functions.
"""

import dataclasses
import time
from collections.abc import Callable
from collections.abc import Iterable
from typing import Any

import numpy as np

from sicot_tf.checkpoints.checkpoints import Checkpoints
from sicot_tf.training import meters
from sicot_tf.training import stopping
from sicot_tf.workers.watchdog import Watchdog

# By name, what a step measured.
Results = dict[str, np.ndarray]


@dataclasses.dataclass(frozen=True)
class Training:
    """What goes on in the steps of a run.

    Attributes:
        batches: those from a step on.
        take_step: of a batch, the steps before it and 1.0 if this worker was
            asked to stop. Its results have `is_finite` and `asked_to_stop`.
        write: results, the step and its seconds into the curve.
        validate: a row of the curve, given the seconds that a worker may
            take; None: there is nothing to validate on.
        checkpoint_steps: steps between checkpoints; 0: those of an epoch.
    """

    batches: Callable[[int], Iterable[Any]]
    take_step: Callable[[Any, int, float], Results]
    write: Callable[[Results, int, float], None]
    validate: Callable[[float], dict[str, Any]] | None
    checkpoints: Checkpoints
    last_step: int
    steps_per_epoch: int
    checkpoint_steps: int
    log_steps: int
    start_timeout: float
    worker_timeout: float


def train(
    training: Training, guard: Watchdog, report: meters.Report, step: int
) -> int:
    """Trains up to the last step; returns an earlier one if asked to stop."""
    steps_per_epoch = training.steps_per_epoch
    checkpoint_steps = training.checkpoint_steps or steps_per_epoch
    patience = training.start_timeout
    stop = stopping.StopSignal()
    num_skipped = 0
    for batch in training.batches(step):
        started = time.monotonic()
        with guard.limit(patience, f"Step {step + 1}"):
            results = training.take_step(batch, step, float(stop.asked))
        # The first step compiled; from now on only workers are waited for.
        patience = training.worker_timeout
        step += 1
        is_last = step == training.last_step
        num_skipped = 0 if results["is_finite"] else num_skipped + 1
        report.progress.update()
        if step % training.log_steps == 0 or is_last or num_skipped:
            training.write(results, step, time.monotonic() - started)
        stopping.expect_finite(num_skipped, step)
        if step % steps_per_epoch == 0 and training.validate:
            report.write(
                training.validate(patience)
                | {"step": step, "epoch": step / steps_per_epoch}
            )
        # One worker was asked; all stop together.
        stops = results["asked_to_stop"] > 0
        saves = step % checkpoint_steps == 0 or is_last or stops
        # Weights that lead to no finite step are not worth keeping.
        if saves and not num_skipped:
            # A disk may be slow without a worker being lost.
            with guard.limit(
                training.start_timeout, f"The checkpoint of step {step}"
            ):
                training.checkpoints.save(
                    epoch=step // steps_per_epoch, step=step
                )
        if stops:
            break
    return step
