import asyncio
import concurrent.futures
import os
import pathlib
import shutil
import tempfile
import threading
import time
import unittest

from sicot_tf.recognition.releases import held_releases
from sicot_tf.recognition.releases import live_release
from sicot_tf.recognition.releases import open_release
from sicot_tf.recognition.releases import releases
from sicot_tf.recognition.settings import RecognitionSettings
from sicot_tf.serving import serving_config
from tests.helpers import tiny_releases


class LiveReleaseTest(unittest.IsolatedAsyncioTestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = pathlib.Path(folder.name)
        self.releases = self.folder / "releases"
        self.available = {1, 2, 3}
        self.warmed_up = []
        self.told = []
        self.reported = []

    async def wait_until_available(self, model_name, version, timeout):
        # What a model server says that can't get a version.
        if version not in self.available:
            raise TimeoutError(f"{model_name} {version} after {timeout} s")

    async def warm_up(self, release):
        self.warmed_up.append(release.name)

    def options(self, **changes):
        return {
            "wait_until_available": self.wait_until_available,
            "warm_up": self.warm_up,
            "change_versions": self.told.append,
            "report": lambda name, outcome: self.reported.append(outcome),
            "poll_seconds": 0.01,
            "grace_seconds": 0,
            **changes,
        }

    def make(self, **changes):
        live = live_release.LiveRelease(
            self.releases, **self.options(**changes)
        )
        self.addCleanup(live.close)
        return live

    def publish(self, version, **settings):
        return tiny_releases.publish(self.folder, version, **settings)

    def version(self, live):
        with live.acquire() as release:
            return release.model_version

    def needed(self, *versions):
        return {"sicot": (self.folder / "sicot", versions)}

    async def test_takes_what_is_live(self):
        """Broken: a request misses a part of the release."""
        published = self.publish(1, max_objects=2)
        live = self.make()
        with self.assertRaises(held_releases.NoReleaseError):
            self.version(live)
        self.assertFalse(live.is_ready)
        await live.look()
        self.assertTrue(live.is_ready)
        with live.acquire() as release:
            self.assertEqual(release.name, published.name)
            self.assertEqual(release.model_name, "sicot")
            self.assertEqual(release.model_version, 1)
            self.assertEqual(release.index_generation, "index-1")
            self.assertEqual(release.settings, published.settings)
            self.assertEqual(release.nearest_pictures.num_pictures, 0)
            self.assertEqual(release.sku_categories.of("cola"), {})
            self.assertEqual(release.index.product("p").title, "1")
        self.assertEqual(self.warmed_up, [published.name])
        self.assertEqual(self.reported, ["live"])

    async def test_request_keeps_its_release(self):
        """Broken: an answer loses its index, or its model version, while it
        is made; or the old release is never closed."""
        self.publish(1)
        live = self.make()
        await live.look()
        with live.acquire() as release:
            self.publish(2)
            await live.look()
            await live.look()
            self.assertEqual(self.version(live), 2)
            self.assertEqual(release.index.product("p").title, "1")
            self.assertEqual(live.versions_needed(), self.needed(1, 2))
        await live.look()
        with self.assertRaisesRegex(ValueError, "is closed"):
            release.index.product("p")
        self.assertEqual(
            self.told, [self.needed(1), self.needed(1, 2), self.needed(2)]
        )

    async def test_time_of_grace(self):
        """Broken: what a request took just before the swap is closed."""
        self.publish(1)
        live = self.make(grace_seconds=3600)
        await live.look()
        with live.acquire() as release:
            pass
        self.publish(2)
        await live.look()
        await live.look()
        self.assertEqual(release.index.product("p").title, "1")
        live.close()
        with self.assertRaisesRegex(ValueError, "is closed"):
            release.index.product("p")

    async def test_model_server_without_the_version(self):
        """Broken: a release that can't be served takes the place of one that
        can, or is never tried again."""
        self.publish(1)
        live = self.make()
        await live.look()
        self.available = {1}
        second = self.publish(2)
        await live.look()
        self.assertEqual(self.version(live), 1)
        self.assertEqual(live.fault, "sicot 2 after 300.0 s")
        self.available = {1, 2}
        # Not at every look.
        await live.look()
        self.assertEqual(self.told[-1], self.needed(1))
        self.assertEqual(self.reported, ["live", "failed"])
        # LIVE has changed, and changed again.
        releases.roll_back(self.releases)
        await live.look()
        self.assertEqual(live.fault, "")
        releases.roll_back(self.releases, second.name)
        await live.look()
        self.assertEqual(self.version(live), 2)

    async def test_tries_again_after_a_pause(self):
        """Broken: the service has to be started again after a model server
        was slow."""
        self.available = {}
        self.publish(1)
        live = self.make(retry_seconds=0)
        await live.look()
        self.assertFalse(live.is_ready)
        self.available = {1}
        await live.look()
        self.assertEqual(self.reported, ["failed", "live"])

    async def test_warm_up_fails(self):
        """Broken: the first user meets the error of a new release."""
        self.publish(1)
        live = self.make()
        await live.look()

        async def fail(release):
            raise RuntimeError("no such signature")

        live._warm_up = fail
        self.publish(2)
        await live.look()
        self.assertEqual(live.fault, "no such signature")
        self.assertEqual(self.version(live), 1)

    async def test_folders_are_gone(self):
        """Broken: a lost folder ends the service instead of a release."""
        self.publish(1)
        live = self.make()
        await live.look()
        release = self.publish(2)
        shutil.rmtree(release.index_generation)
        await live.look()
        self.assertRegex(live.fault, "index-2/manifest.json; it is not there")
        release = self.publish(3)
        shutil.rmtree(release.model_folder)
        await live.look()
        self.assertRegex(live.fault, "sicot/3/saved_model.pb; it is not there")
        (self.releases / releases.LIVE).write_bytes(b"\xff")
        await live.look()
        await live.look()
        self.assertRegex(live.fault, "to name a release")
        self.assertEqual(self.version(live), 1)
        # A damaged LIVE is reported once.
        self.assertEqual(self.reported, ["live", *["failed"] * 3])

    async def test_model_server_elsewhere(self):
        """Broken: a recogniser needs the model's folder to ask a server on
        another machine."""
        release = self.publish(1)
        shutil.rmtree(release.model_folder)
        live = self.make(change_versions=None)
        await live.look()
        self.assertEqual(self.version(live), 1)

    async def test_another_base_path(self):
        """Broken: the model server is told two folders for one name, and
        loads neither."""
        self.publish(1)
        live = self.make()
        await live.look()
        other = self.folder / "other"
        tiny_releases.publish(other, 2)
        shutil.copytree(other / "releases", self.releases, dirs_exist_ok=True)
        await live.look()
        self.assertRegex(live.fault, "Export to the same folder")
        self.assertEqual(live.versions_needed(), self.needed(1))

    async def test_replaced_while_it_waits(self):
        """Broken: after a roll-back the service waits minutes for a version
        that nobody wants any more."""
        first = self.publish(1)
        waiting = asyncio.Event()

        async def wait_for_ever(model_name, version, timeout):
            if version == 2:
                waiting.set()
                await asyncio.Event().wait()

        live = self.make(wait_until_available=wait_for_ever)
        await live.look()
        self.publish(2)
        look = asyncio.create_task(live.look())
        await waiting.wait()
        self.assertEqual(live.versions_needed(), self.needed(1, 2))
        releases.roll_back(self.releases)
        await look
        self.assertRegex(live.fault, "was replaced before it was live")
        await live.look()
        self.assertEqual(live.fault, "")
        with live.acquire() as release:
            self.assertEqual(release.name, first.name)

    async def test_follow(self):
        """Broken: the service stays with its first release."""
        live = self.make()
        follower = asyncio.create_task(live.follow())
        for version in (1, 2):
            self.publish(version)
            while not live.is_ready or self.version(live) != version:
                await asyncio.sleep(0.01)
        follower.cancel()
        with self.assertRaises(asyncio.CancelledError):
            await follower

    async def test_fixed(self):
        """Broken: the service needs a folder of releases."""
        model, index = tiny_releases.write_pair(self.folder, 1)
        settings = RecognitionSettings(max_objects=2)
        pair = releases.unpublished(
            index,
            model_base_path=model.parent,
            model_version=1,
            settings=settings,
        )
        live = live_release.LiveRelease(pair, **self.options())
        self.assertTrue(live.is_fixed)
        self.addCleanup(live.close)
        await live.look()
        await live.look()
        with live.acquire() as release:
            self.assertEqual(release.index.product("p").title, "1")
            self.assertEqual(release.settings, settings)
        self.assertEqual(self.told, [self.needed(1)])

    async def swap(self, live, published):
        for swap in range(200):
            release = published[swap % 3]
            releases.roll_back(self.releases, release.name)
            await live.look()
            self.assertEqual(live.fault, "")

    async def test_swaps_under_load(self):
        """Broken: an answer mixes two releases, or swaps leave files open."""
        published = [self.publish(version) for version in (1, 2, 3)]
        live = self.make()
        await live.look()
        ended = threading.Event()
        seen, mixed = {}, []

        def ask():
            while not ended.is_set():
                with live.acquire() as release:
                    version = str(release.model_version)
                    for _ in range(3):
                        (product,) = release.index.products_of("cola")
                        parts = product.title, release.index_generation[6:]
                        if parts != (version, version):
                            mixed.append((version, *parts))
                        # As a request does while it waits for the model.
                        time.sleep(0.003)
                    seen[id(release)] = release

        def num_open():
            return len(os.listdir("/proc/self/fd"))

        self.assertEqual(self.version(live), 3)
        before = num_open()
        with concurrent.futures.ThreadPoolExecutor(8) as pool:
            asking = [pool.submit(ask) for _ in range(8)]
            try:
                await self.swap(live, published)
            finally:
                ended.set()
        for each in asking:
            each.result()
        live.close()
        self.assertEqual(mixed, [])
        self.assertEqual(self.reported, ["live"] * 201)
        # The threads saw many of them, and each is closed.
        self.assertGreater(len(seen), 3)
        for release in seen.values():
            with self.assertRaisesRegex(ValueError, "is closed"):
                release.index.product("p")
        self.assertLess(num_open(), before)

    def test_model_config(self):
        """Broken: the model server can't read what it is to load."""
        path = self.folder / "models.config"
        base = self.folder / 'a "quoted" Käse'
        open_release.write_model_config(path, {"sicot": (base, (3, 2))})
        config = serving_config.read(path, serving_config.ModelServerConfig)
        serving_config.check_model_list(config.model_config_list)
        (model,) = config.model_config_list.config
        self.assertEqual(model.name, "sicot")
        self.assertEqual(model.base_path, str(base))
        policy = model.model_version_policy
        self.assertEqual(list(policy.specific.versions), [2, 3])


if __name__ == "__main__":
    unittest.main()
