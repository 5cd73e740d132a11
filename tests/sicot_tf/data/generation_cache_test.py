"""Copies of generations: shared, whole, resumed, and making room."""

import contextlib
import hashlib
import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import tempfile
import unittest
from unittest import mock

from sicot_tf.data import cache_room
from sicot_tf.data import dataset
from sicot_tf.data import generation_cache
from sicot_tf.data import generations
from sicot_tf.stores import opening
from tests.helpers import object_stores
from tests.helpers import own_cache

_FILES = {
    "classes.jsonl": b"{}\n",
    "rejects.jsonl": b"",
    "train-0.tfrecord": b"0" * 1000,
    "train-0.offsets.npy": b"o",
    "train-1.tfrecord": b"1" * 1000,
    "train-1.offsets.npy": b"o",
}
_SPLITS = {"train": {"shards": {"train-0": 1, "train-1": 1}}}

# Copies, says so, and reads until its standard input ends.
_READER = """
import sys
from sicot_tf.data import generation_cache

print(generation_cache.local_generation(sys.argv[1]), flush=True)
sys.stdin.read()
"""
# Is killed in the middle of the second file that it copies.
_KILLED = """
import os, signal, sys
from sicot_tf.data import generation_cache
from sicot_tf.stores import s3_folder

class Folder(s3_folder.S3Folder):
    def download(self, key, path):
        if key == "train-1.tfrecord":
            path.with_name(f".{key}.cafe.tmp").write_bytes(b"1" * 7)
            os.kill(os.getpid(), signal.SIGKILL)
        super().download(key, path)

s3_folder.S3Folder = Folder
generation_cache._AT_ONCE = 1
generation_cache.local_generation(sys.argv[1])
"""


def _upload(url, contents):
    """A generation `g` of these files, which LATEST names; its URL."""
    store = opening.open_folder(f"{url}/g")
    for name, content in contents.items():
        store.put(name, content)
    described = {
        name: {
            "bytes": len(content),
            "sha256": hashlib.sha256(content).hexdigest(),
        }
        for name, content in contents.items()
    }
    store.put("run.json", b"{}")
    store.put_json(
        generations.MANIFEST, {"splits": _SPLITS, "files": described}
    )
    opening.open_folder(url).put(generations.LATEST, b"g\n")
    return f"{url}/g"


def _names(folder):
    return {path.name for path in folder.iterdir()}


class GenerationCacheTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.bucket = cls.enterClassContext(object_stores.s3_bucket())

    def setUp(self):
        super().setUp()
        folder = self.enterContext(tempfile.TemporaryDirectory())
        self.cache = pathlib.Path(folder) / "cache"
        self.enterContext(own_cache.own_cache(self.cache))
        self.url = f"{self.bucket}/{self.id()}"

    def _forget(self):
        """What this process had in use is not any more."""
        for file in generation_cache._in_use.values():
            file.close()
        generation_cache._in_use.clear()

    def _start(self, program, url, **variables):
        process = subprocess.Popen(
            [sys.executable, "-c", program, url],
            env=os.environ | variables,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.addCleanup(process.communicate)
        self.addCleanup(process.kill)
        return process

    @contextlib.contextmanager
    def _downloads(self):
        """The keys that are fetched meanwhile."""
        kind = type(opening.open_folder(self.bucket))
        with mock.patch.object(
            kind, "download", autospec=True, side_effect=kind.download
        ) as download:
            keys = []
            yield keys
            keys += [each.args[1] for each in download.call_args_list]

    def test_copies_once(self):
        """Breaks if a copy lacks a file, or is fetched a second time."""
        _upload(self.url, _FILES)
        with self._downloads() as first:
            found = generation_cache.local_generation(self.url)
        with self._downloads() as second:
            again = generation_cache.local_generation(f"{self.url}/g")
        self.assertEqual(found.name, "g")
        self.assertEqual(again, found)
        for name, content in _FILES.items():
            self.assertEqual((found / name).read_bytes(), content)
        self.assertEqual(_names(found), {*_FILES, "manifest.json", "run.json"})
        self.assertEqual(sorted(first), sorted(_FILES))
        self.assertEqual(second, [])
        self.assertEqual(generation_cache.origin(found), f"{self.url}/g")

    def test_path_stays(self):
        """Breaks if a folder of this machine is copied."""
        folder = self.cache.with_name("dataset") / "g"
        folder.mkdir(parents=True)
        (folder / generations.MANIFEST).write_text("{}")
        self.assertEqual(generation_cache.local_generation(folder), folder)
        self.assertEqual(generation_cache.origin(folder), folder)
        self.assertFalse(self.cache.exists())

    def test_own_files_only(self):
        """Breaks if a worker of --order files fetches another's records."""
        _upload(self.url, _FILES)
        found = generation_cache.local_generation(
            self.url, dataset.wanted(train=(2, 1))
        )
        own = {"classes.jsonl", "train-1.tfrecord", "train-1.offsets.npy"}
        self.assertEqual(_names(found), own | {"manifest.json", "run.json"})
        with self._downloads() as fetched:
            generation_cache.local_generation(
                self.url, dataset.wanted(train=(1, 0))
            )
        self.assertEqual(
            set(fetched), {"train-0.tfrecord", "train-0.offsets.npy"}
        )

    def test_two_processes_share(self):
        """Breaks if two processes of a machine copy one generation twice."""
        _upload(self.url, _FILES)
        both = [self._start(_READER, self.url) for _ in range(2)]
        paths = {process.stdout.readline().strip() for process in both}
        self.assertEqual(len(paths), 1)
        found = pathlib.Path(paths.pop())
        self.assertEqual(
            (found / "train-1.tfrecord").read_bytes(),
            _FILES["train-1.tfrecord"],
        )
        marks = found.parent / cache_room.CHECKED
        written = {each.name: each.read_text() for each in marks.iterdir()}
        # A second copy would have another time of change.
        for name in _FILES:
            status = (found / name).stat()
            self.assertEqual(
                written[name], f"{status.st_size}-{status.st_mtime_ns}"
            )
        self.assertEqual(list((found.parent / "incoming").iterdir()), [])

    def test_goes_on_after_kill(self):
        """Breaks if a kill leaves half a file, or all is fetched again."""
        _upload(self.url, _FILES)
        process = self._start(_KILLED, self.url)
        self.assertEqual(process.wait(), -signal.SIGKILL)
        with self._downloads() as fetched:
            found = generation_cache.local_generation(self.url)
        # Files come in the order of their names.
        self.assertEqual(fetched, ["train-1.tfrecord"])
        self.assertEqual(
            (found / "train-1.tfrecord").read_bytes(),
            _FILES["train-1.tfrecord"],
        )
        self.assertEqual(list((found.parent / "incoming").iterdir()), [])

    def test_damaged_copy_is_fetched_again(self):
        """Breaks if a file that was changed in the cache is read."""
        _upload(self.url, _FILES)
        found = generation_cache.local_generation(self.url)
        (found / "train-0.tfrecord").write_bytes(b"x" * 1000)
        os.utime(found / "train-1.tfrecord")
        (found / "classes.jsonl").unlink()
        with self._downloads() as fetched:
            generation_cache.local_generation(self.url)
        self.assertEqual(sorted(fetched), ["classes.jsonl", "train-0.tfrecord"])
        self.assertEqual(
            (found / "train-0.tfrecord").read_bytes(),
            _FILES["train-0.tfrecord"],
        )

    def test_damaged_on_the_store(self):
        """Breaks if bytes other than those of the manifest are kept."""
        url = _upload(self.url, _FILES)
        opening.open_folder(url).put("train-0.tfrecord", b"x" * 1000)
        with self.assertRaisesRegex(ValueError, "train-0.tfrecord is damaged"):
            generation_cache.local_generation(url)
        (copy,) = self.cache.glob("*/g")
        self.assertNotIn("train-0.tfrecord", _names(copy))

    def test_names_outside_are_refused(self):
        """Breaks if a manifest can have files written anywhere."""
        url = _upload(self.url, _FILES)
        store = opening.open_folder(url)
        manifest = store.get_json(generations.MANIFEST)
        manifest["files"]["../x"] = {"bytes": 1, "sha256": ""}
        store.put_json(generations.MANIFEST, manifest)
        with self.assertRaisesRegex(ValueError, "is no name of a file"):
            generation_cache.local_generation(url)

    def test_least_used_makes_room(self):
        """Breaks if the cache outgrows its limit, or what is read goes."""
        urls = [f"{self.url}/{name}" for name in "abc"]
        for url in urls:
            _upload(url, _FILES)
        # 2,005 bytes each: two fit.
        limit = {"SICOT_TF_CACHE_GIGABYTES": "4.5e-6"}
        readers = [self._start(_READER, url, **limit) for url in urls[:2]]
        a, b = (
            pathlib.Path(reader.stdout.readline().strip()) for reader in readers
        )
        third = self._start(_READER, urls[2], **limit)
        self.assertEqual(third.stdout.readline(), "")
        self.assertIn("are being read", third.stderr.read())
        for reader in readers:
            reader.communicate()
        # `a` was used longer ago, whichever started first.
        os.utime(a.parent / "used", (1, 1))
        third = self._start(_READER, urls[2], **limit)
        self.assertTrue(pathlib.Path(third.stdout.readline().strip()).is_dir())
        self.assertFalse(a.parent.exists())
        self.assertTrue(b.exists())

    def test_copies_that_stay(self):
        """Breaks if what a release names goes from under it."""
        kept = self.cache.with_name("kept")
        paths = []
        for name in "ab":
            url = _upload(f"{self.url}/{name}", _FILES)
            with mock.patch.dict(
                os.environ, {"SICOT_TF_CACHE_GIGABYTES": "0.000001"}
            ):
                paths.append(generation_cache.local_generation(url, cache=kept))
            self._forget()
        for path in paths:
            self.assertEqual(path.parent.parent, kept)
            self.assertTrue(path.is_dir())
        self.assertFalse(self.cache.exists())

    def test_no_room_is_told_early(self):
        """Breaks if gigabytes are copied before it is known they won't fit."""
        _upload(self.url, _FILES)
        with (
            mock.patch.dict(
                os.environ, {"SICOT_TF_CACHE_GIGABYTES": "0.000001"}
            ),
            self.assertRaisesRegex(ValueError, "at most 1e-06 GB"),
            self._downloads() as fetched,
        ):
            generation_cache.local_generation(self.url)
        free = shutil.disk_usage(self.cache).free
        with (
            mock.patch.object(cache_room, "_RESERVE", free),
            self.assertRaisesRegex(ValueError, "Expected room for"),
        ):
            generation_cache.local_generation(self.url)
        self.assertEqual(fetched, [])

    def test_limit_is_a_number(self):
        """Breaks if a mistyped limit is no limit."""
        with (
            mock.patch.dict(os.environ, {"SICOT_TF_CACHE_GIGABYTES": "many"}),
            self.assertRaisesRegex(ValueError, "to be a number"),
        ):
            cache_room.limit()

    def test_what_is_not_there(self):
        """Breaks if a missing bucket or generation is more than a sentence."""
        with self.assertRaisesRegex(ValueError, "manifest.json"):
            generation_cache.local_generation(self.url)
        with self.assertRaises((ValueError, OSError)) as caught:
            generation_cache.local_generation("s3://no-such-bucket/dataset")
        self.assertNotIn("\n", str(caught.exception))
        self.assertIn("no-such-bucket", str(caught.exception))

    def test_manifest_of_something_else(self):
        """Breaks if an odd manifest ends in a traceback."""
        store = opening.open_folder(self.url)
        store.put(generations.MANIFEST, json.dumps([1]).encode())
        with self.assertRaisesRegex(ValueError, "does not describe"):
            generation_cache.local_generation(self.url)


if __name__ == "__main__":
    unittest.main()
