"""Trains the baseline or the co-training model on a dataset generation.

The loop is an explicit step under `strategy.run`. What a step sees depends
on (seed, epoch, step) alone, so a run that was killed goes on from its last
checkpoint with the same loss curve.
"""

import argparse
import pathlib
import signal
import time
from typing import Any

import keras
import numpy as np
import tensorflow as tf
import tqdm

from sicot_tf import config
from sicot_tf import runs
from sicot_tf.data import dataset
from sicot_tf.data import generations
from sicot_tf.distribute import checkpoints
from sicot_tf.distribute import cluster
from sicot_tf.model import prediction
from sicot_tf.model import sicot
from sicot_tf.model import training_step

_EXAMPLES = """
examples:
  # Co-training and its baseline on the same records:
  python -m sicot_tf.train --dataset data --run_dir runs/cotrain
  python -m sicot_tf.train --dataset data --run_dir runs/visual \\
      --streams visual

  # The paper's settings, with another lambda:
  python -m sicot_tf.train --dataset data --preset paper --lambda 0.3

  # The control: every picture with another record's title:
  python -m sicot_tf.train --dataset data --run_dir runs/shuffled \\
      --shuffle_titles

Started again, a run goes on from its last checkpoint.
"""


def train(
    dataset_dir: pathlib.Path,
    run_dir: pathlib.Path,
    model_config: config.ModelConfig,
    train_config: config.TrainConfig,
) -> pathlib.Path:
    """Trains until the last epoch, resuming where `run_dir` left off.

    Args:
        dataset_dir: a dataset generation, or the folder of generations.
        run_dir: where configuration, checkpoints and logs lie.

    Returns:
        `run_dir`.

    Raises:
        ValueError: if `run_dir` holds a run with other settings.
        FloatingPointError: if the loss is not finite.
    """
    # === Strategy ===
    # Equal seeds and op determinism make a curve repeatable bit for bit.
    keras.utils.set_random_seed(train_config.seed)
    tf.config.experimental.enable_op_determinism()
    if cluster.num_workers() > 1:
        # Making the strategy would wait for the others.
        raise ValueError(
            "TF_CONFIG names several workers; this version trains with one. "
            "Unset TF_CONFIG."
        )
    strategy = cluster.make_strategy()

    # === Data ===
    generation = generations.resolve_generation(dataset_dir)
    manifest = dataset.read_manifest(generation)
    classes = dataset.read_classes(generation / "classes.jsonl")
    files = dataset.RecordFiles(generation, "train")
    batch_size = train_config.global_batch_size
    steps_per_epoch = dataset.num_steps_per_epoch(len(files), batch_size)
    last_step = train_config.epochs * steps_per_epoch
    runs.create(run_dir, generation, manifest, model_config, train_config)

    # === Model and optimizer ===
    with strategy.scope():
        streams = sicot.build_streams(
            model_config,
            vocabulary_size=manifest["vocabulary_size"],
            word_vector_dim=manifest["word_vector_dim"],
            seed=train_config.seed,
        )
        if model_config.streams == "cotrain":
            word_vectors = np.load(generation / "word_vectors.npy")
            sicot.load_word_vectors(streams, word_vectors)
        classifier = sicot.build_classifier(
            len(classes),
            streams.output["x_v"].shape[-1],
            seed=train_config.seed,
        )
        optimizer = training_step.make_optimizer(train_config, steps_per_epoch)
        optimizer.build(
            streams.trainable_variables + classifier.trainable_variables
        )
    is_head = tf.constant([float(each["head"]) for each in classes])
    step_function = training_step.make_training_step(
        strategy, streams, classifier, optimizer, train_config, is_head
    )
    predict = prediction.make_predict(sicot.visual_stream(streams), classifier)

    # === Restore ===
    saved = checkpoints.Checkpoints(
        run_dir / "checkpoints",
        streams.variables + classifier.variables + optimizer.variables,
        train_config.keep_checkpoints,
    )
    step = saved.restore_latest()
    curve = runs.Curve(run_dir / "metrics.jsonl", last_step=step)
    if step >= last_step:
        print(f"Already trained: {run_dir} is at step {step} of {last_step}.")
        return run_dir
    print(
        f"{model_config.streams}: {len(files)} records, {len(classes)} "
        f"classes, {train_config.epochs} epochs of {steps_per_epoch} steps"
        + (f", resumed at step {step}" if step else "")
        + (", backbone frozen" if model_config.freeze_backbone else "")
    )

    # === Loop ===
    batches = dataset.make_training_dataset(
        files,
        first_step=step,
        last_step=last_step,
        global_batch_size=batch_size,
        seed=train_config.seed,
        image_size=model_config.image_size,
        max_words=model_config.max_words,
        augmentation=train_config.augmentation,
        min_crop_area=train_config.min_crop_area,
        shuffle_titles=train_config.shuffle_titles,
    )
    val_files = dataset.RecordFiles(generation, "val")
    val_batches = dataset.make_evaluation_dataset(
        val_files,
        image_size=model_config.image_size,
        batch_size=batch_size,
        max_records=train_config.val_records,
    )
    checkpoint_steps = train_config.checkpoint_steps or steps_per_epoch
    stop = _StopSignal()
    summaries = tf.summary.create_file_writer(str(run_dir / "logs"))
    progress = tqdm.tqdm(
        total=last_step, initial=step, unit="step", desc=run_dir.name
    )
    with progress, summaries.as_default(), curve:
        for batch in batches:
            started = time.monotonic()
            row_weight = np.float32(
                min(
                    batch_size,
                    len(files) - step % steps_per_epoch * batch_size,
                )
            )
            learning_rate = float(optimizer.learning_rate)
            sums = step_function(batch, tf.constant(row_weight))
            step += 1
            row = _curve_row(sums, step, steps_per_epoch, learning_rate)
            seconds = time.monotonic() - started
            progress.update()
            if step % train_config.log_steps == 0 or step == last_step:
                curve.write(row)
                _write_summaries(
                    {**row, "images_per_second": batch_size / seconds}
                )
                progress.set_postfix(loss=f"{row['loss']:.3f}", refresh=False)
            if step % steps_per_epoch == 0:
                if len(val_files):
                    row = _validate(predict, val_batches, is_head.numpy())
                    row |= {"step": step, "epoch": step / steps_per_epoch}
                    curve.write(row)
                    _write_summaries(row)
            if step % checkpoint_steps == 0 or step == last_step or stop.asked:
                saved.save(epoch=step // steps_per_epoch, step=step)
            if stop.asked and step < last_step:
                print(f"Stopped at step {step}; the same command goes on.")
                raise SystemExit(0)
    return run_dir


def _curve_row(
    sums: dict[str, tf.Tensor],
    step: int,
    steps_per_epoch: int,
    learning_rate: float,
) -> dict[str, Any]:
    """One row of the loss curve; a loss that is not finite ends the run."""
    values = {name: float(value) for name, value in sums.items()}
    if not np.isfinite(values["loss"]):
        raise FloatingPointError(
            f"The loss is {values['loss']} at step {step}. Start again from "
            "the last checkpoint with a lower --learning_rate, or with "
            "--warmup_epochs 1."
        )
    row = {
        "step": step,
        "epoch": step / steps_per_epoch,
        "learning_rate": learning_rate,
    }
    for name in ("loss", "loss_visual", "loss_mixed"):
        if name in values:
            row[name] = values[name]
    for group in ("head", "tail"):
        if values[f"num_{group}"]:
            row[f"train_top1_{group}"] = (
                values[f"correct_{group}"] / values[f"num_{group}"]
            )
    if values.get("num_titles"):
        row["attention_entropy"] = values["entropy"] / values["num_titles"]
    return row


def _validate(
    predict: prediction.Predict,
    batches: tf.data.Dataset,
    is_head: np.ndarray,
) -> dict[str, float]:
    """Accuracy of the visual stream on the validation records, by group."""
    found = prediction.predict_records(predict, batches)
    right = found["top_labels"][:, 0] == found["labels"]
    head = is_head[found["labels"]] > 0
    row = {"val_top1": float(right.mean())}
    for name, group in (("head", head), ("tail", ~head)):
        if group.any():
            row[f"val_top1_{name}"] = float(right[group].mean())
    return row


def _write_summaries(row: dict[str, Any]) -> None:
    """A row of the curve as TensorBoard scalars."""
    for name, value in row.items():
        if name not in ("step", "epoch"):
            tf.summary.scalar(name, value, step=row["step"])


class _StopSignal:
    """Turns SIGTERM into a request to save and stop after this step."""

    def __init__(self):
        self.asked = False
        signal.signal(signal.SIGTERM, self._ask)

    def _ask(self, *_: Any) -> None:
        self.asked = True


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
        "--preset",
        choices=sorted(config.PRESETS),
        default="demo",
        help="settings to start from (default: %(default)s)",
    )
    config.add_arguments(parser, config.ModelConfig)
    config.add_arguments(parser, config.TrainConfig)
    arguments = parser.parse_args(argv)
    run_dir = train(
        arguments.dataset,
        arguments.run_dir,
        config.from_arguments(config.ModelConfig, arguments, arguments.preset),
        config.from_arguments(config.TrainConfig, arguments, arguments.preset),
    )
    print(f"Run: {run_dir} (curves: tensorboard --logdir {run_dir / 'logs'})")
    print(f"Next: python -m sicot_tf.evaluate --run_dir {run_dir}")


if __name__ == "__main__":
    main()
