"""Parquet files between Beam and DuckDB, wherever their folder lies.

DuckDB reads more than a path in a name: `split=train/` is a column, `*`, `?`
and `[` stand for other names, and a backslash parts folders.
"""

import contextlib
import os
import pathlib
import tempfile
from collections.abc import Iterator
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

# Rows that are Python objects at a time.
CHUNK = 8192

_SPECIAL = frozenset("*?[\\")


@contextlib.contextmanager
def plain_name(folder: pathlib.Path) -> Iterator[pathlib.Path]:
    """A name of the folder that DuckDB takes as it is.

    Its own name, or that of a link in a folder that is gone afterwards.

    Raises:
        ValueError: if there is no folder for the link.
    """
    if _is_plain(str(folder)):
        yield folder
        return
    places = filter(_is_plain, (tempfile.gettempdir(), "/tmp", os.getcwd()))
    place = next(filter(os.path.isdir, places), None)
    if place is None:
        raise ValueError(
            "Expected a folder for temporary files (TMPDIR) without "
            f"{' '.join(sorted(_SPECIAL))} in its name, received "
            f"{tempfile.gettempdir()!r}."
        )
    with tempfile.TemporaryDirectory(dir=place) as holder:
        link = pathlib.Path(holder) / "work"
        link.symlink_to(folder.absolute())
        yield link


def _is_plain(path: str) -> bool:
    return _SPECIAL.isdisjoint(path)


def read_parquet(folder: pathlib.Path, name: str) -> str:
    """The table of Parquet files in SQL; `name` may be a glob.

    Args:
        folder: inside a `plain_name`.
    """
    path = str(folder / name).replace("'", "''")
    return f"read_parquet('{path}', hive_partitioning = false)"


class TableWriter:
    """Writes rows of Python to a Parquet file, a chunk at a time."""

    def __init__(self, path: pathlib.Path, schema: pa.Schema):
        self._schema = schema
        self._writer = pq.ParquetWriter(path, schema)
        self._rows: list[Sequence[Any]] = []

    def __enter__(self) -> "TableWriter":
        return self

    def __exit__(self, *_: object) -> None:
        self._flush()
        self._writer.close()

    def add(self, row: Sequence[Any]) -> None:
        """Adds a row, its values in the order of the schema."""
        self._rows.append(row)
        if len(self._rows) == CHUNK:
            self._flush()

    def _flush(self) -> None:
        if self._rows:
            columns = zip(*self._rows, strict=True)
            arrays = [
                pa.array(column, each.type)
                for column, each in zip(columns, self._schema, strict=True)
            ]
            self._writer.write_table(pa.table(arrays, schema=self._schema))
            self._rows = []


class PartedWriter:
    """Writes sorted rows of Arrow to Parquet files by their number.

    Args:
        paths: the file of each number; one without rows is written, too.
    """

    def __init__(self, paths: Sequence[pathlib.Path], schema: pa.Schema):
        self._paths = paths
        self._schema = schema
        self._number = -1
        self._writer: pq.ParquetWriter | None = None
        self._batches: list[pa.RecordBatch] = []

    def __enter__(self) -> "PartedWriter":
        return self

    def __exit__(self, *_: object) -> None:
        self._open(len(self._paths))

    def add(self, numbers: pa.Array, rows: pa.RecordBatch) -> None:
        """Adds rows, whose numbers never fall."""
        numbers = numbers.to_numpy()
        ends = [*(np.flatnonzero(np.diff(numbers)) + 1), len(numbers)]
        first = 0
        for end in ends if len(numbers) else ():
            if numbers[first] != self._number:
                self._open(numbers[first])
            self._batches.append(rows.slice(first, end - first))
            if sum(map(len, self._batches)) >= CHUNK:
                self._flush()
            first = end

    def _open(self, number: int) -> None:
        """Ends the files before that of the number, which gets the rows."""
        while self._number < number:
            if self._writer:
                self._flush()
                self._writer.close()
                self._writer = None
            self._number += 1
            if self._number < len(self._paths):
                self._writer = pq.ParquetWriter(
                    self._paths[self._number], self._schema
                )

    def _flush(self) -> None:
        if self._batches:
            table = pa.Table.from_batches(self._batches)
            self._writer.write_table(table.cast(self._schema))
            self._batches = []
