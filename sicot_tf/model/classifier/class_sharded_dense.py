"""A dense classifier whose classes are split over the workers.

Features travel, weights do not: each worker holds the rows of its classes,
computes the logits of all workers' features against them, and the softmax is
put together from four numbers a row and worker. With one worker it is the
same code without the collectives.
"""

from collections.abc import Iterator
from typing import Any
from typing import NamedTuple

import keras
import numpy as np
import tensorflow as tf

from sicot_tf.checkpoints import row_slices
from sicot_tf.model.classifier import block_softmax
from sicot_tf.workers.collectives import Collectives

# Initial rows are drawn by so many at once, each draw keyed by its number.
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


class Rows(NamedTuple):
    """The rows of all workers, in their order.

    features: `[N, dim]`; labels: `[N]` int64, of all classes; weights:
    `[N]` float32 or None.
    """

    features: tf.Tensor
    labels: tf.Tensor
    weights: tf.Tensor | None


class Forward(NamedTuple):
    """A forward pass over this worker's blocks.

    statistics: over the classes of all workers. maxima: `[N]` of each block.
    kept: `[N, num_rows]` of each block, or None.
    """

    statistics: block_softmax.Statistics
    maxima: list[tf.Tensor]
    kept: list[tf.Tensor | None]


@keras.saving.register_keras_serializable(package="sicot_tf")
class ClassShardedDense(keras.layers.Layer):
    """Softmax regression over many classes, a part of them on each worker.

    Args:
        num_classes: of all workers together.
        seed: with the number of a class, decides its initial row, whatever
            the number of workers. None: zeros, to be restored.
        label_smoothing: share of the label's probability that is spread over
            all classes.
        logit_memory: bytes of logits that a step may keep for the backward
            pass; beyond, they are computed a second time.
        block_size: classes whose logits are computed at once.
        collectives: of the job; None: this process is alone.

    The layer's configuration holds no word of the workers. Its rows lie in
    the sliced checkpoint (`slices`), not in a `.keras` file.
    """

    def __init__(
        self,
        num_classes: int,
        *,
        seed: int | None = 0,
        label_smoothing: float = 0.0,
        logit_memory: int = 256 * 2**20,
        block_size: int = 16_384,
        collectives: Collectives | None = None,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self.num_classes = num_classes
        self.seed = seed
        self.label_smoothing = label_smoothing
        self.logit_memory = logit_memory
        self.block_size = block_size
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
        """Makes the rows of this worker, in blocks."""
        self.embedding_dim = int(input_shape[-1])
        self.kernels, self.biases = [], []
        for number, (first, last) in enumerate(self.block_ranges()):
            self.kernels.append(
                self.add_weight(
                    shape=(last - first, self.embedding_dim),
                    initializer=(
                        "zeros"
                        if self.seed is None
                        else self._initial_rows(first)
                    ),
                    # `block_softmax` casts; in `call` as everywhere else.
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

    def block_ranges(self) -> Iterator[tuple[int, int]]:
        """First class and the one after the last, for each block."""
        num_rows = self.last_class - self.first_class
        # Of at most two sizes, so that XLA compiles at most two programs.
        num_blocks = -(-num_rows // self.block_size)
        for number in range(num_blocks):
            first, last = class_range(num_rows, num_blocks, number)
            yield self.first_class + first, self.first_class + last

    @property
    def blocks(self) -> list[block_softmax.Block]:
        """The weights of this worker as TensorFlow variables."""
        return [
            block_softmax.Block(kernel.value, bias.value)
            for kernel, bias in zip(self.kernels, self.biases)
        ]

    def _initial_rows(self, first_class: int) -> Any:
        """Glorot's uniform rows, each by its own number and the seed."""
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
        """The rows as a checkpoint knows them."""
        slices = []
        for (first, _), block in zip(self.block_ranges(), self.blocks):
            for name, variable in block._asdict().items():
                slices.append(self.row_slice(name, variable, first))
        return slices

    def row_slice(
        self, name: str, variable: tf.Variable, first_class: int
    ) -> row_slices.RowSlice:
        """Rows of this layer, or what an optimizer holds for them."""
        return row_slices.RowSlice(
            name=f"{self.name}/{name}",
            variable=variable,
            first_row=first_class,
            total_rows=self.num_classes,
            row_axis="classes",
        )

    def save_own_variables(self, store: Any) -> None:
        """Nothing: one worker's rows are no classifier."""

    def load_own_variables(self, store: Any) -> None:
        """Nothing; see `save_own_variables`."""

    # === Logits, loss, best classes ===

    def call(self, features: tf.Tensor) -> tf.Tensor:
        """`[batch, dim]` to logits of this worker's classes, float32.

        On one worker these are all classes, and the layer equals
        `keras.layers.Dense`.
        """
        parts = [block_softmax.logits(features, block) for block in self.blocks]
        return parts[0] if len(parts) == 1 else tf.concat(parts, axis=1)

    def loss(
        self,
        features: tf.Tensor,
        labels: tf.Tensor,
        row_weights: tf.Tensor | None = None,
        *,
        logit_offset: tf.Tensor | None = None,
    ) -> tf.Tensor:
        """Weighted softmax cross-entropy of each row, over all classes.

        Differentiable by features, kernels and biases, exactly so for any
        upstream gradient. The gradients of kernels and biases are already
        sums over the rows of all workers and must not be reduced again.
        Every worker calls it with the same number of rows.

        Args:
            features: `[batch, dim]` float.
            labels: `[batch]` integer, from 0 to `num_classes - 1`.
            row_weights: `[batch]` float32, 1 where None; 0 for padding,
                lambda for rows of the mixed stream.
            logit_offset: `[classes of this worker]` float32 added to the
                logits, for example `tau * log(prior)`.

        Returns:
            `[batch]` float32.
        """
        if row_weights is None:
            row_weights = tf.ones(tf.shape(labels), tf.float32)

        @tf.custom_gradient
        def cross_entropies(
            features: tf.Tensor, *weights: tf.Tensor
        ) -> tuple[tf.Tensor, Any]:
            blocks = [
                block_softmax.Block(*pair)
                for pair in zip(weights[::2], weights[1::2])
            ]
            rows = self.gather_rows(features, labels)
            views = self.views(blocks, rows.labels, logit_offset)
            forward = self.forward(rows.features, views)

            def gradient(upstream: tf.Tensor) -> tuple:
                backward = self.backward(
                    forward, self.collectives.gather(upstream)
                )
                by_features, by_weights = [], []
                for view, maximum, kept in zip(
                    views, forward.maxima, forward.kept
                ):
                    with tf.control_dependencies(by_features[-1:]):
                        part, block = block_softmax.gradients(
                            rows.features, view, maximum, kept, backward
                        )
                    by_features.append(part)
                    by_weights += block
                summed = self.collectives.reduce_scatter(tf.add_n(by_features))
                return tf.cast(summed, features.dtype), *by_weights

            return self.own_rows(self.cross_entropies(forward)), gradient

        weights = [
            tf.convert_to_tensor(each)
            for block in self.blocks
            for each in block
        ]
        features = tf.cast(features, self.compute_dtype)
        return row_weights * cross_entropies(features, *weights)

    def top_k(self, features: tf.Tensor, k: int) -> tuple[tf.Tensor, tf.Tensor]:
        """The best classes of each row among those of all workers.

        Args:
            features: `[batch, dim]` float, as many rows on every worker.
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
        num_rows, dim = features.shape
        features = tf.cast(features, self.compute_dtype)
        if self.collectives.num_workers > 1:
            # There is no gather of bfloat16.
            words = self.collectives.gather(_as_words(features))
            features = _from_words(words, features.dtype)[:, :dim]
        values, classes = [], []
        for (first, last), block in zip(self.block_ranges(), self.blocks):
            with tf.control_dependencies(values[-1:]):
                logits = block_softmax.logits(features, block)
            best, positions = tf.math.top_k(logits, min(k, last - first))
            values.append(best)
            classes.append(tf.cast(positions, tf.int64) + first)
        values, classes = tf.concat(values, 1), tf.concat(classes, 1)
        # A worker with fewer classes than k offers what can't win.
        missing = [[0, 0], [0, max(0, k - values.shape[1])]]
        values = tf.pad(values, missing, constant_values=-np.inf)
        classes = tf.pad(classes, missing, constant_values=self.num_classes)
        values, classes = _best(values, classes, k)
        if self.collectives.num_workers > 1:
            words = tf.concat(
                [tf.bitcast(values, tf.int32), tf.cast(classes, tf.int32)], 1
            )
            words = self.collectives.gather(words[None])
            words = self.own_rows(tf.transpose(words, [1, 0, 2]))
            values = tf.reshape(
                tf.bitcast(words[..., :k], tf.float32), [num_rows, -1]
            )
            classes = tf.reshape(
                tf.cast(words[..., k:], tf.int64), [num_rows, -1]
            )
            values, classes = _best(values, classes, k)
        return values, classes

    # === Parts of a step, for the loss above and for `classifier_trainer` ===

    def gather_rows(
        self,
        features: tf.Tensor,
        labels: tf.Tensor,
        weights: tf.Tensor | None = None,
    ) -> Rows:
        """The rows of all workers, in one collective."""
        labels = tf.cast(labels, tf.int64)
        with tf.control_dependencies(
            [
                tf.debugging.assert_non_negative(
                    labels, message="labels start at 0"
                ),
                tf.debugging.assert_less(
                    labels,
                    tf.constant(self.num_classes, tf.int64),
                    message=f"labels end before {self.num_classes}",
                ),
            ]
        ):
            labels = tf.identity(labels)
        if self.collectives.num_workers == 1:
            return Rows(features, labels, weights)
        # Bits, whatever they mean: as integers they stay what they are.
        dim = features.shape[1]
        columns = [_as_words(features), tf.bitcast(labels, tf.int32)]
        if weights is not None:
            columns.append(tf.bitcast(weights, tf.int32)[:, None])
        sizes = [each.shape[1] for each in columns]
        words = tf.split(
            self.collectives.gather(tf.concat(columns, axis=1)), sizes, axis=1
        )
        return Rows(
            _from_words(words[0], features.dtype)[:, :dim],
            tf.bitcast(words[1], tf.int64),
            None if weights is None else tf.bitcast(words[2], tf.float32)[:, 0],
        )

    def views(
        self,
        blocks: list[block_softmax.Block],
        labels: tf.Tensor,
        logit_offset: tf.Tensor | None = None,
    ) -> list[block_softmax.View]:
        """Blocks of weights with labels and offsets of their own classes."""
        found = []
        for (first, last), block in zip(self.block_ranges(), blocks):
            offset = None
            if logit_offset is not None:
                offset = logit_offset[
                    first - self.first_class : last - self.first_class
                ]
            found.append(block_softmax.View(block, labels - first, offset))
        return found

    def forward(
        self, features: tf.Tensor, views: list[block_softmax.View]
    ) -> Forward:
        """Statistics over all classes, in one collective."""
        num_logits = sum(view.block.bias.shape[0] for view in views)
        keep = (
            features.shape[0] is not None
            and 4 * features.shape[0] * num_logits <= self.logit_memory
        )
        parts, kept = [], []
        for view in views:
            # One after the other, or the memory of several blocks is needed.
            with tf.control_dependencies(parts[-1][:1] if parts else []):
                part, exponentials = block_softmax.statistics(
                    features, view, keep
                )
            parts.append(part)
            kept.append(exponentials)
        local = _merge(parts)
        gathered = self.collectives.gather(tf.stack(local)[None])
        of_workers = [
            block_softmax.Statistics(*tf.unstack(each))
            for each in tf.unstack(gathered)
        ]
        return Forward(
            _merge(of_workers), [each.maximum for each in parts], kept
        )

    def cross_entropies(self, forward: Forward) -> tf.Tensor:
        """`[N]` float32, the loss of each row of all workers."""
        return block_softmax.cross_entropies(
            forward.statistics, self.num_classes, self.label_smoothing
        )

    def backward(
        self, forward: Forward, upstream: tf.Tensor
    ) -> block_softmax.Backward:
        """What the backward pass of the blocks needs; upstream is `[N]`."""
        return block_softmax.Backward(
            forward.statistics.maximum,
            forward.statistics.exponentials,
            upstream,
            on_target=1.0 - self.label_smoothing,
            on_all=self.label_smoothing / self.num_classes,
        )

    def own_rows(self, tensor: tf.Tensor) -> tf.Tensor:
        """This worker's rows of `[N, ...]`."""
        if self.collectives.num_workers == 1:
            return tensor
        num_rows = tensor.shape[0] // self.collectives.num_workers
        first = self.collectives.worker_index * num_rows
        return tensor[first : first + num_rows]

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "num_classes": self.num_classes,
            "seed": self.seed,
            "label_smoothing": self.label_smoothing,
            "logit_memory": self.logit_memory,
            "block_size": self.block_size,
        }


def _merge(
    parts: list[block_softmax.Statistics],
) -> block_softmax.Statistics:
    """Statistics of blocks, or of workers, as those of all their classes."""
    if len(parts) == 1:
        return parts[0]
    stacked = [tf.stack(each) for each in zip(*parts)]
    return block_softmax.merge(block_softmax.Statistics(*stacked))


def _best(
    values: tf.Tensor, classes: tf.Tensor, k: int
) -> tuple[tf.Tensor, tf.Tensor]:
    """The k highest values of each row; of equal ones those to the left."""
    values, positions = tf.math.top_k(values, k)
    return values, tf.gather(classes, positions, axis=1, batch_dims=1)


def _as_words(features: tf.Tensor) -> tf.Tensor:
    """`[n, dim]` as 32-bit words; two bfloat16 make one."""
    if features.dtype.size == 4:
        return tf.bitcast(features, tf.int32)
    num_rows, dim = features.shape
    even = tf.pad(features, [[0, 0], [0, dim % 2]])
    return tf.bitcast(tf.reshape(even, [num_rows, -1, 2]), tf.int32)


def _from_words(words: tf.Tensor, dtype: tf.DType) -> tf.Tensor:
    """The features of `_as_words`, with its padding."""
    features = tf.bitcast(words, dtype)
    return tf.reshape(features, [words.shape[0], -1])
