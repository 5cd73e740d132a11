"""What is drawn for a record in an epoch, beside its crop.

As a function of the record's seed (`images.augmentation_seed`): any worker, in
a run that was resumed or not, draws the same.
"""

import tensorflow as tf

from sicot_tf.data import records

# Folded into the seed, whose own numbers are the crop's.
_WORDS, _SHARE, _GAMMAS = 1, 2, 3


def drop_words(
    title_ids: tf.Tensor, word_dropout: float, seed: tf.Tensor
) -> tf.Tensor:
    """Leaves out words at random; of a title with known words one stays.

    Args:
        title_ids: `[max_words]` int32, padded.
        word_dropout: chance of each word.
        seed: `[2]` int64, of the record.

    Returns:
        `[max_words]` int32, with padding in the place of words left out.
    """
    draws = tf.random.stateless_uniform(title_ids.shape, _fold_in(seed, _WORDS))
    draws = tf.where(title_ids == records.PADDING_ID, -1.0, draws)
    stays = (draws >= word_dropout) | (draws == tf.reduce_max(draws))
    return tf.where(stays, title_ids, records.PADDING_ID)


def draw_own_share(alpha: float, seed: tf.Tensor) -> tf.Tensor:
    """A picture's share in what mixup makes of it and its partner.

    Beta(alpha, alpha) (arXiv 1710.09412), of which the greater share is the
    picture's own: a title goes with the picture that shows most.

    Args:
        seed: `[2]` int64, of the record.

    Returns:
        Scalar float32 from 0.5 to 1.
    """
    # Beta is one of two Gamma variables over their sum. Those of a small
    # alpha round to 0, so their logs are drawn: Gamma(alpha) is
    # Gamma(alpha + 1) * uniform^(1 / alpha) (Marsaglia and Tsang, 2000).
    gammas = tf.random.stateless_gamma(
        [2], _fold_in(seed, _GAMMAS), tf.constant(alpha + 1.0)
    )
    # From 0, without 1; the other way round the log is finite.
    uniforms = tf.random.stateless_uniform([2], _fold_in(seed, _SHARE))
    own, other = tf.unstack(
        tf.math.log(gammas) + tf.math.log(1.0 - uniforms) / alpha
    )
    return tf.sigmoid(tf.abs(own - other))


def _fold_in(seed: tf.Tensor, purpose: int) -> tf.Tensor:
    return tf.random.experimental.stateless_fold_in(
        seed, tf.constant(purpose, tf.int64)
    )
