"""Parts of the raw records: the tables they pass through, and their files.

A part is what a worker takes at a time and what an interrupted build need not
do again. Its rows are one Arrow table, to which each step adds columns.
"""

import dataclasses
import json
import pathlib
from collections.abc import Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from beam_jobs.pipelines import sums
from sicot_tf.stores import folder

# As read. `row` counts the rows of all files, `line` those of its file; in the
# survey's files from the beginning of a file or range. `content` is JSON
# text; `reason` and `message` say what is wrong with a row, else null. Paths
# are bytes: they need not be UTF-8.
ROWS_SCHEMA = pa.schema(
    {
        "row": pa.int64(),
        "file": pa.string(),
        "folder": pa.binary(),
        "line": pa.int64(),
        "content": pa.string(),
        "image": pa.binary(),
        "reason": pa.string(),
        "message": pa.string(),
    }
)

# What a checked row says; all null where there is a reason.
_CHECKED = {
    "record_id": pa.string(),
    "sku_id": pa.string(),
    "sku_name": pa.string(),
    "title": pa.string(),
    "source": pa.string(),
    # The split as given; null where the build has to find one.
    "split": pa.string(),
    "group": pa.string(),
    "box": pa.list_(pa.float64()),
    # Decide the split, and the place in the order of stored records.
    "split_hash": pa.uint64(),
    "order_hash": pa.uint64(),
}
CHECKED_SCHEMA = pa.schema([*ROWS_SCHEMA, *pa.schema(_CHECKED)])

_PICTURES = {
    # The JPEG in the part's file of pictures.
    "jpegs": pa.string(),
    "offset": pa.int64(),
    "length": pa.int32(),
    "sha256": pa.binary(32),
    # By which similar pictures are found.
    "image_hash_high": pa.uint64(),
    "image_hash_low": pa.uint64(),
}
STORED_SCHEMA = pa.schema([*CHECKED_SCHEMA, *pa.schema(_PICTURES)])
TOKENIZED_SCHEMA = pa.schema(
    [*STORED_SCHEMA, pa.field("words", pa.list_(pa.string()))]
)

# One row for each record that can be used.
FACTS_SCHEMA = pa.schema(
    [
        TOKENIZED_SCHEMA.field(name)
        for name in (
            *("row", "record_id", "sku_id", "sku_name", "title", "words"),
            *("source", "split", "group", "jpegs", "offset", "length"),
            *("sha256", "image_hash_high", "image_hash_low"),
            *("split_hash", "order_hash"),
        )
    ]
)
# One row for each record that can't.
REJECTS_SCHEMA = pa.schema(
    [
        ROWS_SCHEMA.field(name)
        for name in ("row", "file", "line", "content", "reason", "message")
    ]
)


@dataclasses.dataclass(frozen=True)
class Chunk:
    """Rows as the survey has written them.

    Attributes:
        key: of the file.
        num_rows: how many there are.
        first_row: rows of all files before it.
        first_line: lines of its file before its range.
    """

    key: str
    num_rows: int
    first_row: int
    first_line: int


@dataclasses.dataclass(frozen=True)
class Part:
    """What a worker takes at a time."""

    number: int
    chunks: tuple[Chunk, ...]

    @property
    def num_rows(self) -> int:
        """Rows of all chunks."""
        return sum(chunk.num_rows for chunk in self.chunks)


def plan(chunks: Sequence[Chunk], part_records: int) -> list[Part]:
    """Parts of as many chunks as make `part_records` rows, at least one."""
    groups, num_rows = [], 0
    for chunk in chunks:
        if not groups or num_rows + chunk.num_rows > part_records:
            groups.append([])
            num_rows = 0
        groups[-1].append(chunk)
        num_rows += chunk.num_rows
    return [Part(i, tuple(group)) for i, group in enumerate(groups)]


def facts_key(number: int) -> str:
    """The file of a part's facts, which appears last and marks it finished."""
    return f"part-{number:06d}.parquet"


def file_key(number: int, content_sha256: str, ending: str) -> str:
    """Another file of a part, named by what is in it.

    So two workers at one part don't get into each other's way.
    """
    return f"part-{number:06d}-{content_sha256[:16]}.{ending}"


def finished(folder_of_parts: folder.Folder) -> set[int]:
    """The numbers of the parts that are finished."""
    keys = (entry.key for entry in folder_of_parts.list("part-"))
    return {int(key[5:11]) for key in keys if key.endswith(".parquet")}


# === What the file of facts says of its part ===

_COUNTS, _REJECTS = b"counts", b"rejects"


def describe(facts: pa.Table, counts: sums.Sums, rejects: str) -> pa.Table:
    """Facts that tell the counts of their part, and its file of rejects.

    Args:
        counts: `read`, `rejected` by reason, and `images`.
    """
    return facts.replace_schema_metadata(
        {_COUNTS: json.dumps(counts), _REJECTS: rejects}
    )


def read_counts(folder_of_parts: folder.Folder, key: str) -> sums.Sums:
    """What a finished part says of itself."""
    with folder_of_parts.open(key) as file:
        return json.loads(pq.read_schema(file).metadata[_COUNTS])


def progress(folder_of_parts: folder.Folder, key: str) -> dict[str, int]:
    """How many records of a finished part are `done` and `rejected`."""
    counts = read_counts(folder_of_parts, key)
    return {
        "done": counts["read"],
        "rejected": sum(counts["rejected"].values()),
    }


def rejects_keys(folder_of_parts: pathlib.Path) -> list[str]:
    """The files of rejects of all parts that have any, by their facts."""
    found = []
    for path in sorted(folder_of_parts.glob("part-*.parquet")):
        metadata = pq.read_schema(path).metadata
        if json.loads(metadata[_COUNTS])["rejected"]:
            found.append(metadata[_REJECTS].decode())
    return found


def images_sha256(total: int) -> str:
    """One hash for the pictures of all parts, however they were divided."""
    return f"{total % 2**256:064x}"


# === Tables ===


def read_chunk(rows: folder.Folder, chunk: Chunk) -> pa.Table:
    """A file of rows, its rows and lines counted through all files."""
    with rows.open(chunk.key) as file:
        table = pq.read_table(file)
    for name, first in (("row", chunk.first_row), ("line", chunk.first_line)):
        column = pc.add(table[name], first)
        place = table.schema.get_field_index(name)
        table = table.set_column(place, table.schema.field(name), column)
    return table


def divide(table: pa.Table) -> tuple[pa.Table, pa.Table]:
    """Facts of the rows that can be used, and the rejects."""
    good = pc.is_null(table["reason"])
    return (
        table.filter(good).select(FACTS_SCHEMA.names),
        table.filter(pc.invert(good)).select(REJECTS_SCHEMA.names),
    )


def number_of(table: pa.Table) -> int:
    """Which part's rows they are."""
    return int(table.schema.metadata[b"part"])


def of_part(
    rows: list[dict[str, Any]], schema: pa.Schema, table: pa.Table
) -> pa.Table:
    """Rows as a table of the part that `table` is of."""
    made = pa.Table.from_pylist(rows, schema)
    return made.replace_schema_metadata(table.schema.metadata)
