"""The pipeline from catalogue files to checked rows, on FnApiRunner."""

import json
import os
import pathlib
import tempfile
import unittest

import apache_beam as beam
import pyarrow as pa
from apache_beam.testing import test_pipeline
from apache_beam.testing import util

from beam_jobs.catalogue import catalogue_parts
from beam_jobs.catalogue import parse_catalogue


def _row(line, **fields):
    content = json.dumps(fields)
    return {"line": line, "content": content, "reason": None, "message": None}


def _table(*rows):
    return pa.Table.from_pylist(list(rows), catalogue_parts.ROW_SCHEMA)


# Beam pickles these, so they are not of a test case.
def _check_parts(parts):
    ((key, name, table),) = parts
    # File 3, its part 0, which is the last one.
    assert (key, name) == ("00003/000000-last", "a.jsonl")
    first, second = table.to_pylist()
    assert first == _row(1, product_id="p")
    assert (second["line"], second["reason"]) == (2, "bad_json")


def _check_products(products):
    ((key, found),) = products
    assert key == "00003/000000"
    (product,) = found.to_pylist()
    place = [product[name] for name in ("product_id", "file", "line")]
    assert place == ["p", 3, 1]
    assert found.schema.metadata[b"records_read"] == b"2"


def _check_rejects(rejects):
    ((key, (line,)),) = rejects
    assert key == "00003/000000"
    reject = json.loads(line)
    place = [reject[name] for name in ("reason", "file", "line")]
    assert place == ["missing_field", "a.jsonl", 2]


class CataloguePartsTest(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = pathlib.Path(folder.name)
        self.parts = self.folder / "parts"

    def write(self, name, lines):
        path = self.folder / name
        path.write_text("".join(f"{line}\n" for line in lines))
        return (3, os.fsencode(path), name)

    def parse(self, file, expected):
        """Runs the whole transform, which is to give these counts."""
        with test_pipeline.TestPipeline("FnApiRunner") as pipeline:
            counts = (
                pipeline
                | beam.Create([file])
                | catalogue_parts.ParseCatalogue(self.parts)
            )
            util.assert_that(counts, util.equal_to(expected))

    def test_rows_are_read(self):
        """Breaks if a row gets lost, or a bad one ends the job."""
        file = self.write("a.jsonl", ['{"product_id": "p"}', "no json"])

        with test_pipeline.TestPipeline("FnApiRunner") as pipeline:
            read = (
                pipeline
                | beam.Create([file])
                | beam.ParDo(
                    catalogue_parts.ReadRowsFn(self.parts)
                ).with_outputs("counts", main="parts")
            )
            util.assert_that(read.parts, _check_parts)

    def test_products_are_checked(self):
        """Breaks if a bad record reaches the products, or has no reason."""
        table = _table(
            _row(1, product_id="p", sku_id="s", title="t"),
            _row(2, product_id="q", sku_id="s"),
        )
        with test_pipeline.TestPipeline("FnApiRunner") as pipeline:
            checked = (
                pipeline
                | beam.Create([("00003/000000", "a.jsonl", table)])
                | beam.ParDo(catalogue_parts.CheckProductsFn()).with_outputs(
                    "rejects", main="products"
                )
            )
            util.assert_that(checked.products, _check_products, "products")
            util.assert_that(checked.rejects, _check_rejects, "rejects")

    def test_stored_parts_are_not_done_again(self):
        """Breaks if a killed job does all of a file anew, or counts it less."""
        # 2 parts: one is full, the other has 1 row, which is bad.
        num_rows = parse_catalogue.ROWS_AT_ONCE
        line = '{"product_id": "p", "sku_id": "s", "title": "t"}'
        file = self.write("a.jsonl", [line] * num_rows + ["no json"])
        expected = [
            {"records_read": num_rows, "records_rejected": 0},
            {"records_read": 1, "records_rejected": 1},
        ]
        self.parse(file, expected)
        first, last = catalogue_parts.products_in(self.parts)
        rejects = catalogue_parts.rejects_in(self.parts)
        self.assertEqual(
            [len(each.read_text()) > 0 for each in rejects], [0, 1]
        )

        # A kill before the last part was stored; what is done stays.
        before = first.stat().st_mtime_ns
        last.unlink()
        self.parse(file, expected)
        self.assertEqual(first.stat().st_mtime_ns, before)
        # Nor is a whole file read again.
        pathlib.Path(os.fsdecode(file[1])).unlink()
        self.parse(file, expected)


if __name__ == "__main__":
    unittest.main()
