import contextlib
import csv
import gzip
import hashlib
import io
import json
import math
import os
import pathlib
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import unittest

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import tensorflow as tf

from beam_jobs import build_product_index
from beam_jobs.catalogue import parse_catalogue
from sicot_tf import files
from sicot_tf.catalogue import product_index
from sicot_tf.data import generations
from sicot_tf.data import records
from tests.helpers import mistakes
from tests.helpers import tiny_server

_PATIENCE_SECONDS = 120


def record(product_id, updated_at=None, **fields):
    """A catalogue record; fields without a value are left out."""
    fields = {
        "product_id": product_id,
        "sku_id": f"sku-{product_id[-1]}",
        "title": f"Title of {product_id} at {updated_at}",
        "updated_at": updated_at,
        **fields,
    }
    return {name: value for name, value in fields.items() if value is not None}


def write_jsonl(path, rows):
    text = "".join(json.dumps(row) + "\n" for row in rows)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def digests(generation):
    """SHA-256 of each file that must not vary."""
    return {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest()
        for path in generation.iterdir()
        if path.name != "run.json"
    }


class ParseProductTest(unittest.TestCase):
    def test_fields(self):
        """Broken: a field of the catalogue is lost or changed."""
        parsed = parse_catalogue.parse_product(
            {
                "product_id": 17,
                "sku_id": 123.0,
                "title": "可乐",
                "image": "main.jpg",
                "images": ["side.jpg", "main.jpg", ""],
                "tags": "drink||can",
                "category": "beverages",
                "updated_at": "2024-01-02T00:00:00+00:00",
                "price": 9.9,
                "quality": {"score": 0.5},
                "stock": None,
                "rating": math.nan,
            }
        )
        self.assertEqual(
            parsed,
            {
                "product_id": "17",
                "sku_id": "123",
                "title": "可乐",
                "images": '["main.jpg","side.jpg"]',
                "tags": '["drink","can"]',
                "category": "beverages",
                # 19,724 days after 1970-01-01.
                "updated_at": 19_724 * 86_400.0,
                "deleted": False,
                "attributes": '{"price":9.9,"quality":{"score":0.5}}',
            },
        )

    def test_times(self):
        """Broken: an older record wins because its time was misread."""
        day = 19_724 * 86_400.0
        for value, seconds in (
            ("2024-01-02", day),
            ("20240102", day),
            ("2024-01-02T08:00:00+08:00", day),
            ("2024-01-02 00:00:01.5Z", day + 1.5),
            ("1704153600", day),
            (1704153600, day),
            (1704153600.25, day + 0.25),
            (None, None),
            ("", None),
        ):
            with self.subTest(value):
                parsed = parse_catalogue.parse_product(
                    {**record("a"), "updated_at": value}
                )
                self.assertEqual(parsed["updated_at"], seconds)

    def test_bad_records(self):
        """Broken: a bad record reaches the index, or has no reason."""
        for fields, reason in (
            ({"product_id": ""}, "missing_field"),
            ({"product_id": "a\nb"}, "bad_field"),
            ({"sku_id": None}, "missing_field"),
            ({"sku_id": "\ud800"}, "bad_field"),
            ({"title": {}}, "bad_field"),
            ({"images": [1.5]}, "bad_field"),
            ({"tags": True}, "bad_field"),
            ({"updated_at": "yesterday"}, "bad_field"),
            # Milliseconds.
            ({"updated_at": 1704153600000}, "bad_field"),
            ({"updated_at": True}, "bad_field"),
            ({"updated_at": math.inf}, "bad_field"),
            ({"deleted": "perhaps"}, "bad_field"),
            ({"price": [math.nan]}, "bad_field"),
        ):
            with self.subTest(fields):
                with self.assertRaises(records.RecordError) as raised:
                    parse_catalogue.parse_product({**record("a"), **fields})
                self.assertEqual(raised.exception.reason, reason)
        with self.assertRaisesRegex(records.RecordError, "title is absent"):
            parse_catalogue.parse_product({"product_id": "a", "sku_id": "b"})

    def test_tombstone_needs_only_its_id(self):
        """Broken: a product can't be removed by its id alone."""
        for deleted in (True, 1, "true", "True", "1"):
            parsed = parse_catalogue.parse_product(
                {"product_id": "a", "deleted": deleted, "updated_at": 5}
            )
            self.assertEqual(
                parsed, {"product_id": "a", "deleted": True, "updated_at": 5.0}
            )


class BuildTest(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = pathlib.Path(folder.name)
        self.index = self.folder / "index"

    def run_job(self, *flags, index=None, date="2026-01-01"):
        """Runs the command; what it printed."""
        output = io.StringIO()
        try:
            with (
                contextlib.redirect_stdout(output),
                contextlib.redirect_stderr(output),
            ):
                build_product_index.main(
                    [
                        *("--output", str(index or self.index), "--date", date),
                        *map(str, flags),
                    ]
                )
        except SystemExit:
            print(output.getvalue(), file=sys.stderr)
            raise
        return output.getvalue()

    def build(self, *flags, index=None, date="2026-01-01"):
        """Runs the command; the generation that LATEST names then."""
        self.run_job("--input", *flags, index=index, date=date)
        return generations.resolve_generation(index or self.index)

    def counts(self, generation):
        return files.read_json(generation / "manifest.json")["counts"]

    def titles(self, generation):
        """Title of each product, by its id."""
        with contextlib.closing(product_index.connect(generation)) as store:
            return dict(store.execute("SELECT product_id, title FROM products"))

    def assert_counts_add_up(self, counts):
        self.assertEqual(
            counts["records_read"],
            counts["records_rejected"]
            + counts["records_superseded"]
            + counts["tombstones"]
            + counts["products_from_input"],
        )
        self.assertEqual(
            counts["products"],
            counts["products_from_input"] + counts["products_from_base"],
        )

    def test_all_formats(self):
        """Broken: a record is lost, or read otherwise in another format."""
        rows = [
            record(f"p{n}", n, tags=["a", "b"], image=f"{n}.jpg")
            for n in range(8)
        ]
        catalogue = self.folder / "catalogue"
        write_jsonl(catalogue / "0.jsonl", rows[:2])
        with gzip.open(catalogue / "1.jsonl.gz", "wt") as file:
            file.writelines(json.dumps(row) + "\n" for row in rows[2:4])
        text_rows = [{**row, "tags": "a|b"} for row in rows[4:6]]
        with (catalogue / "2.csv").open("w", newline="") as file:
            writer = csv.DictWriter(file, list(text_rows[0]))
            writer.writeheader()
            writer.writerows(text_rows)
        pq.write_table(pa.Table.from_pylist(rows[6:]), catalogue / "3.parquet")
        generation = self.build(catalogue / "*")
        with product_index.ProductIndex(generation) as index:
            self.assertEqual(index.num_products, 8)
            for row in rows:
                (product,) = index.products_of(row["sku_id"])
                self.assertEqual(product.title, row["title"])
                self.assertEqual(product.images, [row["image"]])
                self.assertEqual(product.tags, ["a", "b"])
                self.assertEqual(product.updated_at, row["updated_at"])
        self.assert_counts_add_up(self.counts(generation))

    def test_latest_record_wins(self):
        """Broken: the panel shows an old price, or a product that is gone.

        Against a plain loop over records in random order: later times win,
        then later files, then later lines; none is older than any time.
        """
        rng = random.Random(1)
        expected, tombstones = {}, 0
        files = []
        for number in range(3):
            rows = []
            for line in range(700):
                time_ = rng.choice([None, 1, 2, "1970-01-01T00:00:02", 3.5])
                row = record(
                    f"p{rng.randrange(300)}", time_, title=f"{number}/{line}"
                )
                if rng.random() < 0.2:
                    row["deleted"] = True
                rows.append(row)
                seconds = 2 if isinstance(time_, str) else time_
                key = (-math.inf if seconds is None else seconds, number, line)
                best = expected.get(row["product_id"], ((-math.inf, -1, -1),))
                if key > best[0]:
                    expected[row["product_id"]] = (key, row)
            files.append(write_jsonl(self.folder / f"{number}.jsonl", rows))
        titles = {}
        for product_id, (_, row) in expected.items():
            if "deleted" in row:
                tombstones += 1
            else:
                titles[product_id] = row["title"]
        generation = self.build(*files)
        self.assertEqual(self.titles(generation), titles)
        counts = self.counts(generation)
        self.assert_counts_add_up(counts)
        self.assertEqual(counts["tombstones"], tombstones)
        self.assertEqual(counts["records_read"], 2100)

    def test_newest_of_a_sku_first(self):
        """Broken: a short list leaves out the newest products."""
        catalogue = write_jsonl(
            self.folder / "c.jsonl",
            [
                record("b", 1, sku_id="s"),
                record("d", None, sku_id="s"),
                record("a", 1, sku_id="s"),
                record("c", 2, sku_id="s"),
            ],
        )
        with product_index.ProductIndex(self.build(catalogue)) as index:
            ids = [each.product_id for each in index.products_of("s")]
        self.assertEqual(ids, ["c", "a", "b", "d"])

    def test_rejects_can_be_given_again(self):
        """Broken: a bad record disappears, or can't be mended."""
        catalogue = self.folder / "c.jsonl"
        write_jsonl(catalogue, [record("a", 1), record("b", "soon")])
        with catalogue.open("a") as file:
            file.write("no json\n")
        generation = self.build(catalogue)
        rejects = generation / "rejects.jsonl"
        first, second = map(json.loads, rejects.read_text().splitlines())
        self.assertEqual(
            (first["reason"], first["file"], first["line"]),
            ("bad_field", "c.jsonl", 2),
        )
        self.assertEqual(first["record"], record("b", "soon"))
        self.assertEqual(second["reason"], "bad_json")
        counts = self.counts(generation)
        self.assertEqual(counts["rejects"], {"bad_field": 1, "bad_json": 1})
        self.assert_counts_add_up(counts)

        mended = self.folder / "mended.jsonl"
        mended.write_text(rejects.read_text().replace("soon", "2024-01-02"))
        generation = self.build(mended, "--mode", "delta", date="2026-01-02")
        self.assertEqual(set(self.titles(generation)), {"a", "b"})
        # The line that is no JSON still isn't.
        self.assertEqual(self.counts(generation)["records_rejected"], 1)

    def test_file_that_ends_too_early(self):
        """Broken: half a catalogue becomes the index."""
        path = self.folder / "c.jsonl.gz"
        path.write_bytes(gzip.compress(b'{"product_id": 1}\n' * 9)[:-9])
        with mistakes.assert_told(self, "c.jsonl.gz can't be read"):
            self.build(path)
        self.assertFalse((self.index / "LATEST").exists())
        with mistakes.assert_told(self, "No record file matches"):
            self.build(self.folder / "nothing*.jsonl")

    def test_delta(self):
        """Broken: a delta loses, revives or keeps what it should not."""
        full = write_jsonl(
            self.folder / "full.jsonl",
            [
                record("same", 1),
                record("newer", 1),
                record("older", 9),
                record("tie", 1),
                record("gone", 1),
                {"product_id": "long_gone", "deleted": True, "updated_at": 5},
            ],
        )
        changes = write_jsonl(
            self.folder / "changes.jsonl",
            [
                record("newer", 2),
                record("older", 8),
                record("tie", 1, title="of the delta"),
                {"product_id": "gone", "deleted": True, "updated_at": 2},
                # Late news of a product that was deleted after it.
                record("long_gone", 4),
                record("added", 1),
            ],
        )
        base = self.build(full)
        with mistakes.assert_told(self, "for --mode delta only"):
            self.build(changes, "--base", base.name)
        delta = self.build(changes, "--mode", "delta", date="2026-01-02")
        self.assertEqual(
            self.titles(delta),
            {
                "same": "Title of same at 1",
                "newer": "Title of newer at 2",
                "older": "Title of older at 9",
                "tie": "of the delta",
                "added": "Title of added at 1",
            },
        )
        counts = self.counts(delta)
        self.assert_counts_add_up(counts)
        self.assertEqual(counts["products_from_base"], 2)
        self.assertEqual(counts["records_superseded"], 2)

        # The same command finds its own work, wherever it stands.
        again = self.run_job(
            *("--input", changes, "--mode", "delta"), date="2026-01-02"
        )
        self.assertIn("already built", again)
        named = self.build(
            *(changes, "--mode", "delta", "--base", base.name),
            date="2026-01-02",
        )
        self.assertEqual(named, delta)
        # Tombstones are remembered by later deltas too.
        late = write_jsonl(self.folder / "late.jsonl", [record("gone", 1.5)])
        third = self.build(late, "--mode", "delta", date="2026-01-03")
        self.assertEqual(self.titles(third), self.titles(delta))

    def test_delta_without_base(self):
        """Broken: a delta alone becomes the whole index."""
        changes = write_jsonl(self.folder / "c.jsonl", [record("a", 1)])
        with mistakes.assert_told(self, "--mode full first"):
            self.build(changes, "--mode", "delta")

    def test_shrinking_catalogue(self):
        """Broken: half a delivery replaces a good index."""
        whole = write_jsonl(
            self.folder / "whole.jsonl", [record(f"p{n}", 1) for n in range(10)]
        )
        most = write_jsonl(
            self.folder / "most.jsonl", [record(f"p{n}", 1) for n in range(8)]
        )
        few = write_jsonl(
            self.folder / "few.jsonl", [record(f"p{n}", 1) for n in range(6)]
        )
        before = self.build(whole)
        # 8 of 10 is exactly 20 % fewer.
        current = self.build(most)
        self.assertNotEqual(current, before)
        with self.assertRaises(SystemExit) as refused:
            self.build(few)
        self.assertEqual(refused.exception.code, 2)
        self.assertEqual(generations.resolve_generation(self.index), current)
        visible = {path.name for path in self.index.glob("[!.]*")}
        self.assertEqual(visible, {"LATEST", before.name, current.name})
        forced = self.build(few, "--force")
        self.assertEqual(self.counts(forced)["products"], 6)
        self.assertEqual(list(self.index.glob(".work-*")), [])
        # One that is built already is held to the same rule.
        self.build(whole)
        with self.assertRaises(SystemExit) as refused:
            self.build(few)
        self.assertEqual(refused.exception.code, 2)
        self.assertEqual(generations.resolve_generation(self.index), before)

    def test_generations(self):
        """Broken: no way back, or the disk fills up."""
        built = []
        for day in range(1, 5):
            rows = [record("p", day)]
            path = write_jsonl(self.folder / f"{day}.jsonl", rows)
            built.append(self.build(path, "--keep", 3, date=f"2026-01-0{day}"))
        self.assertFalse(built[0].exists())
        self.assertEqual(list(self.index.glob(".*")), [])
        listed = self.run_job("--list").splitlines()
        self.assertEqual(
            [line.split()[0] for line in listed[1:]],
            [path.name for path in built[1:]],
        )
        self.assertIn("<- LATEST", listed[3])
        self.run_job("--rollback")
        self.assertEqual(generations.resolve_generation(self.index), built[2])
        self.run_job("--rollback")
        self.assertEqual(generations.resolve_generation(self.index), built[1])
        with mistakes.assert_told(self, "no generation before"):
            self.run_job("--rollback")
        self.run_job("--rollback", built[3].name)
        self.assertEqual(generations.resolve_generation(self.index), built[3])
        with mistakes.assert_told(self, "no generation 'x', only"):
            self.run_job("--rollback", "x")

    def test_report(self):
        """Broken: nobody learns that classes and catalogue differ."""
        catalogue = write_jsonl(
            self.folder / "c.jsonl",
            [
                record("1", 1, sku_id="known", image="1.jpg"),
                record("2", 1, sku_id="new"),
                record("3", 1, sku_id="new"),
            ],
        )
        classes = write_jsonl(
            self.folder / "classes.jsonl",
            [
                {"label": 0, "sku_id": "known"},
                {"label": 1, "sku_id": "sold out"},
            ],
        )
        generation = self.build(catalogue, "--labels", classes)
        report = files.read_json(generation / "report.json")
        self.assertEqual(report["classes"]["count"], 2)
        self.assertEqual(
            report["classes"]["skus_without_class"],
            {"count": 1, "first": ["new"], "file": "skus_without_class.txt"},
        )
        self.assertEqual(report["classes"]["products_without_class"], 2)
        self.assertEqual(
            (generation / "classes_without_sku.txt").read_text(), "sold out\n"
        )
        self.assertEqual(report["counts"]["skus"], 2)
        self.assertEqual(report["counts"]["most_products_of_a_sku"], 2)
        self.assertEqual(report["counts"]["products_without_image"], 2)
        # The label list of a SavedModel says the same.
        plain = self.folder / "sku_ids.txt"
        plain.write_text("known\nsold out\n")
        other = self.build(
            catalogue, "--labels", plain, index=self.folder / "o"
        )
        self.assertEqual(
            files.read_json(other / "report.json")["classes"],
            report["classes"],
        )

    def test_embeddings(self):
        """Broken: a vector belongs to another picture, or one bad picture
        costs the others theirs.

        Against the model called on one picture after the other.
        """
        saved_model = self.folder / "saved_models" / "tiny" / "1"
        tiny_server.write_saved_model(saved_model)
        images = self.folder / "day1" / "images"
        images.mkdir(parents=True)
        for number in range(5):
            picture = tiny_server.make_jpeg(number)
            (images / f"{number}.jpg").write_bytes(picture)
        (images / "page.jpg").write_text("<html>")
        half = tiny_server.make_jpeg(9)
        (images / "half.jpg").write_bytes(half[:-9])
        rows = [
            record("a", 1, images=["images/0.jpg", "images/1.jpg"]),
            record("b", 1, images=["images/page.jpg", "images/2.jpg"]),
            record("c", 1),
            record("d", 1, images=["images/half.jpg"], price=3),
            record("e", 1, images=["images/none.jpg", "images/3.jpg"]),
        ]
        catalogue = write_jsonl(self.folder / "day1" / "c.jsonl", rows)
        flags = ("--saved_model", saved_model)
        generation = self.build(catalogue, *flags)

        model = tf.saved_model.load(str(saved_model))

        def embed(number):
            image = tf.constant([tiny_server.make_jpeg(number)])
            embedding = model.signatures["embedding"](image_bytes=image)
            return embedding["embedding"].numpy()[0]

        def check(generation, expected):
            vectors = np.load(generation / "embeddings.npy")
            self.assertEqual(vectors.dtype, np.float32)
            with contextlib.closing(product_index.connect(generation)) as store:
                places = store.execute(
                    "SELECT embeddings.row, product_id, picture FROM "
                    "embeddings JOIN products ON products.row = product "
                    "ORDER BY 1"
                ).fetchall()
            self.assertEqual(
                places,
                [(n, *place) for n, (*place, _) in enumerate(expected)],
            )
            np.testing.assert_allclose(
                vectors,
                [embed(number) for *_, number in expected],
                rtol=1e-5,
                atol=1e-6,
            )

        expected = [("a", 0, 0), ("a", 1, 1), ("b", 1, 2), ("e", 1, 3)]
        check(generation, expected)
        counts = self.counts(generation)
        self.assertEqual(counts["products"], 5)
        self.assertEqual(counts["images_embedded"], 4)
        self.assertEqual(counts["images_without_embedding"], 3)
        rejects = generation / "rejects.jsonl"
        rejected = [
            json.loads(line) for line in rejects.read_text().splitlines()
        ]
        self.assertEqual(
            [(each["reason"], each["image"]) for each in rejected],
            [
                ("not_an_image", "images/page.jpg"),
                ("decode_error", "images/half.jpg"),
                ("missing_image", "images/none.jpg"),
            ],
        )
        self.assertEqual(rejected[1]["record"], {"tags": [], **rows[3]})

        # A delta keeps the vectors of its base, whose pictures may be gone,
        # and takes the rejects with the pictures mended.
        shutil.copytree(images, self.folder / "day2" / "images")
        shutil.rmtree(images)
        shutil.copy(
            self.folder / "day2" / "images" / "4.jpg",
            self.folder / "day2" / "images" / "half.jpg",
        )
        delta = self.build(
            *(rejects, "--mode", "delta", *flags),
            *("--image_root", self.folder / "day2"),
            date="2026-01-02",
        )
        check(delta, [*expected[:3], ("d", 0, 4), expected[3]])
        # Without the model there is nothing to add vectors to.
        changes = write_jsonl(self.folder / "c.jsonl", [record("a", 2)])
        plain = self.build(changes, "--mode", "delta", date="2026-01-03")
        self.assertFalse((plain / "embeddings.npy").exists())
        with mistakes.assert_told(self, "has no embeddings of"):
            self.build(*(changes, "--mode", "delta", *flags), date="2026-01-04")
        with mistakes.assert_told(self, "found no version in"):
            self.build(catalogue, "--saved_model", self.folder)

    def test_equal_bytes_whatever_happens(self):
        """Broken: a kill, or the number of processes, shows in the index."""
        rng = random.Random(2)
        for number in range(3):
            write_jsonl(
                self.folder / "catalogue" / f"{number}.jsonl",
                [
                    record(f"p{rng.randrange(60_000)}", rng.random(), n=line)
                    for line in range(20_000)
                ],
            )
        command = ("-m", "beam_jobs.build_product_index")
        flags = (
            *("--input", str(self.folder / "catalogue" / "*.jsonl")),
            *("--date", "2026-01-01", "--output"),
        )
        # The first kill comes while records are read, the second while the
        # store is written.
        for sign in (
            "parts/*/*.parquet",
            ".scratch-*/generation/products.sqlite",
        ):
            process = self.start(*command, *flags, str(self.index))
            deadline = time.monotonic() + _PATIENCE_SECONDS
            while not list(self.index.glob(f".work-*/{sign}")):
                self.assertLess(time.monotonic(), deadline, sign)
                self.assertIsNone(process.poll(), sign)
                time.sleep(0.001)
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            self.assertEqual(list(self.index.glob("[!.]*")), [])
        # One process for two commands, as TensorFlow is slow to import.
        code = (
            "import sys; from beam_jobs import build_product_index as job; "
            "*flags, killed, quiet = sys.argv[1:]; "
            "job.main([*flags, killed]); "
            "job.main([*flags, quiet, '--num_processes', '2'])"
        )
        quiet = self.folder / "quiet"
        process = self.start("-c", code, *flags, str(self.index), str(quiet))
        self.assertEqual(process.wait(_PATIENCE_SECONDS), 0)
        killed = generations.resolve_generation(self.index)
        expected = generations.resolve_generation(quiet)
        self.assertEqual(killed.name, expected.name)
        self.assertEqual(digests(killed), digests(expected))
        # The catalogue files, all read by then, are not read again.
        run = files.read_json(killed / "run.json")
        self.assertEqual(run["beam_counters"], {})
        self.assertEqual(list(self.index.glob(".work-*")), [])

    def start(self, *arguments):
        """Starts Python, in a process group that can be killed."""
        process = subprocess.Popen(
            [sys.executable, *arguments],
            env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        self.addCleanup(process.wait)
        self.addCleanup(process.kill)
        return process


if __name__ == "__main__":
    unittest.main()
