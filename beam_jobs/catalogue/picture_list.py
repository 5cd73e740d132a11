"""The work list of `embed_pictures`, range by range, and what of it is done.

A range has a file of paths. Files of vectors hold some batches of one range;
their names say which, so that a listing tells what is left to do.
"""

import contextlib
import io
import pathlib
import sqlite3
from collections.abc import Collection
from collections.abc import Iterator

import apache_beam as beam
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from sicot_tf.stores import folder
from sicot_tf.stores import locations
from sicot_tf.stores import opening

# Batches are ranges of rows, whatever the workers: equal input, equal bits.
BATCH = 32
# A file has vectors of some of so many batches, a bit of its name each.
FILE_BATCHES = 32
# Pictures of one Beam element; a process loads the model anew for each.
_RANGE = 8192
_LISTED, _EMBEDDED = "listed", "embedded"

_LIST_SCHEMA = pa.schema({"row": pa.int64(), "path": pa.string()})


def put(listed: pathlib.Path, work: folder.Folder) -> Iterator[int]:
    """Writes the list, range by range; the numbers of those not empty.

    Args:
        listed: SQLite with a table `pictures` of `row` and `path`; a null
            path is no picture.
    """
    with contextlib.closing(sqlite3.connect(listed)) as pictures:
        (count,) = pictures.execute(
            "SELECT ifnull(max(row) + 1, 0) FROM pictures"
        ).fetchone()
        for number, first in enumerate(range(0, count, _RANGE)):
            rows = pictures.execute(
                "SELECT row, path FROM pictures WHERE path IS NOT NULL AND "
                "row >= ? AND row < ? ORDER BY row",
                (first, first + _RANGE),
            ).fetchall()
            if rows:
                sink = pa.BufferOutputStream()
                columns = map(pa.array, zip(*rows, strict=True))
                pq.write_table(pa.table([*columns], _LIST_SCHEMA), sink)
                work.put(_list_key(number), sink.getvalue().to_pybytes())
                yield number


def _list_key(number: int) -> str:
    return f"{_LISTED}/{number:06d}.parquet"


class ListBatchesFn(beam.DoFn):
    """The number of a range to its batches: tables of `row` and `path`.

    Without those whose vectors are stored.
    """

    def __init__(self, location: locations.Location):
        self._folder = opening.open_folder(location)

    def process(self, number: int) -> Iterator[pa.Table]:
        done = _stored_batches(self._folder, number)
        content = self._folder.get(_list_key(number))
        table = pq.read_table(io.BytesIO(content))
        batches = table["row"].to_numpy() // BATCH
        starts = np.flatnonzero(np.diff(batches, prepend=-1))
        for start, stop in zip(starts, [*starts[1:], len(batches)]):
            if batches[start] not in done:
                yield table.slice(start, stop - start)


def _stored_batches(place: folder.Folder, number: int) -> set[int]:
    """Batches of a range that have vectors, by the names of the files."""
    done = set()
    for entry in place.list(f"{_EMBEDDED}/{number:06d}/"):
        name = entry.key.rpartition("/")[2].removesuffix(".parquet")
        file, bits = name.split("-")
        done.update(
            int(file) * FILE_BATCHES + bit
            for bit in range(FILE_BATCHES)
            if int(bits, 16) >> bit & 1
        )
    return done


def vectors_key(batches: Collection[int]) -> str:
    """The name of a file with the vectors of these batches."""
    (file,) = {batch // FILE_BATCHES for batch in batches}
    bits = sum(1 << batch % FILE_BATCHES for batch in batches)
    number = file * FILE_BATCHES * BATCH // _RANGE
    return f"{_EMBEDDED}/{number:06d}/{file:08d}-{bits:08x}.parquet"


def vector_files(work: folder.Folder) -> list[str]:
    """Keys of the files, tables of `VECTOR_SCHEMA`, that are stored."""
    return [entry.key for entry in work.list(f"{_EMBEDDED}/")]
