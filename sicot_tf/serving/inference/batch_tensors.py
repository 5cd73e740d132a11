"""Joins the tensors of several requests into one batch, and cuts the results.

Codes and texts are those of TensorFlow Serving's BatchingSession.
"""

from collections.abc import Mapping
from collections.abc import Sequence

import numpy as np
import tensorflow as tf

# Tensors by name, the first dimension of each is the batch.
Feeds = Mapping[str, np.ndarray]
_MAX_PADDED_RANK = 6


def batch_size(feeds: Feeds) -> int:
    """Rows of one request: the first dimension, equal for all its tensors.

    Raises:
        tf.errors.InvalidArgumentError: if there is no such number.
    """
    if not feeds:
        raise tf.errors.InvalidArgumentError(
            None, None, "Batching Run() must have at least one input tensor"
        )
    sizes = set()
    for array in feeds.values():
        if array.ndim == 0:
            raise tf.errors.InvalidArgumentError(
                None,
                None,
                "Batching Run() input tensors must have at least one dimension",
            )
        sizes.add(array.shape[0])
    if len(sizes) > 1:
        raise tf.errors.InvalidArgumentError(
            None,
            None,
            "Batching Run() input tensors must have equal 0th-dimension size",
        )
    return sizes.pop()


def merge(
    requests: Sequence[Feeds],
    *,
    padded_size: int,
    pad_variable_length_inputs: bool,
) -> dict[str, np.ndarray]:
    """Concatenates requests to `padded_size` rows, feeds sorted by name.

    The rows that are missing repeat row 0 of the last request that has one:
    a row that the model knows how to read.

    Args:
        requests: tensors of one and the same set of names.
        padded_size: rows of the result, at least those of the requests.
        pad_variable_length_inputs: lengthen the other dimensions to the
            longest in the batch, by the tensor's own first element.

    Raises:
        tf.errors.FailedPreconditionError: if the shapes don't fit.
        tf.errors.InvalidArgumentError: if a tensor can't be lengthened.
        tf.errors.InternalError: if the element types differ.
    """
    merged = {}
    for name in sorted(requests[0]):
        arrays = [feeds[name] for feeds in requests]
        if pad_variable_length_inputs:
            arrays = _pad_to_longest(name, arrays)
        _check_alike(name, arrays)
        num_missing = padded_size - sum(len(array) for array in arrays)
        if num_missing > 0:
            filled = [array for array in arrays if len(array)]
            if filled:
                arrays.append(np.repeat(filled[-1][:1], num_missing, axis=0))
        merged[name] = arrays[0] if len(arrays) == 1 else np.concatenate(arrays)
    return merged


def _check_alike(name: str, arrays: list[np.ndarray]) -> None:
    """Raises unless the arrays differ in the number of rows only."""
    first = arrays[0]
    for array in arrays[1:]:
        if array.shape[1:] != first.shape[1:]:
            raise tf.errors.FailedPreconditionError(
                None,
                None,
                f"Tensors with name '{name}' from different tasks have "
                "different shapes and padding is turned off. Set "
                "pad_variable_length_inputs to true, or ensure that all "
                "tensors with the same name have equal dimensions starting "
                "with the first dim.",
            )
        # NumPy would quietly find a common type.
        if array.dtype != first.dtype:
            raise tf.errors.InternalError(
                None,
                None,
                "Tensor concat operation failed: tensors with name "
                f"'{name}' are of {first.dtype} and {array.dtype}",
            )


def _pad_to_longest(name: str, arrays: list[np.ndarray]) -> list[np.ndarray]:
    """Equal dimensions but for the first; each array's own first element."""
    ranks = {array.ndim for array in arrays}
    if max(ranks) > _MAX_PADDED_RANK:
        raise tf.errors.InvalidArgumentError(
            None, None, "Only tensors with rank from 1 to 6 can be padded."
        )
    if len(ranks) > 1:
        # TensorFlow Serving aborts here.
        raise tf.errors.FailedPreconditionError(
            None,
            None,
            f"Tensors with name '{name}' from different tasks have different "
            f"ranks: {sorted(ranks)}",
        )
    longest = np.max([array.shape[1:] for array in arrays], axis=0)
    return [_pad(array, longest) for array in arrays]


def _pad(array: np.ndarray, shape: np.ndarray) -> np.ndarray:
    """Lengthens each row to `shape`."""
    missing = shape - array.shape[1:]
    if not missing.any() or not len(array):
        return array.reshape(len(array), *shape.astype(int))
    if array.size == 0:
        raise tf.errors.InvalidArgumentError(
            None, None, "Got empty tensor in batch of non-empty tensors."
        )
    padded = np.full(
        (len(array), *shape.astype(int)), array.flat[0], array.dtype
    )
    padded[tuple(slice(length) for length in array.shape)] = array
    return padded


def split(
    outputs: Sequence[np.ndarray], sizes: Sequence[int], *, padded_size: int
) -> list[list[np.ndarray]]:
    """For each request its rows of each output; the padding is dropped.

    Raises:
        tf.errors.FailedPreconditionError: if an output is not one row for
            each row of the input.
    """
    for output in outputs:
        if np.ndim(output) == 0:
            raise tf.errors.FailedPreconditionError(
                None, None, "Batched output tensor has 0 dimensions"
            )
        if len(output) != padded_size:
            raise tf.errors.FailedPreconditionError(
                None,
                None,
                "Batched output tensor's 0th dimension does not equal the sum "
                "of the 0th dimension sizes of the input tensors",
            )
    ends = np.cumsum(sizes)
    return [
        [output[end - size : end] for output in outputs]
        for size, end in zip(sizes, ends, strict=True)
    ]
