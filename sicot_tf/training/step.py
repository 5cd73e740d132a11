"""One step of co-training under `strategy.run`.

`Model.fit` fails under `MultiWorkerMirroredStrategy` with two workers
(Keras 3.10 to 3.15), so the step is explicit, for one worker as for many.

All variables are plain ones, made outside the strategy's scope: those of the
classifier differ from worker to worker, and the others start equal by their
seeds and stay equal by one packed all-reduce. Mirrored variables would want a
collective for each statistic of each BatchNormalization, 106 a step for
ResNet-50.
"""

from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf

from sicot_tf import config
from sicot_tf.model.classifier import classifier_trainer
from sicot_tf.training import losses
from sicot_tf.training.optimizers import StepDecay
from sicot_tf.workers.collectives import Collectives

_VISUAL_SUMS = (
    "loss",
    "loss_visual",
    "num_head",
    "num_tail",
    "correct_head",
    "correct_tail",
)
_COTRAIN_SUMS = ("loss_mixed", "entropy", "num_titles")


def make_repeatable(seed: int) -> None:
    """Makes equal seeds train the same bit for bit, in the whole process."""
    keras.utils.set_random_seed(seed)
    tf.config.experimental.enable_op_determinism()
    # An AddN of three terms or more begins with the one whose memory it may
    # reuse (tensorflow/core/kernels/aggregate_ops.cc), whichever that is in
    # this run. This pass makes one of several sums of two.
    tf.config.optimizer.set_experimental_options(
        {"arithmetic_optimization": False}
    )


def make_training_step(
    strategy: tf.distribute.Strategy,
    streams: keras.Model,
    trainer: classifier_trainer.ClassifierTrainer,
    optimizer: keras.optimizers.Optimizer,
    schedule: StepDecay,
    train_config: config.TrainConfig,
    is_head: tf.Tensor,
    *,
    collectives: Collectives | None = None,
    logit_offset: tf.Tensor | None = None,
) -> Callable[..., dict[str, tf.Tensor]]:
    """Builds the function that trains on one batch.

    Args:
        trainer: of the classifier.
        is_head: `[num_classes]` float32, 1 for head classes.
        collectives: of the job; None: this process is alone.
        logit_offset: `[classes of this worker]` float32 or None.

    Returns:
        A function of this worker's batch (see
        `dataset.make_training_dataset`), the scalar float32 weight of the
        global batch, the scalar int64 step, and a scalar float32 that is
        summed and returned as `asked_to_stop`. It updates the model, unless
        something is not finite on any worker, and returns sums over the
        global batch: `loss`, `loss_visual`, `loss_mixed` (already divided by
        the weight), `num_head`, `num_tail` rows and `correct_head`,
        `correct_tail` of the visual stream, `entropy` (of the word weights,
        1 = mean pooling) and `num_titles` it counts; and `learning_rate`,
        `is_finite` and, with clipping, `gradient_norm`.
    """
    collectives = collectives or Collectives()
    cotrain = "x_m" in streams.output
    sum_names = _VISUAL_SUMS + (_COTRAIN_SUMS if cotrain else ())
    variables = streams.trainable_variables
    # Only BatchNormalization has such; their mean over the workers is kept.
    statistics = [
        each
        for each in streams.non_trainable_variables
        if each.name in ("moving_mean", "moving_variance")
    ]
    backbone_ids = {
        id(variable)
        for variable in streams.get_layer("backbone").trainable_variables
    }

    def replica_step(
        batch: dict[str, tf.Tensor],
        total_weight: tf.Tensor,
        step: tf.Tensor,
        asked_to_stop: tf.Tensor,
    ) -> dict[str, tf.Tensor]:
        # === Forward ===
        old_statistics = [tf.identity(each.value) for each in statistics]
        inputs = {name: batch[name] for name in streams.input}
        outputs = streams(inputs, training=True)
        # Both streams pass the shared classifier as one stack of rows.
        rows = [outputs["x_v"]] + ([outputs["x_m"]] if cotrain else [])
        features = tf.concat(rows, axis=0)
        labels, weights = batch["label"], batch["weight"]
        upstream = losses.row_weights(
            weights,
            mixed_loss_weight=(
                train_config.mixed_loss_weight if cotrain else None
            ),
            total_weight=total_weight,
        )

        # === Classifier and backward ===
        learning_rate = schedule(step)
        head = trainer.step(
            features,
            tf.concat([labels] * len(rows), axis=0),
            upstream,
            learning_rate=learning_rate,
            step=tf.cast(optimizer.iterations.value, tf.int64),
            logit_offset=logit_offset,
        )
        gradients = tf.gradients(
            features,
            [variable.value for variable in variables],
            tf.cast(head.features_gradient, features.dtype),
            # Sums of two, where a tape has one AddN: see `make_repeatable`.
            aggregation_method=tf.AggregationMethod.EXPERIMENTAL_TREE,
        )
        sums = row_sums(batch, outputs, head, upstream)

        # === All workers ===
        scalars = [sums[name] for name in sum_names]
        packed = {
            "gradients": [tf.convert_to_tensor(each) for each in gradients],
            "row_gradients": head.row_gradients,
            "statistics": [
                each.value / collectives.num_workers for each in statistics
            ],
            "scalars": [tf.stack([*scalars, head.squared_norm, asked_to_stop])],
        }
        packed = tf.nest.pack_sequence_as(
            packed, collectives.all_reduce_packed(tf.nest.flatten(packed))
        )
        *scalars, squared_norm, asked_to_stop = tf.unstack(packed["scalars"][0])
        squares = [
            tf.reduce_sum(tf.square(each))
            for each in packed["gradients"] + packed["row_gradients"]
        ]
        # The visual stream alone on a frozen backbone has none but the head's.
        if squares:
            squared_norm += tf.add_n(squares)
        is_finite = head.is_finite & tf.math.is_finite(squared_norm)
        scale = tf.constant(1.0)
        if train_config.clip_norm:
            scale = tf.minimum(
                1.0, train_config.clip_norm / tf.sqrt(squared_norm)
            )

        # === Update ===
        def update() -> None:
            if head.finish is not None:
                head.finish(scale, packed["row_gradients"])
            for gradient, variable in zip(packed["gradients"], variables):
                apply(scale * gradient, variable, learning_rate)
            optimizer.iterations.assign_add(1)
            for variable, mean in zip(statistics, packed["statistics"]):
                variable.assign(mean)

        def skip() -> None:
            for variable, old in zip(statistics, old_statistics):
                variable.assign(old)

        tf.cond(is_finite, update, skip)
        results = dict(zip(sum_names, scalars)) | {
            "learning_rate": learning_rate,
            "is_finite": is_finite,
            "asked_to_stop": asked_to_stop,
        }
        if train_config.clip_norm:
            results["gradient_norm"] = tf.sqrt(squared_norm)
        return results

    def row_sums(
        batch: dict[str, tf.Tensor],
        outputs: dict[str, tf.Tensor],
        head: classifier_trainer.ClassifierStep,
        upstream: tf.Tensor,
    ) -> dict[str, tf.Tensor]:
        """Sums over this worker's rows."""
        weights, num_rows = batch["weight"], batch["weight"].shape[0]
        is_head_row = tf.gather(is_head, batch["label"])
        right = tf.cast(head.is_best[:num_rows], tf.float32)
        weighted = upstream * head.losses
        sums = {
            "loss": tf.reduce_sum(weighted),
            "loss_visual": tf.reduce_sum(weighted[:num_rows]),
            "num_head": tf.reduce_sum(weights * is_head_row),
            "num_tail": tf.reduce_sum(weights * (1 - is_head_row)),
            "correct_head": tf.reduce_sum(weights * is_head_row * right),
            "correct_tail": tf.reduce_sum(weights * (1 - is_head_row) * right),
        }
        if cotrain:
            # Lambda may be 0, the mixed loss is reported all the same.
            sums["loss_mixed"] = tf.reduce_sum(
                upstream[:num_rows] * head.losses[num_rows:]
            )
            sums["entropy"], sums["num_titles"] = attention_entropy(
                outputs["attention"], batch["title_ids"], weights
            )
        return sums

    def apply(
        gradient: tf.Tensor, variable: Any, learning_rate: tf.Tensor
    ) -> None:
        """Weight decay, the backbone's own pace, and the optimizer's rule."""
        if id(variable) in backbone_ids:
            learning_rate *= train_config.backbone_learning_rate_factor
        decays = len(variable.shape) > 1 and not _is_word_vectors(variable)
        if decays and train_config.weight_decay:
            decay = train_config.weight_decay * variable.value
            if train_config.optimizer == "adamw":
                variable.assign_sub(learning_rate * decay)
            else:
                gradient += decay
        optimizer.update_step(gradient, variable, learning_rate)

    @tf.function
    def training_step(
        batch: dict[str, tf.Tensor],
        total_weight: tf.Tensor,
        step: tf.Tensor,
        asked_to_stop: tf.Tensor,
    ) -> dict[str, tf.Tensor]:
        return strategy.run(
            replica_step, args=(batch, total_weight, step, asked_to_stop)
        )

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
