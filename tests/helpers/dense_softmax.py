"""A dense classifier in float64 NumPy, and rows that lie on its borders."""

from typing import NamedTuple

import numpy as np

NUM_CLASSES = 1003
DIM = 24
NUM_ROWS = 24
# First and last class of every worker, for 1 to 4 workers, then repetitions.
LABELS = np.array(
    [0, 250, 251, 334, 335, 501, 502, 668, 669, 752, 753, 1002]
    + [7, 7, 7, 7, 600, 600, 0, 1002, 501, 502, 251, 753],
    np.int64,
)


class CrossEntropy(NamedTuple):
    """Losses `[N]` and their gradients, weighted by upstream; float64."""

    losses: np.ndarray
    by_features: np.ndarray
    by_kernel: np.ndarray
    by_bias: np.ndarray


def cross_entropy(
    features: np.ndarray,
    kernel: np.ndarray,
    bias: np.ndarray,
    labels: np.ndarray,
    upstream: np.ndarray,
    *,
    label_smoothing: float = 0.0,
    offset: np.ndarray | float = 0.0,
) -> CrossEntropy:
    """Softmax cross-entropy of `[N, dim]` features, kernel `[C, dim]`."""
    features, kernel, bias, upstream = (
        np.asarray(each, np.float64)
        for each in (features, kernel, bias, upstream)
    )
    logits = features @ kernel.T + bias + offset
    logits -= logits.max(axis=1, keepdims=True)
    log_softmax = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    num_classes = len(kernel)
    wanted = np.eye(num_classes)[labels] * (1 - label_smoothing)
    wanted += label_smoothing / num_classes
    by_logit = upstream[:, None] * (np.exp(log_softmax) - wanted)
    return CrossEntropy(
        -(wanted * log_softmax).sum(axis=1),
        by_logit @ kernel,
        by_logit.T @ features,
        by_logit.sum(axis=0),
    )


def weights(
    seed: int, num_classes: int = NUM_CLASSES, dim: int = DIM
) -> tuple[np.ndarray, np.ndarray]:
    """Kernel and bias, float32; logits of unit features are about 2."""
    random = np.random.default_rng(seed)
    kernel = random.normal(0, 0.4, [num_classes, dim])
    bias = random.normal(0, 0.5, [num_classes])
    return kernel.astype(np.float32), bias.astype(np.float32)


def row_weights(num_rows: int = NUM_ROWS) -> np.ndarray:
    """Float32; every fifth row is padding."""
    random = np.random.default_rng(1)
    found = random.uniform(0.5, 2.0, num_rows).astype(np.float32)
    found[::5] = 0.0
    return found


def relative_error(actual: np.ndarray, expected: np.ndarray) -> float:
    """The largest error over the largest expected value."""
    actual, expected = np.asarray(actual), np.asarray(expected)
    if actual.shape != expected.shape:
        raise ValueError(f"Shapes {actual.shape} and {expected.shape} differ.")
    error = np.abs(actual.astype(np.float64) - expected).max()
    return float(error / np.abs(expected).max())
