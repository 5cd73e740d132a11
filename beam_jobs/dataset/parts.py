"""The files of a part of stored records, and what they tell of it."""

import pathlib

import pyarrow as pa
import pyarrow.parquet as pq

# One row for each record that can be used.
FACTS_SCHEMA = pa.schema(
    {
        # Its place among all records of all files.
        "row": pa.int64(),
        "record_id": pa.string(),
        "sku_id": pa.string(),
        "sku_name": pa.string(),
        "title": pa.string(),
        "words": pa.list_(pa.string()),
        "source": pa.string(),
        # The split as given; null where the build has to find one.
        "split": pa.string(),
        "group": pa.string(),
        # The JPEG in the part's file of pictures.
        "part": pa.int32(),
        "offset": pa.int64(),
        "length": pa.int32(),
        "sha256": pa.binary(32),
        # By which similar pictures are found.
        "image_hash_high": pa.uint64(),
        "image_hash_low": pa.uint64(),
        # Decide the split, and the place in the order of stored records.
        "split_hash": pa.uint64(),
        "order_hash": pa.uint64(),
    }
)


def files(folder: pathlib.Path, part: int) -> dict[str, pathlib.Path]:
    """The files of a finished part: `facts`, `rejects` and `jpegs`."""
    return {
        "facts": folder / f"part-{part:06d}.parquet",
        "rejects": folder / f"part-{part:06d}.rejects.jsonl",
        "jpegs": folder / f"part-{part:06d}.jpegs",
    }


def count(facts: pathlib.Path) -> dict[str, int]:
    """How many records of a finished part are `done` and `rejected`."""
    metadata = pq.read_schema(facts).metadata
    return {
        "done": int(metadata[b"read"]),
        "rejected": int(metadata[b"rejected"]),
    }


def images_sha256(folder: pathlib.Path) -> str:
    """One hash for the pictures of all parts, however they were divided."""
    total = sum(
        int(pq.read_schema(path).metadata[b"images"], 16)
        for path in folder.glob("part-*.parquet")
    )
    return f"{total % 2**256:064x}"
