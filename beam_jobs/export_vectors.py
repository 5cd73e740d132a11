"""Writes the rows of a vector index as Parquet, for a Milvus server.

Beside them `milvus.json` says the collection's fields and its index. Live
changes that no build has folded in are not among them.
"""

import contextlib
import itertools
import pathlib
import sqlite3
import typing

from sicot_tf import command_line
from sicot_tf.stores import locations

if typing.TYPE_CHECKING:
    import numpy as np
    import tqdm

_EXAMPLES = """
examples:
  python -m beam_jobs.export_vectors --vector_index vectors --output export

Upload export/*.parquet to the server's bucket, make the collection as
export/milvus.json says, and import: pymilvus.bulk_writer.bulk_import.

exit codes: 0 written; 2 refused; 1 another error.
"""
# Rows of a Parquet file and of a row group.
_PER_FILE = 500_000
_PER_GROUP = 10_000


@command_line.mistakes_in_a_sentence()
def main(argv: list[str] | None = None) -> None:
    """`python -m beam_jobs.export_vectors`."""
    parser = command_line.ArgumentParser(
        "beam_jobs.export_vectors", __doc__, _EXAMPLES
    )
    parser.add_argument(
        "--vector_index",
        type=locations.location,
        required=True,
        metavar="VECTORS",
        help="folder of beam_jobs.build_vector_index, or a generation",
    )
    parser.add_argument(
        "--output",
        type=locations.location,
        required=True,
        metavar="DIR",
        help="a new folder, or that of an earlier export",
    )
    arguments = parser.parse_args(argv)
    from sicot_tf.data import generation_cache

    generation = generation_cache.local_generation(arguments.vector_index)
    milvus = locations.join(arguments.output, "milvus.json")
    count = export(generation, arguments.output)
    print(
        f"{count:,} vectors of {generation.name} in {arguments.output}. Next: "
        f"make the collection as {milvus} says, and "
        "import the Parquet files."
    )


def export(generation: pathlib.Path, output: locations.Location) -> int:
    """Writes all rows of a generation into a new folder; says how many.

    Raises:
        ValueError: if there is a folder that is no earlier export.
    """
    import numpy as np

    from sicot_tf import files
    from sicot_tf import progress
    from sicot_tf.catalogue import milvus_search
    from sicot_tf.catalogue import vector_rows
    from sicot_tf.data import generations
    from sicot_tf.stores import uploads

    manifest = files.read_json(generation / generations.MANIFEST)
    vectors = np.load(generation / vector_rows.ROWS, mmap_mode="r")
    count = manifest["num_vectors"]
    uri = (generation / vector_rows.STORE).resolve().as_uri()
    with (
        uploads.replacing_folder(
            output, known_by="milvus.json", kind="export"
        ) as folder,
        contextlib.closing(
            sqlite3.connect(f"{uri}?mode=ro&immutable=1", uri=True)
        ) as store,
        progress.bar(description="Vectors", unit="vectors", total=count) as bar,
    ):
        rows = store.execute(
            "SELECT slot, product_id, picture, category FROM vectors "
            "ORDER BY slot"
        )
        groups = iter(lambda: rows.fetchmany(_PER_GROUP), [])
        for number in itertools.count():
            some = list(itertools.islice(groups, _PER_FILE // _PER_GROUP))
            if not some:
                break
            _write_file(folder / f"{number:05d}.parquet", some, vectors, bar)
        description = milvus_search.schema()
        description["index"]["params"] |= {
            "nlist": milvus_search.num_lists(count)
        }
        files.write_json(
            folder / "milvus.json",
            {
                **description,
                "dim": manifest["dim"],
                "num_vectors": count,
                "generation": generation.name,
                "saved_model_sha256": manifest["saved_model_sha256"],
                "signature": manifest["signature"],
            },
        )
    return count


def _write_file(
    path: pathlib.Path,
    groups: list[list[tuple]],
    vectors: "np.ndarray",
    bar: "tqdm.tqdm",
) -> None:
    """Writes groups of slots and rows, with their vectors."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    from sicot_tf.catalogue import milvus_search
    from sicot_tf.catalogue.vectors import VectorRow

    dim = vectors.shape[1]
    schema = pa.schema(
        {
            "id": pa.string(),
            "product_id": pa.string(),
            "picture": pa.int32(),
            "category": pa.string(),
            "vector": pa.list_(pa.float32()),
        }
    )
    with pq.ParquetWriter(path, schema) as writer:
        for group in groups:
            names = [VectorRow(*row) for _, *row in group]
            flat = vectors[[slot for slot, *_ in group]].reshape(-1)
            ends = pa.array(range(0, dim * len(group) + 1, dim), pa.int32())
            columns = [
                pa.array([milvus_search.identity(row) for row in names]),
                pa.array([row.product_id for row in names]),
                pa.array([row.picture for row in names], pa.int32()),
                pa.array([row.category or "" for row in names]),
                pa.ListArray.from_arrays(ends, pa.array(flat, pa.float32())),
            ]
            writer.write_table(pa.Table.from_arrays(columns, schema=schema))
            bar.update(len(group))


if __name__ == "__main__":
    main()
