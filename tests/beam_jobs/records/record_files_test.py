"""Record files through whole jobs: formats, encodings, odd values, paths."""

import contextlib
import csv
import dataclasses
import io
import json
import os
import pathlib
import random
import tempfile
import unittest

import numpy as np
import pandas as pd
import PIL.Image
import pyarrow as pa
import pyarrow.parquet as pq

from beam_jobs import build_product_index
from beam_jobs import replay_rejects
from beam_jobs.dataset import build
from beam_jobs.pipelines import runners
from beam_jobs.records import raw_records
from sicot_tf import config
from sicot_tf import files
from sicot_tf.catalogue import product_index
from sicot_tf.data import generations
from tests.beam_jobs.records import damaged_record_files_test
from tests.helpers import mistakes

_CONFIG = dataclasses.replace(
    config.with_preset(config.DatasetConfig, "demo"),
    head_threshold=3,
    word_vector_dim=4,
    word2vec_epochs=1,
    duplicates="keep",
    val_percent=0,
    test_percent=0,
)


def _build(path, output, **settings):
    return build.build(
        build.Inputs([str(path)]),
        output,
        dataclasses.replace(_CONFIG, **settings),
        runners.make_pipeline_options(),
    )


def _counts(generation):
    return files.read_json(generation / "manifest.json")["counts"]


def _data(generation):
    """All bytes but those that name the record files."""
    return {
        path.name: path.read_bytes()
        for path in generation.iterdir()
        if path.name not in ("run.json", "manifest.json")
    }


class RecordFilesTest(unittest.TestCase):
    def setUp(self):
        folder = self.enterContext(tempfile.TemporaryDirectory())
        self.folder = pathlib.Path(folder)
        pixels = np.random.default_rng(0).integers(0, 255, (12, 16, 3), "uint8")
        PIL.Image.fromarray(pixels).save(self.folder / "0.png")

    def _build_index(self, path, *flags):
        """Counts and titles by product id."""
        index = self.folder / f"index of {path.name}"
        with contextlib.redirect_stdout(io.StringIO()):
            build_product_index.main(
                ["--input", str(path), "--output", str(index), *flags]
            )
        generation = generations.resolve_generation(index)
        with contextlib.closing(product_index.connect(generation)) as store:
            titles = dict(
                store.execute("SELECT product_id, title FROM products")
            )
        return _counts(generation), titles

    def test_one_set_from_every_format(self):
        """Broken: classes, splits or words depend on the format.

        The ids are text, mixed, and whole numbers that pandas holds as floats.
        """
        frame = pd.DataFrame(
            {
                "record_id": [1.0, 2.0, 3.0, 4.0, 5.0, 6.0],
                "image": "0.png",
                "sku_id": [12, "A-1", "007", "1.50", 12, "1e5"],
                "title": [
                    "red bag",
                    "红色 包",
                    "two\nlines",
                    '27" "x"',
                    "",
                    "a,b",
                ],
                "group": [7, None, 100, None, None, 8],
                "note": [None, 1, 2, 3, 4, 5],
            }
        )
        frame.to_csv(self.folder / "r.csv", index=False)
        rows = (
            frame.astype(object).where(frame.notna(), None).to_dict("records")
        )
        (self.folder / "r.jsonl").write_text(
            "".join(json.dumps(row) + "\n" for row in rows)
        )
        as_text = frame.assign(sku_id=frame["sku_id"].map(str))
        as_text.to_parquet(self.folder / "r.parquet", index=False)
        pq.write_table(
            pa.table(
                {
                    "record_id": pa.array(range(1, 7), pa.decimal128(20, 0)),
                    "image": pa.array(["0.png"] * 6).dictionary_encode(),
                    "sku_id": pa.array(as_text["sku_id"], pa.binary()),
                    "title": pa.array(as_text["title"], pa.large_string()),
                    "group": pa.array([7, None, 100, None, None, 8], "int32"),
                }
            ),
            self.folder / "arrow.parquet",
        )
        first, *others = [
            _data(_build(self.folder / name, self.folder / f"of {name}"))
            for name in ("r.jsonl", "r.csv", "r.parquet", "arrow.parquet")
        ]
        self.assertEqual(first["rejects.jsonl"], b"")
        classes = [json.loads(x)["sku_id"] for x in
                   first["classes.jsonl"].splitlines()]  # fmt: skip
        self.assertEqual(classes, ["007", "1.50", "12", "1e5", "A-1"])
        for other in others:
            self.assertEqual(other, first)

    def test_another_encoding(self):
        """Broken: the flag does not reach the reader, or what it writes."""
        text = "record_id,image,sku_id,title\n" + "".join(
            f"{i},0.png,围巾,红色羊毛围巾 {i}\n" for i in range(4)
        )
        path = self.folder / "r.csv"
        path.write_text(text, "gb18030")
        output = self.folder / "dataset"
        with self.assertRaisesRegex(ValueError, "r.csv.*--encoding gb18030"):
            _build(path, output)
        generation = _build(path, output, encoding="gb18030")
        self.assertEqual(_counts(generation)["written"]["train"], 4)
        self.assertIn(
            "羊毛", (generation / "vocabulary.txt").read_text("utf-8")
        )
        path.write_text(text.replace("record_id", "product_id"), "utf-16")
        with mistakes.assert_told(self, "--encoding utf-16"):
            self._build_index(path)
        _, titles = self._build_index(path, "--encoding", "utf-16")
        self.assertEqual(titles["3"], "红色羊毛围巾 3")

    def test_lone_surrogates_anywhere(self):
        """Broken: one record ends the job when all its work is done."""
        good = {"image": "0.png", "sku_id": "s", "title": "red bag"}
        rows = [
            {"record_id": "0", **good, "note \ud83d": {"\ud83d": "\udce9"}},
            {"record_id": "1\ud83d", **good},
            {"record_id": "2", **good, "image": "gone\udce9.png"},
            {"record_id": "3", **good, "title": "red \ud83d"},
            {"record_id": "4", **good, "tags": ["\ud83d"]},
            {"record_id": "5", **good, "split": "\ud83d"},
        ]
        path = self.folder / "r.jsonl"
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        generation = _build(path, self.folder / "dataset")
        counts = _counts(generation)
        self.assertEqual(counts["written"]["train"], 2)
        self.assertEqual(
            counts["rejected"], {"bad_field": 3, "missing_image": 1}
        )
        manifest = files.read_json(generation / "manifest.json")
        self.assertEqual(manifest["unknown_fields"], {"note \\ud83d": 1})
        again = self.folder / "again.jsonl"
        with contextlib.redirect_stdout(
            io.TextIOWrapper(io.BytesIO(), "utf-8")
        ):
            replay_rejects.main([str(generation), "--output", str(again)])
        self.assertEqual(len(again.read_text("utf-8").split("\n")), 5)
        path.write_text(path.read_text().replace("record_id", "product_id"))
        counts, titles = self._build_index(path)
        self.assertEqual(counts["records_read"], 6)
        self.assertEqual(titles, {"0": "red bag", "3": "red \ufffd",
                                  "5": "red bag"})  # fmt: skip

    def test_unused_cells_do_not_travel(self):
        """Broken: what nobody uses fills parts and rejects.

        Three records of 200 kB, one of them a reject with a long title.
        """
        rows = [
            {"record_id": str(i), "image": image, "sku_id": "s",
             "title": "red bag " * 1000, "note": "x" * 200_000, "n": "y"}
            for i, image in enumerate(["0.png", "0.png", "gone.png"])
        ]  # fmt: skip
        jsonl = self.folder / "r.jsonl"
        jsonl.write_text("".join(json.dumps(row) + "\n" for row in rows))
        with (self.folder / "r.csv").open("w") as file:
            writer = csv.DictWriter(file, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
        pq.write_table(pa.Table.from_pylist(rows), self.folder / "r.parquet")
        for name in ("r.jsonl", "r.csv", "r.parquet"):
            output = self.folder / f"of {name}"
            generation = _build(self.folder / name, output)
            reject = json.loads((generation / "rejects.jsonl").read_text())
            record = reject["record"]
            # Known fields are whole, for a replay; others are cut.
            self.assertEqual(record["title"], rows[2]["title"])
            self.assertLess(len(str(record["note"])), 1100)
            manifest = files.read_json(generation / "manifest.json")
            self.assertEqual(manifest["unknown_fields"], {"note": 3, "n": 3})
            strict = _counts(_build(self.folder / name, output, strict=True))
            self.assertEqual(strict["rejected"], {"unknown_field": 3})

    def test_paths_are_bytes(self):
        """Broken: a folder's name ends the job."""
        folder = os.fsencode(self.folder) + b"/split=test 'a\" %s {0} \xe9"
        os.mkdir(folder)
        os.rename(self.folder / "0.png", folder + b"/\xff.png")
        row = {"record_id": "1", "image": "\udcff.png", "sku_id": "s",
               "title": "x"}  # fmt: skip
        gone = {**row, "record_id": "2", "image": "gone.png"}
        path = pathlib.Path(os.fsdecode(folder + b"/r\xe9.jsonl"))
        path.write_text(json.dumps(row) + "\n" + json.dumps(gone))
        generation = _build(path, self.folder / "dataset")
        counts = _counts(generation)
        self.assertEqual(counts["written"]["train"], 1)
        self.assertEqual(counts["rejected"], {"missing_image": 1})
        os.rename(folder + b"/\xff.png", folder + b"/gone.png")
        again = self.folder / "again.jsonl"
        with contextlib.redirect_stdout(
            io.TextIOWrapper(io.BytesIO(), "utf-8")
        ):
            replay_rejects.main([str(generation), "--output", str(again)])
        generation = _build(again, self.folder / "again")
        self.assertEqual(_counts(generation)["written"]["train"], 1)
        path.write_text(json.dumps({"product_id": "1", **row}))
        self.assertEqual(self._build_index_of_bytes(path), {"1": "x"})

    def _build_index_of_bytes(self, path):
        row = json.loads(path.read_text())
        path.write_text(json.dumps({**row, "image": "a.png"}))
        index = self.folder / "index"
        with contextlib.redirect_stdout(io.StringIO()):
            build_product_index.main(
                ["--input", str(path), "--output", str(index)]
            )
        with product_index.ProductIndex(index) as store:
            return {p.product_id: p.title for p in store.products_of("s")}

    def test_index_of_what_pandas_writes(self):
        """Broken: a product that is gone stays, or products are mixed up."""
        frame = pd.DataFrame(
            {
                "product_id": [1.0, 2.0, None, 1234567890123456789.0],
                "sku_id": [b"s0", b"s1", b"s2", b"s3"],
                "title": ["a", "b", "c", "d"],
                "deleted": [1.0, 0.0, None, 0.0],
                "at": pd.to_datetime(["2023-11-14 22:13:20.123456789"] * 4),
            }
        )
        path = self.folder / "c.parquet"
        frame.to_parquet(path)
        counts, titles = self._build_index(path)
        self.assertEqual(titles, {"2": "b"})
        self.assertEqual(counts["tombstones"], 1)
        self.assertEqual(
            counts["rejects"], {"missing_field": 1, "bad_field": 1}
        )
        frame["sku_id"] = ["s0", "s1", "s2", "s3"]
        for deleted in ("1.0", "True", "TRUE", "1"):
            path = self.folder / f"{deleted}.csv"
            frame["deleted"] = [deleted, "0.0", "", "FALSE"]
            frame.to_csv(path, index=False)
            self.assertEqual(self._build_index(path), (counts, titles))

    def test_index_with_an_open_quote(self):
        """Broken: products vanish in the title of another."""
        path = self.folder / "c.csv"
        path.write_text(
            'product_id,sku_id,title\n0,s,a\n1,s,"27 inch\n2,s,b\n3,s,c\n'
        )
        counts, titles = self._build_index(path)
        self.assertEqual(titles, {"0": "a", "2": "b", "3": "c"})
        self.assertEqual(counts["records_read"], 4)
        self.assertEqual(counts["rejects"], {"bad_field": 1})

    def test_damaged_files_through_both_jobs(self):
        """Broken: a damaged line ends a job, or is lost on its way."""
        folder = self.folder / "damaged"
        folder.mkdir()
        num_rows = 0
        for seed in range(40):
            rng = random.Random(seed)
            for name, data in (
                (f"{seed}.csv", damaged_record_files_test._csv(rng)),
                (f"{seed}.jsonl", damaged_record_files_test._json_lines(rng)),
                (f"{seed}.parquet", damaged_record_files_test._parquet(rng)[0]),
            ):
                fields = raw_records.known_fields("title")
                try:
                    raw_records.check_encoding(
                        io.BytesIO(data), name, fields=fields
                    )
                    num_rows += sum(
                        1
                        for _ in raw_records.read_rows(
                            io.BytesIO(data), name, needed=raw_records.NEEDED
                        )
                    )
                except ValueError:
                    continue  # The whole file is refused.
                (folder / name).write_bytes(data)
        self.assertGreater(len(list(folder.iterdir())), 60)
        counts = _counts(_build(folder / "*", self.folder / "dataset"))
        self.assertEqual(counts["records_read"], num_rows)
        self.assertNotIn("unexpected_error", counts["rejected"])
        # Few: all files have the same ids, and the first of each stays.
        self.assertGreater(counts["written"]["train"], 10)
        for path in [*folder.glob("*.jsonl"), *folder.glob("*.csv")]:
            data = path.read_bytes().replace(b"record_id", b"product_id")
            path.write_bytes(data)
            try:
                raw_records.check_encoding(io.BytesIO(data), path.name)
            except ValueError:
                path.unlink()  # All fields of a catalogue are used.
        for path in folder.glob("*.parquet"):
            table = pq.read_table(path)
            if "record_id" not in table.column_names:
                path.unlink()
                continue
            names = [
                {"record_id": "product_id"}.get(name, name)
                for name in table.column_names
            ]
            pq.write_table(table.rename_columns(names), path)
        with contextlib.redirect_stdout(io.StringIO()):
            build_product_index.main(
                ["--input", f"{folder}/*", "--output", f"{self.folder}/index"]
            )
        counts = _counts(generations.resolve_generation(self.folder / "index"))
        self.assertNotIn("unexpected_error", counts["rejects"])
        self.assertEqual(
            counts["records_read"],
            counts["records_rejected"]
            + counts["records_superseded"]
            + counts["tombstones"]
            + counts["products_from_input"],
        )


if __name__ == "__main__":
    unittest.main()
