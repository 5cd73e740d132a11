"""Raw records of readers and shops on an object store, a server in this
process."""

import contextlib
import io
import json
import pathlib
import tempfile
import unittest
from unittest import mock

from beam_jobs import imaterialist_records
from beam_jobs import shop_records
from beam_jobs import webvision_records
from beam_jobs.readers import record_shards
from beam_jobs.records import raw_records
from sicot_tf.data import publishing
from sicot_tf.stores import opening
from tests.helpers import fake_emoji_packages
from tests.helpers import fake_imaterialist
from tests.helpers import fake_webvision
from tests.helpers import object_stores

_SHOP = {
    "num_skus": 100,
    "image_size": 32,
    "num_types": 6,
    "num_colours": 3,
    "num_brands": 3,
    "num_patterns": 2,
    "num_scenes": 2,
    "num_clicks": 2,
    "head_from": 2,
    "head_to": 2,
    "tail_from": 1,
    "val_pictures": 0,
    "test_pictures": 1,
    "shard_skus": 50,
}


def _run(command, *flags):
    with (
        contextlib.redirect_stdout(io.StringIO()),
        contextlib.redirect_stderr(io.StringIO()),
    ):
        command.main([str(flag) for flag in flags])


def _contents(place, name):
    """Bytes of all files of a folder, but of leases."""
    folder = opening.open_folder(place).child(name)
    return {
        entry.key: folder.get(entry.key)
        for entry in folder.list()
        if not entry.key.endswith(".lock")
    }


class ReadersOnStoresTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.bucket = cls.enterClassContext(object_stores.s3_bucket())
        cls.folder = pathlib.Path(
            cls.enterClassContext(tempfile.TemporaryDirectory())
        )
        cls.cache = cls.folder / "cache"
        fake_emoji_packages.write(cls.cache)

    def copy(self, name):
        """Copies a folder into the bucket."""
        store = opening.open_folder(self.bucket)
        for path in (self.folder / name).rglob("*"):
            if path.is_file():
                key = path.relative_to(self.folder).as_posix()
                store.put(key, path.read_bytes())

    def check_all_there(self, name):
        """Pictures that records name can be found from where these are."""
        store = opening.open_folder(self.bucket)
        found = 0
        for key, content in _contents(self.bucket, name).items():
            if key.startswith("records-"):
                for line in content.splitlines():
                    path = raw_records.resolve_image(
                        f"{self.bucket}/{name}", json.loads(line)["image"]
                    )
                    found += store.exists(path.removeprefix(f"{store}/"))
        self.assertGreater(found, 0)

    def test_webvision(self):
        """Breaks if lists, titles or pictures are not found on a store."""
        fake_webvision.make_fake_webvision(self.folder / "webvision")
        self.copy("webvision")
        for place in (self.folder, self.bucket):
            root = opening.open_folder(place)
            arguments = (
                *(webvision_records, "--num_classes", 0),
                *("--root", f"{root}/webvision", "--output", f"{root}/of_web"),
            )
            # What is done again are not the shards.
            with (
                mock.patch.object(
                    record_shards, "_put_lines", side_effect=OSError("full")
                ),
                self.assertRaises(SystemExit),
            ):
                _run(*arguments)
            self.assertFalse(root.exists("of_web/summary.json"))
            with mock.patch.object(
                record_shards, "write_shard", side_effect=AssertionError
            ):
                _run(*arguments)
        self.assertEqual(
            _contents(self.folder, "of_web"), _contents(self.bucket, "of_web")
        )
        self.check_all_there("of_web")

    def test_imaterialist(self):
        """Breaks if pictures are taken in another order than of a disk."""
        root = self.folder / "imaterialist"
        fake_imaterialist.make_fake_imaterialist(root, arrangement="hashed")
        self.copy("imaterialist")
        for place in (self.folder, self.bucket):
            place = opening.open_folder(place)
            _run(
                *(imaterialist_records, "--root", f"{place}/imaterialist"),
                *("--titles", f"{place}/imaterialist/titles.jsonl"),
                *("--output", f"{place}/of_imaterialist"),
            )
        self.assertEqual(
            _contents(self.folder, "of_imaterialist"),
            _contents(self.bucket, "of_imaterialist"),
        )
        self.check_all_there("of_imaterialist")

    def test_shop(self):
        """Breaks if a killed command begins anew, or two write one shop."""
        flags = [("--cache", self.cache)]
        flags += [(f"--{name}", value) for name, value in _SHOP.items()]
        flags = [each for flag in flags for each in flag]
        _run(shop_records, "--output", self.folder / "shop", *flags)
        output = f"{self.bucket}/shop"
        with (
            mock.patch.object(shop_records.settings, "check", side_effect=None),
            mock.patch(
                "beam_jobs.shop.contact_sheet.write",
                side_effect=KeyboardInterrupt,
            ),
            self.assertRaises(BaseException),
        ):
            _run(shop_records, "--output", output, *flags)
        store = opening.open_folder(output)
        self.assertFalse(store.exists("summary.json"))
        before = {each.key: each.modified for each in store.list("images/")}
        self.assertGreater(len(before), 0)
        with (
            contextlib.suppress(InterruptedError),
            publishing.work_folder(self.bucket, "shop"),
        ):
            with self.assertRaises(SystemExit) as refused:
                _run(shop_records, "--output", output, *flags)
            raise InterruptedError  # So that its work stays.
        self.assertEqual(refused.exception.code, 2)
        _run(shop_records, "--output", output, *flags)
        after = {each.key: each.modified for each in store.list("images/")}
        self.assertEqual(before, after)
        self.assertEqual(
            _contents(self.folder, "shop"), _contents(self.bucket, "shop")
        )
        left = opening.open_folder(self.bucket).list(".work-shop/")
        self.assertEqual(list(left), [])


if __name__ == "__main__":
    unittest.main()
