"""Rows of a tensor that lie on several workers, and how they fit together."""

import dataclasses
from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf

# Written or read by one op. Reading a variable that was ever updated by
# scatter copies it, so this bounds the copies that a save makes, too.
_GROUP_BYTES = 128 << 20
# What RestoreV2 can read in part; not float16.
_SLICED_TYPES = ("float32", "float64", "bfloat16", "int32", "int64")


@dataclasses.dataclass(frozen=True)
class RowSlice:
    """Consecutive rows of a tensor that is whole only in checkpoints.

    Args:
        name: of the tensor, such as "classifier/kernel/momentum".
        variable: `[num_rows, ...]`, the rows from `first_row` on.
        first_row: where they lie in the whole tensor.
        total_rows: rows of the whole tensor.
        row_axis: what the rows are, such as "classes"; "" for a variable that
            is the whole tensor.
    """

    name: str
    variable: tf.Variable
    first_row: int
    total_rows: int
    row_axis: str

    @property
    def last_row(self) -> int:
        """The row behind the last one."""
        return self.first_row + self.variable.shape[0]

    @property
    def whole_shape(self) -> list[int]:
        """Of the whole tensor."""
        shape = self.variable.shape.as_list()
        return [self.total_rows, *shape[1:]] if self.row_axis else shape

    @property
    def spec(self) -> str:
        """What SaveV2 and RestoreV2 call it; "" is all of a tensor."""
        if not self.row_axis:
            return ""
        return rows_spec(self.whole_shape, self.first_row, self.last_row)


def rows_spec(shape: list[int], first_row: int, last_row: int) -> str:
    """For example "1003 128 500,503:-" for the rows from 500 on."""
    sizes = " ".join(str(size) for size in shape)
    rows = f"{first_row},{last_row - first_row}"
    return f"{sizes} {rows}" + ":-" * (len(shape) - 1)


def whole(variables: Iterable[Any]) -> list[RowSlice]:
    """Keras variables as slices without a row axis."""
    return [
        RowSlice(variable.path, variable.value, 0, 0, "")
        for variable in variables
    ]


def describe(
    slices: list[RowSlice], row_names: Mapping[str, Sequence[str]]
) -> dict[str, dict[str, Any]]:
    """Shape, type and row axis of each tensor, checked against each other."""
    tensors: dict[str, dict[str, Any]] = {}
    for each in slices:
        tensor = {
            "shape": each.whole_shape,
            "dtype": each.variable.dtype.name,
            "row_axis": each.row_axis,
        }
        if not each.row_axis and each.name in tensors:
            raise ValueError(
                f"Two variables have the path {each.name!r}; a checkpoint "
                "needs distinct layer names."
            )
        if tensors.setdefault(each.name, tensor) != tensor:
            raise ValueError(
                f"Expected slices of one tensor {each.name!r}, received "
                f"{tensors[each.name]} and {tensor}."
            )
        if each.row_axis and tensor["dtype"] not in _SLICED_TYPES:
            raise ValueError(
                f"Expected rows of {each.name} as one of {_SLICED_TYPES}, "
                f"received {tensor['dtype']}."
            )
        names = row_names.get(each.row_axis)
        if names is not None and len(names) != each.total_rows:
            raise ValueError(
                f"Expected {len(names)} rows of {each.name}, one for each of "
                f"the {each.row_axis}, received {each.total_rows}."
            )
    row_borders(slices)
    return tensors


def row_borders(slices: list[RowSlice]) -> dict[str, list[int]]:
    """First rows of the slices of each name, and the row behind the last."""
    borders: dict[str, list[int]] = {}
    for each in slices:
        if each.row_axis:
            rows = borders.setdefault(each.name, [each.first_row])
            if rows[-1] != each.first_row or each.last_row > each.total_rows:
                raise ValueError(
                    f"Expected rows of {each.name} from {rows[-1]} on, up to "
                    f"{each.total_rows}, received {each.first_row} to "
                    f"{each.last_row}."
                )
            rows.append(each.last_row)
    return borders


def join_borders(
    tensors: dict[str, dict[str, Any]], parts: list[dict[str, list[int]]]
) -> dict[str, dict[str, Any]]:
    """Tensors with the row borders of each worker; together they are all."""
    joined = {}
    for name, tensor in tensors.items():
        borders = [part.get(name, []) for part in parts]
        written = [rows for rows in borders if rows]
        ends = [0] + [rows[-1] for rows in written]
        starts = [rows[0] for rows in written] + tensor["shape"][:1]
        if tensor["row_axis"] and starts != ends:
            raise ValueError(
                f"Expected the workers' rows of {name} to make up all "
                f"{starts[-1]}, received those from {starts[:-1]} to "
                f"{ends[1:]}."
            )
        joined[name] = tensor | {"row_borders": borders}
    return joined


def find_rows(axis: str, old: Sequence[str], new: Sequence[str]) -> np.ndarray:
    """`[len(new)]` int64: where each new name was among the old, or -1."""
    rows = {name: row for row, name in enumerate(old)}
    if len(rows) < len(old) or len(set(new)) < len(new):
        raise ValueError(f"Expected distinct {axis}, some are there twice.")
    return np.fromiter((rows.get(name, -1) for name in new), np.int64)


def groups(slices: Iterable[RowSlice]) -> Iterator[list[RowSlice]]:
    """Slices in lists of up to 128 MiB, or of one larger one."""
    group, size = [], 0
    for each in slices:
        variable = each.variable
        num_bytes = variable.shape.num_elements() * variable.dtype.size
        if group and size + num_bytes > _GROUP_BYTES:
            yield group
            group, size = [], 0
        group.append(each)
        size += num_bytes
    if group:
        yield group
