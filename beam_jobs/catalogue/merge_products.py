"""Middle of `build_product_index`: checked rows to the SQLite store.

DuckDB finds the latest record of each product and sorts the products out of
core; SQLite takes them in the order in which they will be read. A Beam
`CombinePerKey` would hold all records in memory on FnApiRunner, and upserts
into SQLite touch a random page for each record (docs/product_index.md has
the figures of both).
"""

import json
import pathlib
import sqlite3
from collections.abc import Iterator
from collections.abc import Sequence

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from beam_jobs.catalogue import parse_catalogue
from beam_jobs.records import raw_records
from sicot_tf import files
from sicot_tf import progress
from sicot_tf.catalogue import product_index

# DuckDB's memory; what is larger is sorted on disk.
_DUCKDB_MEMORY = "1GB"
# Pages that SQLite holds while it writes, in KiB.
_SQLITE_CACHE_KIB = 65_536

# The base of a delta stands before all catalogue files: at equal times the
# record of the delta is the later one.
BASE_FILE = -1

# The work list of `embed_pictures`, beside the store. `row` counts all
# pictures; `base_row` is the row of a picture in the embeddings of the base.
_PICTURES_SCHEMA = """
CREATE TABLE pictures (
    row INTEGER PRIMARY KEY,
    product INTEGER NOT NULL,
    picture INTEGER NOT NULL,
    path TEXT,
    base_row INTEGER
) STRICT;
"""


def export_base(base: pathlib.Path, path: pathlib.Path) -> None:
    """Writes the products and tombstones of a generation like parsed rows."""
    connection = product_index.connect(base)
    # `line` is the product's row in the base; file and line are a key.
    queries = (
        "SELECT product_id, updated_at, FALSE, ?, row, sku_id, title, images, "
        "tags, category, attributes FROM products ORDER BY row",
        "SELECT product_id, updated_at, TRUE, ?, "
        "-row_number() OVER (ORDER BY product_id), NULL, NULL, NULL, NULL, "
        "NULL, NULL FROM tombstones ORDER BY product_id",
    )
    schema = parse_catalogue.PRODUCT_SCHEMA
    with (
        files.replacing(path) as temporary,
        pq.ParquetWriter(temporary, schema) as writer,
    ):
        for query in queries:
            rows = connection.execute(query, (BASE_FILE,))
            while chunk := rows.fetchmany(parse_catalogue.ROWS_AT_ONCE):
                # SQLite knows no booleans.
                columns = [
                    pa.array(
                        map(bool, column) if field.name == "deleted" else column
                    ).cast(field.type)
                    for field, column in zip(schema, zip(*chunk), strict=True)
                ]
                writer.write_batch(
                    pa.RecordBatch.from_arrays(columns, schema=schema)
                )
    connection.close()


def open_rows(
    files: Sequence[pathlib.Path], spill: pathlib.Path
) -> duckdb.DuckDBPyConnection:
    """Views over Parquet files of rows: `latest`, one row for each product.

    The record with the greatest `updated_at` wins (one without is older than
    any with), at equal times that of the later file, then the later line.

    Args:
        files: of `PRODUCT_SCHEMA`.
        spill: a folder for what does not fit in memory; it and the files are
            inside a `parquet_tables.plain_name`.
    """
    connection = duckdb.connect(
        config={
            "memory_limit": _DUCKDB_MEMORY,
            "temp_directory": str(spill),
            # Queries that need an order say so, so DuckDB need not keep one.
            "preserve_insertion_order": False,
        }
    )
    rows = connection.read_parquet(
        [str(file) for file in files], hive_partitioning=False
    )
    rows.create_view("rows")
    connection.execute(
        "CREATE TABLE winners AS SELECT unnest(max({"
        "'updated_at': coalesce(updated_at, '-infinity'::DOUBLE), "
        "'file': file, 'line': line})) FROM rows GROUP BY product_id"
    )
    connection.execute(
        "CREATE VIEW latest AS SELECT rows.* FROM rows "
        "JOIN winners USING (file, line)"
    )
    return connection


def count_rows(rows: duckdb.DuckDBPyConnection) -> dict[str, int]:
    """What becomes of the records; those of the base are counted apart."""
    names = (
        "products_from_input",
        "tombstones",
        "records_superseded",
        "products_from_base",
        "products_of_base",
    )
    (counts,) = rows.sql(
        "SELECT count(*) FILTER (file >= 0 AND NOT deleted), "
        "count(*) FILTER (file >= 0 AND deleted), "
        "(SELECT count(*) FROM rows WHERE file >= 0) "
        "- count(*) FILTER (file >= 0), "
        "count(*) FILTER (file < 0 AND NOT deleted), "
        "(SELECT count(*) FROM rows WHERE file < 0 AND NOT deleted) "
        "FROM latest"
    ).fetchall()
    return dict(zip(names, counts, strict=True))


def write_store(
    rows: duckdb.DuckDBPyConnection,
    path: pathlib.Path,
    *,
    folders: Sequence[str],
    pictures: pathlib.Path | None = None,
    base: pathlib.Path | None = None,
) -> None:
    """Writes the store, and the work list of `embed_pictures`.

    The file is new and rows come in order, so equal rows give equal bytes.

    Args:
        rows: from `open_rows`.
        folders: of each catalogue file; relative pictures lie there.
        pictures: where the work list is written, if wanted.
        base: the generation that rows of `BASE_FILE` come from.
    """
    path.unlink(missing_ok=True)
    store = _connect_to_write(path)
    store.executescript(product_index.SCHEMA)
    work = None
    if pictures is not None:
        work = _open_work_list(pictures, base)
    latest = rows.sql(
        "SELECT product_id, sku_id, title, images, tags, category, "
        "attributes, updated_at, file, line FROM latest WHERE NOT deleted "
        "ORDER BY sku_id, updated_at DESC NULLS LAST, product_id"
    )
    first = 1
    with progress.bar(description="Products", unit="products") as bar:
        for chunk in _chunks(latest):
            store.executemany(
                "INSERT INTO products VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
                ((row, *each[:8]) for row, each in enumerate(chunk, first)),
            )
            if work is not None:
                _list_pictures(work, first, chunk, folders)
            first += len(chunk)
            bar.update(len(chunk))
    tombstones = rows.sql(
        "SELECT product_id, updated_at FROM latest WHERE deleted "
        "ORDER BY product_id"
    )
    for chunk in _chunks(tombstones):
        store.executemany("INSERT INTO tombstones VALUES (?, ?)", chunk)
    store.executescript(product_index.INDEXES)
    store.commit()
    store.close()
    if work is not None:
        work.commit()
        work.close()


def _connect_to_write(path: pathlib.Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, uri=True)
    # An unfinished file is thrown away, so no journal is needed.
    connection.executescript(
        "PRAGMA page_size = 4096; PRAGMA journal_mode = OFF; "
        "PRAGMA locking_mode = EXCLUSIVE; "
        f"PRAGMA cache_size = -{_SQLITE_CACHE_KIB};"
    )
    return connection


def _open_work_list(
    path: pathlib.Path, base: pathlib.Path | None
) -> sqlite3.Connection:
    path.unlink(missing_ok=True)
    work = _connect_to_write(path)
    work.executescript(_PICTURES_SCHEMA)
    if base is not None:
        uri = (base / product_index.STORE).resolve().as_uri()
        work.execute("ATTACH ? AS base", (f"{uri}?mode=ro&immutable=1",))
    return work


def _list_pictures(
    work: sqlite3.Connection,
    first_product: int,
    chunk: list[tuple],
    folders: Sequence[str],
) -> None:
    """Adds the pictures of some products to the work list."""
    (row,) = work.execute(
        "SELECT ifnull(max(row) + 1, 0) FROM pictures"
    ).fetchone()
    from_input, from_base = [], []
    for product, (*_, file, line) in enumerate(chunk, first_product):
        images = json.loads(chunk[product - first_product][3])
        for picture, image in enumerate(images):
            place = (row, product, picture)
            if file == BASE_FILE:
                from_base.append((*place, line, picture))
            else:
                path = raw_records.resolve_image(folders[file], image)
                from_input.append((*place, path))
            row += 1
    work.executemany(
        "INSERT INTO pictures VALUES (?, ?, ?, ?, NULL)", from_input
    )
    if from_base:
        work.executemany(
            "INSERT INTO pictures VALUES (?, ?, ?, NULL, (SELECT row FROM "
            "base.embeddings WHERE product = ? AND picture = ?))",
            from_base,
        )


def _chunks(rows: duckdb.DuckDBPyRelation) -> Iterator[list[tuple]]:
    for batch in rows.to_arrow_reader(parse_catalogue.ROWS_AT_ONCE):
        columns = [column.to_pylist() for column in batch.columns]
        yield list(zip(*columns, strict=True))
