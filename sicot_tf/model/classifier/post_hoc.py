"""What is changed in a trained classifier, without training it.

Both ways end in kernel and bias, so the served graph is the same, and costs
the same, as without them.
"""

import numpy as np

from sicot_tf import config
from sicot_tf.model.classifier.class_sharded_dense import ClassShardedDense


def log_shares(counts: np.ndarray) -> np.ndarray:
    """`[num_classes]` float64, log of each class's share of the records.

    Args:
        counts: `[num_classes]` integer, training records of each class; a
            class without any counts as one with a single record.
    """
    counts = np.maximum(counts, 1)
    return np.log(counts / counts.sum())


def adjust_logits(
    bias: np.ndarray, log_shares: np.ndarray, tau: float
) -> np.ndarray:
    """Post hoc logit adjustment, `logit - tau * log(share)`, in the bias.

    Menon et al., arXiv 2007.07314, section 4. At tau = 1 the best class is
    the one of the lowest balanced error, if the scores are probabilities.

    Args:
        bias: `[rows]` float32.
        log_shares: `[rows]`, of their classes.
    """
    return (bias - tau * log_shares).astype(bias.dtype)


def normalize_rows(
    kernel: np.ndarray, bias: np.ndarray, tau: float
) -> tuple[np.ndarray, np.ndarray]:
    """tau-normalisation: `row / |row| ** tau`, without bias.

    Kang et al., arXiv 1910.09217, section 4: rows of frequent classes grow
    long. As there, the bias is left out: it would stand beside logits of
    another scale. A row of zeros stays as it is.

    Args:
        kernel: `[rows, dim]` float32.
        bias: `[rows]` float32.
        tau: above 0; at 1 all rows have length 1.
    """
    squares = np.einsum("ij,ij->i", kernel, kernel, dtype=np.float64)
    factors = np.where(squares > 0, squares, 1.0) ** (-tau / 2)
    return kernel * factors.astype(kernel.dtype)[:, None], np.zeros_like(bias)


def apply(
    classifier: ClassShardedDense,
    post_hoc: config.PostHocConfig,
    train_counts: np.ndarray,
) -> None:
    """Changes the class rows of a restored classifier.

    Args:
        classifier: of plain rows; these are all that scores depend on.
        train_counts: `[num_classes]` integer, training records of each class.
    """
    shares = log_shares(train_counts)
    for (first, last), block in zip(
        classifier.block_ranges(), classifier.blocks
    ):
        if post_hoc.weight_normalization:
            kernel, bias = normalize_rows(
                block.kernel.numpy(),
                block.bias.numpy(),
                post_hoc.weight_normalization,
            )
            block.kernel.assign(kernel)
            block.bias.assign(bias)
        if post_hoc.logit_adjustment:
            block.bias.assign(
                adjust_logits(
                    block.bias.numpy(),
                    shares[first:last],
                    post_hoc.logit_adjustment,
                )
            )
