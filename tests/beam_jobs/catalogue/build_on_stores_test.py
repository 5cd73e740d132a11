"""The product index on an object store, a server in this process."""

import contextlib
import io
import json
import pathlib
import tempfile
import unittest
from unittest import mock

from beam_jobs import build_product_index
from beam_jobs.catalogue import build
from beam_jobs.catalogue import retention
from sicot_tf.data import generations
from sicot_tf.data import publishing
from sicot_tf.stores import opening
from tests.helpers import object_stores
from tests.helpers import tiny_server


def _files(folder):
    """Bytes of all files but `run.json`, and of what processes hold."""
    return {
        entry.key: folder.get(entry.key)
        for entry in folder.list()
        if not entry.key.endswith(("run.json", generations.LOCK))
    }


class BuildOnStoresTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.bucket = cls.enterClassContext(object_stores.s3_bucket())
        cls.folder = pathlib.Path(
            cls.enterClassContext(tempfile.TemporaryDirectory())
        )
        cls.saved_model = cls.folder / "1"
        tiny_server.write_saved_model(cls.saved_model)

    def write_catalogue(self, name, product_ids):
        """A catalogue file here and in the bucket; one picture is missing."""
        rows = [
            {
                "product_id": each,
                "sku_id": f"s{each}",
                "title": "t",
                "images": [f"{n}.jpg", "none.jpg"],
            }
            for n, each in enumerate(product_ids)
        ]
        lines = "".join(json.dumps(row) + "\n" for row in [*rows, {}])
        contents = {name: lines.encode()} | {
            f"{n}.jpg": tiny_server.make_jpeg(n) for n in range(len(rows))
        }
        for place in (self.folder, self.bucket):
            data = opening.open_folder(place).child("data")
            for key, content in contents.items():
                data.put(key, content)

    def build(self, place, name, *flags, index="index"):
        """Runs the command; the folder of generations, and what was printed."""
        place = opening.open_folder(place)
        output = io.StringIO()
        flags = ("--input", f"{place}/data/{name}", *flags)
        with (
            contextlib.redirect_stdout(output),
            contextlib.redirect_stderr(output),
        ):
            build_product_index.main(
                [
                    *("--output", str(place.child(index))),
                    *("--saved_model", str(self.saved_model)),
                    *map(str, flags),
                ]
            )
        return place.child(index)

    def test_equal_bytes(self):
        """Breaks if a store shows in the index, or a delta, the number of
        generations that stay or the way back differ there."""
        self.write_catalogue("full.jsonl", "abcd")
        self.write_catalogue("delta.jsonl", "cx")
        found = []
        for place in (self.folder, self.bucket):
            self.build(place, "full.jsonl", "--date", "2026-01-02")
            index = self.build(
                *(place, "delta.jsonl", "--mode", "delta"),
                *("--date", "2026-01-03"),
            )
            found.append(_files(index))
            first, _ = retention.by_age(index.location)
            self.assertEqual(retention.roll_back(index.location), first)
            self.assertEqual(index.get("LATEST").decode(), first + "\n")
            # What a killed process left of an older one.
            half = f"2026-01-01-{'0' * 12}/products.sqlite"
            if place == self.bucket:
                index.put(half, b"half")
            retention.remove_old(index.location, keep=1)
            self.assertEqual(len(retention.by_age(index.location)), 2)
            self.assertFalse(index.exists(half))
        self.assertEqual(*found)
        # a, b, c, d and x; c has another picture now.
        manifest = next(each for each in found[1] if "03-" in each)
        generation = opening.open_folder(self.bucket).child("index")
        counts = generation.get_json(
            f"{manifest.partition('/')[0]}/manifest.json"
        )["counts"]
        self.assertEqual(counts["products"], 5)
        self.assertEqual(counts["images_embedded"], 5)

    def test_goes_on(self):
        """Breaks if half an index is visible, or finished work is done anew."""
        self.write_catalogue("c.jsonl", "ab")
        arguments = (self.bucket, "c.jsonl", "--date", "2026-01-01")
        index = opening.open_folder(self.bucket).child("killed")
        for module, name in (
            (build.merge_products, "write_store"),
            (build.publishing, "publish"),
            (build.publishing, "point_latest"),
        ):
            with mock.patch.object(module, name, side_effect=KeyboardInterrupt):
                with self.assertRaises(BaseException):
                    self.build(*arguments, index="killed")
            self.assertFalse(index.exists("LATEST"))
            is_whole = name == "point_latest"
            self.assertEqual(len(retention.by_age(index.location)), is_whole)
        with (
            publishing.only_builder(index.location),
            self.assertRaises(SystemExit) as refused,
        ):
            self.build(*arguments, index="killed")
        self.assertEqual(refused.exception.code, 2)
        self.build(*arguments, index="killed")
        (name,) = retention.by_age(index.location)
        run = index.get_json(f"{name}/run.json")
        self.assertEqual(run["beam_counters"], {})
        left = [key for key in _files(index) if key.startswith(".")]
        self.assertEqual(left, [])
        local = self.build(self.folder, *arguments[1:], index="quiet")
        self.assertEqual(_files(index), _files(local))


if __name__ == "__main__":
    unittest.main()
