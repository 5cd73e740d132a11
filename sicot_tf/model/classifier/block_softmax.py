"""Softmax cross-entropy over one block of classes at a time.

Everything between two collectives, in pure functions of tensors. XLA compiles
the passes over the logits: TensorFlow's own, one after the other, cost as much
as the matrix products. A product is where it is fastest; milliseconds on two
CPU cores, 100,000 classes, 128 examples, dim 128 / 512
(`python -m benchmarks.training.classifier_step` measures them again):

logits          XLA 18 / 70, TensorFlow (oneDNN) 22 / 103
by features     XLA 22 / 80, TensorFlow          17 / 62
by kernel       XLA 21 / 66, TensorFlow          17 / 63

N examples; a block holds `size` classes, a row of weights for each. A label is
local: the position of its class in the block. One outside 0 to `size - 1`
belongs to another block. Features may be wider than the kernel; what is behind
meets fixed rows, which have no gradient. Both products are added: a joined
kernel would be a copy of the block in each pass.
"""

from typing import NamedTuple

import tensorflow as tf

from sicot_tf.model.classifier import row_optimizers


class Block(NamedTuple):
    """Weights of some classes, as tensors or as variables.

    kernel: `[size, dim]` float32. bias: `[size]` float32.
    """

    kernel: tf.Tensor | tf.Variable
    bias: tf.Tensor | tf.Variable


class View(NamedTuple):
    """A block as one step sees it.

    labels: `[N]` int64, local. offset: `[size]` float32 added to the logits,
    or None. fixed: `[size, fixed_dim]` float32, rows that are not trained, for
    the last features; None without any.
    """

    block: Block
    labels: tf.Tensor
    offset: tf.Tensor | None
    fixed: tf.Tensor | tf.Variable | None = None


class Statistics(NamedTuple):
    """Of an example's logits in one block, or in all; `[N]` float32 each.

    maximum: of the logits. exponentials: sum of `exp(logit - maximum)`.
    target: logit of the label, 0 where another block has it.
    total: sum of the logits.
    """

    maximum: tf.Tensor
    exponentials: tf.Tensor
    target: tf.Tensor
    total: tf.Tensor


def logits(
    features: tf.Tensor,
    block: Block,
    offset: tf.Tensor | None = None,
    fixed: tf.Tensor | None = None,
) -> tf.Tensor:
    """`[N, size]` float32; the product in the dtype of the features."""
    kernel = tf.cast(block.kernel, features.dtype)
    product = tf.matmul(_trained(features, block), kernel, transpose_b=True)
    if fixed is not None:
        product += tf.matmul(
            features[:, kernel.shape[1] :],
            tf.cast(fixed, features.dtype),
            transpose_b=True,
        )
    constant = block.bias if offset is None else block.bias + offset
    return tf.cast(product, tf.float32) + constant


_compiled_logits = tf.function(logits, autograph=False, jit_compile=True)


def _trained(features: tf.Tensor, block: Block) -> tf.Tensor:
    """`[N, dim]`: the features without those that meet fixed rows."""
    dim = block.kernel.shape[1]
    return features if features.shape[1] == dim else features[:, :dim]


class Forward(NamedTuple):
    """What the forward pass of a block leaves to its backward pass.

    maximum: `[N]` float32, of the block's logits. exponentials: `[N, size]`
    float32, `exp(logit - maximum)`; None: computed again.
    """

    view: View
    maximum: tf.Tensor
    exponentials: tf.Tensor | None


def forward(
    features: tf.Tensor, view: View, keep: bool
) -> tuple[Statistics, Forward]:
    """The forward pass of a block.

    Args:
        features: `[N, dim + fixed_dim]` float32 or bfloat16.
        keep: whether the backward pass shall find the exponentials.
    """
    values = _compiled_logits(features, view.block, view.offset, view.fixed)
    # XLA takes 7 ms for it where TensorFlow takes 4, of the 75 ms of a step.
    maximum = tf.reduce_max(values, axis=1)
    found, exponentials = _statistics(values, maximum, view.labels, keep)
    return found, Forward(view, maximum, exponentials)


@tf.function(autograph=False, jit_compile=True)
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


class LossGradient(NamedTuple):
    """Gradient of the loss by any logit of an example; `[N]` float32 each.

    It is `by_exponential * exp(logit - maximum)`, plus `by_target` for the
    label's logit, plus `by_any` for every logit. That is the gradient of any
    loss that is a function of the logits' normalizer, the label's logit and
    the mean of all.

    maximum: over all classes. by_any: None: 0.
    """

    maximum: tf.Tensor
    by_exponential: tf.Tensor
    by_target: tf.Tensor
    by_any: tf.Tensor | None


class LogitGradients(NamedTuple):
    """Gradients by the logits of a block.

    by_logit: `[N, size]` float32. by_bias: `[size]` float32, their sum over
    the examples.
    """

    by_logit: tf.Tensor
    by_bias: tf.Tensor


@tf.function(autograph=False, jit_compile=True)
def logit_gradients(
    features: tf.Tensor, passed: Forward, of_loss: LossGradient
) -> LogitGradients:
    """The loss's gradient by each logit, with the exponentials or anew."""
    view, exponentials = passed.view, passed.exponentials
    factor = of_loss.by_exponential
    if exponentials is None:
        values = logits(features, view.block, view.offset, view.fixed)
        exponentials = tf.exp(values - of_loss.maximum[:, None])
    else:
        # No second exponential of each logit.
        factor *= tf.exp(passed.maximum - of_loss.maximum)
    classes = tf.range(exponentials.shape[1], dtype=tf.int64)
    is_target = view.labels[:, None] == classes[None]
    by_logit = exponentials * factor[:, None]
    by_logit += tf.where(is_target, of_loss.by_target[:, None], 0.0)
    if of_loss.by_any is not None:
        by_logit += of_loss.by_any[:, None]
    return LogitGradients(by_logit, tf.reduce_sum(by_logit, axis=0))


def gradients(
    features: tf.Tensor, passed: Forward, of_loss: LossGradient
) -> tuple[tf.Tensor, Block]:
    """`[N, dim + fixed_dim]` of the features by this block, and the block's."""
    of_logits = logit_gradients(features, passed, of_loss)
    return (
        features_gradient(of_logits, features, passed.view),
        block_gradient(of_logits, features, passed.view.block),
    )


def norm_gradients(
    features: tf.Tensor, passed: Forward, of_loss: LossGradient
) -> tuple[tf.Tensor, tf.Tensor, LogitGradients | None]:
    """The backward pass up to the block's own gradient, of which only norms.

    Returns:
        `[N, dim + fixed_dim]` gradient of the features by this block, the
        Gram matrix `[N, N]` of the gradients by logits, and these gradients
        if the exponentials were kept.
    """
    of_logits = logit_gradients(features, passed, of_loss)
    gram = tf.matmul(of_logits.by_logit, of_logits.by_logit, transpose_b=True)
    # `in_turn` waits for the first result only.
    with tf.control_dependencies([gram]):
        by_features = features_gradient(of_logits, features, passed.view)
    is_kept = passed.exponentials is not None
    return by_features, gram, of_logits if is_kept else None


def squared_norm(features: tf.Tensor, gram: tf.Tensor) -> tf.Tensor:
    """Squared norm of the gradient by kernel and bias, which is never made.

    The kernel's is `P^T X` and the bias's `P^T 1`, so their squared Frobenius
    norms add up to `sum((P P^T) * (X X^T + 1))`.

    Args:
        features: `[N, dim]`, X, without those that meet fixed rows.
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
    of_logits: LogitGradients, features: tf.Tensor, view: View
) -> tf.Tensor:
    """`[N, dim + fixed_dim]` float32; the product in the features' dtype."""
    by_logit = tf.cast(of_logits.by_logit, features.dtype)
    product = tf.matmul(by_logit, tf.cast(view.block.kernel, features.dtype))
    if view.fixed is not None:
        fixed = tf.cast(view.fixed, features.dtype)
        product = tf.concat([product, tf.matmul(by_logit, fixed)], axis=1)
    return tf.cast(product, tf.float32)


def block_gradient(
    of_logits: LogitGradients, features: tf.Tensor, block: Block
) -> Block:
    """Gradient by kernel and bias; the product in the features' dtype."""
    kernel = tf.matmul(
        tf.cast(of_logits.by_logit, features.dtype),
        _trained(features, block),
        transpose_a=True,
    )
    return Block(tf.cast(kernel, tf.float32), of_logits.by_bias)
