"""Softmax cross-entropy over one block of classes at a time.

Everything between two collectives, in pure functions of tensors. XLA compiles
the passes over the logits: TensorFlow's own, one after the other, cost as much
as the matrix products. A product is where it is fastest; milliseconds on two
CPU cores, 100,000 classes, 128 rows, dim 128 / 512
(`python -m benchmarks.training.classifier_step` measures them again):

logits          XLA 18 / 70, TensorFlow (oneDNN) 22 / 103
by features     XLA 22 / 80, TensorFlow          17 / 62
by kernel       XLA 21 / 66, TensorFlow          17 / 63

N rows of features; a block holds `num_rows` classes. A label is local: the
position of its class in the block, and anything outside 0 to `num_rows - 1`
means that another block has it.
"""

from typing import NamedTuple

import tensorflow as tf

from sicot_tf.model.classifier import row_optimizers


class Block(NamedTuple):
    """Weights of some classes, as tensors or as variables.

    kernel: `[num_rows, dim]` float32. bias: `[num_rows]` float32.
    """

    kernel: tf.Tensor | tf.Variable
    bias: tf.Tensor | tf.Variable


class View(NamedTuple):
    """A block as one step sees it.

    labels: `[N]` int64, local. offset: `[num_rows]` float32 added to the
    logits, or None.
    """

    block: Block
    labels: tf.Tensor
    offset: tf.Tensor | None


class Statistics(NamedTuple):
    """What one block, or all of them, say of each row; `[N]` float32 each.

    maximum: of the logits. exponentials: sum of `exp(logit - maximum)`.
    target: logit of the label, 0 where another block has it.
    total: sum of the logits (for label smoothing).
    """

    maximum: tf.Tensor
    exponentials: tf.Tensor
    target: tf.Tensor
    total: tf.Tensor


def logits(
    features: tf.Tensor, block: Block, offset: tf.Tensor | None = None
) -> tf.Tensor:
    """`[N, num_rows]` float32; the product in the dtype of the features."""
    kernel = tf.cast(block.kernel, features.dtype)
    product = tf.matmul(features, kernel, transpose_b=True)
    constant = block.bias if offset is None else block.bias + offset
    return tf.cast(product, tf.float32) + constant


_compiled_logits = tf.function(logits, jit_compile=True)


def statistics(
    features: tf.Tensor, view: View, keep: bool
) -> tuple[Statistics, tf.Tensor | None]:
    """The forward pass of a block.

    Args:
        features: `[N, dim]` float32 or bfloat16.
        keep: whether the backward pass shall find the exponentials.

    Returns:
        Statistics, and `[N, num_rows]` float32 `exp(logit - maximum)`, or
        None.
    """
    values = _compiled_logits(features, view.block, view.offset)
    # XLA takes 7 ms for it where TensorFlow takes 4, of the 75 ms of a step.
    maximum = tf.reduce_max(values, axis=1)
    return _statistics(values, maximum, view.labels, keep)


@tf.function(jit_compile=True)
def _statistics(
    values: tf.Tensor, maximum: tf.Tensor, labels: tf.Tensor, keep: bool
) -> tuple[Statistics, tf.Tensor | None]:
    exponentials = tf.exp(values - maximum[:, None])
    inside = (labels >= 0) & (labels < values.shape[1])
    target = tf.gather(
        values, tf.where(inside, labels, 0), axis=1, batch_dims=1
    )
    found = Statistics(
        maximum,
        tf.reduce_sum(exponentials, axis=1),
        tf.where(inside, target, 0.0),
        tf.reduce_sum(values, axis=1),
    )
    return found, exponentials if keep else None


def merge(parts: Statistics) -> Statistics:
    """Statistics of several blocks, stacked on axis 0, as those of one."""
    maximum = tf.reduce_max(parts.maximum, axis=0)
    exponentials = tf.reduce_sum(
        parts.exponentials * tf.exp(parts.maximum - maximum), axis=0
    )
    return Statistics(
        maximum,
        exponentials,
        tf.reduce_sum(parts.target, axis=0),
        tf.reduce_sum(parts.total, axis=0),
    )


def cross_entropies(
    found: Statistics, num_classes: int, label_smoothing: float
) -> tf.Tensor:
    """`[N]` float32 from the statistics over all classes.

    Differences to the maximum come first: at logits of 1e4 the log of the
    sum of exponentials has steps of 1e-3 in float32.
    """
    losses = found.maximum - found.target
    if label_smoothing:
        mean = found.total / num_classes
        losses += label_smoothing * (found.target - mean)
    return losses + tf.math.log(found.exponentials)


class Backward(NamedTuple):
    """What the backward pass of every block needs, the same for each.

    maximum, exponentials: `[N]` float32, statistics over all classes.
    upstream: `[N]` float32, gradient of the loss by each row's cross-entropy.
    on_target, on_all: the wanted probability of the label is
        `on_target + on_all`, that of every other class `on_all`.
    """

    maximum: tf.Tensor
    exponentials: tf.Tensor
    upstream: tf.Tensor
    on_target: float
    on_all: float


class LogitGradients(NamedTuple):
    """Gradients by the logits of a block.

    by_logit: `[N, num_rows]` float32. by_bias: `[num_rows]` float32, their
    sum over the rows.
    """

    by_logit: tf.Tensor
    by_bias: tf.Tensor


@tf.function(jit_compile=True)
def logit_gradients(
    features: tf.Tensor,
    view: View,
    maximum: tf.Tensor,
    kept: tf.Tensor | None,
    backward: Backward,
) -> LogitGradients:
    """`upstream * (softmax - wanted)`.

    Args:
        maximum: `[N]` float32, of this block.
        kept: what `statistics` kept, or None to compute it again.
    """
    if kept is None:
        values = logits(features, view.block, view.offset)
        exponentials = tf.exp(values - backward.maximum[:, None])
        factor = backward.upstream / backward.exponentials
    else:
        # No second exponential of each logit.
        exponentials = kept
        factor = tf.exp(maximum - backward.maximum)
        factor *= backward.upstream / backward.exponentials
    num_rows = exponentials.shape[1]
    is_target = view.labels[:, None] == tf.range(num_rows, dtype=tf.int64)[None]
    wanted = tf.where(is_target, backward.on_target, 0.0) + backward.on_all
    by_logit = (
        exponentials * factor[:, None] - wanted * backward.upstream[:, None]
    )
    return LogitGradients(by_logit, tf.reduce_sum(by_logit, axis=0))


def gradients(
    features: tf.Tensor,
    view: View,
    maximum: tf.Tensor,
    kept: tf.Tensor | None,
    backward: Backward,
) -> tuple[tf.Tensor, Block]:
    """`[N, dim]` gradient of the features by this block, and the block's."""
    of_logits = logit_gradients(features, view, maximum, kept, backward)
    return (
        features_gradient(of_logits, features, view.block),
        block_gradient(of_logits, features),
    )


def norm_gradients(
    features: tf.Tensor,
    view: View,
    maximum: tf.Tensor,
    kept: tf.Tensor | None,
    backward: Backward,
    keep: bool,
) -> tuple[tf.Tensor, tf.Tensor, LogitGradients | None]:
    """The backward pass up to the block's own gradient, of which only norms.

    Returns:
        `[N, dim]` gradient of the features by this block, the Gram matrix
        `[N, N]` of the gradients by logits, and these gradients if `keep`.
    """
    of_logits = logit_gradients(features, view, maximum, kept, backward)
    return (
        features_gradient(of_logits, features, view.block),
        tf.matmul(of_logits.by_logit, of_logits.by_logit, transpose_b=True),
        of_logits if keep else None,
    )


def squared_norm(features: tf.Tensor, gram: tf.Tensor) -> tf.Tensor:
    """Squared norm of the gradient by kernel and bias, which is never made.

    The kernel's is `P^T X` and the bias's `P^T 1`, so their squared Frobenius
    norms add up to `sum((P P^T) * (X X^T + 1))`.

    Args:
        features: `[N, dim]`, X.
        gram: `[N, N]` float32, P P^T.
    """
    features = tf.cast(features, tf.float32)
    products = tf.matmul(features, features, transpose_b=True)
    return tf.reduce_sum(gram * (products + 1.0))


class Update(NamedTuple):
    """What an optimizer needs to know beside the gradient; scalars.

    learning_rate: float32; step: int64, updates made before; scale: float32,
    factor of the gradient (clipping).
    """

    learning_rate: tf.Tensor
    step: tf.Tensor
    scale: tf.Tensor


def updated_block(
    gradient: Block,
    block: Block,
    slots: tuple[Block, ...],
    update: Update,
    optimizer: row_optimizers.RowOptimizer,
    weight_decay: float,
) -> tuple[Block, tuple[Block, ...]]:
    """New weights and slots of a block, by its own gradient."""
    kernel, kernel_slots = optimizer.update(
        tf.convert_to_tensor(block.kernel),
        gradient.kernel * update.scale,
        tuple(tf.convert_to_tensor(slot.kernel) for slot in slots),
        update.learning_rate,
        update.step,
        weight_decay,
    )
    bias, bias_slots = optimizer.update(
        tf.convert_to_tensor(block.bias),
        gradient.bias * update.scale,
        tuple(tf.convert_to_tensor(slot.bias) for slot in slots),
        update.learning_rate,
        update.step,
        0.0,
    )
    new_slots = tuple(Block(*pair) for pair in zip(kernel_slots, bias_slots))
    return Block(kernel, bias), new_slots


def features_gradient(
    of_logits: LogitGradients, features: tf.Tensor, block: Block
) -> tf.Tensor:
    """`[N, dim]` float32; the product in the dtype of the features."""
    kernel = tf.cast(block.kernel, features.dtype)
    product = tf.matmul(tf.cast(of_logits.by_logit, features.dtype), kernel)
    return tf.cast(product, tf.float32)


def block_gradient(of_logits: LogitGradients, features: tf.Tensor) -> Block:
    """Gradient by kernel and bias; the product in the features' dtype."""
    kernel = tf.matmul(
        tf.cast(of_logits.by_logit, features.dtype), features, transpose_a=True
    )
    return Block(tf.cast(kernel, tf.float32), of_logits.by_bias)
