"""Trains the baseline or the co-training model on a dataset generation.

On one machine or many: the classifier's classes are split over the workers,
everything else is the same on each. The loop is an explicit step under
`strategy.run`. What a step sees depends on (seed, epoch, step) alone, so a
run that was killed goes on from its last checkpoint with the same loss curve.
"""

import argparse
import pathlib
import signal
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf
import tqdm

from sicot_tf import command_line
from sicot_tf import config
from sicot_tf.checkpoints import checkpoints
from sicot_tf.data import dataset
from sicot_tf.data import generations
from sicot_tf.training import runs
from sicot_tf.training.job import Data
from sicot_tf.training.job import Job
from sicot_tf.training.job import build
from sicot_tf.training.step import make_repeatable
from sicot_tf.workers import cluster
from sicot_tf.workers import collectives as collectives_module
from sicot_tf.workers import local_workers
from sicot_tf.workers import watchdog

_EXAMPLES = """
examples:
  # Co-training and its baseline on the same records:
  python -m sicot_tf.train --dataset dataset --run_dir runs/cotrain
  python -m sicot_tf.train --dataset dataset --run_dir runs/visual \\
      --streams visual

  # The paper's settings, with another lambda:
  python -m sicot_tf.train --dataset dataset --run_dir runs/lambda \\
      --preset paper --lambda 0.3

  # The control: every picture with another record's title:
  python -m sicot_tf.train --dataset dataset --run_dir runs/shuffled \\
      --shuffle_titles

  # Two workers on this machine; on several machines start the same command
  # on each, with TF_CONFIG (docs/many_workers.md):
  python -m sicot_tf.train --dataset dataset --run_dir runs/workers \\
      --num_workers 2

  # A new run on more products, from what an old one has learned:
  python -m sicot_tf.train --dataset new_dataset --run_dir runs/grown \\
      --init_from runs/cotrain

Started again, a run goes on from its last checkpoint, with as many workers
as it is given.
"""

# One step that is not finite may be a bad batch, ten in a row are the model.
_MAX_SKIPPED_STEPS = 10


def train(
    dataset_dir: pathlib.Path,
    run_dir: pathlib.Path,
    model_config: config.ModelConfig,
    train_config: config.TrainConfig,
    workers_config: config.WorkersConfig,
    init_from: pathlib.Path | None = None,
) -> pathlib.Path:
    """Trains until the last epoch, resuming where `run_dir` left off.

    Args:
        dataset_dir: a dataset generation, or the folder of generations.
        run_dir: where configuration, checkpoints and logs lie; all workers
            see it.
        init_from: a run whose weights a new one starts from.

    Returns:
        `run_dir`.

    Raises:
        ValueError: if `run_dir` holds a run with other settings.
        FloatingPointError: if steps stay not finite.
    """
    # === Data and workers ===
    num_workers, worker_index = cluster.num_workers(), cluster.worker_index()
    generation = generations.resolve_generation(dataset_dir)
    data = Data.open(generation, train_config)
    runs.create(
        run_dir,
        generation,
        dataset.read_manifest(generation),
        model_config,
        train_config,
        write=worker_index == 0,
    )
    make_repeatable(train_config.seed)
    strategy = cluster.make_strategy(workers_config.start_timeout)
    collectives = collectives_module.Collectives(num_workers, worker_index)

    with watchdog.Watchdog() as guard:
        # === Model, from a checkpoint if there is one ===
        with guard.limit(workers_config.start_timeout, "The start"):
            job = build(
                data,
                run_dir,
                strategy,
                collectives,
                model_config,
                train_config,
                workers_config,
            )
            step = job.checkpoints.restore_latest()
            kept_rows = {}
            if init_from and not step:
                kept_rows = job.restore_from(init_from)
        _print_on_chief(
            collectives,
            f"{model_config.streams}: {sum(data.files.record_counts)} records, "
            f"{data.num_classes} classes, {train_config.epochs} epochs of "
            f"{data.schedule.steps_per_epoch} steps"
            + f", {num_workers} workers, {job.classifier} classifier"
            * (num_workers > 1)
            + (f", resumed at step {step}" if step else "")
            + (", backbone frozen" if model_config.freeze_backbone else "")
            + "".join(
                f"; {axis}: {old} from {init_from}, {new} new"
                for axis, (old, new) in kept_rows.items()
            ),
        )
        # === Loop ===
        last_step = train_config.epochs * data.schedule.steps_per_epoch
        if step >= last_step:
            _print_on_chief(
                collectives,
                f"Already trained: {run_dir} is at step {step} of {last_step}.",
            )
        else:
            step = _train_steps(
                data,
                job,
                run_dir,
                step,
                last_step,
                model_config,
                train_config,
                workers_config,
                guard,
            )
        # Who leaves first is gone for the others.
        collectives.wait_for_all()
    if step < last_step:
        _print_on_chief(
            collectives, f"Stopped at step {step}; the same command goes on."
        )
        raise SystemExit(0)
    return run_dir


def _train_steps(
    data: Data,
    job: Job,
    run_dir: pathlib.Path,
    step: int,
    last_step: int,
    model_config: config.ModelConfig,
    train_config: config.TrainConfig,
    workers_config: config.WorkersConfig,
    guard: watchdog.Watchdog,
) -> int:
    """Trains up to the last step; returns an earlier one if asked to stop."""
    steps_per_epoch = data.schedule.steps_per_epoch
    checkpoint_steps = train_config.checkpoint_steps or steps_per_epoch
    stop = _StopSignal()
    seconds = workers_config.start_timeout
    num_skipped = 0
    batches = data.training_batches(
        step, model_config, train_config, job.collectives
    )
    with _Report(
        run_dir, step, last_step, enabled=job.collectives.is_chief
    ) as report:
        for batch in batches:
            started = time.monotonic()
            with guard.limit(seconds, f"Step {step + 1}"):
                results = job.step(
                    batch,
                    tf.constant(data.schedule.total_weight(step), tf.float32),
                    tf.constant(step, tf.int64),
                    tf.constant(stop.asked, tf.float32),
                )
                results = {name: each.numpy() for name, each in results.items()}
            # The first step compiled; from now on only workers are waited for.
            seconds = workers_config.worker_timeout
            step += 1
            is_last = step == last_step
            num_skipped = 0 if results["is_finite"] else num_skipped + 1
            report.progress.update()
            if step % train_config.log_steps == 0 or is_last or num_skipped:
                rows = train_config.global_batch_size
                report.write(
                    _curve_row(results, step, steps_per_epoch),
                    images_per_second=rows / (time.monotonic() - started),
                )
            if num_skipped == _MAX_SKIPPED_STEPS:
                raise FloatingPointError(
                    f"The {num_skipped} steps up to step {step} were skipped: "
                    "loss or gradient was not finite. Start again from the "
                    "last checkpoint with a lower --learning_rate, with "
                    "--warmup_epochs 1, or with --clip_norm."
                )
            if step % steps_per_epoch == 0 and len(data.val_files):
                found = _validate(
                    job,
                    data.validation_batches(
                        model_config, train_config, job.collectives
                    ),
                    lambda: guard.limit(seconds, "Validation"),
                )
                report.write(
                    found | {"step": step, "epoch": step / steps_per_epoch}
                )
            # One worker was asked; all stop together.
            stops = results["asked_to_stop"] > 0
            # Weights that lead to no finite step are not worth keeping.
            saves = step % checkpoint_steps == 0 or is_last or stops
            if saves and not num_skipped:
                # A disk may be slow without a worker being lost.
                with guard.limit(
                    workers_config.start_timeout,
                    f"The checkpoint of step {step}",
                ):
                    job.checkpoints.save(
                        epoch=step // steps_per_epoch, step=step
                    )
            if stops:
                break
    return step


def _print_on_chief(
    collectives: collectives_module.Collectives, text: str
) -> None:
    if collectives.is_chief:
        print(text, flush=True)


def _curve_row(
    results: dict[str, np.ndarray], step: int, steps_per_epoch: int
) -> dict[str, Any]:
    """One row of the loss curve."""
    row: dict[str, Any] = {
        "step": step,
        "epoch": step / steps_per_epoch,
        "learning_rate": float(results["learning_rate"]),
    }
    if not results["is_finite"]:
        return row | {"skipped": True}
    for name in ("loss", "loss_visual", "loss_mixed", "gradient_norm"):
        if name in results:
            row[name] = float(results[name])
    for group in ("head", "tail"):
        if results[f"num_{group}"]:
            row[f"train_top1_{group}"] = float(
                results[f"correct_{group}"] / results[f"num_{group}"]
            )
    if results.get("num_titles"):
        row["attention_entropy"] = float(
            results["entropy"] / results["num_titles"]
        )
    return row


def _validate(
    job: Job, batches: tf.data.Dataset, limit: Callable
) -> dict[str, float]:
    """Accuracy of the visual stream on the validation records, by group."""
    counts = np.zeros([2, 2], np.float32)
    for batch in batches:
        with limit():
            counts += job.count_right(batch).numpy()
    with limit():
        counts = job.collectives.sum_now(counts)
    row = {"val_top1": float(counts[:, 1].sum() / counts[:, 0].sum())}
    for name, (num_rows, num_right) in zip(("head", "tail"), counts):
        if num_rows:
            row[f"val_top1_{name}"] = float(num_right / num_rows)
    return row


class _Report:
    """What the chief shows and writes: progress, curve, TensorBoard."""

    def __init__(
        self, run_dir: pathlib.Path, step: int, last_step: int, *, enabled: bool
    ):
        self._enabled = enabled
        self._bar = {
            "total": last_step,
            "initial": step,
            "unit": "step",
            "desc": run_dir.name,
            "disable": not enabled,
        }
        if enabled:
            self._curve = runs.Curve(run_dir / "metrics.jsonl", last_step=step)
            self._summaries = tf.summary.create_file_writer(
                str(run_dir / "logs")
            )

    def write(self, row: dict[str, Any], **scalars: float) -> None:
        """A row of the curve, and of TensorBoard with more scalars."""
        if not self._enabled:
            return
        self._curve.write(row)
        with self._summaries.as_default():
            for name, value in (row | scalars).items():
                if name not in ("step", "epoch"):
                    tf.summary.scalar(name, float(value), step=row["step"])
        if "loss" in row:
            self.progress.set_postfix(loss=f"{row['loss']:.3f}", refresh=False)

    def __enter__(self) -> "_Report":
        self.progress = tqdm.tqdm(**self._bar)
        return self

    def __exit__(self, *_: Any) -> None:
        self.progress.close()
        if self._enabled:
            self._curve.close()
            self._summaries.close()


class _StopSignal:
    """Turns SIGTERM into a request to save and stop after this step."""

    def __init__(self):
        self.asked = False
        signal.signal(signal.SIGTERM, self._ask)

    def _ask(self, *_: Any) -> None:
        self.asked = True


@command_line.mistakes_in_a_sentence()
def main(argv: list[str] | None = None) -> None:
    """`python -m sicot_tf.train`."""
    parser = argparse.ArgumentParser(
        prog="python -m sicot_tf.train",
        description=__doc__,
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--dataset",
        type=pathlib.Path,
        required=True,
        help="what beam_jobs.build_dataset wrote",
    )
    parser.add_argument(
        "--run_dir",
        type=pathlib.Path,
        default=pathlib.Path("runs/cotrain"),
        help="folder of this run (default: %(default)s)",
    )
    parser.add_argument(
        "--init_from",
        type=pathlib.Path,
        help="a run whose weights a new one starts from; classes and words "
        "are found by their names, new ones start fresh",
    )
    parser.add_argument(
        "--preset",
        choices=sorted(config.PRESETS),
        default="demo",
        help="settings to start from (default: %(default)s)",
    )
    for each in (config.ModelConfig, config.TrainConfig, config.WorkersConfig):
        config.add_arguments(parser, each)
    arguments = parser.parse_args(argv)
    model_config, train_config, workers_config = (
        config.from_arguments(each, arguments, arguments.preset)
        for each in (
            config.ModelConfig,
            config.TrainConfig,
            config.WorkersConfig,
        )
    )
    # The workers that are started here get the same arguments and TF_CONFIG.
    if workers_config.num_workers > 1 and cluster.num_workers() == 1:
        code = local_workers.run(
            workers_config.num_workers,
            "sicot_tf.train",
            sys.argv[1:] if argv is None else argv,
            log_dir=arguments.run_dir / "worker_logs",
            progress=lambda: (
                checkpoints.latest_step(arguments.run_dir / "checkpoints") or 0
            ),
        )
        raise SystemExit(code)
    with watchdog.worker_failures():
        run_dir = train(
            arguments.dataset,
            arguments.run_dir,
            model_config,
            train_config,
            workers_config,
            arguments.init_from,
        )
    if cluster.worker_index():
        return
    print(f"Run: {run_dir} (curves: tensorboard --logdir {run_dir / 'logs'})")
    print(f"Next: python -m sicot_tf.evaluate --run_dir {run_dir}")


if __name__ == "__main__":
    main()
