import pathlib
import tempfile
import unittest

from sicot_tf.recognition.releases import live_release
from sicot_tf.recognition.releases import live_releases
from tests.helpers import tiny_releases


class LiveReleasesTest(unittest.IsolatedAsyncioTestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = pathlib.Path(folder.name)
        self.told = []
        self.versions = live_releases.ModelVersions(self.told.append)

    def make(self, releases, owner):
        async def nothing(*_):
            pass

        live = live_release.LiveRelease(
            releases,
            wait_until_available=nothing,
            warm_up=nothing,
            change_versions=lambda needed: self.versions.change(owner, needed),
            poll_seconds=0.01,
            grace_seconds=0,
        )
        self.addCleanup(live.close)
        return live

    def needed(self, *versions):
        return {"sicot": (self.folder / "sicot", versions)}

    async def test_two_folders_one_model(self):
        """Broken: a variant's model version is unloaded because another
        variant has no use for it, or stays loaded for ever."""
        tiny_releases.publish(self.folder, 1)
        tiny_releases.publish(self.folder, 2, to="new")
        current = self.make(self.folder / "releases", "current")
        new = self.make(self.folder / "new", "new")
        both = live_releases.LiveReleases(
            {"current": current, "new": new, "other": current}, self.versions
        )
        await current.look()
        self.assertFalse(both.is_ready)
        await new.look()
        self.assertTrue(both.is_ready)
        self.assertEqual(self.told[-1], self.needed(1, 2))
        # Each follows its own folder.
        tiny_releases.publish(self.folder, 3, to="new")
        for _ in range(3):
            await current.look()
            await new.look()
        for variant, version in (("current", 1), ("new", 3), ("other", 1)):
            with both.of(variant).acquire() as release:
                self.assertEqual(release.model_version, version)
        self.assertEqual(
            self.told[-2:], [self.needed(1, 2, 3), self.needed(1, 3)]
        )
        self.assertEqual(both.all("other"), [current, new])
        self.assertEqual(both.all("new"), [new, current])
        self.assertEqual(both.fault, "")

    async def test_two_models_of_one_name(self):
        """Broken: visitors of a variant are answered by the model of another
        one, or those of a good variant by none."""
        tiny_releases.publish(self.folder, 1)
        tiny_releases.publish(self.folder / "elsewhere", 2)
        current = self.make(self.folder / "releases", "current")
        new = self.make(self.folder / "elsewhere" / "releases", "new")
        both = live_releases.LiveReleases(
            {"current": current, "new": new}, self.versions
        )
        await current.look()
        await new.look()
        await current.look()
        self.assertTrue(current.is_ready)
        self.assertFalse(both.is_ready)
        self.assertRegex(
            both.fault, r"^Model 'sicot' is served from .*; .* another name\.$"
        )
        self.assertEqual(self.told, [self.needed(1)])


if __name__ == "__main__":
    unittest.main()
