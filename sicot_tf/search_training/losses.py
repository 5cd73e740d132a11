"""The loss of triplets: clicked products before all others of the batch."""

import tensorflow as tf


def triplet_loss(
    queries: tf.Tensor,
    positives: tf.Tensor,
    negatives: tf.Tensor,
    *,
    query_ids: tf.Tensor,
    positive_ids: tf.Tensor,
    negative_ids: tf.Tensor,
    weights: tf.Tensor,
    margin: float,
    temperature: float,
) -> tuple[tf.Tensor, tf.Tensor]:
    """A soft hinge of the most similar negatives, the batch's among them.

    With s the cosine of query i and a product, `T log(1 + sum_n exp((margin +
    s_n - s_i+) / T))`; for T near 0 the triplet loss of the hardest negative,
    `max(0, margin + max_n s_n - s_i+)`. Negatives are the query's own and all
    other products of the batch, but none that was clicked for this query in
    this batch.

    Args:
        queries, positives, negatives: `[batch, dim]` float32 of length 1.
        query_ids, positive_ids, negative_ids: `[batch]` int64.
        weights: `[batch]` float32, 0 for triplets that pad.

    Returns:
        The weighted mean of the loss, and of whether the clicked product is
        before all negatives; scalars.
    """
    products = tf.concat([positives, negatives], axis=0)
    product_ids = tf.concat([positive_ids, negative_ids], axis=0)
    similarities = tf.matmul(queries, products, transpose_b=True)
    # [query, query]: rows of one query; then whose products it clicked.
    same_query = query_ids[:, None] == query_ids[None]
    is_product = positive_ids[:, None] == product_ids[None]
    clicked = tf.matmul(
        tf.cast(same_query, tf.float32), tf.cast(is_product, tf.float32)
    )
    # A triplet that pads is there a second time.
    is_real = tf.tile(weights > 0, [2])[None]
    is_negative = tf.cast((clicked == 0) & is_real, tf.float32)
    own = tf.reduce_sum(queries * positives, axis=-1)
    exponents = (margin + similarities - own[:, None]) / temperature
    exponents += -1e9 * (1 - is_negative)
    # The 1 of the logarithm is exp(0).
    exponents = tf.concat([exponents, tf.zeros_like(own)[:, None]], axis=-1)
    losses = temperature * tf.reduce_logsumexp(exponents, axis=-1)
    hardest = tf.reduce_max(similarities - 4 * (1 - is_negative), axis=-1)
    is_first = tf.cast(own > hardest, tf.float32)
    total = tf.maximum(tf.reduce_sum(weights), 1e-12)
    return (
        tf.reduce_sum(weights * losses) / total,
        tf.reduce_sum(weights * is_first) / total,
    )
