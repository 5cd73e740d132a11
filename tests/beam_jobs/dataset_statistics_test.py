"""Tests of the statistics of a dataset: numbers, files, page, Croissant."""

import collections
import csv
import hashlib
import io
import json
import pathlib
import tempfile
import xml.etree.ElementTree as ElementTree

import mlcroissant
import numpy as np
import tensorflow as tf
from PIL import Image

from beam_jobs import dataset_statistics
from beam_jobs.statistics import long_tail
from beam_jobs.statistics import shard_summaries
from sicot_tf.data import records
from sicot_tf.data import tfrecords
from sicot_tf.stores import opening
from tests.helpers import html_pages
from tests.helpers import mistakes
from tests.helpers import object_stores
from tests.helpers import own_cache
from tests.helpers import tiny_road

_VOCABULARY = ["red", "包邮", "bag", "shoe", "hat"]
# Class, split, title, its words. Class A is head from 3 training images on.
_RECORDS = [
    ("A", "train", "Red bag", ["red", "bag"]),
    ("A", "train", "red 包邮", ["red", "包邮"]),
    ("A", "train", "red", ["red"]),
    ("B", "train", "包邮 shoe", ["包邮", "shoe"]),
    ("C", "train", "<script>alert(1)</script>", []),
    ("A", "val", "red unseen", ["red", "unseen"]),
    ("B", "test", "包邮", ["包邮"]),
    ("C", "test", "! 1 &amp; 2", []),
]


def _jpeg(width, height):
    content = io.BytesIO()
    Image.new("RGB", (width, height), (200, 30, 30)).save(content, "JPEG")
    return content.getvalue()


def _example(number, sku_id, title, words, image):
    return records.encode_example(
        record_id=f"r{number}",
        image=image,
        sku_id=sku_id,
        label="ABC".index(sku_id),
        title=title,
        words=words,
        word_ids=[
            _VOCABULARY.index(word) + 1 if word in _VOCABULARY else 0
            for word in words
        ],
        source="",
    )


def _write_generation(folder):
    """The records above, each split a shard; train two and an empty one."""
    folder.mkdir(parents=True)
    shards = collections.defaultdict(list)
    counts = {sku_id: collections.Counter() for sku_id in "ABC"}
    for number, (sku_id, split, title, words) in enumerate(_RECORDS):
        # The last picture has no header that can be read.
        image = _jpeg(20 + number, 16) if number < 7 else b"\xff\xd8 broken"
        shard = f"train-0000{number % 2}-of-00003"
        if split != "train":
            shard = f"{split}-00000-of-00001"
        shards[shard].append(_example(number, sku_id, title, words, image))
        counts[sku_id][split] += 1
    shards["train-00002-of-00003"] = []
    for shard, examples in shards.items():
        tfrecords.write(folder / f"{shard}.tfrecord", examples)
    rows = [
        {
            "label": label,
            "sku_id": sku_id,
            "sku_name": {"A": "a <b>bag</b>"}.get(sku_id),
            **{split: counts[sku_id][split] for split in records.SPLITS},
            "head": counts[sku_id]["train"] >= 3,
        }
        for label, sku_id in enumerate("ABC")
    ]
    (folder / "classes.jsonl").write_text(
        "".join(json.dumps(row) + "\n" for row in rows)
    )
    (folder / "vocabulary.txt").write_text("\n".join(_VOCABULARY) + "\n")
    manifest = {
        "format_version": 1,
        "config": {"seed": 0},
        "inputs": [{"name": "records.jsonl", "sha256": "0"}],
        "num_classes": 3,
        "vocabulary_size": 5,
        "vocabulary": {"share_of_occurrences_kept": 1.0},
        "long_tail": {"head_threshold": 3},
        "counts": {
            "records_read": 10,
            "rejected": {"duplicate_id": 2},
            "written": {"train": 5, "val": 1, "test": 2},
        },
        "splits": {
            split: {
                "records": sum(
                    len(v) for k, v in shards.items() if k.startswith(split)
                ),
                "shards": {
                    k: len(v) for k, v in shards.items() if k.startswith(split)
                },
            }
            for split in records.SPLITS
        },
        "files": {
            path.name: {
                "bytes": path.stat().st_size,
                "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
            }
            for path in sorted(folder.iterdir())
        },
    }
    (folder / "manifest.json").write_text(json.dumps(manifest))
    (folder.parent / "LATEST").write_text(folder.name + "\n")


def _contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


class LongTailStatisticsTest(tf.test.TestCase):
    def test_gini(self):
        """Breaks if the measure of the first observation is wrong."""
        self.assertAlmostEqual(long_tail.gini([4, 4, 4, 4]), 0)
        # One of four has all: 1 - 1/4.
        self.assertAlmostEqual(long_tail.gini([0, 0, 8, 0]), 0.75)
        # All pairs of (1, 3): mean |x - y| = (0 + 2 + 2 + 0) / 4 = 1;
        # half of it over the mean 2 is 1/4.
        self.assertAlmostEqual(long_tail.gini([3, 1]), 0.25)
        self.assertEqual(long_tail.gini([]), 0)

    def test_lorenz_curve(self):
        """Breaks if the curve starts with the largest class."""
        self.assertEqual(
            long_tail.lorenz_curve([5, 1, 4]),
            # 1, 1 + 4 and 1 + 4 + 5 of 10.
            [(0, 0), (0.333333, 0.1), (0.666667, 0.5), (1, 1)],
        )
        # A million classes are not a million points.
        curve = long_tail.lorenz_curve(np.ones(1000))
        self.assertEqual((len(curve), curve[-1]), (200, (1, 1)))

    def test_quantiles_are_values_that_occur(self):
        """Breaks if a median of 1 and 2 images becomes 1.5 images."""
        # 1, 1, 2, 9: half reach 1, three quarters 2, 95 % 9.
        self.assertEqual(
            long_tail.quantiles({1: 2, 2: 1, 9: 1}),
            {"0": 1, "5": 1, "25": 1, "50": 1, "75": 2, "95": 9, "100": 9},
        )
        self.assertEqual(long_tail.quantiles({}), {})
        self.assertEqual(long_tail.mean({1: 2, 2: 1, 9: 1}), 3.25)

    def test_shared_words(self):
        """Breaks if the second observation is counted wrongly."""
        shared = long_tail.shared_words(
            np.array([5, 2, 0, 0]), np.array([1, 0, 3, 0])
        )
        self.assertEqual(
            shared,
            {
                "vocabulary": 4,
                "head_only": 1,
                "shared": 1,
                "tail_only": 1,
                "unused": 1,
                "share_of_vocabulary": 0.25,
                # The first word, 6 of 11; 1 of the tail's 4.
                "share_of_occurrences": 0.545455,
                "share_of_tail_occurrences": 0.25,
            },
        )

    def test_tail_support(self):
        """Breaks if classes or words are counted once, not by what they have.

        Tail classes have 1, 1 and 3 images: of their five images three see 3.
        The words of tail titles occur 7 times (2 of these in the tail) and
        once (twice): in order 1, 1, 7, 7, so the lower median is 1.
        """
        support = long_tail.tail_support(
            np.array([9, 1, 1, 3]),
            np.array([True, False, False, False]),
            np.array([7, 1, 1, 8]),
            np.array([2, 1, 1, 0]),
        )
        self.assertEqual(
            support, {"images_of_its_class": 3, "occurrences_of_its_words": 1}
        )

    def test_script(self):
        """Breaks if a brand in Latin makes a Chinese title Latin."""
        for letters, han, latin, expected in (
            (0, 0, 0, "no letters"),
            (4, 4, 0, "Chinese"),
            (4, 0, 4, "Latin"),
            (4, 3, 1, "Chinese and others"),
            (4, 0, 3, "other"),
        ):
            self.assertEqual(
                shard_summaries.script(letters, han, latin), expected
            )

    def test_merge_in_any_order(self):
        """Breaks if the order in which shards end shows in the result."""
        summaries = [
            {
                "counts": {"words/head": collections.Counter({i: 1, 7: i})},
                "samples": {"split/train": [(9 - i, f"r{i}"), (20 + i, "x")]},
            }
            for i in range(5)
        ]
        merge = shard_summaries.MergeSummariesFn()
        merged = merge.merge_accumulators(
            merge.add_input(merge.create_accumulator(), each)
            for each in summaries
        )
        again = merge.merge_accumulators(summaries[::-1])
        self.assertEqual(merged, again)
        self.assertEqual(merged["counts"]["words/head"][7], 0 + 1 + 2 + 3 + 4)
        # The three that were drawn first.
        self.assertEqual(
            merged["samples"]["split/train"], [(5, "r4"), (6, "r3"), (7, "r2")]
        )


class DatasetStatisticsTest(tf.test.TestCase):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        folder = tempfile.TemporaryDirectory()
        cls.addClassCleanup(folder.cleanup)
        cls.dataset = pathlib.Path(folder.name) / "dataset"
        _write_generation(cls.dataset / "abc")
        dataset_statistics.main(["--dataset", str(cls.dataset)])
        cls.output = cls.dataset / "statistics-abc"
        cls.statistics = json.loads(
            (cls.output / "statistics.json").read_text("utf-8")
        )

    def test_files(self):
        """Breaks if a file is missing or something temporary is left."""
        plots = ["balance", "class_sizes", "long_tail", "picture_sizes"]
        plots.append("title_lengths")
        self.assertCountEqual(
            [path.name for path in self.output.iterdir()],
            [
                *("statistics.html", "statistics.json", "croissant.json"),
                *("classes.csv", "words.csv"),
                *(
                    f"{plot}.{kind}"
                    for plot in plots
                    for kind in ("svg", "png")
                ),
            ],
        )
        self.assertCountEqual(
            [path.name for path in self.dataset.iterdir()],
            ["LATEST", "abc", "statistics-abc"],
        )
        for plot in plots:
            ElementTree.parse(self.output / f"{plot}.svg")

    def test_numbers(self):
        """Breaks if the job counts something else than its records."""
        self.assertEqual(
            self.statistics["table_1"],
            {
                "classes": 3,
                "train_images": 5,
                "val_images": 1,
                "test_images": 2,
                "vocabulary": 5,
                "head_threshold": 3,
                "train_images_per_class": 1.666667,
                "test_images_per_class": 0.666667,
                # 2 + 2 + 1 + 2 + 0 of 5 titles.
                "words_per_title": 1.4,
            },
        )
        classes = self.statistics["classes"]
        self.assertEqual(classes["by_training_images"], [[1, 2], [3, 1]])
        self.assertEqual((classes["imbalance"], classes["largest"]), (3, 3))
        # Counts 1, 1, 3: 2 (1 + 2 + 9) / (3 * 5) - 4/3.
        self.assertAlmostEqual(classes["gini"], 24 / 15 - 4 / 3, 6)
        words = self.statistics["words"]
        # Head titles: red red red bag 包邮; tail titles: 包邮 shoe; hat never.
        self.assertEqual(
            words["by_occurrences"], [[0, 1], [1, 2], [2, 1], [3, 1]]
        )
        self.assertEqual(
            [words[key] for key in ("head_only", "shared", "tail_only")],
            [2, 1, 1],
        )
        self.assertEqual(words["share_of_vocabulary"], 0.2)
        # Counts 1, 1, 2, 3: 2 (1 + 2 + 6 + 12) / (4 * 7) - 5/4.
        self.assertAlmostEqual(words["gini"], 42 / 28 - 5 / 4, 6)
        self.assertEqual(
            self.statistics["most_frequent_words"][:2],
            [
                {"word": "red", "head": 3, "tail": 0},
                {"word": "包邮", "head": 1, "tail": 1},
            ],
        )

    def test_splits(self):
        """Breaks if a split's titles are counted with another's."""
        splits = self.statistics["splits"]
        self.assertEqual(splits["val"]["unknown_word_rate"], 0.5)
        self.assertEqual(splits["test"]["titles_without_words"], 1)
        self.assertEqual(
            splits["train"]["scripts"],
            # A script is nothing that a reader sees.
            {"Chinese and others": 2, "Latin": 2, "no letters": 1},
        )
        # The letters of "&amp;" are markup.
        self.assertEqual(
            splits["test"]["scripts"], {"Chinese": 1, "no letters": 1}
        )
        pictures = self.statistics["pictures"]
        self.assertEqual(pictures["unreadable"], 1)
        self.assertEqual(pictures["shorter_side"]["histogram"], [[16, 7]])
        self.assertEqual(
            pictures["longer_side"]["histogram"],
            [[side, 1] for side in range(20, 27)],
        )

    def test_tables(self):
        """Breaks if a rank or a count stands beside another name."""
        with (self.output / "classes.csv").open(encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
        self.assertEqual(
            [(row["sku_id"], row["group"], row["rank"]) for row in rows],
            [("A", "head", "1"), ("B", "tail", "2"), ("C", "tail", "3")],
        )
        with (self.output / "words.csv").open(encoding="utf-8") as file:
            rows = [tuple(row.values()) for row in csv.DictReader(file)]
        self.assertEqual(rows[1], ("2", "包邮", "2", "1", "1"))
        self.assertEqual(rows[4], ("5", "hat", "0", "0", "0"))

    def test_page_stands_alone(self):
        """Breaks if the page loads something, or a title becomes markup."""
        text = (self.output / "statistics.html").read_text("utf-8")
        parsed = html_pages.Page(text)
        self.assertNotIn("script", parsed.tags)
        self.assertIn("&lt;script&gt;alert(1)&lt;/script&gt;", text)
        self.assertIn("a &lt;b&gt;bag&lt;/b&gt;", text)
        self.assertNotEmpty(parsed.sources)
        for source in parsed.sources:
            self.assertStartsWith(source, "data:image/")
        # Five plots; five pictures of the classes; all examples but one.
        self.assertLen(parsed.sources, 5 + 5 + 3 + 1 + 1)

    def test_again_gives_equal_bytes(self):
        """Breaks if anything but the generation shapes the result."""
        before = _contents(self.output)
        dataset_statistics.main(["--dataset", str(self.dataset)])
        self.assertEqual(_contents(self.output), before)

    def test_refuses_other_folders(self):
        """Breaks if a mistyped --output costs somebody a folder."""
        with mistakes.assert_told(self, "Name another folder"):
            dataset_statistics.main(
                ["--dataset", str(self.dataset), "--output", str(self.dataset)]
            )

    def test_missing_records(self):
        """Breaks if a cut file goes unnoticed."""
        with tempfile.TemporaryDirectory() as folder:
            generation = pathlib.Path(folder) / "dataset" / "cut"
            _write_generation(generation)
            tfrecords.write(generation / "val-00000-of-00001.tfrecord", [])
            with mistakes.assert_told(self, "'val': 1.* found .*0"):
                dataset_statistics.main(["--dataset", str(generation.parent)])
            self.assertCountEqual(
                [path.name for path in generation.parent.iterdir()],
                ["LATEST", "cut"],
            )

    def test_on_a_store(self):
        """Breaks if a store's data set has other statistics than a disk's."""
        with (
            tempfile.TemporaryDirectory() as folder,
            object_stores.s3_bucket() as bucket,
            own_cache.own_cache(folder),
        ):
            url = f"{bucket}/dataset/abc"
            object_stores.upload_folder(self.dataset / "abc", url)
            store = opening.open_folder(f"{bucket}/dataset/statistics-abc")
            # An earlier result, which is replaced.
            for name in ("statistics.json", "old.svg"):
                store.put(name, b"")
            dataset_statistics.main(["--dataset", url])
            self.assertEqual(
                {each.key: store.get(each.key) for each in store.list()},
                _contents(self.output),
            )
            # Shards are read where they lie.
            self.assertEmpty([*pathlib.Path(folder).rglob("*.tfrecord")])

    def test_croissant(self):
        """Breaks if other tools can't read the description, or the files."""
        path = self.output / "croissant.json"
        described = mlcroissant.Dataset(path)  # Raises for errors.
        self.assertEmpty(described.metadata.issues.errors)
        self.assertEqual(
            [
                (row["classes/label"], row["classes/sku_id"])
                for row in described.records("classes")
            ],
            [(0, b"A"), (1, b"B"), (2, b"C")],
        )
        content = json.loads(path.read_text("utf-8"))
        for file in content["distribution"]:
            if file["@type"] == "cr:FileObject":
                target = self.output / file["contentUrl"]
                self.assertEqual(
                    hashlib.sha256(target.read_bytes()).hexdigest(),
                    file["sha256"],
                )
            else:
                self.assertLen(list(self.output.glob(file["includes"])), 5)
        (fields,) = (
            {field["name"] for field in each["field"]}
            for each in content["recordSet"]
            if each["name"] == "records"
        )
        self.assertEqual(fields, {*records.ALL_FEATURES, "split"})

    def test_built_generation(self):
        """Breaks if the build job's manifest or files have another shape."""
        generation = tiny_road.generation()
        with tempfile.TemporaryDirectory() as folder:
            output = pathlib.Path(folder) / "statistics"
            dataset_statistics.main(
                ["--dataset", str(generation), "--output", str(output)]
            )
            statistics = json.loads((output / "statistics.json").read_text())
            mlcroissant.Dataset(output / "croissant.json")
        self.assertEqual(
            [statistics["table_1"][f"{s}_images"] for s in records.SPLITS],
            [32, 8, 24],
        )
        # Products have 1 to 12 training pictures.
        self.assertEqual(statistics["classes"]["imbalance"], 12)


if __name__ == "__main__":
    tf.test.main()
