"""One step of co-training under `strategy.run`.

`Model.fit` fails under `MultiWorkerMirroredStrategy` with two workers
(Keras 3.10 to 3.15), so the step is explicit, for one worker as for many.
"""

from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf

from sicot_tf import config
from sicot_tf.model import losses

_VISUAL_SUMS = (
    "loss",
    "loss_visual",
    "num_head",
    "num_tail",
    "correct_head",
    "correct_tail",
)
_COTRAIN_SUMS = ("loss_mixed", "entropy", "num_titles")


@keras.saving.register_keras_serializable(package="sicot_tf")
class StepDecay(keras.optimizers.schedules.LearningRateSchedule):
    """`initial * decay_rate ** floor(step / decay_steps)`, after a warm-up.

    The paper (section 4.3) says "step 1, gamma 0.8" and not of what; one
    epoch is the reading under which learning goes on after 100 steps.
    """

    def __init__(
        self,
        initial: float,
        decay_rate: float,
        decay_steps: float,
        warmup_steps: float = 0.0,
    ):
        self.initial = initial
        self.decay_rate = decay_rate
        self.decay_steps = decay_steps
        self.warmup_steps = warmup_steps

    def __call__(self, step: Any) -> tf.Tensor:
        # float64 counts steps exactly up to 2 ** 53; float32 up to 16.7 M.
        step = tf.cast(step, tf.float64)
        decays = tf.floor(
            tf.maximum(step - self.warmup_steps, 0.0) / self.decay_steps
        )
        rate = self.initial * tf.pow(
            tf.constant(self.decay_rate, tf.float64), decays
        )
        if self.warmup_steps:
            rate *= tf.minimum((step + 1.0) / self.warmup_steps, 1.0)
        return tf.cast(rate, tf.float32)

    def get_config(self) -> dict[str, float]:
        return {
            "initial": self.initial,
            "decay_rate": self.decay_rate,
            "decay_steps": self.decay_steps,
            "warmup_steps": self.warmup_steps,
        }


def make_optimizer(
    train_config: config.TrainConfig, steps_per_epoch: int
) -> keras.optimizers.Optimizer:
    """SGD with momentum and the paper's schedule."""
    schedule = StepDecay(
        train_config.learning_rate,
        train_config.decay_rate,
        train_config.decay_epochs * steps_per_epoch,
        train_config.warmup_epochs * steps_per_epoch,
    )
    return keras.optimizers.SGD(schedule, momentum=train_config.momentum)


def make_training_step(
    strategy: tf.distribute.Strategy,
    streams: keras.Model,
    classifier: keras.layers.Layer,
    optimizer: keras.optimizers.Optimizer,
    train_config: config.TrainConfig,
    is_head: tf.Tensor,
) -> Callable[..., dict[str, tf.Tensor]]:
    """Builds the function that trains on one batch.

    Args:
        is_head: `[num_classes]` float32, 1 for head classes.

    Returns:
        A function of a batch (see `dataset.make_training_dataset`) and the
        scalar weight of the global batch. It updates the model and returns
        sums over the global batch: `loss`, `loss_visual`, `loss_mixed`
        (already divided by the weight), `num_head`, `num_tail` rows and
        `correct_head`, `correct_tail` of the visual stream, `entropy`
        (of the word weights, 1 = mean pooling) and `num_titles` it counts.
    """
    cotrain = "x_m" in streams.output
    sum_names = _VISUAL_SUMS + (_COTRAIN_SUMS if cotrain else ())
    variables = streams.trainable_variables + classifier.trainable_variables
    backbone_ids = {
        id(variable)
        for variable in streams.get_layer("backbone").trainable_variables
    }

    def regularize(gradient: Any, variable: Any) -> tf.Tensor:
        """Adds L2 decay, and slows the backbone down if asked for."""
        gradient = tf.convert_to_tensor(gradient)
        if len(variable.shape) > 1 and not _is_word_vectors(variable):
            # The workers' gradients are summed, each adds its share.
            decay = train_config.weight_decay / strategy.num_replicas_in_sync
            gradient += decay * variable.value
        if id(variable) in backbone_ids:
            # For SGD the same as another learning rate.
            gradient *= train_config.backbone_learning_rate_factor
        return gradient

    def replica_step(
        batch: dict[str, tf.Tensor], total_weight: tf.Tensor
    ) -> tf.Tensor:
        labels, weights = batch["label"], batch["weight"]
        inputs = {name: batch[name] for name in streams.input}
        with tf.GradientTape() as tape:
            outputs = streams(inputs, training=True)
            # Both streams pass the shared classifier as one stack of rows.
            rows = [outputs["x_v"]] + ([outputs["x_m"]] if cotrain else [])
            logits = classifier(tf.concat(rows, axis=0))
            logits = tf.split(logits, len(rows))
            row_losses = [
                losses.softmax_cross_entropy(labels, each) for each in logits
            ]
            mixed_losses = row_losses[-1] if cotrain else tf.zeros_like(weights)
            loss = losses.cotraining_loss(
                row_losses[0],
                mixed_losses,
                weights,
                mixed_loss_weight=train_config.mixed_loss_weight,
                total_weight=total_weight,
            )
        gradients = tape.gradient(loss, variables)
        # Under the strategy the optimizer sums the workers' gradients.
        optimizer.apply(
            [regularize(*pair) for pair in zip(gradients, variables)],
            variables,
        )
        head = tf.gather(is_head, labels)
        right = tf.cast(
            tf.argmax(logits[0], axis=-1, output_type=labels.dtype) == labels,
            tf.float32,
        )
        sums = {
            "loss": loss,
            "loss_visual": tf.reduce_sum(weights * row_losses[0])
            / total_weight,
            "num_head": tf.reduce_sum(weights * head),
            "num_tail": tf.reduce_sum(weights * (1 - head)),
            "correct_head": tf.reduce_sum(weights * head * right),
            "correct_tail": tf.reduce_sum(weights * (1 - head) * right),
        }
        if cotrain:
            sums["loss_mixed"] = (
                tf.reduce_sum(weights * mixed_losses) / total_weight
            )
            sums["entropy"], sums["num_titles"] = attention_entropy(
                outputs["attention"], batch["title_ids"], weights
            )
        # Packed, so that summing over the workers is one collective.
        return tf.stack([sums[name] for name in sum_names])

    @tf.function
    def training_step(
        batch: dict[str, tf.Tensor], total_weight: tf.Tensor
    ) -> dict[str, tf.Tensor]:
        packed = strategy.reduce(
            tf.distribute.ReduceOp.SUM,
            strategy.run(replica_step, args=(batch, total_weight)),
            axis=None,
        )
        return dict(zip(sum_names, tf.unstack(packed)))

    return training_step


def attention_entropy(
    attention: tf.Tensor, title_ids: tf.Tensor, weights: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor]:
    """How evenly the word weights are spread: 1 is mean pooling, 0 one word.

    Args:
        attention: `[batch, max_words]` float, word weights.
        title_ids: `[batch, max_words]` int32, 0 for padding.
        weights: `[batch]` float32, 0 for rows that only pad a batch.

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


def _is_word_vectors(variable: Any) -> bool:
    return variable.path.endswith("word_vectors/embeddings")
