"""Softmax over classes that lie in blocks, on one worker or on several.

One way down and one way back, for the layer's loss and for its trainer:

gather_examples  the examples of all workers, in the first collective
forward          their logits, block by block; what a loss may know of them
                 over all classes, in the second collective
differentiate    the loss, and its gradient by what it knows
in_turn          back through the blocks (`block_softmax`); the gradients of
                 the features return in the third, a reduce-scatter

M workers with n examples each; N = M n. With one worker there is no
collective, the code is the same.
"""

from collections.abc import Callable
from collections.abc import Iterable
from typing import Any
from typing import NamedTuple

import tensorflow as tf

from sicot_tf.model.classifier import block_softmax
from sicot_tf.workers.collectives import Collectives


class Examples(NamedTuple):
    """The examples of all workers, in their order.

    features: `[N, dim]`; labels: `[N]` int64, of all classes; weights:
    `[N]` float32 or None.
    """

    features: tf.Tensor
    labels: tf.Tensor
    weights: tf.Tensor | None


class LogitStatistics(NamedTuple):
    """What a loss may know of the logits of each example; `[N]` float32.

    Over all classes, and relative to the maximum: at logits of 1e4 float32
    has steps of 1e-3, between 0 and -10 of 1e-6 and less.

    maximum: the highest logit, a constant: losses have no gradient by it. So
        the log of the softmax's denominator is `maximum + log_normalizer`,
        with all of its gradient.
    log_normalizer: log of the sum of `exp(logit - maximum)`.
    target: logit of the label, less the maximum: the label's log probability
        is `target - log_normalizer`.
    mean: mean of all logits, less the maximum. Not known where a step draws
        classes (`--sample_rate`).
    """

    maximum: tf.Tensor
    log_normalizer: tf.Tensor
    target: tf.Tensor
    mean: tf.Tensor


# Of statistics and labels `[N]` int64 to losses `[N]` float32.
LogitLoss = Callable[[LogitStatistics, tf.Tensor], tf.Tensor]


class Forward(NamedTuple):
    """A forward pass over the blocks of this worker.

    statistics: over the classes of all workers. normalizer: `[N]` float32,
    sum of `exp(logit - maximum)` over all classes.
    """

    statistics: LogitStatistics
    normalizer: tf.Tensor
    blocks: list[block_softmax.Forward]


# === Examples and their gradients between the workers ===


def gather_examples(
    collectives: Collectives,
    features: tf.Tensor,
    labels: tf.Tensor,
    weights: tf.Tensor | None = None,
    *,
    num_classes: int,
) -> Examples:
    """The examples of all workers, in one collective.

    Args:
        features: `[n, dim]` float32 or bfloat16, on every worker.
        labels: `[n]` integer; InvalidArgumentError outside of the classes.
        weights: `[n]` float32.
    """
    labels = _check_labels(tf.cast(labels, tf.int64), num_classes)
    if collectives.num_workers == 1:
        return Examples(features, labels, weights)
    # As integers: a float with the bits of a label might be a NaN.
    columns = [_as_words(features), tf.bitcast(labels, tf.int32)]
    if weights is not None:
        columns.append(tf.bitcast(weights, tf.int32)[:, None])
    sizes = [each.shape[1] for each in columns]
    words = tf.split(
        collectives.gather(tf.concat(columns, axis=1)), sizes, axis=1
    )
    return Examples(
        _from_words(words[0], features),
        tf.bitcast(words[1], tf.int64),
        None if weights is None else tf.bitcast(words[2], tf.float32)[:, 0],
    )


def gather_features(collectives: Collectives, features: tf.Tensor) -> tf.Tensor:
    """`[n, dim]` of every worker to `[N, dim]`, also in bfloat16."""
    if collectives.num_workers == 1:
        return features
    return _from_words(collectives.gather(_as_words(features)), features)


def own_examples(collectives: Collectives, tensor: tf.Tensor) -> tf.Tensor:
    """This worker's part of `[N, ...]`."""
    if collectives.num_workers == 1:
        return tensor
    num_examples = tensor.shape[0] // collectives.num_workers
    first = collectives.worker_index * num_examples
    return tensor[first : first + num_examples]


def _check_labels(labels: tf.Tensor, num_classes: int) -> tf.Tensor:
    with tf.control_dependencies(
        [
            tf.debugging.assert_non_negative(
                labels, message="labels start at 0"
            ),
            tf.debugging.assert_less(
                labels,
                tf.constant(num_classes, tf.int64),
                message=f"labels end before {num_classes}",
            ),
        ]
    ):
        return tf.identity(labels)


def _as_words(features: tf.Tensor) -> tf.Tensor:
    """`[n, dim]` as 32-bit words; two bfloat16 make one."""
    if features.dtype.size == 4:
        return tf.bitcast(features, tf.int32)
    num_examples, dim = features.shape
    even = tf.pad(features, [[0, 0], [0, dim % 2]])
    return tf.bitcast(tf.reshape(even, [num_examples, -1, 2]), tf.int32)


def _from_words(words: tf.Tensor, like: tf.Tensor) -> tf.Tensor:
    """The features of `_as_words`, without its padding."""
    features = tf.bitcast(words, like.dtype)
    return tf.reshape(features, [words.shape[0], -1])[:, : like.shape[1]]


# === Through the blocks ===


def in_turn(function: Callable[..., Any], *columns: Iterable[Any]) -> list:
    """The function of each block, one after the other.

    At once, they would need the memory of several blocks. A call waits for
    the first tensor that the one before returned.
    """
    results: list[Any] = []
    for each in zip(*columns, strict=True):
        with tf.control_dependencies(tf.nest.flatten(results[-1:])[:1]):
            results.append(function(*each))
    return results


def sum_in_order(tensors: Iterable[tf.Tensor]) -> tf.Tensor:
    """The sum, in the order given: `tf.add_n` may begin anywhere."""
    first, *others = tensors
    for each in others:
        first += each
    return first


def forward(
    collectives: Collectives,
    features: tf.Tensor,
    views: list[block_softmax.View],
    *,
    num_classes: int,
    logit_memory: int,
) -> Forward:
    """Statistics over all classes, in one collective.

    Args:
        features: `[N, dim]` float32 or bfloat16.
        views: of the blocks of this worker.
        num_classes: of all workers.
        logit_memory: bytes of exponentials that the backward pass may find.
    """
    num_examples = features.shape[0]
    num_logits = sum(view.block.bias.shape[0] for view in views)
    keep = (
        num_examples is not None
        and 4 * num_examples * num_logits <= logit_memory
    )
    parts, blocks = zip(
        *in_turn(
            lambda view: block_softmax.forward(features, view, keep), views
        )
    )
    own = _merge(parts)
    gathered = collectives.gather(tf.stack(own)[None])
    found = _merge(
        [
            block_softmax.Statistics(*tf.unstack(each))
            for each in tf.unstack(gathered)
        ]
    )
    return Forward(
        relative_statistics(found, num_classes),
        found.exponentials,
        list(blocks),
    )


def relative_statistics(
    found: block_softmax.Statistics, num_classes: int
) -> LogitStatistics:
    """Statistics over all classes as losses know them."""
    return LogitStatistics(
        maximum=found.maximum,
        log_normalizer=tf.math.log(found.exponentials),
        target=found.target - found.maximum,
        mean=found.total / num_classes - found.maximum,
    )


def _merge(
    parts: Iterable[block_softmax.Statistics],
) -> block_softmax.Statistics:
    """Statistics of blocks, or of workers, as those of all their classes."""
    first, *others = parts
    if not others:
        return first
    stacked = [tf.stack(each) for each in zip(first, *others)]
    return block_softmax.merge(block_softmax.Statistics(*stacked))


# === Losses ===


def cross_entropy(
    statistics: LogitStatistics, smoothing: tf.Tensor | float = 0.0
) -> tf.Tensor:
    """`[N]` cross-entropy of the label with the softmax.

    Args:
        smoothing: share of the label's probability that is spread over all
            classes, one for all examples or `[N]` float32.
    """
    losses = statistics.log_normalizer - statistics.target
    if isinstance(smoothing, tf.Tensor) or smoothing:
        losses += smoothing * (statistics.target - statistics.mean)
    return losses


def reads_mean(loss: LogitLoss) -> bool:
    """Whether a loss has a gradient by the mean of all logits."""
    statistics = LogitStatistics(
        *(tf.zeros([1]) for _ in LogitStatistics._fields)
    )
    with tf.GradientTape() as tape:
        tape.watch(statistics.mean)
        losses = loss(statistics, tf.zeros([1], tf.int64))
    return tape.gradient(losses, statistics.mean) is not None


def differentiate(
    loss: LogitLoss, found: Forward, examples: Examples, num_classes: int
) -> tuple[tf.Tensor, block_softmax.LossGradient]:
    """`[N]` losses, and the gradient of their weighted sum by the logits.

    In a graph only, as `tf.gradients`: a tape sums three terms in the order
    in which they happen to be ready.
    """
    _, *sources = found.statistics
    losses = loss(found.statistics, examples.labels)
    if losses.shape.as_list() != examples.labels.shape.as_list():
        raise ValueError(
            f"Expected one loss for each of {examples.labels.shape} examples, "
            f"received a tensor of shape {losses.shape}."
        )
    by_statistics = tf.gradients(
        losses,
        sources,
        examples.weights,
        aggregation_method=tf.AggregationMethod.EXPERIMENTAL_TREE,
    )
    return losses, loss_gradient(found, *by_statistics, num_classes=num_classes)


def loss_gradient(
    found: Forward,
    by_log_normalizer: tf.Tensor | None,
    by_target: tf.Tensor | None,
    by_mean: tf.Tensor | None,
    *,
    num_classes: int,
) -> block_softmax.LossGradient:
    """Gradient by the logits, from that by the statistics; None: 0.

    With the maximum held constant, a logit's share of the normalizer's log is
    its probability, the target is the label's logit, and the mean has
    1 / num_classes of each logit.
    """
    zeros = tf.zeros_like(found.normalizer)
    by_exponential = zeros
    if by_log_normalizer is not None:
        by_exponential = by_log_normalizer / found.normalizer
    return block_softmax.LossGradient(
        maximum=found.statistics.maximum,
        by_exponential=by_exponential,
        by_target=zeros if by_target is None else by_target,
        by_any=None if by_mean is None else by_mean / num_classes,
    )
