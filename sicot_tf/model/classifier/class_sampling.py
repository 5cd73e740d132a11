"""Steps that see a share of the classes (Partial FC, arXiv 2203.15565).

Classes of the batch are always among them, the rest is drawn for each block
and counts for those left out: exponentials are divided by the chance to be
drawn, so that their expected sum is that of all classes.
"""

from typing import NamedTuple

import tensorflow as tf

from sicot_tf.model.classifier import block_softmax


class Draw(NamedTuple):
    """Drawn classes of a block.

    view: copies of their rows. positions: `[num_drawn]` int64, in the block,
    ascending. variables: the whole block.
    """

    view: block_softmax.View
    positions: tf.Tensor
    variables: block_softmax.Block


def draw_classes(
    view: block_softmax.View, sample_rate: float, seed: tf.Tensor
) -> Draw:
    """Draws classes of a block; labels and offsets become those of the drawn.

    Args:
        seed: `[2]` int64; equal seeds draw the same.
    """
    size = view.block.bias.shape[0]
    # One more than labels, or the others might have no chance.
    num_drawn = min(
        size, max(-int(-sample_rate * size // 1), view.labels.shape[0] + 1)
    )
    inside = (view.labels >= 0) & (view.labels < size)
    positives = tf.boolean_mask(view.labels, inside)
    keys = tf.random.stateless_uniform([size], seed)
    # Above all others, which are below 1.
    keys = tf.tensor_scatter_nd_update(
        keys, positives[:, None], tf.fill(tf.shape(positives), 2.0)
    )
    drawn = tf.math.top_k(keys, num_drawn, sorted=False).indices
    drawn = tf.cast(tf.sort(drawn), tf.int64)
    is_positive = tf.gather(keys, drawn) >= 2.0
    num_positives = tf.reduce_sum(tf.cast(is_positive, tf.float32))
    chance = tf.math.divide_no_nan(
        num_drawn - num_positives, size - num_positives
    )
    offset = tf.where(is_positive, 0.0, -tf.math.log(chance))
    if view.offset is not None:
        offset += tf.gather(view.offset, drawn)
    # Where the labels stand among the drawn.
    among = tf.searchsorted(drawn, view.labels, out_type=tf.int64)
    drawn_view = block_softmax.View(
        gather_rows(view.block, drawn),
        tf.where(inside, among, -1),
        offset,
        None if view.fixed is None else tf.gather(view.fixed, drawn),
    )
    return Draw(drawn_view, drawn, view.block)


def gather_rows(
    block: block_softmax.Block, positions: tf.Tensor
) -> block_softmax.Block:
    """Copies of some class rows of a block, or of what belongs to them."""
    return block_softmax.Block(*(tf.gather(each, positions) for each in block))
