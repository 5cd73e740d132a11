"""Every step of a record from its file to its facts, in pipelines."""

import hashlib
import io
import json
import pathlib
import tempfile
import unittest

import apache_beam as beam
import pyarrow as pa
from apache_beam.internal import pickler
from apache_beam.testing import test_pipeline
from apache_beam.testing import util
from PIL import Image

from beam_jobs.dataset.steps import check_records
from beam_jobs.dataset.steps import parts
from beam_jobs.dataset.steps import store_pictures
from beam_jobs.dataset.steps import store_records
from beam_jobs.dataset.steps import survey_records
from beam_jobs.dataset.steps import tokenize_titles
from beam_jobs.pipelines import sums
from beam_jobs.records import file_ranges
from beam_jobs.records import record_files
from sicot_tf import config
from sicot_tf import files
from sicot_tf.stores import opening

_CONFIG = config.DatasetConfig(image_size=8, min_image_side=4)


def _jpeg(size=(8, 8)):
    output = io.BytesIO()
    Image.new("RGB", size, (200, 30, 30)).save(output, "JPEG")
    return output.getvalue()


def _row(number, **record):
    """A row as the survey has read it."""
    record = {"record_id": f"r{number}", "sku_id": "A"} | record
    return {
        "row": number,
        "file": "records.jsonl",
        "folder": b"/nowhere",
        "line": number + 1,
        "content": json.dumps({"title": "red bag", **record}),
    }


def _table(rows, schema, part=7):
    table = pa.Table.from_pylist(rows, schema)
    return table.replace_schema_metadata({"part": str(part)})


# Of a module: what `assert_that` calls is pickled by its name.
_outputs = []


def _keep(outputs):
    _outputs[:] = outputs


def _run(element, transform):
    """What a transform gives for one element, as Beam runs it."""
    transform = pickler.roundtrip(transform)
    with test_pipeline.TestPipeline("FnApiRunner") as pipeline:
        outputs = pipeline | beam.Create([element]) | transform
        util.assert_that(outputs, _keep)
    return list(_outputs)


class StepsTest(unittest.TestCase):
    def setUp(self):
        folder = self.enterContext(tempfile.TemporaryDirectory())
        self._folder = pathlib.Path(folder)

    def _range(self, lines):
        path = self._folder / "records.jsonl"
        path.write_text("".join(f"{line}\n" for line in lines))
        file = record_files.RecordFile(str(path), path.name)
        return file_ranges.FileRange(3, file, 0, None)

    def test_read_range(self):
        """Breaks if rows of a file get lost or lose what is wrong with them."""
        step = survey_records.ReadRangeFn("title", "utf-8", table_rows=2)
        lines = ['{"image": "a.jpg", "price": 3}', "no json", "{}"]
        tables, counts = [], []
        for element in step.process(self._range(lines)):
            if isinstance(element, pa.Table):
                tables.append(element)
            else:
                counts.append(element.value)
        self.assertEqual(
            [table["line"].to_pylist() for table in tables], [[1, 2], [3]]
        )
        # Counted from the beginning of each table.
        self.assertEqual(
            [table["row"].to_pylist() for table in tables], [[0, 1], [0]]
        )
        self.assertEqual(
            [table.schema.metadata[b"key"] for table in tables],
            [b"rows-000003-000000.parquet", b"rows-000003-000001.parquet"],
        )
        self.assertEqual(tables[0]["image"].to_pylist(), [b"a.jpg", None])
        self.assertEqual(tables[0]["reason"].to_pylist(), [None, "bad_json"])
        self.assertEqual(
            counts,
            [{"lines": {"000003": 3}, "unknown_fields": {"price": 1}}],
        )

    def test_survey(self):
        """Breaks if no counts come out of the survey's pipeline."""
        lines = ['{"image": "a.jpg"}', '{"image": "b.jpg"}', "{}"]
        (self._folder / "a.jpg").write_bytes(b"1")
        survey = survey_records.SurveyRecords(
            self._folder / "rows", "title", "utf-8", 2
        )
        file_range = self._range(lines)
        found = _run(file_range, survey)
        total = {}
        for each in found:
            sums.add(total, each)
        digest = hashlib.sha256("".join(f"{e}\n" for e in lines).encode())
        self.assertEqual(total["files"], {"records.jsonl": digest.hexdigest()})
        self.assertEqual(
            total["chunks"],
            {
                "rows-000003-000000.parquet": 2,
                "rows-000003-000001.parquet": 1,
            },
        )
        chunks = survey_records.plan_chunks([file_range], total)
        rows = opening.open_folder(self._folder / "rows")
        last = parts.read_chunk(rows, chunks[1]).to_pylist()
        self.assertEqual(
            [(each["row"], each["line"]) for each in last], [(2, 3)]
        )
        # Another picture is another sum, in whatever order they come.
        (self._folder / "a.jpg").write_bytes(b"12")
        again = {}
        for each in reversed(_run(file_range, survey)):
            sums.add(again, each)
        self.assertNotEqual(again["images"], total["images"])
        self.assertEqual(again["chunks"], total["chunks"])

    def test_lines_of_the_second_range(self):
        """Breaks if rejects of a large file name wrong lines."""
        file = record_files.RecordFile("a.jsonl", "a.jsonl")
        other = record_files.RecordFile("b.jsonl", "b.jsonl")
        ranges = [
            file_ranges.FileRange(0, file, 0, 100),
            file_ranges.FileRange(1, file, 100, None),
            file_ranges.FileRange(2, other, 0, None),
        ]
        counts = {
            "lines": {"000000": 12, "000001": 9, "000002": 5},
            "chunks": {
                "rows-000000-000000.parquet": 6,
                "rows-000000-000001.parquet": 4,
                "rows-000001-000000.parquet": 9,
                "rows-000002-000000.parquet": 5,
            },
        }
        chunks = survey_records.plan_chunks(ranges, counts)
        self.assertEqual([each.first_row for each in chunks], [0, 6, 10, 19])
        self.assertEqual([each.first_line for each in chunks], [0, 0, 12, 0])

    def test_check_records(self):
        """Breaks if a bad row ends the job, or its reason is lost."""
        table = _table(
            [
                _row(0, image="a.jpg", group="g"),
                _row(1),
                {**_row(2), "reason": "bad_json", "message": "as it was"},
            ],
            parts.ROWS_SCHEMA,
        )
        step = beam.ParDo(check_records.CheckRecordsFn(_CONFIG))
        (checked,) = _run(table, step)
        self.assertEqual(parts.number_of(checked), 7)
        good, missing, known = checked.to_pylist()
        self.assertEqual(good["image"], b"/nowhere/a.jpg")
        self.assertEqual(
            good["split_hash"], files.stable_hash(_CONFIG.seed, "split", "g")
        )
        self.assertEqual(
            good["order_hash"], files.stable_hash(_CONFIG.seed, "order", "r0")
        )
        self.assertIsNone(good["reason"])
        self.assertEqual(missing["reason"], "missing_field")
        self.assertEqual(
            (known["reason"], known["message"]), ("bad_json", "as it was")
        )

    def test_store_pictures(self):
        """Breaks if a picture is stored at another place than told, or a bad
        one takes its neighbours along."""
        jpeg = _jpeg()
        (self._folder / "good.jpg").write_bytes(jpeg)
        (self._folder / "empty.jpg").write_bytes(b"")
        rows = [
            {"row": i, "image": str(self._folder / name).encode(),
             "folder": b"/nowhere", "reason": reason}
            for i, (name, reason) in enumerate([
                ("good.jpg", None), ("empty.jpg", None), ("gone.jpg", None),
                ("good.jpg", "bad_field"), ("good.jpg", None),
            ])
        ]  # fmt: skip
        pictures = self._folder / "parts"
        step = beam.ParDo(store_pictures.StorePicturesFn(pictures, _CONFIG))
        (stored,) = _run(_table(rows, parts.CHECKED_SCHEMA), step)
        found = stored.to_pylist()
        self.assertEqual(
            [row["reason"] for row in found],
            [None, "empty_file", "missing_image", "bad_field", None],
        )
        # Without the folder, which differs between machines.
        self.assertEqual(found[2]["message"], "No such file or directory")
        (path,) = pictures.iterdir()
        digest = hashlib.sha256(jpeg * 2).hexdigest()
        self.assertEqual(path.name, f"part-000007-{digest[:16]}.jpegs")
        self.assertEqual(path.read_bytes(), jpeg * 2)
        self.assertEqual(
            [(row["jpegs"], row["offset"], row["length"]) for row in found],
            [
                (path.name, 0, len(jpeg)),
                *[(None, None, None)] * 3,
                (path.name, len(jpeg), len(jpeg)),
            ],
        )
        self.assertEqual(found[4]["sha256"], hashlib.sha256(jpeg).digest())
        # The sum tells which picture every row had, also the bad ones.
        states = [
            (0, hashlib.sha256(jpeg).digest()),
            (1, hashlib.sha256(b"").digest()),
            (2, b"missing"),
            (4, hashlib.sha256(jpeg).digest()),
        ]
        total = sum(
            int.from_bytes(
                hashlib.sha256(f"{row}|".encode() + state).digest(), "big"
            )
            for row, state in states
        )
        self.assertEqual(int(stored.schema.metadata[b"images"]), total)

    def test_tokenize_titles(self):
        """Breaks if words go to other records, past those rejected."""
        rows = [
            {"row": 0, "title": "Red BAG"},
            {"row": 1, "title": None, "reason": "too_small"},
            {"row": 2, "title": "红色手提包"},
        ]
        step = beam.ParDo(tokenize_titles.TokenizeTitlesFn())
        (tokenized,) = _run(_table(rows, parts.STORED_SCHEMA), step)
        self.assertEqual(
            tokenized["words"].to_pylist(),
            [["red", "bag"], None, ["红色", "手提包"]],
        )

    def _tokenized(self, reason="too_small"):
        rows = [
            {**_row(0), "record_id": "r0", "words": ["red"]},
            {**_row(1), "reason": reason, "message": "so it is"},
        ]
        table = _table(rows, parts.TOKENIZED_SCHEMA)
        return table.replace_schema_metadata(
            {**table.schema.metadata, "images": "5"}
        )

    def test_write_facts(self):
        """Breaks if rejects are no output, or counts no part of the facts."""
        step = store_records.WriteFactsFn(self._folder)
        with test_pipeline.TestPipeline("FnApiRunner") as pipeline:
            outputs = (
                pipeline
                | beam.Create([self._tokenized()])
                | beam.ParDo(step).with_outputs("rejects", main="counts")
            )
            util.assert_that(
                outputs["counts"],
                util.equal_to([{"read": 2, "images": 5}]),
                label="counts",
            )
            util.assert_that(
                outputs["rejects"]
                | beam.Map(lambda table: table["reason"].to_pylist()),
                util.equal_to([["too_small"]]),
                label="rejects",
            )
        folder = opening.open_folder(self._folder)
        self.assertEqual(parts.finished(folder), {7})
        self.assertEqual(
            parts.read_counts(folder, "part-000007.parquet"),
            {"read": 2, "images": 5, "rejected": {"too_small": 1}},
        )
        (key,) = parts.rejects_keys(self._folder)
        row, _, line = (self._folder / key).read_text().partition("\t")
        self.assertEqual(row, "1")
        self.assertEqual(
            json.loads(line),
            {
                "record_id": "r1",
                "reason": "too_small",
                "message": "so it is",
                "file": "records.jsonl",
                "line": 2,
                "record": {
                    "title": "red bag",
                    "record_id": "r1",
                    "sku_id": "A",
                },
            },
        )

    def test_of_two_workers_the_first_counts(self):
        """Breaks if a slow worker changes a part that was built upon."""
        step = beam.ParDo(
            store_records.WriteFactsFn(self._folder)
        ).with_outputs("rejects", main="counts")
        for reason in ("too_small", "missing_image"):
            with test_pipeline.TestPipeline("FnApiRunner") as pipeline:
                outputs = (
                    pipeline | beam.Create([self._tokenized(reason)]) | step
                )
                late = [{
                    "read": 2, "images": 5, "rejected": {"too_small": 1},
                }]  # fmt: skip
                first = [{"read": 2, "images": 5}]
                util.assert_that(
                    outputs["counts"],
                    util.equal_to(first if reason == "too_small" else late),
                )
        folder = opening.open_folder(self._folder)
        counts = parts.read_counts(folder, "part-000007.parquet")
        self.assertEqual(counts["rejected"], {"too_small": 1})

    def test_all_steps(self):
        """Breaks if a part does not come out of the pipeline as counted."""
        (self._folder / "a.jpg").write_bytes(_jpeg())
        lines = [
            json.dumps(
                {"record_id": f"r{i}", "sku_id": "A", "title": "x",
                 "image": image}
            )
            for i, image in enumerate(("a.jpg", "gone.jpg"))
        ]  # fmt: skip
        total = {}
        rows = self._folder / "rows"
        file_range = self._range(lines)
        for each in _run(
            file_range, survey_records.SurveyRecords(rows, "title", "utf-8", 9)
        ):
            sums.add(total, each)
        chunks = survey_records.plan_chunks([file_range], total)
        (part,) = parts.plan(chunks, 9)
        store = store_records.StoreRecords(
            rows, self._folder / "parts", _CONFIG
        )
        counts = {}
        for each in _run(part, store):
            sums.add(counts, each)
        self.assertEqual(counts["read"], 2)
        self.assertEqual(counts["rejected"], {"missing_image": 1})


class PlanTest(unittest.TestCase):
    def test_small_files_share_a_part(self):
        """Breaks if ten thousand small files are as many parts."""
        chunks = [
            parts.Chunk(str(i), count, 0, 0)
            for i, count in enumerate((2, 2, 3, 5, 1))
        ]
        planned = parts.plan(chunks, 5)
        self.assertEqual(
            [[chunk.num_rows for chunk in part.chunks] for part in planned],
            [[2, 2], [3], [5], [1]],
        )
        self.assertEqual([part.number for part in planned], [0, 1, 2, 3])
        self.assertEqual(planned[0].num_rows, 4)


if __name__ == "__main__":
    unittest.main()
