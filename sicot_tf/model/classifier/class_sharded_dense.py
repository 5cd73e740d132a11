"""A dense classifier whose classes are split over the workers.

Features travel, weights do not: each worker holds the class rows of a range of
classes and computes the logits of all workers' features against them. The
softmax is put together from four numbers for each example and worker.
"""

from collections.abc import Iterator
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from sicot_tf.checkpoints import row_slices
from sicot_tf.model.classifier import block_softmax
from sicot_tf.model.classifier import sharded_softmax
from sicot_tf.workers.collectives import Collectives

# Initial class rows are drawn by so many at once, each draw by its number.
_ROWS_OF_A_DRAW = 1024


def class_range(
    num_classes: int, num_workers: int, worker_index: int
) -> tuple[int, int]:
    """First class of a worker, and the one after its last.

    The first `num_classes % num_workers` workers hold one class more.
    """
    quotient, rest = divmod(num_classes, num_workers)
    first = worker_index * quotient + min(worker_index, rest)
    return first, first + quotient + (worker_index < rest)


@keras.saving.register_keras_serializable(package="sicot_tf")
class ClassShardedDense(keras.layers.Layer):
    """Softmax regression over many classes, a range of them on each worker.

    Args:
        num_classes: of all workers together.
        seed: with the number of a class, decides its initial row, whatever
            the number of workers. None: zeros, to be restored.
        label_smoothing: of `loss`: share of the label's probability that is
            spread over all classes.
        logit_memory: bytes of logits that a step may keep for the backward
            pass; beyond, they are computed a second time.
        block_size: classes whose logits are computed at once.
        fixed_dim: so many of the features, the last, meet `fixed` rows. These
            are zeros until they are assigned, and have no gradient.
        collectives: of the job; None: this process is alone.

    The layer's configuration holds no word of the workers. A Keras file holds
    its weights if one process holds them all; those of several workers lie in
    the sliced checkpoint (`slices`).
    """

    def __init__(
        self,
        num_classes: int,
        *,
        seed: int | None = 0,
        label_smoothing: float = 0.0,
        logit_memory: int = 256 * 2**20,
        block_size: int = 16_384,
        fixed_dim: int = 0,
        collectives: Collectives | None = None,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self.num_classes = num_classes
        self.seed = seed
        self.label_smoothing = label_smoothing
        self.logit_memory = logit_memory
        self.block_size = block_size
        self.fixed_dim = fixed_dim
        self.collectives = collectives or Collectives()
        num_workers = self.collectives.num_workers
        if num_classes < num_workers:
            raise ValueError(
                f"Expected at least one class for each of the {num_workers} "
                f"workers, received {num_classes} classes. Train with fewer "
                "workers, or with --classifier replicated."
            )
        self.first_class, self.last_class = class_range(
            num_classes, num_workers, self.collectives.worker_index
        )

    # === Weights ===

    def build(self, input_shape: tuple) -> None:
        """Makes the class rows of this worker, in blocks."""
        self.embedding_dim = int(input_shape[-1]) - self.fixed_dim
        self.kernels, self.biases, self.fixed = [], [], []
        for number, (first, last) in enumerate(self.block_ranges()):
            self.kernels.append(
                self.add_weight(
                    shape=(last - first, self.embedding_dim),
                    initializer=(
                        "zeros"
                        if self.seed is None
                        else self._initial_rows(first)
                    ),
                    # `block_softmax` casts them itself.
                    autocast=False,
                    name=f"kernel_{number}",
                )
            )
            self.biases.append(
                self.add_weight(
                    shape=(last - first,),
                    initializer="zeros",
                    autocast=False,
                    name=f"bias_{number}",
                )
            )
            if self.fixed_dim:
                self.fixed.append(
                    self.add_weight(
                        shape=(last - first, self.fixed_dim),
                        initializer="zeros",
                        trainable=False,
                        autocast=False,
                        name=f"fixed_{number}",
                    )
                )

    def block_ranges(self) -> Iterator[tuple[int, int]]:
        """First class and the one after the last, for each block."""
        num_classes = self.last_class - self.first_class
        # Of at most two sizes, so that XLA compiles at most two programs.
        num_blocks = -(-num_classes // self.block_size)
        for number in range(num_blocks):
            first, last = class_range(num_classes, num_blocks, number)
            yield self.first_class + first, self.first_class + last

    @property
    def blocks(self) -> list[block_softmax.Block]:
        """The weights of this worker as TensorFlow variables."""
        return [
            block_softmax.Block(kernel.value, bias.value)
            for kernel, bias in zip(self.kernels, self.biases)
        ]

    @property
    def fixed_blocks(self) -> list[tf.Variable | None]:
        """The fixed rows of each block; None without any."""
        return [each.value for each in self.fixed] or [None] * len(self.kernels)

    def trained_features(self, features: tf.Tensor) -> tf.Tensor:
        """`[N, dim]`: the features without those that meet fixed rows."""
        return features[:, : self.embedding_dim] if self.fixed_dim else features

    def _initial_rows(self, first_class: int) -> Any:
        """Glorot's uniform values, each row by its class and the seed."""
        limit = np.sqrt(6.0 / (self.num_classes + self.embedding_dim))

        def initializer(shape: tuple, dtype: Any = None) -> tf.Tensor:
            num_rows, dim = shape
            first_draw = first_class // _ROWS_OF_A_DRAW
            last_draw = (first_class + num_rows - 1) // _ROWS_OF_A_DRAW
            draws = [
                tf.random.stateless_uniform(
                    [_ROWS_OF_A_DRAW, dim], [self.seed, draw], -limit, limit
                )
                for draw in range(first_draw, last_draw + 1)
            ]
            skipped = first_class - first_draw * _ROWS_OF_A_DRAW
            rows = tf.concat(draws, axis=0)[skipped : skipped + num_rows]
            return tf.cast(rows, dtype or tf.float32)

        return initializer

    def slices(self) -> list[row_slices.RowSlice]:
        """The class rows as a checkpoint knows them."""
        return [
            self.row_slice(name, variable, first)
            for (first, _), variables in zip(
                self.block_ranges(), self._named_variables()
            )
            for name, variable in variables.items()
        ]

    def _named_variables(self) -> list[dict[str, tf.Variable]]:
        """Of each block: kernel, bias and, if there are any, fixed rows."""
        return [
            block._asdict() | ({} if fixed is None else {"fixed": fixed})
            for block, fixed in zip(self.blocks, self.fixed_blocks)
        ]

    def row_slice(
        self, name: str, variable: tf.Variable, first_class: int
    ) -> row_slices.RowSlice:
        """Class rows, or what an optimizer holds for them."""
        return row_slices.RowSlice(
            name=f"{self.name}/{name}",
            variable=variable,
            first_row=first_class,
            total_rows=self.num_classes,
            row_axis="classes",
        )

    def save_own_variables(self, store: Any) -> None:
        """Keras files: one kernel and one bias of all classes.

        Raises:
            ValueError: on one of several workers.
        """
        if self.collectives.num_workers > 1:
            raise ValueError(
                f"Expected all classes in one process, received those from "
                f"{self.first_class} to {self.last_class - 1} of "
                f"{self.num_classes}, on one of "
                f"{self.collectives.num_workers} workers. Save a checkpoint "
                "of all workers (sicot_tf.checkpoints, layer.slices()), which "
                "one process can restore and save as a Keras file."
            )
        variables = self._named_variables()
        for name in variables[0]:
            parts = [each[name].numpy() for each in variables]
            store[name] = np.concatenate(parts)

    def load_own_variables(self, store: Any) -> None:
        """Own class rows from a Keras file of all classes.

        Raises:
            ValueError: if the file has no or other class rows.
        """
        shapes = {
            "kernel": (self.num_classes, self.embedding_dim),
            "bias": (self.num_classes,),
        }
        if self.fixed_dim:
            shapes["fixed"] = (self.num_classes, self.fixed_dim)
        for name, shape in shapes.items():
            values = store[name] if name in store else None
            if values is None or values.shape != shape:
                found = "none" if values is None else f"{values.shape}"
                raise ValueError(
                    f"Expected a {name} of shape {shape} in the file for "
                    f"{self.name}, received {found}. The file is of a "
                    "classifier with other classes or features; build the "
                    "layer like the one that was saved."
                )
            for (first, last), variables in zip(
                self.block_ranges(), self._named_variables()
            ):
                variables[name].assign(values[first:last])

    # === Logits, loss, best classes ===

    def call(self, features: tf.Tensor) -> tf.Tensor:
        """`[batch, dim + fixed_dim]` to logits of own classes, float32.

        On one worker these are all classes, and the layer equals
        `keras.layers.Dense`.
        """
        parts = [
            block_softmax.logits(features, block, fixed=fixed)
            for block, fixed in zip(self.blocks, self.fixed_blocks)
        ]
        return parts[0] if len(parts) == 1 else tf.concat(parts, axis=1)

    def loss(
        self,
        features: tf.Tensor,
        labels: tf.Tensor,
        example_weights: tf.Tensor | None = None,
        *,
        logit_offset: tf.Tensor | None = None,
    ) -> tf.Tensor:
        """Weighted softmax cross-entropy of each example, over all classes.

        Differentiable by features, kernels and biases, exactly so for any
        upstream gradient. The gradients of kernels and biases are already
        sums over the examples of all workers and must not be reduced again.
        Every worker calls it with the same number of examples.

        Args:
            features: `[batch, dim + fixed_dim]` float.
            labels: `[batch]` integer, from 0 to `num_classes - 1`.
            example_weights: `[batch]` float32, 1 where None; 0 for padding.
            logit_offset: `[num_classes]` float32 added to the logits, for
                example `tau * log(prior)`.

        Returns:
            `[batch]` float32.
        """
        losses = self._cross_entropies(features, labels, logit_offset)
        return losses if example_weights is None else example_weights * losses

    def _cross_entropies(
        self,
        features: tf.Tensor,
        labels: tf.Tensor,
        logit_offset: tf.Tensor | None,
    ) -> tf.Tensor:
        """`loss` of examples of weight 1."""

        @tf.custom_gradient
        def cross_entropies(
            features: tf.Tensor, *weights: tf.Tensor
        ) -> tuple[tf.Tensor, Any]:
            blocks = [
                block_softmax.Block(*pair)
                for pair in zip(weights[::2], weights[1::2])
            ]
            examples = sharded_softmax.gather_examples(
                self.collectives,
                features,
                labels,
                num_classes=self.num_classes,
            )
            found = self.forward(
                examples.features,
                self.views(blocks, examples.labels, logit_offset),
            )
            losses = sharded_softmax.cross_entropy(
                found.statistics, self.label_smoothing
            )

            def gradient(upstream: tf.Tensor) -> tuple[tf.Tensor, ...]:
                by_features, by_blocks = self._gradients(
                    examples.features, found, upstream
                )
                return tf.cast(by_features, features.dtype), *by_blocks

            return self._own(losses), gradient

        return cross_entropies(
            tf.cast(features, self.compute_dtype),
            *(
                tf.convert_to_tensor(each)
                for block in self.blocks
                for each in block
            ),
        )

    def _gradients(
        self,
        features: tf.Tensor,
        found: sharded_softmax.Forward,
        upstream: tf.Tensor,
    ) -> tuple[tf.Tensor, list[tf.Tensor]]:
        """Of the cross-entropies by own features, kernels and biases."""
        upstream = self.collectives.gather(upstream)
        smoothing = self.label_smoothing
        of_loss = sharded_softmax.loss_gradient(
            found,
            by_log_normalizer=upstream,
            by_target=(smoothing - 1) * upstream,
            by_mean=-smoothing * upstream if smoothing else None,
            num_classes=self.num_classes,
        )
        by_features, by_blocks = zip(
            *sharded_softmax.in_turn(
                lambda block: block_softmax.gradients(features, block, of_loss),
                found.blocks,
            )
        )
        return (
            self.collectives.reduce_scatter(
                sharded_softmax.sum_in_order(by_features)
            ),
            [each for block in by_blocks for each in block],
        )

    def top_k(self, features: tf.Tensor, k: int) -> tuple[tf.Tensor, tf.Tensor]:
        """The best classes of each example among those of all workers.

        Args:
            features: `[batch, dim + fixed_dim]` float, as many on every
                worker.
            k: at most `num_classes`.

        Returns:
            Logits `[batch, k]` float32, best first, and classes `[batch, k]`
            int64; of equal logits the lowest class comes first.
        """
        if not 1 <= k <= self.num_classes:
            raise ValueError(
                f"Expected k from 1 to {self.num_classes}, the number of "
                f"classes, received {k}."
            )
        features = sharded_softmax.gather_features(
            self.collectives, tf.cast(features, self.compute_dtype)
        )
        values, classes = self._top_k_of_own_classes(features, k)
        if self.collectives.num_workers == 1:
            return values, classes
        # Of each worker's candidates, those for the examples of this one.
        words = tf.concat(
            [tf.bitcast(values, tf.int32), tf.cast(classes, tf.int32)], 1
        )
        words = self.collectives.gather(words[None])
        words = self._own(tf.transpose(words, [1, 0, 2]))
        num_examples = words.shape[0]
        values = tf.bitcast(words[..., :k], tf.float32)
        classes = tf.cast(words[..., k:], tf.int64)
        return _best(
            tf.reshape(values, [num_examples, -1]),
            tf.reshape(classes, [num_examples, -1]),
            k,
        )

    def _top_k_of_own_classes(
        self, features: tf.Tensor, k: int
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """`[N, k]` best among the classes of this worker."""

        def of_block(
            block: block_softmax.Block,
            fixed: tf.Variable | None,
            classes: tuple[int, int],
        ) -> tuple[tf.Tensor, tf.Tensor]:
            first, last = classes
            logits = block_softmax.logits(features, block, fixed=fixed)
            best, positions = tf.math.top_k(logits, min(k, last - first))
            return best, tf.cast(positions, tf.int64) + first

        values, classes = (
            tf.concat(each, axis=1)
            for each in zip(
                *sharded_softmax.in_turn(
                    of_block,
                    self.blocks,
                    self.fixed_blocks,
                    self.block_ranges(),
                )
            )
        )
        # A worker with fewer classes than k offers what can't win.
        missing = [[0, 0], [0, max(0, k - values.shape[1])]]
        values = tf.pad(values, missing, constant_values=-np.inf)
        classes = tf.pad(classes, missing, constant_values=self.num_classes)
        return _best(values, classes, k)

    # === For the loss above and for `classifier_trainer` ===

    def views(
        self,
        blocks: list[block_softmax.Block],
        labels: tf.Tensor,
        logit_offset: tf.Tensor | None = None,
    ) -> list[block_softmax.View]:
        """Blocks of weights with labels and offsets of their own classes."""
        return [
            block_softmax.View(
                block,
                labels - first,
                None if logit_offset is None else logit_offset[first:last],
                fixed,
            )
            for (first, last), block, fixed in zip(
                self.block_ranges(), blocks, self.fixed_blocks
            )
        ]

    def forward(
        self, features: tf.Tensor, views: list[block_softmax.View]
    ) -> sharded_softmax.Forward:
        """Statistics of `[N, ...]` features over the classes of all workers."""
        return sharded_softmax.forward(
            self.collectives,
            features,
            views,
            num_classes=self.num_classes,
            logit_memory=self.logit_memory,
        )

    def _own(self, tensor: tf.Tensor) -> tf.Tensor:
        return sharded_softmax.own_examples(self.collectives, tensor)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "num_classes": self.num_classes,
            "seed": self.seed,
            "label_smoothing": self.label_smoothing,
            "logit_memory": self.logit_memory,
            "block_size": self.block_size,
            "fixed_dim": self.fixed_dim,
        }


def _best(
    values: tf.Tensor, classes: tf.Tensor, k: int
) -> tuple[tf.Tensor, tf.Tensor]:
    """The k highest values of each example; of equal ones those to the left."""
    values, positions = tf.math.top_k(values, k)
    return values, tf.gather(classes, positions, axis=1, batch_dims=1)
