"""Tests of `replay_rejects`: from the rejects back to a record file."""

import contextlib
import hashlib
import io
import json
import pathlib
import shlex
import shutil
import tempfile
import unittest

import PIL.Image

from beam_jobs import build_dataset
from beam_jobs import replay_rejects
from beam_jobs.records import rejects
from sicot_tf.data import generations
from sicot_tf.stores import opening
from tests.helpers import mistakes
from tests.helpers import object_stores
from tests.helpers import own_cache


def _line(record, reason="missing_image", number=1, **others):
    known = isinstance(record, dict)
    return {
        "record_id": record.get("record_id") if known else None,
        "reason": reason,
        "message": f"what happened to {number}",
        "file": "shop.jsonl",
        "line": number,
        "record": record,
        **others,
    }


class ReplayRejectsTest(unittest.TestCase):
    def setUp(self):
        self._folder = pathlib.Path(tempfile.mkdtemp())
        self.addCleanup(shutil.rmtree, self._folder)
        self._again = self._folder / "again.jsonl"

    def _generation(self, lines, folders=None, settings=None):
        """A generation as far as this job reads it."""
        generation = self._folder / "generation"
        generation.mkdir(exist_ok=True)
        (generation / "rejects.jsonl").write_text(
            "".join(json.dumps(line) + "\n" for line in lines)
        )
        manifest = {"config": settings or {}}
        (generation / generations.MANIFEST).write_text(json.dumps(manifest))
        if folders is not None:
            (generation / "run.json").write_text(
                json.dumps({"record_folders": folders})
            )
        return generation

    def _run(self, *arguments):
        output = io.StringIO()
        with contextlib.redirect_stdout(output):
            replay_rejects.main([*map(str, arguments)])
        return output.getvalue()

    def _written(self):
        # Not splitlines: titles may hold other line ends.
        lines = self._again.read_text("utf-8").split("\n")
        return [json.loads(line) for line in lines if line]

    def test_image_paths_become_absolute(self):
        """If it fails, replayed records look for their pictures elsewhere."""
        records = [
            {"record_id": str(i), "image": image}
            for i, image in enumerate(
                ["a.jpg", "/b.jpg", "gs://shop/c.jpg", "", None, 7]
            )
        ]
        lines = [_line(record) for record in records]
        expected = ["/data/a.jpg", "/b.jpg", "gs://shop/c.jpg", "", None, 7]
        with self.subTest("folder in run.json"):
            generation = self._generation(lines, {"shop.jsonl": "/data"})
            self.assertEqual(
                rejects.write_records(
                    generation, ["missing_image"], self._again
                ),
                6,
            )
            images = [record["image"] for record in self._written()]
            self.assertEqual(images, expected)
        self._again.unlink()
        with self.subTest("folder in the line"):
            line = _line(records[0], folder="s3://shop/may")
            generation = self._generation([line], {})
            rejects.write_records(generation, ["missing_image"], self._again)
            self.assertEqual(
                self._written(),
                [{"record_id": "0", "image": "s3://shop/may/a.jpg"}],
            )
        self._again.unlink()
        with self.subTest("no folder"):
            generation = self._generation(lines, {})
            with self.assertRaisesRegex(ValueError, "Build it again"):
                rejects.write_records(
                    generation, ["missing_image"], self._again
                )
            self.assertEqual(list(self._folder.iterdir()), [generation])

    def test_only_the_chosen_records_as_they_came(self):
        """If it fails, fields get lost, or records nobody asked for return."""
        records = [
            {"record_id": "1", "image": "/a", "title": "红 \ud800", "price": 3},
            {"record_id": "2", "image": "/b", "tags": ["x"], "box": None},
            {"record_id": "3", "image": "/c"},
        ]
        reasons = ["bad_box", "missing_image", "duplicate_id"]
        generation = self._generation(
            [
                _line(record, reason, i)
                for i, (record, reason) in enumerate(
                    zip(records, reasons, strict=True)
                )
            ]
        )
        self._run(
            *(generation, "--reason", "missing_image", "bad_box"),
            *("--output", self._again),
        )
        self.assertEqual(self._written(), records[:2])

    def test_on_a_store(self):
        """If it fails, rejects on a store have to be copied by hand."""
        generation = self._generation(
            [_line({"record_id": "1", "image": "a.jpg"})],
            {"shop.jsonl": "s3://shop/may"},
        )
        manifest = json.loads((generation / generations.MANIFEST).read_text())
        lines = (generation / "rejects.jsonl").read_bytes()
        manifest["files"] = {
            "rejects.jsonl": {
                "bytes": len(lines),
                "sha256": hashlib.sha256(lines).hexdigest(),
            }
        }
        (generation / generations.MANIFEST).write_text(json.dumps(manifest))
        with (
            object_stores.s3_bucket() as bucket,
            own_cache.own_cache(self._folder / "cache"),
        ):
            url = f"{bucket}/data/{generation.name}"
            object_stores.upload_folder(generation, url)
            printed = self._run(url, "--output", f"{bucket}/again.jsonl")
            written = opening.open_folder(bucket).get("again.jsonl")
            with mistakes.assert_told(self, "which is there"):
                self._run(url, "--output", f"{bucket}/again.jsonl")
        self.assertIn(f"{url}: 1 rejects", printed)
        self.assertIn(f"--output {bucket}/again.dataset", printed)
        self.assertEqual(
            json.loads(written),
            {"record_id": "1", "image": "s3://shop/may/a.jpg"},
        )

    def test_table_and_lines_that_are_no_records(self):
        """If it fails, rejects disappear without a word."""
        lines = [
            _line({"record_id": "a", "image": "/a"}, "missing_image", i)
            for i in range(3)
        ]
        lines += [
            _line('{"broken": ', "bad_json", 8),
            _line(["a", "b"], "bad_field", 9),
            _line(None, "bad_field", 10),
        ]
        generation = self._generation(lines, settings={"title_field": "名 称"})
        table = self._run(generation)
        self.assertEqual(
            table.splitlines()[2:],
            [
                "missing_image                  3",
                "    shop.jsonl, line 0, a: what happened to 0",
                "    shop.jsonl, line 1, a: what happened to 1",
                "bad_field                      2",
                "    shop.jsonl, line 9: what happened to 9",
                "    shop.jsonl, line 10: what happened to 10",
                "bad_json                       1",
                "    shop.jsonl, line 8: what happened to 8",
                "",
                "Next: the same command with --output again.jsonl",
            ],
        )
        output = self._run(generation, "--output", self._again)
        self.assertIn("3 can't be replayed", output)
        self.assertIn(f"3 records: {self._again}", output)
        self.assertIn("--title_field '名 称'", output)
        self.assertEqual(len(self._written()), 3)
        self.assertIn("0 rejects", self._run(self._generation([])))

    def test_refuses_what_it_can_not_do(self):
        """If it fails, a typing error overwrites the catalogue."""
        generation = self._generation([_line({"image": "/a"})])
        self._again.write_text("precious")
        for arguments, message in (
            (("--output", self._again), "which is there"),
            (("--output", self._folder / "again.csv"), "ends in .jsonl"),
            (("--reason", "too_small"), "too_small.*has: missing_image"),
        ):
            with mistakes.assert_told(self, message):
                self._run(generation, *arguments)
        self.assertEqual(self._again.read_text(), "precious")
        (generation / "rejects.jsonl").write_text("{")
        with mistakes.assert_told(self, "line 1, is damaged"):
            self._run(generation)
        with mistakes.assert_told(self, "Build it first"):
            self._run(self._folder / "absent")

    def test_there_and_back_again(self):
        """If it fails, the printed command does not build the rejects."""
        shop = self._folder / "shop"
        shop.mkdir()
        rows = [
            {
                "record_id": f"r{i}",
                "image": f"{i}.png",
                "sku_id": "A",
                "title": "red bag",
                "split": "train",
            }
            for i in range(3)
        ]
        (shop / "shop.jsonl").write_text(
            "".join(json.dumps(row) + "\n" for row in rows)
        )
        image = PIL.Image.linear_gradient("L")
        image.save(shop / "0.png")
        flags = ("--word_vector_dim", "2", "--word2vec_epochs", "1")

        def build(records_file, output):
            with contextlib.redirect_stdout(io.StringIO()):
                build_dataset.main(
                    [
                        *("--input", str(records_file)),
                        *("--output", str(output), *flags),
                    ]
                )
            generation = generations.resolve_generation(output)
            return json.loads((generation / generations.MANIFEST).read_text())

        dataset = self._folder / "dataset"
        counts = build(shop / "shop.jsonl", dataset)["counts"]
        self.assertEqual(counts["rejected"], {"missing_image": 2})
        image.rotate(90).save(shop / "1.png")
        output = self._run(dataset, "--output", self._again)
        command = shlex.split(output.splitlines()[-1].partition("Next: ")[2])
        self.assertEqual(
            command[:4], ["python", "-m", "beam_jobs.build_dataset", "--input"]
        )
        counts = build(command[4], command[6])["counts"]
        self.assertEqual(counts["written"]["train"], 1)
        self.assertEqual(counts["rejected"], {"missing_image": 1})


if __name__ == "__main__":
    unittest.main()
