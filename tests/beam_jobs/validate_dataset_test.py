"""Tests of `validate_dataset`: it has to find every kind of damage."""

import contextlib
import hashlib
import io
import json
import pathlib
import shutil
import tempfile

import numpy as np
import tensorflow as tf

from beam_jobs import validate_dataset
from beam_jobs.pipelines import runners
from beam_jobs.validation import check_generation
from sicot_tf.data import generations
from sicot_tf.data import records
from sicot_tf.data import tfrecords
from sicot_tf.stores import opening
from tests.helpers import object_stores

_WORDS = ["red", "bag", "hat"]


def _jpeg(brightness):
    pixels = np.full((8, 8, 3), brightness, np.uint8)
    return tf.io.encode_jpeg(pixels).numpy()


def _record(record_id, label, words, brightness):
    return {
        "record_id": record_id,
        "image": _jpeg(brightness),
        "sku_id": "AB"[label],
        "label": label,
        "title": f"{record_id} {' '.join(words)}",
        "words": list(words),
        "word_ids": [
            _WORDS.index(word) + 1 if word in _WORDS else 0 for word in words
        ],
        "source": "",
    }


def _content():
    """What a sound generation holds."""
    return {
        "shards": {
            "train-00000-of-00002": [
                _record("a", 0, ["red", "bag"], 10),
                _record("b, the second", 1, ["hat"], 20),
                _record("c", 1, ["hat"], 30),
            ],
            "train-00001-of-00002": [_record("d", 0, ["red"], 40)],
            "val-00000-of-00001": [_record("e", 0, ["new", "bag"], 50)],
            "test-00000-of-00001": [_record("f", 1, [], 60)],
        },
        "classes": [
            {"label": 0, "sku_id": "A", "train": 2, "val": 1, "test": 0},
            {"label": 1, "sku_id": "B", "train": 2, "val": 0, "test": 1},
        ],
        "head": [True, True],
        "vocabulary": _WORDS,
        "vectors": np.array([[0, 0], [1, 2], [3, 4], [5, 6]], np.float32),
        "rejects": [{"reason": "missing_image"}, {"reason": "bad_json"}],
        "config": {},
    }


def _write(folder, content):
    """A generation whose manifest describes the files as they are written."""
    folder.mkdir()
    splits = {split: {} for split in records.SPLITS}
    for stem, rows in content["shards"].items():
        path = folder / f"{stem}.tfrecord"
        offsets = tfrecords.write(
            path,
            [
                row if isinstance(row, bytes) else records.encode_example(**row)
                for row in rows
            ],
        )
        np.save(path.with_suffix(".offsets.npy"), np.array(offsets, np.uint64))
        splits[stem.partition("-")[0]][stem] = len(rows)
    lines = [
        json.dumps({**row, "head": head})
        for row, head in zip(content["classes"], content["head"], strict=True)
    ]
    (folder / "classes.jsonl").write_text("".join(f"{x}\n" for x in lines))
    words = content["vocabulary"]
    (folder / "vocabulary.txt").write_text("".join(f"{x}\n" for x in words))
    (folder / "vocabulary.json").write_text('{"counts": [2, 2, 1]}')
    np.save(folder / "word_vectors.npy", content["vectors"])
    lines = [json.dumps(row) for row in content["rejects"]]
    (folder / "rejects.jsonl").write_text("".join(f"{x}\n" for x in lines))
    files = {
        path.name: {
            "bytes": path.stat().st_size,
            "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        }
        for path in folder.iterdir()
    }
    written = {split: sum(splits[split].values()) for split in splits}
    manifest = {
        "config": content["config"],
        "counts": {
            "records_read": sum(written.values()) + 2,
            "written": written,
            "rejected": {"bad_json": 1, "missing_image": 1},
        },
        "splits": {
            split: {
                "records": written[split],
                "shards": shards,
                "titles_without_words": int(split == "test"),
            }
            for split, shards in splits.items()
        },
        "num_classes": 2,
        "long_tail": {"head_threshold": 2},
        "vocabulary_size": 3,
        "word_vector_dim": 2,
        "files": files,
    }
    (folder / generations.MANIFEST).write_text(json.dumps(manifest))


class ValidateDatasetTest(tf.test.TestCase):
    def setUp(self):
        super().setUp()
        self._folder = pathlib.Path(tempfile.mkdtemp())
        self.addCleanup(shutil.rmtree, self._folder)
        self._generation = self._folder / "generation"

    def _write(self, content=None):
        shutil.rmtree(self._generation, ignore_errors=True)
        _write(self._generation, content or _content())

    def _find(self, **settings):
        """Checks that found something, with how often."""
        self._report = check_generation.validate(
            self._generation, runners.make_pipeline_options(), **settings
        )
        return {
            name: check["wrong"]
            for name, check in self._report["checks"].items()
            if check["wrong"]
        }

    def _examples(self, check):
        return self._report["checks"][check]["examples"]

    def test_a_sound_generation_passes(self):
        """If it fails, good data is thrown away."""
        self._write()
        before = {path.name for path in self._generation.iterdir()}
        self.assertEqual(self._find(decode_images=True), {})
        self.assertTrue(self._report["ok"])
        self.assertEqual(self._report["records"], 6)
        self.assertEqual(
            {path.name for path in self._generation.iterdir()}, before
        )

    def test_damaged_bytes_of_a_shard(self):
        """If it fails, a bad disk or a cut copy goes into training."""
        name = "train-00000-of-00002"
        self._write()
        path = self._generation / f"{name}.tfrecord"
        sound = path.read_bytes()
        first, second, third = (
            np.load(path.with_suffix(".offsets.npy")).astype(int).tolist()
        )

        def damage(content):
            path.write_bytes(content)
            return self._find()

        def flip(position):
            flipped = bytearray(sound)
            flipped[position] ^= 1
            return damage(bytes(flipped))

        # A lost record is missing in its shard, its split (twice in the
        # manifest) and its class.
        lost_one = {"files": 1, "checksums": 1, "counts": 4}
        for part, position in (
            ("data", second + 30),
            ("checksum of the data", third - 1),
            ("length", second),
            ("checksum of the length", second + 9),
        ):
            with self.subTest(part):
                self.assertEqual(flip(position), lost_one)
                self.assertEqual(
                    self._examples("checksums"),
                    [f"{name}, record 1, byte {second:,}"],
                )
                self.assertEqual(self._report["records"], 5)
        with self.subTest("cut in the last record"):
            self.assertEqual(damage(sound[: third + 20]), lost_one)
        with self.subTest("cut between records"):
            self.assertEqual(
                damage(sound[:third]), {"files": 1, "offsets": 1, "counts": 4}
            )
        with self.subTest("one more record"):
            found = damage(sound + sound[first:second])
            # "a" twice: its id, and the counts of shard, split and class.
            self.assertEqual(
                found, {"files": 1, "offsets": 1, "record_ids": 1, "counts": 4}
            )
        with self.subTest("gone"):
            path.unlink()
            # Of its shard, its split (twice) and two classes.
            self.assertEqual(self._find(), {"files": 1, "counts": 5})

    def test_swapped_shards(self):
        """If it fails, test pictures may be trained on."""
        self._write()
        for ending in (".tfrecord", ".offsets.npy"):
            a = self._generation / f"train-00001-of-00002{ending}"
            b = self._generation / f"val-00000-of-00001{ending}"
            content = a.read_bytes()
            a.write_bytes(b.read_bytes())
            b.write_bytes(content)
        # Each has one record of class A, at byte 0: only the hashes tell.
        self.assertEqual(self._find(), {"files": 2})

    def test_damaged_other_files(self):
        """If it fails, ids mean other words or classes than trained."""

        def edit(name, old, new):
            def run():
                path = self._generation / name
                content = path.read_bytes()
                self.assertIn(old, content)
                path.write_bytes(content.replace(old, new))

            return run

        def remove(name):
            return (self._generation / name).unlink

        def save(name, array):
            return lambda: np.save(self._generation / name, array)

        cases = [
            # Three records have class A.
            ([edit("classes.jsonl", b'"A"', b'"Z"')], {"labels": 3}),
            (
                [
                    edit("classes.jsonl", b'"train": 2, "val": 1', b"oops"),
                    edit("vocabulary.json", b"2, 1", b"1"),
                    save("word_vectors.npy", np.zeros([3, 2], np.float32)),
                ],
                {
                    **{"labels": 3, "classes": 1, "counts": 1},
                    **{"vocabulary": 1, "word_vectors": 1},
                },
            ),
            (
                [
                    edit("vocabulary.txt", b"bag", b"bay"),
                    remove("vocabulary.json"),
                    remove("word_vectors.npy"),
                    edit("rejects.jsonl", b"bad_json", b"bad"),
                ],
                {"words": 2, "vocabulary": 1, "word_vectors": 1, "rejects": 1},
            ),
            (
                [
                    edit("vocabulary.txt", b"hat\n", b"hat"),
                    edit("rejects.jsonl", b'{"reason": "bad_json"}\n', b""),
                    save("train-00000-of-00002.offsets.npy", np.arange(3)),
                    # Of a shard that nobody knows.
                    save("train-00000-of-00001.offsets.npy", np.arange(3)),
                ],
                # Counts of reasons, and of all records.
                {"vocabulary": 1, "rejects": 2, "offsets": 1},
            ),
            ([edit("manifest.json", b"num_classes", b"n")], {"manifest": 1}),
            ([edit("manifest.json", b"{", b"")], {"manifest": 1}),
        ]
        for number, (damages, expected) in enumerate(cases):
            with self.subTest(number=number):
                self._write()
                for damage in damages:
                    damage()
                if "manifest" not in expected:
                    expected = {"files": len(damages), **expected}
                self.assertEqual(self._find(), expected)

    def test_wrong_content_with_right_hashes(self):
        """If it fails, an error of the writer passes as long as it is whole."""
        png = tf.io.encode_png(np.zeros((8, 8, 3), np.uint8)).numpy()

        def find(change, **settings):
            content = _content()
            shards = content["shards"]
            change(
                content,
                shards["train-00000-of-00002"],
                shards["train-00001-of-00002"][0],
                shards["test-00000-of-00001"][0],
            )
            self._write(content)
            return self._find(**settings)

        def wrong_features(content, train, other_train, test):
            train[0]["label"] = 2
            train[2]["word_ids"] = [2]
            other_train["image"] = png
            test["image"] = b"x"

        # Class A has one record less.
        self.assertEqual(
            find(wrong_features),
            {"labels": 1, "counts": 1, "words": 1, "images": 2},
        )

        def wrong_tables(content, train, other_train, test):
            train[0]["label"] = 1
            content["head"][1] = False
            content["vectors"] += 1

        # Class A has one record less, class B one more.
        self.assertEqual(
            find(wrong_tables),
            {"labels": 1, "counts": 2, "classes": 1, "word_vectors": 1},
        )

        def no_examples(content, train, other_train, test):
            example = tf.train.Example.FromString(
                records.encode_example(**train[1])
            )
            del example.features.feature["sku_id"]
            train[1:] = [example.SerializeToString(), b"no example"]
            content["vectors"] = content["vectors"].astype(np.float64)

        # Counts of the shard, of the split (twice), of class B.
        self.assertEqual(
            find(no_examples), {"examples": 2, "counts": 4, "word_vectors": 1}
        )

        def twice_in_tables(content, train, other_train, test):
            content["classes"][1]["sku_id"] = "A"
            content["vocabulary"] = ["red", "bag", "bag"]
            content["vectors"][2, 1] = np.nan

        # Two "hat" are unknown now, two "bag" word 3; class B has 3 records.
        self.assertEqual(
            find(twice_in_tables),
            {
                **{"classes": 1, "labels": 3},
                **{"vocabulary": 1, "words": 4, "word_vectors": 1},
            },
        )

        def twice_in_shards(content, train, other_train, test):
            other_train["record_id"] = train[0]["record_id"]
            # A class may have a picture twice, if it was given so.
            train[2]["image"] = train[1]["image"]
            test["image"] = train[0]["image"]

        self.assertEqual(find(twice_in_shards), {"record_ids": 1, "overlap": 1})

        def keep_duplicates(content, train, other_train, test):
            content["config"] = {"duplicates": "keep"}
            test["image"] = train[0]["image"]

        self.assertEqual(find(keep_duplicates), {})
        self.assertIn("skipped", self._report["checks"]["overlap"])

        def cut_picture(content, train, other_train, test):
            pixels = np.random.default_rng(0).integers(0, 256, (64, 64, 3))
            jpeg = tf.io.encode_jpeg(pixels.astype(np.uint8)).numpy()
            test["image"] = jpeg[: len(jpeg) // 2]

        self.assertEqual(find(cut_picture), {})
        self.assertEqual(find(cut_picture, decode_images=True), {"images": 1})

    def test_examples_name_the_records(self):
        """If it fails, nobody finds the record that is meant."""
        content = _content()
        content["shards"]["val-00000-of-00001"][0] |= {
            "record_id": "b, the second",
            "image": _jpeg(10),
        }
        self._write(content)
        self._find()
        self.assertEqual(
            self._examples("record_ids"),
            [
                "'b, the second' stands 2 times, first in "
                "train-00000-of-00002, record 1, last in val-00000-of-00001, "
                "record 0"
            ],
        )
        self.assertEqual(
            self._examples("overlap"),
            [
                f"SHA-256 {hashlib.sha256(_jpeg(10)).hexdigest()} stands 2 "
                "times, among them in train-00000-of-00002, record 0 and "
                "val-00000-of-00001, record 0"
            ],
        )

    def test_at_most_five_examples(self):
        """If it fails, a data set wrong throughout fills the screen."""
        content = _content()
        for rows in content["shards"].values():
            for row in rows:
                row["image"] = b"none"
        self._write(content)
        # The one picture is in train and elsewhere.
        self.assertEqual(self._find(), {"images": 6, "overlap": 1})
        self.assertLen(self._examples("images"), 5)

    def test_command(self):
        """If it fails, a script goes on with damaged data."""
        self._write()
        generations.point_latest(self._generation)
        report = self._folder / "report.json"

        def run(*arguments):
            output = io.StringIO()
            with contextlib.redirect_stdout(output):
                validate_dataset.main([*map(str, arguments)])
            return output.getvalue()

        output = run(self._folder, "--images", "--output", report)
        self.assertIn("6 records read", output)
        self.assertIn("is as its manifest says", output)
        self.assertTrue(json.loads(report.read_text())["ok"])
        (self._generation / "vocabulary.json").unlink()
        with self.assertRaises(SystemExit) as caught:
            run(self._generation, "--output", report)
        self.assertEqual(caught.exception.code, 1)
        self.assertEqual(
            json.loads(report.read_text())["checks"]["files"],
            {"wrong": 1, "examples": ["vocabulary.json is missing"]},
        )
        with contextlib.redirect_stderr(io.StringIO()):
            with self.assertRaises(SystemExit) as caught:
                run(self._folder / "absent")
        self.assertEqual(caught.exception.code, 2)


class OnStoreTest(tf.test.TestCase):
    def test_on_a_store(self):
        """Breaks if a store's data set can't be checked without a copy."""
        with (
            tempfile.TemporaryDirectory() as folder,
            object_stores.s3_bucket() as bucket,
        ):
            generation = pathlib.Path(folder) / "g"
            _write(generation, _content())
            url = f"{bucket}/data/g"
            object_stores.upload_folder(generation, url)
            store = opening.open_folder(url)
            report = f"{bucket}/reports/first.json"
            with contextlib.redirect_stdout(io.StringIO()) as printed:
                validate_dataset.main([url, "--output", report])
            self.assertIn(f"{url} is as its manifest", printed.getvalue())
            reports = opening.open_folder(f"{bucket}/reports")
            self.assertEqual(reports.get_json("first.json")["records"], 6)
            # A shard that is cut, a file that is lost, and one too many.
            store.put("val-00000-of-00001.tfrecord", b"cut")
            store.delete("vocabulary.json")
            store.put("val-00007-of-00001.tfrecord", b"")
            with (
                contextlib.redirect_stdout(io.StringIO()) as printed,
                self.assertRaises(SystemExit) as end,
            ):
                validate_dataset.main([url])
            self.assertEqual(end.exception.code, 1)
            for told in (
                "val-00000-of-00001.tfrecord has 3 bytes",
                "vocabulary.json is missing",
                "val-00007-of-00001.tfrecord is not in the manifest",
            ):
                self.assertIn(told, printed.getvalue())
            # Nothing of the checks is left there.
            keys = {each.key for each in opening.open_folder(bucket).list()}
            self.assertEqual(
                {key for key in keys if not key.startswith("data/g/")},
                {"reports/first.json"},
            )


if __name__ == "__main__":
    tf.test.main()
