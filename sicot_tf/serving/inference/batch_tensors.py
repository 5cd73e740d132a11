"""Joins the tensors of several requests into one batch, and cuts the results.

Codes are those of TensorFlow Serving's BatchingSession.
"""

from collections.abc import Mapping
from collections.abc import Sequence

import numpy as np

from sicot_tf.serving import errors

# Tensors by name, the first dimension of each is the batch.
Feeds = Mapping[str, np.ndarray]


def batch_size(feeds: Feeds) -> int:
    """Rows of one request: the first dimension, equal for all its tensors.

    Raises tf.errors.InvalidArgumentError if there is no such number.
    """
    sizes = {array.shape[:1] for array in feeds.values()}
    if len(sizes) != 1 or () in sizes:
        raise errors.invalid(
            "Expected one or more input tensors with equal first dimensions, "
            "the batch, received the shapes "
            f"{[array.shape for array in feeds.values()]}"
        )
    [[size]] = sizes
    return size


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
        tf.errors.OpError: if shapes or types don't fit.
    """
    merged = {}
    for name in sorted(requests[0]):
        arrays = [feeds[name] for feeds in requests]
        if pad_variable_length_inputs and len({a.ndim for a in arrays}) == 1:
            longest = np.max([array.shape[1:] for array in arrays], axis=0)
            arrays = [_pad(array, tuple(map(int, longest))) for array in arrays]
        # NumPy would quietly find a common type.
        first = arrays[0]
        if any(
            array.shape[1:] != first.shape[1:] or array.dtype != first.dtype
            for array in arrays
        ):
            raise errors.failed_precondition(
                f"Tensors with name '{name}' from different tasks have "
                "different shapes or types. Set pad_variable_length_inputs, "
                "or send equal dimensions after the first."
            )
        num_missing = padded_size - sum(len(array) for array in arrays)
        if num_missing > 0:
            filled = [array for array in arrays if len(array)]
            if filled:
                arrays.append(np.repeat(filled[-1][:1], num_missing, axis=0))
        merged[name] = arrays[0] if len(arrays) == 1 else np.concatenate(arrays)
    return merged


def _pad(array: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Lengthens each row to `shape`."""
    if array.shape[1:] == shape or not len(array):
        return array.reshape(len(array), *shape)
    if array.size == 0:
        raise errors.invalid("Got empty tensor in batch of non-empty tensors.")
    padded = np.full((len(array), *shape), array.flat[0], array.dtype)
    padded[tuple(slice(length) for length in array.shape)] = array
    return padded


def split(
    outputs: Sequence[np.ndarray], sizes: Sequence[int], *, padded_size: int
) -> list[list[np.ndarray]]:
    """For each request its rows of each output; the padding is dropped.

    Raises tf.errors.FailedPreconditionError if an output is not one row for
    each row of the input.
    """
    for output in outputs:
        if np.shape(output)[:1] != (padded_size,):
            raise errors.failed_precondition(
                f"Expected outputs of {padded_size} rows, one for each row of "
                f"the batch, received the shape {np.shape(output)}"
            )
    ends = np.cumsum(sizes)
    return [
        [output[end - size : end] for output in outputs]
        for size, end in zip(sizes, ends, strict=True)
    ]
