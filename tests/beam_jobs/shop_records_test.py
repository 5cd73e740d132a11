"""Tests of the generated shop: the command, its files, and who reads them."""

import contextlib
import io
import json
import os
import pathlib
import signal
import subprocess
import sys
import tempfile
import time
import unittest

from PIL import Image

from beam_jobs import build_dataset
from beam_jobs import build_product_index
from beam_jobs import shop_records
from beam_jobs.catalogue import parse_catalogue
from beam_jobs.readers import emoji_packages
from beam_jobs.records import raw_records
from beam_jobs.shop import appeal
from beam_jobs.shop import catalogue
from beam_jobs.shop import products
from beam_jobs.shop import settings
from sicot_tf.catalogue import product_index
from tests.helpers import fake_emoji_packages

_SETTINGS = {
    "num_skus": 100,
    "image_size": 32,
    "num_types": 6,
    "num_colours": 3,
    "num_brands": 3,
    "num_patterns": 2,
    "head_from": 8,
    "head_to": 5,
    "tail_from": 3,
    "val_pictures": 1,
    "test_pictures": 2,
    "num_scenes": 60,
    "num_clicks": 50,
    "catalogue_pictures": 3,
    "wrong_title_share": 0.2,
}


def _lines(output, kind):
    """All rows of a kind, in the order of the shards."""
    return [
        json.loads(line)
        for path in sorted(output.glob(f"{kind}-*.jsonl"))
        for line in path.read_text("utf-8").splitlines()
    ]


def _bytes(output):
    return {
        path.relative_to(output).as_posix(): path.read_bytes()
        for path in sorted(output.rglob("*"))
        if path.is_file()
    }


class ShopRecordsTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = pathlib.Path(
            cls.enterClassContext(tempfile.TemporaryDirectory())
        )
        cls.cache = cls.folder / "cache"
        fake_emoji_packages.write(cls.cache)
        cls.output = cls.folder / "shop"
        cls.printed = cls.run_command(cls.output)

    @classmethod
    def arguments(cls, output, *more, **changes):
        flags = ["--output", str(output), "--cache", str(cls.cache)]
        for name, value in {**_SETTINGS, **changes}.items():
            flags += [f"--{name}", str(value)]
        return [*flags, "--shard_skus", "25", *more]

    @classmethod
    def run_command(cls, output, *more, **changes):
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            shop_records.main(cls.arguments(output, *more, **changes))
        return printed.getvalue()

    def test_records(self):
        """Breaks if a class has more or fewer pictures than its rank gives,
        or a record can't be used."""
        shop = settings.ShopConfig(**_SETTINGS)
        found = {}
        for row in _lines(self.output, "records"):
            parsed = raw_records.parse_record(row)
            sizes = found.setdefault(parsed["sku_id"], {})
            sizes[parsed["split"]] = sizes.get(parsed["split"], 0) + 1
            with Image.open(self.output / parsed["image"]) as picture:
                self.assertEqual(
                    (picture.format, picture.size), ("JPEG", (32, 32))
                )
        sizes = sorted(
            (products.num_train_pictures(shop, rank) for rank in range(100)),
            reverse=True,
        )
        # 17 head: from 8 to 5; 83 tail: 3 once, then 2 and 1.
        self.assertEqual(
            (sizes[0], sizes[16], sizes[17], sizes[99]), (8, 5, 3, 1)
        )
        self.assertEqual(
            sorted((each["train"] for each in found.values()), reverse=True),
            sizes,
        )
        for each in found.values():
            self.assertEqual((each["val"], each["test"]), (1, 2))

    def test_artists_of_the_splits(self):
        """Breaks if a test picture shows a drawing that training has seen."""
        artists = {}
        for row in _lines(self.output, "records"):
            start, _, artist = row["source"].partition("/")
            self.assertEqual(start, "generated shop")
            source = emoji_packages.SOURCES[artist]
            self.assertEqual(row["split"], source.split)
            self.assertEqual(row["license"], source.license)
            artists.setdefault(row["split"], set()).add(artist)
        self.assertEqual(artists["val"], {"emojione", "emojione-v1"})
        self.assertEqual(artists["test"], {"openmoji", "twemoji"})
        self.assertEqual(len(artists["train"]), 6)
        text = (self.output / "LICENSES.md").read_text("utf-8")
        for artist in emoji_packages.SOURCES:
            self.assertIn(f"| {artist} | ", text)

    def test_products_in_all_files(self):
        """Breaks if catalogue, clicks and scenes are not of this shop."""
        goods = {
            row["product_id"]: parse_catalogue.parse_product(row)
            for row in _lines(self.output, "catalogue")
        }
        self.assertEqual(len(goods), 100)
        sku_ids = {row["sku_id"] for row in goods.values()}
        for row in goods.values():
            self.assertEqual(len(json.loads(row["images"])), 3)
            for image in json.loads(row["images"]):
                self.assertTrue((self.output / image).is_file())
        queries = {
            row["query_id"]: row for row in _lines(self.output, "queries")
        }
        self.assertEqual(len(queries), 50)
        for row in queries.values():
            self.assertEqual(goods[row["product_id"]]["sku_id"], row["sku_id"])
            self.assertTrue((self.output / row["image"]).is_file())
        clicks = _lines(self.output, "clicks")
        self.assertEqual({row["query_id"] for row in clicks}, queries.keys())
        for row in clicks:
            query = queries[row["query_id"]]
            for name in ("image", "split"):
                self.assertEqual(row[name], query[name])
            self.assertLessEqual(set(row["shown"]), goods.keys())
        scenes = _lines(self.output, "scenes")
        self.assertEqual(len(scenes), 60)
        for row in scenes:
            self.assertTrue((self.output / row["image"]).is_file())
            for each in row["objects"]:
                self.assertIn(each["sku_id"], sku_ids)

    def test_new_skus(self):
        """Breaks if a classifier could learn a product that is to be new."""
        output = self.folder / "new"
        self.run_command(output, new_sku_share=0.2, num_clicks=0)
        counts = json.loads((output / "summary.json").read_text("utf-8"))[
            "counts"
        ]
        self.assertEqual((counts["new_skus"], counts["skus"]), (20, 100))
        known = {row["sku_id"] for row in _lines(output, "records")}
        self.assertEqual(len(known), 80)
        self.assertEqual(len(_lines(output, "catalogue")), 100)
        # What is left is as it was.
        before = {
            row["record_id"]: row for row in _lines(self.output, "records")
        }
        for row in _lines(output, "records"):
            self.assertEqual(row, before[row["record_id"]])

    def test_says_that_it_is_generated(self):
        """Breaks if somebody could take the shop for a real one."""
        for name in ("LICENSES.md", "contact_sheet.html", "summary.json"):
            text = (self.output / name).read_text("utf-8")
            self.assertRegex(text, "shop is generated: no such\\s+product")
        self.assertIn("This shop is generated", self.printed)
        for kind in ("catalogue", "scenes", "queries", "clicks"):
            self.assertTrue(
                all(row["generated"] for row in _lines(self.output, kind))
            )

    def test_summary(self):
        """Breaks if settings are lost, or counts are not those of the files."""
        summary = json.loads((self.output / "summary.json").read_text("utf-8"))
        records = _lines(self.output, "records")
        counts = summary["counts"]
        for split in ("train", "val", "test"):
            self.assertEqual(
                counts[split], sum(row["split"] == split for row in records)
            )
        wrong = sum(row["title_sku_id"] != row["sku_id"] for row in records)
        self.assertEqual(counts["wrong_titles"], wrong)
        rows = _lines(self.output, "clicks")
        clicked = [row for row in rows if row["clicked"]]
        self.assertEqual(counts["clicks"], len(clicked))
        self.assertEqual(
            counts["pages_without_click"], len(rows) - len(clicked)
        )
        by_bots = sum(row["visitor"] in summary["bots"] for row in clicked)
        self.assertEqual(counts["bot_clicks"], by_bots)
        self.assertGreater(by_bots, 0)
        goods = appeal.open_shop(self.output)
        self.assertEqual(goods.shop, settings.ShopConfig(**_SETTINGS))
        row = _lines(self.output, "catalogue")[0]
        sku = catalogue.sku_of(goods, row["product_id"])
        self.assertEqual(catalogue.price(goods, sku), row["price"])
        words = (self.output / "noise_words.txt").read_text("utf-8").split("\n")
        self.assertIn("shipping", words)
        self.assertIn("包邮", words)

    def test_killed_then_by_two_processes(self):
        """Breaks if a killed command starts again, or if two processes draw
        another shop than one."""
        output = self.folder / "killed"
        command = [sys.executable, "-m", "beam_jobs.shop_records"]
        process = subprocess.Popen(
            [*command, *self.arguments(output)], stderr=subprocess.DEVNULL
        )
        marks = self.folder / ".work-killed" / "counts"
        while not (done := sorted(marks.glob("*.json"))):
            self.assertIsNone(process.poll())
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
        process.wait()
        self.assertFalse(output.exists())
        name = f"records-{done[0].stem}-of-00004.jsonl"
        before = os.stat(self.folder / ".work-killed" / "generation" / name)
        # A command of its own: workers import what their leader has imported.
        flags = self.arguments(output, "--num_processes", "2")
        subprocess.run([*command, *flags], check=True, capture_output=True)
        after = os.stat(output / name)
        self.assertEqual(after.st_mtime_ns, before.st_mtime_ns)
        self.assertEqual(_bytes(output), _bytes(self.output))
        self.assertFalse((self.folder / ".work-killed").exists())

    def test_any_size_of_shards(self):
        """Breaks if the shop depends on how it is divided among workers."""
        output = self.folder / "others"
        self.run_command(output, "--shard_skus", "60")
        for kind in ("records", "catalogue", "scenes", "queries", "clicks"):
            self.assertEqual(_lines(output, kind), _lines(self.output, kind))
            self.assertEqual(len(list(output.glob(f"{kind}-*.jsonl"))), 2)
        files = _bytes(output)
        for name, content in _bytes(self.output).items():
            if name.endswith((".jpg", ".html", ".txt")):
                self.assertEqual(files[name], content, name)

    def test_another_seed(self):
        """Breaks if the seed is not used; nothing is written over."""
        with self.assertLogs("beam_jobs.readers.record_shards") as logged:
            self.run_command(self.output)
        self.assertIn("already written", logged.output[-1])
        shown = io.StringIO()
        with contextlib.redirect_stderr(shown), self.assertRaises(SystemExit):
            self.run_command(self.output, seed=1)
        self.assertRegex(shown.getvalue(), "error: .* with another shop")
        output = self.folder / "seed"
        self.run_command(output, seed=1, num_clicks=0, num_scenes=0)
        titles = [
            {row["record_id"]: row["title"] for row in _lines(each, "records")}
            for each in (self.output, output)
        ]
        self.assertNotEqual(*titles)
        self.assertEqual(_lines(output, "scenes"), [])

    def test_mistakes(self):
        """Breaks if a shop that can't be is begun."""
        for changes, message in (
            ({"num_skus": 109}, "at most 108"),
            ({"num_types": 7}, "num_types of at most 6"),
        ):
            shown = io.StringIO()
            with (
                contextlib.redirect_stderr(shown),
                self.assertRaises(SystemExit) as ended,
            ):
                self.run_command(self.folder / "none", **changes)
            self.assertEqual(ended.exception.code, 2)
            self.assertRegex(shown.getvalue(), rf"error: .*{message}")
        self.assertFalse((self.folder / "none").exists())

    def test_data_set_and_index(self):
        """Breaks if the jobs behind it reject what is made here."""
        with contextlib.redirect_stdout(io.StringIO()):
            build_dataset.main(
                [
                    *("--input", str(self.output / "records-*.jsonl")),
                    *("--output", str(self.folder / "dataset")),
                    *("--word_vector_dim", "4", "--word2vec_epochs", "1"),
                    *("--head_threshold", "5"),
                ]
            )
            build_product_index.main(
                [
                    *("--input", str(self.output / "catalogue-*.jsonl")),
                    *("--output", str(self.folder / "index")),
                ]
            )
        dataset = self.folder / "dataset"
        generation = dataset / (dataset / "LATEST").read_text().strip()
        counts = json.loads((generation / "manifest.json").read_text())[
            "counts"
        ]
        self.assertEqual(counts["written"]["test"], 200)
        self.assertEqual(counts["written"]["val"], 100)
        self.assertEqual(sum(counts["rejected"].values()), 0)
        with product_index.ProductIndex(self.folder / "index") as index:
            (product,) = index.products_of("sku-000042")
            self.assertEqual(len(product.tags), 4)
            self.assertGreater(product.attributes["price"], 0)


if __name__ == "__main__":
    unittest.main()
