"""The vectors of `embed_pictures` in order, and what an index takes of them."""

import concurrent.futures
import contextlib
import io
import json
import pathlib
import sqlite3
from typing import Any
from typing import BinaryIO
from typing import TextIO

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from beam_jobs.catalogue import parse_catalogue
from beam_jobs.catalogue import picture_list
from beam_jobs.records import raw_records
from sicot_tf.catalogue import product_index
from sicot_tf.stores import folder

HASH_BYTES = 32
# Files of vectors that are held at once, some MB each.
_FILES_AT_ONCE = 16
_ROWS_AT_ONCE = 8192


def gather(
    work: folder.Folder, listed: pathlib.Path, here: pathlib.Path, dim: int
) -> np.ndarray:
    """Lays all vectors of `embed_pictures.embed` into one file, by their row.

    Args:
        work: of `embed`.
        listed: of `embed`; takes a table `bad` (row, reason, message) of the
            pictures without a vector.
        here: takes `vectors` (float32, a row each picture) and `hashes`
            (SHA-256 of its bytes); zeros where there is none.

    Returns:
        `[num_pictures]` bool: who has a vector.
    """
    with contextlib.closing(sqlite3.connect(listed)) as pictures:
        (count,) = pictures.execute(
            "SELECT ifnull(max(row) + 1, 0) FROM pictures"
        ).fetchone()
        pictures.execute("DROP TABLE IF EXISTS bad")
        pictures.execute(
            "CREATE TABLE bad (row INTEGER PRIMARY KEY, reason, message)"
        )
        for name, size in (("vectors", 4 * dim), ("hashes", HASH_BYTES)):
            with (here / name).open("wb") as file:
                file.truncate(size * count)
        embedded = np.zeros(count, bool)
        keys = picture_list.vector_files(work)
        with (
            (here / "vectors").open("r+b") as vectors,
            (here / "hashes").open("r+b") as hashes,
            concurrent.futures.ThreadPoolExecutor(_FILES_AT_ONCE) as pool,
        ):
            for first in range(0, len(keys), _FILES_AT_ONCE):
                some = keys[first : first + _FILES_AT_ONCE]
                for content in pool.map(work.get, some):
                    table = pq.read_table(io.BytesIO(content))
                    _lay(table, vectors, hashes, embedded)
                    _note_bad(table, pictures)
        # A picture may have been tried twice.
        pictures.executemany(
            "DELETE FROM bad WHERE row = ?",
            (
                (row,)
                for (row,) in pictures.execute("SELECT row FROM bad").fetchall()
                if embedded[row]
            ),
        )
        pictures.commit()
    return embedded


def _lay(
    table: pa.Table, vectors: BinaryIO, hashes: BinaryIO, embedded: np.ndarray
) -> None:
    for row, sha256, vector in zip(
        *(table[name].to_pylist() for name in ("row", "sha256", "vector")),
        strict=True,
    ):
        if sha256 is not None:
            hashes.seek(row * HASH_BYTES)
            hashes.write(sha256)
        if vector is not None:
            vectors.seek(row * len(vector))
            vectors.write(vector)
            embedded[row] = True


def _note_bad(table: pa.Table, pictures: sqlite3.Connection) -> None:
    bad = table.filter(table["vector"].is_null())
    names = ("row", "reason", "message")
    pictures.executemany(
        "INSERT OR REPLACE INTO bad VALUES (?, ?, ?)",
        zip(*(bad[name].to_pylist() for name in names), strict=True),
    )


def collect(
    work: folder.Folder,
    listed: pathlib.Path,
    generation: pathlib.Path,
    dim: int,
    base: pathlib.Path | None,
) -> dict[str, int]:
    """Writes `embeddings.npy`, its rows in the store, and rejected pictures.

    Args:
        work: of `embed_pictures.embed`.
        listed: its list; the vectors are gathered beside it.
        generation: holds the store, and `rejects.jsonl` to append to.
        base: the generation that has embeddings with a `base_row`.

    Returns:
        Counts: `images_embedded`, `images_without_embedding`.
    """
    embedded = gather(work, listed, listed.parent, dim)
    pictures = sqlite3.connect(listed)
    store = sqlite3.connect(generation / product_index.STORE)
    store.execute("PRAGMA journal_mode = OFF")
    (from_base,) = pictures.execute(
        "SELECT count(base_row) FROM pictures"
    ).fetchone()
    output = np.lib.format.open_memmap(
        generation / product_index.EMBEDDINGS,
        mode="w+",
        dtype="<f4",
        shape=(int(embedded.sum()) + from_base, dim),
    )
    base_vectors = None
    if from_base:
        base_vectors = np.load(base / product_index.EMBEDDINGS, mmap_mode="r")
    num_rows = _copy_vectors(
        listed.parent / "vectors",
        *(pictures, embedded, base_vectors, output, store),
    )
    output.flush()
    store.commit()
    store.close()
    rejects = generation / parse_catalogue.REJECTS
    with rejects.open("a", encoding="utf-8") as file:
        _write_bad_pictures(pictures, generation, file)
    (num_pictures,) = pictures.execute(
        "SELECT count(*) FROM pictures"
    ).fetchone()
    pictures.close()
    return {
        "images_embedded": num_rows,
        "images_without_embedding": num_pictures - num_rows,
    }


def _copy_vectors(
    gathered: pathlib.Path,
    listed: sqlite3.Connection,
    embedded: np.ndarray,
    base_vectors: np.ndarray | None,
    output: np.ndarray,
    store: sqlite3.Connection,
) -> int:
    """Fills `output` with the pictures that have a vector; counts them.

    Args:
        embedded: `[num_pictures]` bool: whose vector is in `gathered`.
    """
    dim = output.shape[1]
    pictures = listed.execute(
        "SELECT row, product, picture, base_row FROM pictures ORDER BY row"
    )
    num_rows = 0
    while chunk := pictures.fetchmany(_ROWS_AT_ONCE):
        vectors = np.fromfile(
            gathered,
            dtype="<f4",
            count=len(chunk) * dim,
            offset=4 * dim * chunk[0][0],
        ).reshape(len(chunk), dim)
        places = []
        for vector, (row, product, picture, base_row) in zip(vectors, chunk):
            if base_row is not None:
                vector = base_vectors[base_row]
            elif not embedded[row]:
                continue
            output[num_rows] = vector
            places.append((num_rows, product, picture))
            num_rows += 1
        store.executemany("INSERT INTO embeddings VALUES (?, ?, ?)", places)
    return num_rows


def _write_bad_pictures(
    listed: sqlite3.Connection,
    generation: pathlib.Path,
    rejects: TextIO,
) -> None:
    """A line for each bad picture, in their order, with its product."""
    bad = listed.execute(
        "SELECT product, picture, reason, message FROM bad JOIN pictures "
        "USING (row) ORDER BY row"
    )
    with contextlib.closing(product_index.connect(generation)) as store:
        for product, picture, reason, message in bad:
            record = _read_record(store, product)
            rejects.write(
                raw_records.to_json(
                    {
                        "reason": reason,
                        "message": message,
                        "image": record["images"][picture],
                        "record": record,
                    }
                )
                + "\n"
            )


def _read_record(store: sqlite3.Connection, product: int) -> dict[str, Any]:
    """A product as a catalogue record."""
    names = ("product_id", "sku_id", "title", "category", "updated_at")
    lists = ("images", "tags", "attributes")
    values = store.execute(
        f"SELECT {', '.join(names + lists)} FROM products WHERE row = ?",
        (product,),
    ).fetchone()
    record = dict(zip(names + lists, values, strict=True))
    record |= {name: json.loads(record[name]) for name in lists}
    attributes = record.pop("attributes")
    known = {name: each for name, each in record.items() if each is not None}
    return attributes | known
