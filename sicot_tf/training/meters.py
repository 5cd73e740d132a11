"""What a step measures, and where it goes: curve, TensorBoard, progress."""

import pathlib
from typing import Any

import numpy as np
import tensorflow as tf

from sicot_tf import progress
from sicot_tf.model.classifier.classifier_trainer import ClassifierStep
from sicot_tf.training import runs


def sums(
    batch: dict[str, tf.Tensor],
    outputs: dict[str, tf.Tensor],
    example_weights: tf.Tensor,
    classified: ClassifierStep,
    is_head: tf.Tensor,
) -> dict[str, tf.Tensor]:
    """Sums over this worker's batch, for `curve_row`."""
    weights, num_records = batch["weight"], batch["weight"].shape[0]
    in_head = tf.gather(is_head, batch["label"])
    right = tf.cast(classified.is_best[:num_records], tf.float32)
    weighted = example_weights * classified.losses
    found = {
        "loss": tf.reduce_sum(weighted),
        "loss_visual": tf.reduce_sum(weighted[:num_records]),
        "num_head": tf.reduce_sum(weights * in_head),
        "num_tail": tf.reduce_sum(weights * (1 - in_head)),
        "correct_head": tf.reduce_sum(weights * in_head * right),
        "correct_tail": tf.reduce_sum(weights * (1 - in_head) * right),
    }
    if "x_m" in outputs:
        # Lambda may be 0, the mixed loss is reported all the same.
        found["loss_mixed"] = tf.reduce_sum(
            example_weights[:num_records] * classified.losses[num_records:]
        )
    if "attention" in outputs:
        found["entropy"], found["num_titles"] = attention_entropy(
            outputs["attention"],
            batch.get("seen_title_ids", batch["title_ids"]),
            weights,
        )
    return found


def attention_entropy(
    attention: tf.Tensor, title_ids: tf.Tensor, weights: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor]:
    """How evenly the word weights are spread: 1 is mean pooling, 0 one word.

    Args:
        attention: `[batch, max_words]` float, word weights.
        title_ids: `[batch, max_words]` int32, 0 for padding.
        weights: `[batch]` float32, 0 for records that only pad a batch.

    Returns:
        The sum over titles of two words or more of `entropy / log(num_words)`
        and the number of those titles, scalars float32.
    """
    attention = tf.cast(attention, tf.float32)
    num_words = tf.reduce_sum(tf.cast(title_ids != 0, tf.float32), axis=-1)
    # Weights of sigmoids need not sum to 1.
    shares = tf.math.divide_no_nan(
        attention, tf.reduce_sum(attention, axis=-1, keepdims=True)
    )
    entropy = -tf.reduce_sum(tf.math.xlogy(shares, shares), axis=-1)
    counted = weights * tf.cast(num_words > 1, tf.float32)
    relative = entropy / tf.math.log(tf.maximum(num_words, 2.0))
    return tf.reduce_sum(counted * relative), tf.reduce_sum(counted)


def start_row(
    results: dict[str, np.ndarray], step: int, steps_per_epoch: int
) -> dict[str, Any]:
    """What every row of a curve has; all of one whose step was `skipped`."""
    row: dict[str, Any] = {
        "step": step,
        "epoch": step / steps_per_epoch,
        "learning_rate": float(results["learning_rate"]),
    }
    if not results["is_finite"]:
        row["skipped"] = True
    return row


def curve_row(
    results: dict[str, np.ndarray], step: int, steps_per_epoch: int
) -> dict[str, Any]:
    """One row of the loss curve."""
    row = start_row(results, step, steps_per_epoch)
    if "skipped" in row:
        return row
    losses = ("", "_visual", "_mixed", "_words", "_distillation")
    for name in (*(f"loss{each}" for each in losses), "gradient_norm"):
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


class Report:
    """What the chief shows and writes: progress, curve, TensorBoard."""

    def __init__(
        self, run_dir: pathlib.Path, step: int, last_step: int, *, enabled: bool
    ):
        self._enabled = enabled
        self.progress = progress.bar(
            description=run_dir.name,
            unit="steps",
            initial=step,
            total=last_step,
            disable=not enabled,
        )
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

    def __enter__(self) -> "Report":
        return self

    def __exit__(self, *_: Any) -> None:
        self.progress.close()
        if self._enabled:
            self._curve.close()
            self._summaries.close()
