"""Tests of the raw records of WebVision, on small look-alikes."""

import contextlib
import io
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import unittest

from beam_jobs import webvision_records
from beam_jobs.pipelines import runners
from beam_jobs.readers import webvision
from beam_jobs.readers import webvision_files
from tests.helpers import fake_webvision


def _build(root, output, num_processes=1, **options):
    options = {"num_classes": 0, **options}
    with (
        contextlib.redirect_stdout(io.StringIO()),
        contextlib.redirect_stderr(io.StringIO()),
    ):
        webvision.build(
            root,
            output,
            runners.make_pipeline_options(num_processes=num_processes),
            **options,
        )


def _read(output):
    """All records, in order."""
    return [
        json.loads(line)
        for path in sorted(output.glob("records-*.jsonl"))
        for line in path.read_text("utf-8").splitlines()
    ]


def _summary(output):
    return json.loads((output / "summary.json").read_text("utf-8"))


def _problems(output):
    lines = (output / "problems.jsonl").read_text("utf-8").splitlines()
    return [json.loads(line) for line in lines]


def _digests(output):
    return {path.name: path.read_bytes() for path in output.iterdir()}


def _edit_lines(path, edit):
    path.write_text(
        "".join(edit(path.read_text("utf-8").splitlines(keepends=True))),
        "utf-8",
    )


class _FolderTest(unittest.TestCase):
    def setUp(self):
        super().setUp()
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = pathlib.Path(folder.name)


class WebvisionFilesTest(_FolderTest):
    def test_matches_by_id_then_by_row(self):
        """A wrong match trains a picture with the title of another."""
        entries = [
            {"id": "b", "title": "B"},
            {"id": "a", "title": "A"},
            {"title": "C"},
            {"id": "other", "title": "D"},
            "no object",
        ]
        pictures = [
            (2, "google/q1/a.jpg", 0),  # Its own row.
            (3, "google/q1/b.jpg", 0),  # Row 3 is not b's.
            (3, "google/q1/c.jpg", 0),  # Row 3 has no id.
            (4, "google/q1/d.jpg.gz", 0),  # Nobody here is `other`.
            (1, "google/q1/e.jpg", 0),  # Row 1 is b's.
            (5, "google/q1/f.jpg", 0),
            (6, "google/q1/g.jpg", 0),  # There is no row 6,
            (0, "google/q1/h.jpg", 0),  # nor a row 0: Python's -1 is not it.
        ]
        found = [
            (entry and entry["title"], how)
            for entry, how in webvision_files.match_metadata(pictures, entries)
        ]
        self.assertEqual(
            found,
            [
                ("A", "by_id"),
                ("B", "by_id_in_other_row"),
                ("C", "by_row"),
                ("D", "by_row"),
                (None, "missing"),
                (None, "missing"),
                (None, "missing"),
                (None, "missing"),
            ],
        )

    def test_joins_text(self):
        """Tags are a text in version 2 and a list in version 1."""
        entry = {
            "title": "Marks &amp; Spencer",
            "description": "",
            "tags": ["red", 7, None],
        }
        join = webvision_files.join_text
        self.assertEqual(join(entry, ["title"]), "Marks &amp; Spencer")
        every = webvision_files.TEXT_FIELDS
        self.assertEqual(join(entry, every), "Marks &amp; Spencer red 7")
        self.assertEqual(join({"tags": "red bag"}, every), "red bag")
        # Flickr's own interface wraps texts in objects.
        self.assertEqual(join({"title": {"_content": "x"}}, every), "")

    def test_chooses_classes(self):
        """The choice is one of the seed, not of the order of a file."""
        ids = [f"n{i:08d}" for i in range(50)]
        choose = webvision_files.choose_classes
        ten = choose(ids, 10, seed=0)
        self.assertEqual(ten, sorted(set(ten)))
        self.assertEqual(ten, choose(ids[::-1], 10, seed=0))
        self.assertLess(set(ten), set(choose(ids, 20, seed=0)))
        self.assertNotEqual(ten, choose(ids, 10, seed=1))
        # A change of this would change everybody's subset.
        self.assertEqual(choose(ids, 2, seed=0), ["n00000027", "n00000049"])
        self.assertEqual(choose(ids, 0, seed=0), ids)
        for num_classes in (51, -1):
            with self.assertRaisesRegex(ValueError, "from 1 to 50"):
                choose(ids, num_classes, seed=0)

    def test_class_list_names_unknown_ids(self):
        """A typing error would drop a class without a word."""
        path = self.folder / "classes.txt"
        path.write_text("n2 some words\r\n\r\nn1\r\n")
        read = webvision_files.read_class_list
        self.assertEqual(read(path, ["n1", "n2", "n3"]), ["n1", "n2"])
        with self.assertRaisesRegex(ValueError, r"received \['n2'\]"):
            read(path, ["n1"])
        path.write_text("\n")
        with self.assertRaisesRegex(ValueError, "received none"):
            read(path, ["n1"])


class WebvisionRecordsTest(_FolderTest):
    def test_reads_every_layout(self):
        """Versions and copies differ in digits of queries and in folders."""
        for version, arrangement in (
            (2, "one_folder"),
            (1, "development_kit"),
            (2, "resized"),
        ):
            with self.subTest(version=version, arrangement=arrangement):
                root = self.folder / arrangement
                output = self.folder / f"{arrangement}_records"
                facts = fake_webvision.make_fake_webvision(
                    root, version=version, arrangement=arrangement
                )
                _build(root, output, text_fields=("title", "tags"))
                found = {}
                for record in _read(output):
                    image = pathlib.Path(
                        os.path.normpath(output / record["image"])
                    )
                    found[record["record_id"]] = {
                        "image": image.relative_to(root).as_posix(),
                        "text": record["title"],
                        "sku_id": record["sku_id"],
                        "split": record["split"],
                    }
                expected = {}
                for record_id, fact in facts.items():
                    tags = fact["tags"]
                    texts = [fact["title"]]
                    texts += tags if isinstance(tags, list) else [tags]
                    expected[record_id] = {
                        "image": fact["image"],
                        "text": " ".join(filter(None, texts)),
                        "sku_id": fact["sku_id"],
                        "split": fact["split"],
                    }
                self.assertEqual(found, expected)
                counts = _summary(output)["counts"]
                self.assertNotIn("metadata_by_row", counts["google"])
                self.assertEqual(counts["left_aside"], {})

    def test_equal_bytes_for_any_number_of_processes(self):
        """The records of a data set are one thing, whoever made them."""
        root = self.folder / "webvision"
        fake_webvision.make_fake_webvision(root)
        options = {"num_classes": 7, "shard_records": 30}
        _build(root, self.folder / "one", **options)
        _build(root, self.folder / "two", num_processes=2, **options)
        first = _digests(self.folder / "one")
        self.assertEqual(first, _digests(self.folder / "two"))
        # 252 lines * 7 / 12 / 30 = 4.9.
        shards = [name for name in first if name.startswith("records-")]
        self.assertEqual(len(shards), 5)
        self.assertIn("records-00004-of-00005.jsonl", shards)
        for shard in shards:
            keys = [
                (record["source"], record["record_id"].split("/")[1])
                for record in map(json.loads, first[shard].splitlines())
                if record["split"] == "train"
            ]
            self.assertEqual(keys, sorted(keys))

    def test_counts_what_it_leaves_aside(self):
        """Broken lines and files cost their titles, never the others."""
        root = self.folder / "webvision"
        facts = fake_webvision.make_fake_webvision(root)
        # A list without labels, as test_filelist.txt has them, and CR LF.
        _edit_lines(
            root / "info" / "val_filelist.txt",
            lambda lines: (
                ["val000001.jpg\r\n", "\r\n"]
                + [line.replace("\n", "\r\n") for line in lines[1:]]
            ),
        )
        # A meta line without its row; another with one that is not there.
        _edit_lines(
            root / "info" / "train_meta_list_google.txt",
            lambda lines: ["google/q00001.json\n", *lines[1:]],
        )
        (root / "flickr" / "q00001.json").write_text('[{"id": ')
        (root / "flickr" / "q00002.json").unlink()
        path = root / "flickr" / "q00003.json"
        entries = json.loads(path.read_text("utf-8"))
        lost = entries.pop()
        # A stray byte of another encoding.
        text = json.dumps([*entries, {"id": "gone", "title": "unlisted"}])
        text = text.replace("unlisted", "unl\xefsted")
        path.write_bytes(text.encode("latin-1"))

        output = self.folder / "records"
        _build(root, output)
        num_lines = {
            name: sum(name == key.split("/")[0] for key in facts)
            for name in ("google", "flickr", "val")
        }
        records = {record["record_id"]: record for record in _read(output)}
        counts = _summary(output)["counts"]
        for name, lines in num_lines.items():
            with self.subTest(list=name):
                bad = counts[name].get("bad_lines", 0)
                self.assertEqual(bad, int(name != "flickr"))
                self.assertEqual(counts[name]["records"] + bad, lines)
        broken = [
            key
            for key in facts
            if key.startswith(("flickr/q00001/", "flickr/q00002/"))
        ]
        self.assertEqual({records[key]["title"] for key in broken}, {""})
        self.assertEqual(counts["flickr"]["json_files_unreadable"], 2)
        self.assertEqual(
            counts["flickr"]["metadata_missing"]
            + counts["flickr"].get("metadata_by_row", 0),
            len(broken) + 1,
        )
        reasons = [problem["reason"] for problem in _problems(output)]
        self.assertEqual(reasons.count("bad_line"), 2)
        self.assertEqual(reasons.count("unreadable_json"), 2)
        self.assertIn(f"flickr/q00003/{lost['id']}.jpg", records)

    def test_says_what_does_not_fit(self):
        """Lists of two versions together would label every picture wrongly."""
        root = self.folder / "webvision"
        fake_webvision.make_fake_webvision(root)
        output = self.folder / "records"
        meta_list = root / "info" / "train_meta_list_google.txt"
        whole = meta_list.read_text()
        _edit_lines(meta_list, lambda lines: lines[:-1])
        with self.assertRaisesRegex(ValueError, r"\(96\), received 95"):
            _build(root, output)
        meta_list.write_text(whole)
        val_list = root / "info" / "val_filelist.txt"
        whole = val_list.read_text()
        # Labels from 1.
        _edit_lines(
            val_list,
            lambda lines: [
                f"{line.split()[0]} {int(line.split()[1]) + 1}\n"
                for line in lines
            ],
        )
        with self.assertRaisesRegex(ValueError, "0 to 11, .* received 12"):
            _build(root, output)
        val_list.unlink()
        with self.assertRaisesRegex(ValueError, "Expected .*val_filelist.txt"):
            _build(root, output)
        # Some mirrors have it beside info/.
        (root / "val_filelist.txt").write_text(whole)
        (root / "google").rename(root / "elsewhere")
        with self.assertRaisesRegex(ValueError, "pictures of google in one of"):
            _build(root, output)
        self.assertEqual(list(self.folder.iterdir()), [root])
        _build(root, output, sources=["flickr"])
        sources = {record["source"] for record in _read(output)}
        self.assertEqual(sources, {"flickr", "val"})

    def test_replaces_nothing(self):
        """A second choice of classes must not mix with the first."""
        root = self.folder / "webvision"
        fake_webvision.make_fake_webvision(root, num_classes=4)
        output = self.folder / "records"
        _build(root, output, num_classes=2)
        before = _digests(output)
        _build(root, output, num_classes=2)
        with self.assertRaisesRegex(ValueError, "with another classes"):
            _build(root, output, num_classes=3)
        self.assertEqual(_digests(output), before)
        with self.assertRaisesRegex(ValueError, "something else"):
            _build(root, root)
        # All of it may lie elsewhere: paths lead from records to pictures.
        moved = self.folder / "moved"
        moved.mkdir()
        root.rename(moved / "webvision")
        _build(moved / "webvision", moved / "records", num_classes=2)
        self.assertEqual(_digests(moved / "records"), before)

    def test_command_to_data_set(self):
        """The road a user takes: records, then `build_dataset`."""
        root = self.folder / "webvision"
        facts = fake_webvision.make_fake_webvision(root)
        # A name that ends in .gz; the file is a JPEG none the less.
        name, fact = next(
            (name, fact)
            for name, fact in facts.items()
            if name.startswith("google/q00001/") and fact["state"] == "good"
        )
        filelist = root / "info" / "train_filelist_google.txt"
        text = filelist.read_text("utf-8")
        filelist.write_text(text.replace(name, f"{name}.gz"), "utf-8")
        (root / fact["image"]).rename(root / f"{fact['image']}.gz")

        output = self.folder / "records"
        shown = io.StringIO()
        with (
            contextlib.redirect_stdout(shown),
            contextlib.redirect_stderr(io.StringIO()),
        ):
            webvision_records.main(
                ["--root", str(root), "--output", str(output)]
                + ["--num_classes", "10", "--class_seed", "3"]
            )
        records = _read(output)
        self.assertEqual(len({each["sku_id"] for each in records}), 10)
        command = shown.getvalue().splitlines()[-1].partition("python ")[2]
        self.assertIn("--preset paper --head_threshold 5000", command)
        flags = command.replace("'", "").replace(" 5000", " 5").split()
        process = subprocess.run(
            [sys.executable, *flags]
            + ["--word_vector_dim", "4", "--word2vec_epochs", "1"],
            capture_output=True,
            text=True,
        )
        self.assertEqual(process.returncode, 0, process.stderr)

        dataset = self.folder / "dataset"
        generation = dataset / (dataset / "LATEST").read_text().strip()
        manifest = json.loads((generation / "manifest.json").read_text())
        counts = manifest["counts"]
        self.assertEqual(counts["records_read"], len(records))
        self.assertEqual(
            sum(counts["written"].values()) + sum(counts["rejected"].values()),
            len(records),
        )
        # Pictures of val have no titles, and yet all of them are tested.
        self.assertEqual(counts["written"]["test"], 50)
        states = [
            facts[record["record_id"].removesuffix(".gz")]["state"]
            for record in records
        ]
        rejected = counts["rejected"]
        self.assertEqual(rejected["missing_image"], states.count("missing"))
        self.assertEqual(rejected["decode_error"], states.count("truncated"))
        self.assertGreater(rejected["no_words"], 0)
        lines = (generation / "rejects.jsonl").read_text("utf-8")
        self.assertNotIn(f"{name}.gz", lines)
        classes = (generation / "classes.jsonl").read_text().splitlines()
        self.assertEqual(
            [json.loads(line)["sku_id"] for line in classes],
            sorted({each["sku_id"] for each in records}),
        )


if __name__ == "__main__":
    unittest.main()
