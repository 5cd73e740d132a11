"""Trains the class rows of a `ClassShardedDense` where they lie.

A step is forward, backward and update of one block of classes after another;
the gradient of more than one block never exists. A gradient tape over
`ClassShardedDense.loss` gives the same numbers and needs it whole.
"""

from collections.abc import Callable
from collections.abc import Sequence
from typing import Any
from typing import NamedTuple

import tensorflow as tf

from sicot_tf.checkpoints import row_slices
from sicot_tf.model.classifier import block_softmax
from sicot_tf.model.classifier import class_sampling
from sicot_tf.model.classifier import row_optimizers
from sicot_tf.model.classifier import sharded_softmax
from sicot_tf.model.classifier.class_rows import ClassRows
from sicot_tf.model.classifier.class_sharded_dense import ClassShardedDense


class ClassifierStep(NamedTuple):
    """What the rest of a training step needs to know of the classifier's.

    losses: `[batch]` float32, of this worker's examples, without weights.
    is_best: `[batch]` bool, whether no class beats the label.
    features_gradient: `[batch, dim + fixed_dim]` float32.
    is_finite: scalar bool, the same on every worker: whether features,
        weights and losses of all workers are finite. If not, no class row
        has changed.
    squared_norm: scalar float32, of the gradient of this worker's class rows;
        0 unless gradients are clipped.
    row_gradients: of a replicated classifier, kernels and biases in turn, to
        be summed over the workers; otherwise empty.
    finish: with clipping, or replicated, the class rows change only when this
        is called with the factor of the gradient and the summed row
        gradients; otherwise None, they have changed.
    """

    losses: tf.Tensor
    is_best: tf.Tensor
    features_gradient: tf.Tensor
    is_finite: tf.Tensor
    squared_norm: tf.Tensor
    row_gradients: list[tf.Tensor]
    finish: Callable[[tf.Tensor, list[tf.Tensor]], None] | None


class _Backward(NamedTuple):
    """What a way of going back gives; fields as in `ClassifierStep`.

    by_features: `[N, dim + fixed_dim]` float32, by the classes of this worker.
    """

    by_features: tf.Tensor
    squared_norm: tf.Tensor | float = 0.0
    row_gradients: Sequence[tf.Tensor] = ()
    finish: Callable[[tf.Tensor, list[tf.Tensor]], None] | None = None


class ClassifierTrainer:
    """Steps of the classifier, with the optimizer's slots beside its weights.

    Args:
        layer: built.
        optimizer: of the class rows.
        loss: of logit statistics and labels, see `sharded_softmax.LogitLoss`.
            None: cross-entropy with the layer's label smoothing.
        logit_offset: `[num_classes]` float32 added to the logits, or None.
        weight_decay: on kernels, not on biases.
        clip: whether gradients will be clipped by their global norm. It costs
            a Gram matrix of the gradients by logits, N / (6 dim) of the
            step's products, and without kept logits their recomputation.
        sample_rate: share of the classes that a step sees, see
            `class_sampling`. Other class rows, and their slots, stay as they
            are.
        replicated: whether every worker has all class rows, so that their
            gradients must be summed; the layer is then alone.
        seed: of the draws; with the step, they are a function of it.

    Raises:
        ValueError: if sampled classes can't do what is asked for.
    """

    def __init__(
        self,
        layer: ClassShardedDense,
        optimizer: row_optimizers.RowOptimizer,
        *,
        loss: sharded_softmax.LogitLoss | None = None,
        logit_offset: tf.Tensor | None = None,
        weight_decay: float = 0.0,
        clip: bool = False,
        sample_rate: float = 1.0,
        replicated: bool = False,
        seed: int = 0,
    ):
        self.layer = layer
        self.loss = loss or self._cross_entropy
        self.logit_offset = logit_offset
        self.clip = clip
        self.sample_rate = sample_rate
        self.replicated = replicated
        self.seed = seed
        self._check_sampling()
        self.class_rows = ClassRows(layer, optimizer, weight_decay)

    def _cross_entropy(
        self, statistics: sharded_softmax.LogitStatistics, _: tf.Tensor
    ) -> tf.Tensor:
        return sharded_softmax.cross_entropy(
            statistics, self.layer.label_smoothing
        )

    def _check_sampling(self) -> None:
        if not 0 < self.sample_rate <= 1:
            raise ValueError(
                f"Expected a sample_rate above 0, up to 1, received "
                f"{self.sample_rate}."
            )
        if self.sample_rate < 1 and (
            self.clip
            or self.replicated
            or sharded_softmax.reads_mean(self.loss)
        ):
            raise ValueError(
                "Sampled classes give neither the norm of the whole gradient "
                "nor the mean of all logits, and are drawn on each worker. "
                "Train without --sample_rate, or without --clip_norm, "
                "--classifier replicated and losses that need this mean, such "
                "as --label_smoothing."
            )

    def slices(self) -> list[row_slices.RowSlice]:
        """Class rows and slots as a checkpoint knows them."""
        return self.class_rows.slices()

    def step(
        self,
        features: tf.Tensor,
        labels: tf.Tensor,
        weights: tf.Tensor,
        *,
        learning_rate: tf.Tensor,
        step: tf.Tensor,
    ) -> ClassifierStep:
        """Forward, backward, and unless gradients are clipped the update.

        Args:
            features: `[batch, dim + fixed_dim]` float, as many on every
                worker.
            labels: `[batch]` int64.
            weights: `[batch]` float32; what is minimised is the sum of losses
                times weights over all workers.
            learning_rate: scalar float32.
            step: scalar int64, updates made before this one.
        """
        # === Down to the class rows ===
        layer = self.layer
        examples = sharded_softmax.gather_examples(
            layer.collectives,
            tf.cast(features, layer.compute_dtype),
            labels,
            weights,
            num_classes=layer.num_classes,
        )
        views = layer.views(layer.blocks, examples.labels, self.logit_offset)
        draws = self._draw(views, step) if self.sample_rate < 1 else []
        found = layer.forward(
            examples.features, [draw.view for draw in draws] or views
        )

        # === And back ===
        losses, of_loss = sharded_softmax.differentiate(
            self.loss, found, examples, layer.num_classes
        )
        is_finite = _is_finite(losses, examples)
        update = block_softmax.Update(learning_rate, step, tf.constant(1.0))
        back = self._backward(
            is_finite, draws, examples.features, found.blocks, of_loss, update
        )
        # Relative to the maximum, no logit is above 0.
        is_best = found.statistics.target >= 0.0
        return ClassifierStep(
            losses=sharded_softmax.own_examples(layer.collectives, losses),
            is_best=sharded_softmax.own_examples(layer.collectives, is_best),
            features_gradient=layer.collectives.reduce_scatter(
                back.by_features
            ),
            is_finite=is_finite,
            squared_norm=tf.convert_to_tensor(back.squared_norm),
            row_gradients=list(back.row_gradients),
            finish=back.finish,
        )

    def _backward(
        self,
        is_finite: tf.Tensor,
        draws: list[class_sampling.Draw],
        features: tf.Tensor,
        *arguments: Any,
    ) -> _Backward:
        """One of three ways: class rows change now, or at the end."""
        if self.replicated:
            return self._sum_later(features, *arguments)
        if self.clip:
            return self._clip_later(features, *arguments)
        # Class rows change here: whether they may is decided before.
        by_features = tf.cond(
            is_finite,
            lambda: self._update(features, *arguments, draws),
            lambda: tf.zeros(features.shape, tf.float32),
        )
        return _Backward(by_features)

    # === Update at once ===

    def _update(
        self,
        features: tf.Tensor,
        blocks: list[block_softmax.Forward],
        of_loss: block_softmax.LossGradient,
        update: block_softmax.Update,
        draws: list[class_sampling.Draw],
    ) -> tf.Tensor:
        """New class rows; `[N, dim + fixed_dim]` gradient of the features."""

        def of_block(
            passed: block_softmax.Forward,
            slots: tuple[block_softmax.Block, ...],
        ) -> tf.Tensor:
            by_features, gradient = block_softmax.gradients(
                features, passed, of_loss
            )
            # While a product still reads the kernel, XLA would write another.
            with tf.control_dependencies([by_features]):
                done = self.class_rows.assign(
                    gradient, passed.view.block, slots, update
                )
            with tf.control_dependencies([done]):
                return tf.identity(by_features)

        def of_drawn(
            passed: block_softmax.Forward,
            slots: tuple[block_softmax.Block, ...],
            draw: class_sampling.Draw,
        ) -> tf.Tensor:
            by_features, gradient = block_softmax.gradients(
                features, passed, of_loss
            )
            self.class_rows.scatter(gradient, draw, slots, update)
            return by_features

        if draws:
            parts = sharded_softmax.in_turn(
                of_drawn, blocks, self.class_rows.slots, draws
            )
        else:
            parts = sharded_softmax.in_turn(
                of_block, blocks, self.class_rows.slots
            )
        return sharded_softmax.sum_in_order(parts)

    # === Update when the workers' gradients are summed ===

    def _sum_later(
        self,
        features: tf.Tensor,
        blocks: list[block_softmax.Forward],
        of_loss: block_softmax.LossGradient,
        update: block_softmax.Update,
    ) -> _Backward:
        """Gradients of a replicated classifier."""
        by_features, by_blocks = zip(
            *sharded_softmax.in_turn(
                lambda passed: block_softmax.gradients(
                    features, passed, of_loss
                ),
                blocks,
            )
        )

        def finish(scale: tf.Tensor, summed: list[tf.Tensor]) -> None:
            scaled = update._replace(scale=scale)
            pairs = zip(summed[::2], summed[1::2])
            for pair, passed, slots in zip(
                pairs, blocks, self.class_rows.slots
            ):
                self.class_rows.assign(
                    block_softmax.Block(*pair), passed.view.block, slots, scaled
                )

        return _Backward(
            sharded_softmax.sum_in_order(by_features),
            row_gradients=[each for block in by_blocks for each in block],
            finish=finish,
        )

    # === Update when the norm of all gradients is known ===

    def _clip_later(
        self,
        features: tf.Tensor,
        blocks: list[block_softmax.Forward],
        of_loss: block_softmax.LossGradient,
        update: block_softmax.Update,
    ) -> _Backward:
        """The norm of the class rows' gradient, which is made afterwards."""
        by_features, grams, by_logits = zip(
            *sharded_softmax.in_turn(
                lambda passed: block_softmax.norm_gradients(
                    features, passed, of_loss
                ),
                blocks,
            )
        )

        def finish(scale: tf.Tensor, _: list[tf.Tensor]) -> None:
            scaled = update._replace(scale=scale)

            def of_block(
                passed: block_softmax.Forward,
                of_logits: block_softmax.LogitGradients | None,
                slots: tuple[block_softmax.Block, ...],
            ) -> tf.Tensor:
                if of_logits is None:
                    of_logits = block_softmax.logit_gradients(
                        features, passed, of_loss
                    )
                gradient = block_softmax.block_gradient(
                    of_logits, features, passed.view.block
                )
                return self.class_rows.assign(
                    gradient, passed.view.block, slots, scaled
                )

            sharded_softmax.in_turn(
                of_block, blocks, by_logits, self.class_rows.slots
            )

        return _Backward(
            sharded_softmax.sum_in_order(by_features),
            squared_norm=block_softmax.squared_norm(
                self.layer.trained_features(features),
                sharded_softmax.sum_in_order(grams),
            ),
            finish=finish,
        )

    # === Sampled classes ===

    def _draw(
        self, views: list[block_softmax.View], step: tf.Tensor
    ) -> list[class_sampling.Draw]:
        """Classes of each block that this step sees."""
        seed = tf.random.experimental.stateless_fold_in(
            tf.constant([self.seed, 0], tf.int64), step
        )
        return [
            class_sampling.draw_classes(
                view,
                self.sample_rate,
                tf.random.experimental.stateless_fold_in(
                    seed, tf.constant(self.layer.first_class + number, tf.int64)
                ),
            )
            for number, view in enumerate(views)
        ]


def _is_finite(
    losses: tf.Tensor, examples: sharded_softmax.Examples
) -> tf.Tensor:
    """Whether a step may change the class rows; scalar bool."""
    # Squares, because features beyond 1e19 leave nothing of the class rows.
    return tf.reduce_all(
        [
            tf.math.is_finite(tf.nn.l2_loss(tf.cast(each, tf.float32)))
            for each in (losses, examples.features, examples.weights)
        ]
    )
