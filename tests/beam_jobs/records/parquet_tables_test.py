"""Tests of Parquet files between Beam and DuckDB."""

import pathlib
import tempfile
import unittest

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from beam_jobs.records import parquet_tables


class ParquetTablesTest(unittest.TestCase):
    def test_a_folders_name_is_no_data(self):
        """If it fails, all records of a folder split=train are to train, and
        others are not found, or those of a neighbour."""
        schema = pa.schema({"split": pa.string()})
        for name in (
            *("split=train", "a'b", "a{b,c}", "a[b]", "a*", "a?", "a\\b"),
            *("%20#", "ü 中", "x;--"),
        ):
            with self.subTest(name), tempfile.TemporaryDirectory() as top:
                folder = pathlib.Path(top) / name
                folder.mkdir()
                (pathlib.Path(top) / "ab").mkdir()
                with parquet_tables.plain_name(folder) as plain:
                    for number in range(2):
                        path = plain / f"part-{number}.parquet"
                        with parquet_tables.TableWriter(path, schema) as table:
                            table.add(["test"])
                    content = parquet_tables.read_parquet(plain, "part-*")
                    with duckdb.connect() as database:
                        found = database.execute(
                            f"select split from {content}"
                        ).fetchall()
                self.assertEqual(found, [("test",), ("test",)])
                self.assertEqual(len(list(folder.iterdir())), 2)

    def test_sorted_rows_are_parted(self):
        """If it fails, shards have rows of others, or an empty one lacks its
        file."""
        schema = pa.schema({"word": pa.string(), "place": pa.int32()})
        with tempfile.TemporaryDirectory() as folder:
            paths = [pathlib.Path(folder) / f"{i}.parquet" for i in range(5)]
            with parquet_tables.PartedWriter(paths, schema) as writer:
                # Number 1 goes on in the second batch; 0, 3 and 4 have none.
                for numbers, words in (
                    ([1, 1], "ab"),
                    ([], ""),
                    ([1, 2], "cd"),
                ):
                    writer.add(
                        pa.array(numbers, pa.int32()),
                        # DuckDB's numbers are wider.
                        pa.record_batch(
                            {
                                "word": pa.array(list(words), pa.string()),
                                "place": pa.array(
                                    range(len(words)), pa.int64()
                                ),
                            }
                        ),
                    )
            found = [pq.read_table(path) for path in paths]
        self.assertTrue(all(table.schema == schema for table in found))
        self.assertEqual(
            [table["word"].to_pylist() for table in found],
            [[], ["a", "b", "c"], ["d"], [], []],
        )


if __name__ == "__main__":
    unittest.main()
