"""Tests of the Beam job from raw records to a dataset generation."""

import contextlib
import csv
import dataclasses
import io
import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import unittest.mock

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import tensorflow as tf
from PIL import Image

from beam_jobs import build_dataset
from beam_jobs.dataset import build
from beam_jobs.dataset import identity
from beam_jobs.dataset import summary
from beam_jobs.pipelines import runners
from beam_jobs.records import record_files
from sicot_tf import config
from sicot_tf import files
from sicot_tf.data import generations
from sicot_tf.data import records

# As the command line of `_run_command` says it.
_CONFIG = dataclasses.replace(
    config.with_preset(config.DatasetConfig, "demo"),
    head_threshold=3,
    word_vector_dim=4,
    word2vec_epochs=1,
    # Most tests are about other things and use a picture several times.
    duplicates="keep",
)
_FLAGS = (
    "--head_threshold 3 --word_vector_dim 4 --word2vec_epochs 1 "
    "--duplicates keep"
).split()


def _write_images(folder):
    """Good images 0.png to 4.png, and one of every kind of bad file."""
    folder.mkdir()
    random = np.random.default_rng(0)
    for i in range(5):
        pixels = random.integers(0, 255, (12, 16, 3), np.uint8)
        Image.fromarray(pixels).save(folder / f"{i}.png")
    Image.fromarray(pixels).save(folder / "good.jpg")
    jpeg = (folder / "good.jpg").read_bytes()
    (folder / "truncated.jpg").write_bytes(jpeg[:-100])
    (folder / "text.png").write_text("no such picture")
    (folder / "empty.png").write_bytes(b"")
    Image.new("RGB", (1, 1)).save(folder / "one_pixel.png")
    # One bit a pixel: 900 million pixels in about 110 kB.
    Image.new("1", (30_000, 30_000)).save(folder / "bomb.png")


def _rows():
    """Lines of the record file and what has to become of each."""

    def row(record_id, image="0.png", sku_id="A", title="red bag", **others):
        return {
            "record_id": record_id,
            "image": f"images/{image}",
            "sku_id": sku_id,
            "title": title,
            "split": "train",
            **others,
        }

    return [
        (row("latin", "0.png", title="Red BAG red", sku_name="bag"), None),
        (row("chinese", "1.png", title="红色手提包 包邮"), None),
        (row("emoji", "2.png", title="👜 bag 🛒"), None),
        (row("no title", "3.png", sku_id="B", title=""), None),
        (row("punctuation", "4.png", sku_id="B", title="!? …"), None),
        (row("jpeg", "good.jpg", sku_id="B", title="blue shoe"), None),
        (row("boxed", sku_id="C", title="hat", box=[0, 0, 8, 8]), None),
        (row("unknown field", sku_id="C", title="hat", price=3), None),
        (row("val", split="validation", title="red new bag"), None),
        (row("test", sku_id="B", split="test", title="unseen"), None),
        (row("latin", "1.png"), "duplicate_id"),
        (row("truncated", "truncated.jpg"), "decode_error"),
        (row("text", "text.png"), "not_an_image"),
        (row("empty", "empty.png"), "empty_file"),
        (row("one pixel", "one_pixel.png"), "too_small"),
        (row("bomb", "bomb.png"), "too_many_pixels"),
        (row("gone", "gone.png"), "missing_image"),
        (row("folder", ""), "missing_image"),
        (row("outside", box=[0, 0, 99, 8]), "bad_box"),
        (row("other split", split="dev"), "unknown_split"),
        (row("number", sku_id=["A"]), "bad_field"),
        (row("no class", sku_id=""), "missing_field"),
        (row("never trained", sku_id="Z", split="val"), "class_not_in_train"),
    ]


def _build(inputs, output, dataset_config=_CONFIG, **settings):
    extras = {
        name: settings.pop(name)
        for name in ("frozen_test", "keep_labels", "word_vectors")
        if name in settings
    }
    return build.build(
        build.Inputs([str(path) for path in inputs], **extras),
        output,
        dataset_config,
        runners.make_pipeline_options(),
        **settings,
    )


def _command(*arguments):
    return [
        sys.executable,
        "-m",
        "beam_jobs.build_dataset",
        *map(str, arguments),
    ]


def _contents(generation, leave_out=("run.json",)):
    return {
        path.name: path.read_bytes()
        for path in generation.iterdir()
        if path.name not in leave_out
    }


def _read_jsonl(path):
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


def _read_split(generation, split):
    """Records of a split in stored order, as tf.data reads them."""
    files = sorted(str(path) for path in generation.glob(f"{split}-*.tfrecord"))
    parsed = []
    for serialized in tf.data.TFRecordDataset(files):
        example = tf.io.parse_single_example(serialized, records.ALL_FEATURES)
        parsed.append({name: value.numpy() for name, value in example.items()})
    return parsed


class BuildDatasetTest(tf.test.TestCase):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls._folder = pathlib.Path(tempfile.mkdtemp())
        cls.addClassCleanup(shutil.rmtree, cls._folder)
        _write_images(cls._folder / "images")
        cls._rows = _rows()
        cls._input = cls._folder / "records.jsonl"
        lines = [json.dumps(row, ensure_ascii=False) for row, _ in cls._rows]
        cls._input.write_text("\n".join(lines) + '\n{"broken": \n', "utf-8")
        cls._output = cls._folder / "dataset"
        cls._generation = _build([cls._input], cls._output)
        cls._manifest = files.read_json(cls._generation / "manifest.json")

    def test_every_record_is_written_or_rejected(self):
        """If it fails, records disappear or have the wrong reason."""
        written = [
            record["record_id"].decode()
            for split in records.SPLITS
            for record in _read_split(self._generation, split)
        ]
        self.assertCountEqual(
            written,
            [row["record_id"] for row, reason in self._rows if not reason],
        )
        rejects = _read_jsonl(self._generation / "rejects.jsonl")
        expected = [
            (line, reason, row["record_id"], row)
            for line, (row, reason) in enumerate(self._rows, start=1)
            if reason
        ]
        # The line behind all others is no JSON.
        expected.append((len(self._rows) + 1, "bad_json", None, '{"broken":'))
        self.assertEqual(
            [
                (r["line"], r["reason"], r["record_id"], r["record"])
                for r in rejects
            ],
            expected,
        )
        self.assertEqual({r["file"] for r in rejects}, {"records.jsonl"})

    def test_counts_add_up(self):
        """If it fails, the report does not say what happened."""
        counts = self._manifest["counts"]
        self.assertEqual(counts["records_read"], len(self._rows) + 1)
        self.assertEqual(counts["written"], {"train": 8, "val": 1, "test": 1})
        self.assertEqual(
            sum(counts["written"].values()) + sum(counts["rejected"].values()),
            counts["records_read"],
        )
        self.assertEqual(self._manifest["unknown_fields"], {"price": 1})
        train = self._manifest["splits"]["train"]
        self.assertEqual(train["titles_without_words"], 2)
        counters = files.read_json(self._generation / "run.json")[
            "beam_counters"
        ]
        self.assertEqual(counters["records_read"], counts["records_read"])
        self.assertEqual(counters["records_written"], 10)
        # Only the JPEG file is small, baseline and without metadata.
        self.assertEqual(counters["images_unchanged"], 1)
        self.assertEqual(counters["rejected_missing_image"], 2)

    def test_records_hold_what_the_contract_says(self):
        """If it fails, training reads other words, labels or pictures."""
        vocabulary = (self._generation / "vocabulary.txt").read_text("utf-8")
        words = vocabulary.splitlines()
        # By count, then code point: "bag" 2, "hat" 2, "red" 2, then once.
        self.assertEqual(words[:3], ["bag", "hat", "red"])
        self.assertCountEqual(
            words[3:], ["blue", "shoe", "红色", "手提包", "包邮"]
        )
        by_id = {
            record["record_id"].decode(): record
            for split in records.SPLITS
            for record in _read_split(self._generation, split)
        }
        latin = by_id["latin"]
        self.assertEqual(latin["words"].tolist(), [b"red", b"bag", b"red"])
        self.assertEqual(latin["word_ids"].tolist(), [3, 1, 3])
        self.assertEqual(latin["title"], b"Red BAG red")
        self.assertEqual((latin["sku_id"], latin["label"]), (b"A", 0))
        chinese = [words.index(word) + 1 for word in ("红色", "手提包", "包邮")]
        self.assertEqual(by_id["chinese"]["word_ids"].tolist(), chinese)
        self.assertEqual(by_id["no title"]["words"].tolist(), [])
        self.assertEqual(by_id["no title"]["label"], 1)
        # Unknown words stay in val and test, with the id of padding.
        self.assertEqual(
            by_id["val"]["words"].tolist(), [b"red", b"new", b"bag"]
        )
        self.assertEqual(by_id["val"]["word_ids"].tolist(), [3, 0, 1])
        self.assertEqual(by_id["test"]["word_ids"].tolist(), [0])
        jpeg = (self._folder / "images" / "good.jpg").read_bytes()
        self.assertEqual(by_id["jpeg"]["image"], jpeg)
        boxed = tf.io.decode_jpeg(by_id["boxed"]["image"])
        self.assertEqual(boxed.shape, [8, 8, 3])
        vectors = np.load(self._generation / "word_vectors.npy")
        self.assertEqual(vectors.shape, (len(words) + 1, 4))
        self.assertFalse(vectors[0].any())

    def test_classes_and_long_tail(self):
        """If it fails, head and tail accuracies mean other classes."""
        self.assertEqual(
            _read_jsonl(self._generation / "classes.jsonl"),
            [
                {"label": 0, "sku_id": "A", "sku_name": "bag", "train": 3,
                 "val": 1, "test": 0, "head": True},
                {"label": 1, "sku_id": "B", "sku_name": None, "train": 3,
                 "val": 0, "test": 1, "head": True},
                {"label": 2, "sku_id": "C", "sku_name": None, "train": 2,
                 "val": 0, "test": 0, "head": False},
            ],
        )  # fmt: skip
        self.assertEqual(self._manifest["num_classes"], 3)
        self.assertEqual(
            self._manifest["long_tail"],
            {
                "head_threshold": 3,
                "num_head_classes": 2,
                "num_tail_classes": 1,
                "head_train_images": 6,
                "tail_train_images": 2,
                "largest_class": 3,
                "smallest_class": 2,
            },
        )

    def test_offsets_and_checksums(self):
        """If it fails, random access reads rubbish, or copies go unchecked."""
        (shard,) = self._generation.glob("train-*.tfrecord")
        offsets = np.load(shard.with_suffix(".offsets.npy"))
        self.assertEqual(offsets.dtype, np.uint64)
        data = shard.read_bytes()
        ids = []
        for offset in offsets.tolist():
            length = int.from_bytes(data[offset : offset + 8], "little")
            example = data[offset + 12 : offset + 12 + length]
            parsed = tf.train.Example.FromString(example)
            ids.append(parsed.features.feature["record_id"].bytes_list.value[0])
        self.assertEqual(
            ids,
            [r["record_id"] for r in _read_split(self._generation, "train")],
        )
        described = self._manifest["files"]
        found = _contents(self._generation, ("run.json", "manifest.json"))
        self.assertEqual(described.keys(), found.keys())
        for name, content in found.items():
            self.assertEqual(described[name]["bytes"], len(content))

    def test_equal_input_gives_equal_bytes(self):
        """If it fails, results depend on the run, or on PYTHONHASHSEED, or on
        the number of processes."""
        again = _build([self._input], self._folder / "again", part_records=5)
        parallel = self._folder / "parallel"
        finished = subprocess.run(
            _command(
                "--input", self._input, "--output", parallel,
                "--num_processes", 2, "--part_records", 7, *_FLAGS,
            ),
            env={**os.environ, "PYTHONHASHSEED": "7"},
            capture_output=True,
            check=True,
            text=True,
        )  # fmt: skip
        expected = _contents(self._generation)
        self.assertEqual(_contents(again), expected)
        (generation,) = parallel.glob("[!.]*/")
        self.assertEqual(generation.name, self._generation.name)
        self.assertEqual(_contents(generation), expected)
        self.assertRegex(finished.stdout, "written: train +8")
        self.assertRegex(finished.stdout, "rejected: bad_json +1")
        self.assertIn(str(generation), finished.stdout)
        # Nothing of TensorFlow, Beam and their processes.
        for line in finished.stderr.splitlines():
            self.assertRegex(line, r"\A\d\d:\d\d:\d\d INFO ")
        # No work folder is left.
        self.assertCountEqual(
            [path.name for path in parallel.iterdir()],
            [".requests", "LATEST", generation.name],
        )

    def test_a_folders_name_is_no_data(self):
        """If it fails, test records train because their folder is named so."""
        for name in ("split=train/record_id=z/source=x", "a'b{c}[d]*?%\\"):
            generation = _build([self._input], self._folder / name / "out")
            self.assertEqual(_contents(generation), _contents(self._generation))

    def test_a_folder_with_brackets_may_stand_before_a_glob(self):
        """If it fails, a[1]/*.jsonl finds nothing, or what a1 holds."""
        for name in ("a[1]", "a1"):
            (self._folder / name).mkdir()
            (self._folder / name / "r.jsonl").touch()
        found = record_files.find_record_files(
            [str(self._folder / "a[1]" / "*.jsonl")]
        )
        self.assertEqual(
            [file.path for file in found],
            [str(self._folder / "a[1]" / "r.jsonl")],
        )

    def test_nothing_to_train_on_is_no_success(self):
        """If it fails, a night without pictures replaces the data set, and
        its exit code is 0."""
        output = self._folder / "lost"
        good = _build([self._input], output)
        path = self._folder / "lost.jsonl"
        row = {"record_id": "a", "image": "gone.jpg", "sku_id": "A"}
        path.write_text(json.dumps({**row, "title": "x"}))
        errors = io.StringIO()
        with (
            contextlib.redirect_stderr(errors),
            self.assertRaises(SystemExit) as ended,
        ):
            build_dataset.main(
                ["--input", str(path), "--output", str(output), *_FLAGS]
            )
        self.assertEqual(ended.exception.code, 2)
        self.assertIn("not one of 1 records can be trained", errors.getvalue())
        self.assertEqual(generations.resolve_generation(output), good)
        path.write_text("\n\n")
        with self.assertRaisesRegex(ValueError, "found none in .*lost.jsonl"):
            _build([path], output)

    def test_latest_that_names_nothing(self):
        """If it fails, an emptied LATEST is taken for the folder itself."""
        folder = self._folder / "pointers"
        folder.mkdir()
        for content in (b"", b"gone\n", b"\0", b"\xff"):
            (folder / "LATEST").write_bytes(content)
            with self.assertRaisesRegex(ValueError, "LATEST to name a gener"):
                generations.resolve_generation(folder)

    def test_what_is_built_is_not_built_again(self):
        """If it fails, a nightly job does a night's work for nothing."""
        run = (self._generation / "run.json").read_bytes()
        (self._output / "LATEST").unlink()
        again = _build([self._input], self._output)
        self.assertEqual(again, self._generation)
        self.assertEqual((again / "run.json").read_bytes(), run)
        self.assertEqual(
            generations.resolve_generation(self._output), self._generation
        )

    def test_another_image_gives_another_generation(self):
        """If it fails, changed pictures are taken for those already built."""
        folder = self._folder / "changed"
        folder.mkdir()
        shutil.copy(self._input, folder)
        shutil.copytree(self._folder / "images", folder / "images")
        shutil.copy(folder / "images/1.png", folder / "images/2.png")
        changed = _build([folder / "records.jsonl"], folder / "dataset")
        self.assertNotEqual(changed.name, self._generation.name)

    def test_csv_and_parquet_give_the_same_set(self):
        """If it fails, the format of the record file changes the data."""
        rows = [row for row, reason in self._rows if not reason]
        fields = sorted({name for row in rows for name in row})
        with open(self._folder / "r.csv", "w", encoding="utf-8") as file:
            writer = csv.DictWriter(file, fields)
            writer.writeheader()
            writer.writerows(rows)
        full_rows = [{name: row.get(name) for name in fields} for row in rows]
        table = pa.Table.from_pylist(full_rows)
        pq.write_table(table, self._folder / "r.parquet")
        with open(self._folder / "r.jsonl", "w", encoding="utf-8") as file:
            file.writelines(json.dumps(row) + "\n" for row in rows)
        jsonl, *others = [
            _contents(
                _build([self._folder / name], self._folder / f"from_{name}"),
                ("run.json", "manifest.json"),
            )
            for name in ("r.jsonl", "r.csv", "r.parquet")
        ]
        self.assertEqual(jsonl["rejects.jsonl"], b"")
        for other in others:
            self.assertEqual(other, jsonl)

    def test_paper_preset(self):
        """If it fails, titles without words stay, or both ends of the
        vocabulary do."""
        rows = [
            {"record_id": f"r{i}", "image": "images/0.png", "sku_id": "A",
             "title": title, "split": "train"}
            for i, title in enumerate(
                [f"common word{j:02}" for j in range(39)] + ["common", ""]
            )
        ]  # fmt: skip
        path = self._folder / "paper.jsonl"
        path.write_text("\n".join(map(json.dumps, rows)), "utf-8")
        paper = dataclasses.replace(
            config.with_preset(config.DatasetConfig, "paper"),
            word_vector_dim=4,
            word2vec_epochs=1,
            duplicates="keep",
        )
        generation = _build([path], self._folder / "paper", paper)
        # 40 distinct words, floor(40 * 5 / 100) = 2 leave at each end:
        # "common" (40 times) and, of the equal rest by code point, word00;
        # at the end word38 and word37. Titles left without words: r0, r37,
        # r38, "common" and the empty one.
        words = (generation / "vocabulary.txt").read_text().splitlines()
        self.assertEqual(words, [f"word{j:02}" for j in range(1, 37)])
        rejects = _read_jsonl(generation / "rejects.jsonl")
        self.assertEqual(
            [(r["record_id"], r["reason"]) for r in rejects],
            [(f"r{i}", "no_words") for i in (0, 37, 38, 39, 40)],
        )
        first = min(
            _read_split(generation, "train"), key=lambda r: r["record_id"]
        )
        self.assertEqual(first["words"].tolist(), [b"word01"])

    def test_shards_are_ranges_of_one_order(self):
        """If it fails, the order of records depends on the number of shards."""
        # 700 kB of noise each: six make five shards of 1 MiB.
        random = np.random.default_rng(0)
        rows = []
        for i in range(6):
            noise = random.integers(0, 255, (112, 6000, 3), np.uint8)
            Image.fromarray(noise).save(self._folder / f"wide{i}.jpg")
            rows.append(
                {"record_id": f"r{i}", "image": f"wide{i}.jpg", "sku_id": "A",
                 "title": "wide", "split": "train"}
            )  # fmt: skip
        path = self._folder / "wide.jsonl"
        path.write_text("\n".join(map(json.dumps, rows)), "utf-8")
        orders = []
        for shard_megabytes, num_shards in ((128, 1), (1, None)):
            wide = dataclasses.replace(_CONFIG, shard_megabytes=shard_megabytes)
            generation = _build([path], self._folder / "wide", wide)
            orders.append(
                [r["record_id"] for r in _read_split(generation, "train")]
            )
            shards = sorted(generation.glob("train-*.tfrecord"))
            stored = sum(shard.stat().st_size for shard in shards)
            # The images' bytes by MiB; all else in a record is far below 1 %.
            expected = num_shards or -(-stored * 99 // 100 // 2**20)
            self.assertEqual(
                [shard.name for shard in shards],
                [
                    f"train-{index:05}-of-{expected:05}.tfrecord"
                    for index in range(expected)
                ],
            )
        self.assertLen(orders[0], 6)
        self.assertEqual(orders[0], orders[1])

    def test_nothing_usable_is_no_crash(self):
        """If it fails, an empty delivery takes the pipeline down."""
        path = self._folder / "nothing.jsonl"
        path.write_text("no json\n")
        generation = _build([path], self._folder / "nothing")
        manifest = files.read_json(generation / "manifest.json")
        self.assertEqual(manifest["counts"]["rejected"], {"bad_json": 1})
        self.assertEqual(manifest["num_classes"], 0)
        for split in records.SPLITS:
            self.assertEqual(manifest["splits"][split]["shards"], {})
        vectors = np.load(generation / "word_vectors.npy")
        self.assertEqual(vectors.tolist(), [[0, 0, 0, 0]])

    def test_a_killed_build_goes_on(self):
        """If it fails, training may start on half a data set, or a kill costs
        all that was done."""
        output = self._folder / "killed"
        command = _command(
            "--input", self._input, "--output", output, "--part_records", 1,
            *_FLAGS,
        )  # fmt: skip
        finished = []
        # Killed with two pictures done, then with half of them.
        for num_parts in (2, 12):
            process = subprocess.Popen(
                command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
            )
            while len(finished) < num_parts:
                self.assertIsNone(process.poll())
                finished = list(output.glob(".work-*/parts/part-*.parquet"))
            process.send_signal(signal.SIGKILL)
            process.wait()
            for left_behind in output.iterdir():
                self.assertStartsWith(left_behind.name, ".work-")
            with self.assertRaisesRegex(ValueError, "Build it first"):
                generations.resolve_generation(output)
        num_finished = len(list(output.glob(".work-*/parts/part-*.parquet")))
        generation = _build([self._input], output, part_records=1)
        self.assertCountEqual(
            [path.name for path in output.iterdir()],
            [".requests", "LATEST", generation.name],
        )
        self.assertEqual(_contents(generation), _contents(self._generation))
        counters = files.read_json(generation / "run.json")["beam_counters"]
        self.assertEqual(
            counters["parts_stored"], len(self._rows) + 1 - num_finished
        )

    def test_a_later_delivery(self):
        """If it fails, labels move, a published test set changes, or vectors
        from a file are not taken."""
        rows = [
            {"record_id": f"n{i}", "image": f"images/{i}.png", "sku_id": sku,
             "title": "red bag"}
            for i, sku in enumerate(["C", "C", "0 new", "0 new"])
        ]  # fmt: skip
        path = self._folder / "later.jsonl"
        path.write_text("\n".join(map(json.dumps, rows)), "utf-8")
        frozen_test = self._folder / "frozen_test.txt"
        # As editors write it.
        frozen_test.write_bytes(b"\xef\xbb\xbfn1\r\ngone\r\n")
        vectors = self._folder / "vectors.txt"
        vectors.write_text("red 1 2 3\nhat 4 5 6\nbag 7 8 9\n")
        settings = {"frozen_test": frozen_test, "keep_labels": self._output}
        later_config = dataclasses.replace(
            _CONFIG, val_percent=0, test_percent=0
        )
        generation = _build(
            [path],
            self._folder / "later",
            later_config,
            word_vectors=vectors,
            **settings,
        )
        classes = _read_jsonl(generation / "classes.jsonl")
        # A, B and C keep their labels; the new one comes behind them.
        self.assertEqual(
            [(c["sku_id"], c["train"], c["test"]) for c in classes],
            [("A", 0, 0), ("B", 0, 0), ("C", 1, 1), ("0 new", 2, 0)],
        )
        words = (generation / "vocabulary.txt").read_text().split()
        self.assertEqual(words, ["bag", "red"])
        self.assertAllEqual(
            np.load(generation / "word_vectors.npy"),
            [[0, 0, 0], [7, 8, 9], [1, 2, 3]],
        )
        manifest = files.read_json(generation / "manifest.json")
        self.assertEqual(manifest["word_vector_dim"], 3)
        self.assertEqual(
            manifest["frozen_test"],
            {
                "listed": 2,
                "repeated": 0,
                "unknown": 1,
                "unknown_ids": ["gone"],
                "in_test": 1,
            },
        )
        # Of A, B and C; C alone has training records.
        self.assertEqual(manifest["kept_labels"], {"listed": 3, "trained": 1})
        # Another file of vectors is another generation.
        vectors.write_text("red 1 2\n")
        other = _build(
            [path],
            self._folder / "later",
            later_config,
            word_vectors=vectors,
            **settings,
        )
        self.assertNotEqual(other.name, generation.name)

    def test_two_builds_of_one_thing(self):
        """If it fails, two processes write into one folder."""
        output = self._folder / "twice"
        process = subprocess.Popen(
            _command(
                "--input", self._input, "--output", output, *_FLAGS,
                "--word2vec_epochs", 1_000_000_000,
            ),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )  # fmt: skip
        # The epochs never end.
        while not list(output.glob(".work-*/.scratch-*/titles.txt")):
            self.assertIsNone(process.poll())
            time.sleep(0.05)
        endless = dataclasses.replace(_CONFIG, word2vec_epochs=1_000_000_000)
        with self.assertRaisesRegex(ValueError, "Another process works"):
            _build([self._input], output, endless)
        # Another one may be built meanwhile.
        _build([self._input], output)
        process.kill()
        process.wait()

    def test_resolve_generation(self):
        """If it fails, commands find another data set, or none."""
        for path in (
            self._output,
            self._output / "LATEST",
            self._generation,
            str(self._generation),
        ):
            self.assertEqual(
                generations.resolve_generation(path), self._generation
            )
        with self.assertRaisesRegex(ValueError, "manifest.json"):
            generations.resolve_generation(self._folder)

    def test_a_new_setting_renames_nothing(self):
        """Breaks if an update builds again what is there."""
        settings = config.to_dict(_CONFIG)
        asked = {"format_version": 3, "config": settings, "images": 1234}
        known = {**asked, "config": {**settings, "new_setting": 5}}
        defaults = {**config.to_dict(config.DatasetConfig()), "new_setting": 5}
        with unittest.mock.patch.object(
            config, "to_dict", return_value=defaults
        ):
            self.assertEqual(identity.name(known), identity.name(asked))
            known["config"]["new_setting"] = 6
            self.assertNotEqual(identity.name(known), identity.name(asked))

    def test_mistakes_are_told_before_work_begins(self):
        """If it fails, a typing error costs a night."""
        for changes, message in (
            ({"jpeg_quality": 101}, "jpeg_quality"),
            ({"val_percent": 60, "test_percent": 50}, "test_percent"),
            ({"drop_rare_percent": 100.0}, "drop_rare_percent"),
        ):
            with self.assertRaisesRegex(ValueError, message):
                wrong = dataclasses.replace(_CONFIG, **changes)
                _build([self._input], self._folder / "wrong", wrong)
        with self.assertRaisesRegex(ValueError, "nowhere"):
            _build([self._folder / "nowhere.jsonl"], self._folder / "wrong")
        table = self._folder / "table.xlsx"
        table.write_bytes(b"")
        with self.assertRaisesRegex(ValueError, "xlsx"):
            _build([table], self._folder / "wrong")
        with self.assertRaisesRegex(ValueError, "DaskRunner"):
            runners.make_pipeline_options("DaskRunner")
        with self.assertRaisesRegex(ValueError, "--imput"):
            runners.make_pipeline_options(beam_flags=["--imput=x"])
        self.assertFalse((self._folder / "wrong").exists())
        with contextlib.redirect_stderr(io.StringIO()) as errors:
            with self.assertRaises(SystemExit):
                build_dataset.main(["--input", "x", "--output", "y", "--sed=1"])
        self.assertIn("--sed=1", errors.getvalue())


class PartsTest(tf.test.TestCase):
    def test_head_threshold(self):
        """If it fails, head and tail are cut elsewhere than documented."""
        counts = [9, 7, 7, 3, 2, 1, 1, 1, 1, 1]
        for threshold, share, expected in (
            (5, 0.17, 5),  # As given.
            (0, 0.17, 7),  # ceil(.17 * 10) = 2 classes: the second has 7.
            (0, 0.4, 3),
            (0, 1.0, 2),  # At least 2.
        ):
            self.assertEqual(
                summary.head_threshold(counts, threshold, share),
                expected,
            )
        self.assertEqual(summary.head_threshold([], 0, 0.17), 0)


if __name__ == "__main__":
    tf.test.main()
