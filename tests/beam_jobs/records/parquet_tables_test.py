"""Tests of Parquet files between Beam and DuckDB."""

import pathlib
import tempfile
import unittest

import duckdb
import pyarrow as pa

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


if __name__ == "__main__":
    unittest.main()
