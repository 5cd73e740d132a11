"""Trains the rows of a `ClassShardedDense` where they lie.

A step is forward, backward and update of one block of classes after another;
the gradient of more than one block never exists. A gradient tape over
`ClassShardedDense.loss` gives the same numbers and needs it whole.
"""

from collections.abc import Callable
from collections.abc import Sequence
from typing import NamedTuple

import tensorflow as tf

from sicot_tf.checkpoints import row_slices
from sicot_tf.model.classifier import block_softmax
from sicot_tf.model.classifier import class_sharded_dense
from sicot_tf.model.classifier import row_optimizers


class ClassifierStep(NamedTuple):
    """What the rest of a training step needs to know of the classifier's.

    losses: `[batch]` float32, cross-entropy of this worker's rows, without
        weights. is_best: `[batch]` bool, whether no class beats the label.
    features_gradient: `[batch, dim]` float32.
    is_finite: scalar bool, the same on every worker: whether features,
        upstream gradient and losses of all workers are finite. If not, no row
        has changed.
    squared_norm: scalar float32, of the gradient of this worker's rows; 0
        unless gradients are clipped.
    row_gradients: of a replicated classifier, kernels and biases in turn, to
        be summed over the workers; otherwise empty.
    finish: with clipping, or replicated, the rows change only when this is
        called with the factor of the gradient and the summed row gradients;
        otherwise None, they have changed.
    """

    losses: tf.Tensor
    is_best: tf.Tensor
    features_gradient: tf.Tensor
    is_finite: tf.Tensor
    squared_norm: tf.Tensor
    row_gradients: list[tf.Tensor]
    finish: Callable[[tf.Tensor, list[tf.Tensor]], None] | None


class ClassifierTrainer:
    """Steps of the classifier, with the optimizer's slots beside the rows.

    Args:
        layer: built.
        optimizer: of the rows.
        weight_decay: on kernels, not on biases.
        clip: whether gradients will be clipped by their global norm. It costs
            a Gram matrix of the gradients by logits, N / (6 dim) of the
            step's products, and without kept logits their recomputation.
        sample_rate: share of the classes that a step sees (Partial FC,
            arXiv 2203.15565). Classes of the batch are always among them, the
            rest is drawn for each block, and counts for those left out:
            exponentials are divided by the chance to be drawn, so that their
            expected sum is that of all classes. Rows not drawn, and their
            slots, stay as they are.
        replicated: whether every worker has all rows, so that their
            gradients must be summed; the layer is then alone.
        seed: of the draws; with the step, they are a function of it.
    """

    def __init__(
        self,
        layer: class_sharded_dense.ClassShardedDense,
        optimizer: row_optimizers.RowOptimizer,
        *,
        weight_decay: float = 0.0,
        clip: bool = False,
        sample_rate: float = 1.0,
        replicated: bool = False,
        seed: int = 0,
    ):
        if not 0 < sample_rate <= 1:
            raise ValueError(
                f"Expected a sample_rate above 0, up to 1, received "
                f"{sample_rate}."
            )
        if sample_rate < 1 and (clip or layer.label_smoothing or replicated):
            raise ValueError(
                "Sampled classes give neither the norm of the whole gradient "
                "nor the mean of all logits, and are drawn on each worker. "
                "Train without --sample_rate, or without --clip_norm, "
                "--label_smoothing and --classifier replicated."
            )
        self.layer = layer
        self.optimizer = optimizer
        self.weight_decay = weight_decay
        self.clip = clip
        self.sample_rate = sample_rate
        self.replicated = replicated
        self.seed = seed
        self.slots = [
            tuple(
                block_softmax.Block(
                    *(
                        tf.Variable(tf.zeros_like(each), trainable=False)
                        for each in block
                    )
                )
                for _ in optimizer.slot_names
            )
            for block in layer.blocks
        ]
        # Compiled once for each size of block, of which there are two.
        self._assign_in_place = tf.function(self._assign, jit_compile=True)
        self._updated = tf.function(self._updated, jit_compile=True)

    def slices(self) -> list[row_slices.RowSlice]:
        """Rows and slots as a checkpoint knows them."""
        slices = self.layer.slices()
        for (first, _), slots in zip(self.layer.block_ranges(), self.slots):
            for slot_name, slot in zip(self.optimizer.slot_names, slots):
                for name, variable in slot._asdict().items():
                    slices.append(
                        self.layer.row_slice(
                            f"{name}/{slot_name}", variable, first
                        )
                    )
        return slices

    def step(
        self,
        features: tf.Tensor,
        labels: tf.Tensor,
        upstream: tf.Tensor,
        *,
        learning_rate: tf.Tensor,
        step: tf.Tensor,
        logit_offset: tf.Tensor | None = None,
    ) -> ClassifierStep:
        """Forward, backward, and unless gradients are clipped the update.

        Args:
            features: `[batch, dim]` float, as many rows on every worker.
            labels: `[batch]` int64.
            upstream: `[batch]` float32, gradient of the loss by each row's
                cross-entropy: its weight over the total weight.
            learning_rate: scalar float32.
            step: scalar int64, updates made before this one.
            logit_offset: `[classes of this worker]` float32 or None.
        """
        layer = self.layer
        features = tf.cast(features, layer.compute_dtype)
        rows = layer.gather_rows(features, labels, upstream)
        sampled = self.sample_rate < 1
        views = layer.views(layer.blocks, rows.labels, logit_offset)
        if sampled:
            draws = [
                self._draw(number, view, step)
                for number, view in enumerate(views)
            ]
            views = [draw.view for draw in draws]
        forward = layer.forward(rows.features, views)
        backward = layer.backward(forward, rows.weights)
        losses = layer.cross_entropies(forward)
        # Squares, because features beyond 1e19 leave nothing of the rows.
        is_finite = tf.reduce_all(
            [
                tf.math.is_finite(tf.nn.l2_loss(tf.cast(each, tf.float32)))
                for each in (losses, rows.features, rows.weights)
            ]
        )
        update = block_softmax.Update(learning_rate, step, tf.constant(1.0))
        squared_norm, row_gradients, finish = tf.constant(0.0), [], None
        if self.replicated:
            by_features, row_gradients, finish = self._gradients(
                rows, views, forward, backward, update
            )
        elif self.clip:
            by_features, squared_norm, finish = self._norms(
                rows, views, forward, backward, update
            )
        else:
            # Rows change here: whether they may is decided before.
            by_features = tf.cond(
                is_finite,
                lambda: self._update(
                    rows,
                    draws if sampled else views,
                    forward,
                    backward,
                    update,
                ),
                lambda: tf.zeros(rows.features.shape, tf.float32),
            )
        statistics = forward.statistics
        return ClassifierStep(
            losses=layer.own_rows(losses),
            is_best=layer.own_rows(statistics.target >= statistics.maximum),
            features_gradient=layer.collectives.reduce_scatter(by_features),
            is_finite=is_finite,
            squared_norm=squared_norm,
            row_gradients=row_gradients,
            finish=finish,
        )

    def _update(
        self,
        rows: class_sharded_dense.Rows,
        views: list,
        forward: class_sharded_dense.Forward,
        backward: block_softmax.Backward,
        update: block_softmax.Update,
    ) -> tf.Tensor:
        """New rows, block by block; `[N, dim]` gradient of the features."""
        one_block = (
            self._update_drawn
            if self.sample_rate < 1
            else self._update_in_place
        )
        parts: list[tf.Tensor] = []
        for view, maximum, kept, slots in zip(
            views, forward.maxima, forward.kept, self.slots
        ):
            # One after the other, or the memory of several blocks is needed.
            with tf.control_dependencies(parts[-1:]):
                parts.append(
                    one_block(
                        rows.features,
                        view,
                        maximum,
                        kept,
                        backward,
                        slots,
                        update,
                    )
                )
        return tf.add_n(parts)

    def _update_in_place(
        self,
        features: tf.Tensor,
        view: block_softmax.View,
        maximum: tf.Tensor,
        kept: tf.Tensor | None,
        backward: block_softmax.Backward,
        slots: tuple[block_softmax.Block, ...],
        update: block_softmax.Update,
    ) -> tf.Tensor:
        """Backward pass and update of one block of variables."""
        by_features, gradient = block_softmax.gradients(
            features, view, maximum, kept, backward
        )
        # While a product still reads the kernel, XLA would write another.
        with tf.control_dependencies([by_features]):
            done = self._assign_in_place(gradient, view.block, slots, update)
        with tf.control_dependencies([done]):
            return tf.identity(by_features)

    def _assign(
        self,
        gradient: block_softmax.Block,
        block: block_softmax.Block,
        slots: tuple[block_softmax.Block, ...],
        update: block_softmax.Update,
    ) -> tf.Tensor:
        """New values of a block's variables; something to wait for."""
        new_blocks = self._updated(gradient, block, slots, update)
        for variables, values in zip((block, *slots), new_blocks):
            for variable, value in zip(variables, values):
                variable.assign(value)
        return update.scale + 0.0

    def _updated(
        self,
        gradient: block_softmax.Block,
        block: block_softmax.Block,
        slots: tuple[block_softmax.Block, ...],
        update: block_softmax.Update,
    ) -> tuple[block_softmax.Block, ...]:
        """New rows and slots."""
        new_block, new_slots = block_softmax.updated_block(
            gradient,
            block,
            slots,
            update,
            self.optimizer,
            self.weight_decay,
        )
        return new_block, *new_slots

    # === Replicated ===

    def _gradients(
        self,
        rows: class_sharded_dense.Rows,
        views: list[block_softmax.View],
        forward: class_sharded_dense.Forward,
        backward: block_softmax.Backward,
        update: block_softmax.Update,
    ) -> tuple[tf.Tensor, list[tf.Tensor], Callable]:
        """Gradients of features and rows, which wait for the other workers'."""
        by_features: list[tf.Tensor] = []
        row_gradients: list[tf.Tensor] = []
        for view, maximum, kept in zip(views, forward.maxima, forward.kept):
            with tf.control_dependencies(by_features[-1:]):
                part, gradient = block_softmax.gradients(
                    rows.features, view, maximum, kept, backward
                )
            by_features.append(part)
            row_gradients += gradient

        def finish(scale: tf.Tensor, summed: list[tf.Tensor]) -> None:
            scaled = update._replace(scale=scale)
            pairs = zip(summed[::2], summed[1::2])
            for pair, view, slots in zip(pairs, views, self.slots):
                self._assign_in_place(
                    block_softmax.Block(*pair), view.block, slots, scaled
                )

        return tf.add_n(by_features), row_gradients, finish

    # === Clipping ===

    def _norms(
        self,
        rows: class_sharded_dense.Rows,
        views: list[block_softmax.View],
        forward: class_sharded_dense.Forward,
        backward: block_softmax.Backward,
        update: block_softmax.Update,
    ) -> tuple[tf.Tensor, tf.Tensor, Callable]:
        """Gradient of the features, squared norm of the rows', and the rest."""
        by_features: list[tf.Tensor] = []
        grams, kept_gradients = [], []
        for view, maximum, kept in zip(views, forward.maxima, forward.kept):
            with tf.control_dependencies(by_features[-1:] + grams[-1:]):
                part, gram, of_logits = block_softmax.norm_gradients(
                    rows.features,
                    view,
                    maximum,
                    kept,
                    backward,
                    keep=kept is not None,
                )
            by_features.append(part)
            grams.append(gram)
            kept_gradients.append(of_logits)
        squared_norm = block_softmax.squared_norm(
            rows.features, tf.add_n(grams)
        )

        def finish(scale: tf.Tensor, _: Sequence[tf.Tensor] = ()) -> None:
            scaled = update._replace(scale=scale)
            done: list[tf.Tensor] = []
            for view, of_logits, slots in zip(
                views, kept_gradients, self.slots
            ):
                with tf.control_dependencies(done[-1:]):
                    if of_logits is None:
                        of_logits = block_softmax.logit_gradients(
                            rows.features, view, None, None, backward
                        )
                    gradient = block_softmax.block_gradient(
                        of_logits, rows.features
                    )
                    done.append(
                        self._assign_in_place(
                            gradient, view.block, slots, scaled
                        )
                    )

        return tf.add_n(by_features), squared_norm, finish

    # === Sampled classes ===

    def _draw(
        self, number: int, view: block_softmax.View, step: tf.Tensor
    ) -> "_Draw":
        """Classes of a block that this step sees."""
        num_rows = view.block.bias.shape[0]
        num_labels = view.labels.shape[0]
        # One more than labels, or the others might have no chance.
        num_drawn = min(
            num_rows,
            max(-int(-self.sample_rate * num_rows // 1), num_labels + 1),
        )
        seed = tf.random.experimental.stateless_fold_in(
            tf.random.experimental.stateless_fold_in(
                tf.constant([self.seed, 0], tf.int64), step
            ),
            tf.constant(self.layer.first_class + number, tf.int64),
        )
        inside = (view.labels >= 0) & (view.labels < num_rows)
        positives = tf.boolean_mask(view.labels, inside)
        keys = tf.random.stateless_uniform([num_rows], seed)
        # Above all others, which are below 1.
        keys = tf.tensor_scatter_nd_update(
            keys, positives[:, None], tf.fill(tf.shape(positives), 2.0)
        )
        drawn = tf.math.top_k(keys, num_drawn, sorted=False).indices
        drawn = tf.cast(tf.sort(drawn), tf.int64)
        # Where the labels stand among the drawn.
        positions = tf.searchsorted(drawn, view.labels, out_type=tf.int64)
        labels = tf.where(inside, positions, -1)
        is_positive = tf.gather(keys, drawn) >= 2.0
        num_positives = tf.reduce_sum(tf.cast(is_positive, tf.float32))
        chance = tf.math.divide_no_nan(
            num_drawn - num_positives, num_rows - num_positives
        )
        offset = tf.where(is_positive, 0.0, -tf.math.log(chance))
        if view.offset is not None:
            offset += tf.gather(view.offset, drawn)
        block = block_softmax.Block(
            *(tf.gather(each, drawn) for each in view.block)
        )
        return _Draw(
            block_softmax.View(block, labels, offset), drawn, view.block
        )

    def _update_drawn(
        self,
        features: tf.Tensor,
        draw: "_Draw",
        maximum: tf.Tensor,
        kept: tf.Tensor | None,
        backward: block_softmax.Backward,
        slots: tuple[block_softmax.Block, ...],
        update: block_softmax.Update,
    ) -> tf.Tensor:
        """Backward pass and update of the drawn rows and their slots."""
        drawn_slots = tuple(
            block_softmax.Block(*(tf.gather(each, draw.drawn) for each in slot))
            for slot in slots
        )
        by_features, gradient = block_softmax.gradients(
            features, draw.view, maximum, kept, backward
        )
        new_blocks = self._updated(
            gradient, draw.view.block, drawn_slots, update
        )
        for variables, values in zip((draw.variables, *slots), new_blocks):
            for variable, value in zip(variables, values):
                variable.scatter_update(tf.IndexedSlices(value, draw.drawn))
        return by_features


class _Draw(NamedTuple):
    """Drawn classes of a block.

    view: copies of their rows. drawn: `[num_drawn]` int64, positions in the
    block, ascending. variables: the whole block.
    """

    view: block_softmax.View
    drawn: tf.Tensor
    variables: block_softmax.Block
