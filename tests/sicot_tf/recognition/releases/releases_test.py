import json
import pathlib
import shutil
import subprocess
import sys
import tempfile
import unittest

from sicot_tf.data import generations
from sicot_tf.recognition.releases import releases
from tests.helpers import tiny_releases

# Publishes again and again in a child that ends, as if killed, before its
# n-th operation on a file, until one comes through; prints what each leaves.
_KILLED = """
import json, os, pathlib, sys
from sicot_tf.recognition.releases import releases
from tests.helpers import tiny_releases

folder = pathlib.Path(sys.argv[1])
tiny_releases.write_pair(folder, 2)
left = []

def kill_at(count):
    def hook(event, arguments):
        nonlocal count
        if event in ("open", "os.rename", "os.remove", "fcntl.flock"):
            count -= 1
            if not count:
                os._exit(9)
    sys.addaudithook(hook)

for count in range(1, 1000):
    child = os.fork()
    if not child:
        kill_at(count)
        tiny_releases.publish(folder, 2)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    release = releases.live(folder / "releases")
    left.append((release.model_version, release.index_generation.name))
    if status == 0 or release.model_version == 2:
        break
print(json.dumps(left))
"""


class ReleasesTest(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = pathlib.Path(folder.name)
        self.releases = self.folder / "releases"

    def publish(self, version, **settings):
        return tiny_releases.publish(self.folder, version, **settings)

    def test_publish(self):
        """Broken: the service reads another pair than was published."""
        self.assertIsNone(releases.live(self.releases))
        first = self.publish(1, max_objects=2)
        self.assertEqual(releases.live(self.releases), first)
        self.assertEqual(first.model_name, "sicot")
        self.assertEqual(first.model_folder, self.folder / "sicot" / "1")
        self.assertEqual(first.index_generation.name, "index-1")
        self.assertEqual(first.weights_sha256, "1")
        self.assertEqual(first.settings.max_objects, 2)
        self.assertEqual(first.check["num_classes"], 1)
        second = self.publish(2)
        self.assertEqual(releases.live(self.releases), second)
        self.assertEqual(second.before, first.name)

    def test_same_pair_again(self):
        """Broken: a line that runs twice a day swaps without reason, and a
        roll-back leads to the same pair."""
        first = self.publish(1)
        self.assertEqual(self.publish(1), first)
        self.assertEqual(len(releases.history(self.releases)), 1)
        # Other settings are another release.
        self.assertEqual(self.publish(1, max_objects=2).before, first.name)

    def test_killed_publisher(self):
        """Broken: a publisher killed at the wrong moment takes the service
        down, or leaves files that nobody removes."""
        self.publish(1)
        ended = subprocess.run(
            [sys.executable, "-c", _KILLED, self.folder],
            capture_output=True,
            text=True,
            check=False,
        )
        self.assertEqual(ended.stderr, "")
        left = [tuple(pair) for pair in json.loads(ended.stdout)]
        self.assertEqual(set(left), {(1, "index-1"), (2, "index-2")})
        # Before the release, before its name, before LIVE, ...
        self.assertGreater(len(left), 10)
        self.publish(3)
        names = [path.name for path in self.releases.iterdir()]
        self.assertEqual([name for name in names if name[0] == "."], [])

    def test_two_publishers(self):
        """Broken: of two releases at once, LIVE names one and `before`
        forgets the other."""
        first = self.publish(1)
        with generations.only_builder(self.releases):
            with self.assertRaisesRegex(ValueError, "Another process"):
                self.publish(2)
            with self.assertRaisesRegex(ValueError, "Another process"):
                releases.roll_back(self.releases, first.name)
        self.assertEqual(releases.live(self.releases), first)

    def test_roll_back(self):
        """Broken: the way back leads to the release one came back from."""
        first, second = self.publish(1), self.publish(2)
        self.assertEqual(releases.roll_back(self.releases), first)
        self.assertEqual(releases.live(self.releases), first)
        third = self.publish(3)
        self.assertEqual(third.before, first.name)
        # Not to the second, which was live before but not good.
        self.assertEqual(releases.roll_back(self.releases), first)
        releases.roll_back(self.releases, second.name)
        self.assertEqual(releases.live(self.releases), second)
        releases.roll_back(self.releases)
        with self.assertRaisesRegex(ValueError, "no release before"):
            releases.roll_back(self.releases)
        with self.assertRaisesRegex(ValueError, "no release 'x'"):
            releases.roll_back(self.releases, "x")

    def test_damaged_live(self):
        """Broken: a damaged LIVE is a traceback, leaves the folder, or keeps
        the next release from going live."""
        first = self.publish(1)
        (self.folder / "outside.json").write_text("{}")
        for content in (b"", b"\xff", b"x\0y", b"no-release", b"../outside"):
            (self.releases / releases.LIVE).write_bytes(content)
            with self.subTest(content=content):
                with self.assertRaisesRegex(ValueError, "--rollback NAME"):
                    releases.live(self.releases)
        releases.roll_back(self.releases, first.name)
        self.assertEqual(releases.live(self.releases), first)
        (self.releases / releases.LIVE).write_bytes(b"")
        second = self.publish(2)
        self.assertEqual(releases.live(self.releases), second)

    def test_damaged_release(self):
        """Broken: a cut or foreign file ends in a traceback, or in a release
        with settings that nobody can use."""
        release = self.publish(1)
        path = self.releases / f"{release.name}.json"
        whole = json.loads(path.read_text())
        for content in (
            "{",
            "[]",
            json.dumps({**whole, "model_version": "one"}),
            json.dumps({**whole, "settings": {"max_objects": 0}}),
            json.dumps({**whole, "another": 1}),
        ):
            path.write_text(content)
            with self.subTest(content=content):
                with self.assertRaisesRegex(ValueError, "is damaged"):
                    releases.live(self.releases)
        ((name, read, fault),) = releases.history(self.releases)
        self.assertEqual((name, read), (release.name, None))
        self.assertIn("is damaged", fault)

    def test_model_or_index_gone_or_changed(self):
        """Broken: a service opens another model than was checked."""
        for change, expected in (
            (lambda model, index: shutil.rmtree(model), "it is not there"),
            (lambda model, index: shutil.rmtree(index), "it is not there"),
            (
                lambda model, index: tiny_releases.write_model(model, ["tea"]),
                "is not the model",
            ),
            (
                lambda model, index: (index / "manifest.json").write_text(
                    '{"another": 1}'
                ),
                "is not the index",
            ),
        ):
            release = self.publish(1)
            change(release.model_folder, release.index_generation)
            with self.subTest(expected=expected):
                with self.assertRaisesRegex(ValueError, expected):
                    releases.live(self.releases)
                ((_, _, fault),) = releases.history(self.releases)
                self.assertRegex(fault, expected)
                with self.assertRaisesRegex(ValueError, expected):
                    releases.roll_back(self.releases, release.name)
            shutil.rmtree(self.folder)
            self.folder.mkdir()

    def test_model_elsewhere(self):
        """Broken: a recogniser needs the folder of a model that a server on
        another machine serves."""
        release = self.publish(1)
        shutil.rmtree(release.model_folder)
        self.assertNotEqual(releases.find_fault(release), "")
        self.assertEqual(
            releases.find_fault(release, model_is_elsewhere=True), ""
        )


if __name__ == "__main__":
    unittest.main()
