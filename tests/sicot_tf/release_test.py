import contextlib
import io
import json
import pathlib
import tempfile
import unittest

from sicot_tf import release
from sicot_tf.data import generations
from sicot_tf.recognition.releases import releases
from tests.helpers import imports
from tests.helpers import object_stores
from tests.helpers import own_cache
from tests.helpers import tiny_releases
from tests.sicot_tf.catalogue import product_index_test
from tests.sicot_tf.recognition.releases import search_check_test


class ReleaseTest(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = pathlib.Path(folder.name)
        self.releases = self.folder / "releases"
        self.model = self.folder / "sicot"
        tiny_releases.write_model(self.model / "1", ["cola", "tea"])
        # Its SKUs are cola and tea.
        self.index = self.folder / "index"
        product_index_test.write_generation(self.index, "2026-01-01-aa")

    def run_command(self, *flags):
        """Exit code, stdout and stderr."""
        out, err, code = io.StringIO(), io.StringIO(), 0
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            try:
                release.main(["--releases", str(self.releases), *flags])
            except SystemExit as end:
                code = end.code
        return code, out.getvalue(), err.getvalue()

    def publish(self, *flags):
        return self.run_command(
            *("--model", str(self.model), "--product_index", str(self.index)),
            *flags,
        )

    def live_version(self):
        return releases.live(self.releases).model_version

    def test_goes_live(self):
        """Broken: the daily line does not put the pair into use, or does not
        tell how to go on."""
        code, out, err = self.publish()
        self.assertEqual((code, err), (0, ""))
        name = releases.live_name(self.releases)
        self.assertEqual(
            out.splitlines()[-1],
            f"Live: {name} (model sicot version 1, index 2026-01-01-aa). "
            "Next: python -m sicot_tf.recognize --releases "
            f"{self.releases}",
        )
        # No way back from the first.
        self.assertNotIn("--rollback", out)

    def test_index_on_a_store(self):
        """Broken: a release names what the machine's cache may remove, or a
        look at a pair leaves a copy among the releases."""
        with (
            object_stores.s3_bucket() as bucket,
            own_cache.own_cache(self.folder / "cache"),
        ):
            url = f"{bucket}/index"
            generation = generations.resolve_generation(self.index)
            manifest = generation / generations.MANIFEST
            manifest.unlink()
            described = generations.describe_files(generation)
            manifest.write_text(json.dumps({"files": described}))
            object_stores.upload_folder(self.index, url)
            self.index = url
            self.assertEqual(self.publish("--check")[0], 0)
            self.assertFalse(self.releases.exists())
            self.assertEqual(self.publish()[0], 0)
        index = releases.live(self.releases).index_generation
        self.assertEqual(index.name, "2026-01-01-aa")
        self.assertTrue(index.is_relative_to(self.releases.resolve()))

    def test_check(self):
        """Broken: a look at a pair puts it into use."""
        code, out, err = self.publish("--check")
        self.assertEqual((code, err), (0, ""))
        self.assertFalse(self.releases.exists())
        self.assertEqual(
            out.splitlines()[3:8],
            [
                "                            count    share  for example",
                "classes                         2",
                "  without product               0    0.0 %",
                "SKUs of the index               2",
                "  without class                 0    0.0 %",
            ],
        )

    def test_refuses(self):
        """Broken: a model goes live whose products can't be shown; or the
        reason is not on the screen."""
        self.publish()
        # One of three classes has no product: 33.3 %.
        tiny_releases.write_model(self.model / "2", ["cola", "tea", "milk"])
        code, out, err = self.publish("--max_missing_percent", "33")
        self.assertEqual(code, 2)
        self.assertIn("  without product               1   33.3 %  milk\n", out)
        self.assertRegex(err, r"\Aerror: 33.3 % of the classes .* --force\.\n")
        self.assertEqual(self.live_version(), 1)
        code, _, _ = self.publish("--force")
        self.assertEqual((code, self.live_version()), (0, 2))

    def test_list_and_rollback(self):
        """Broken: the way back needs more than one command."""
        self.publish()
        first = releases.live_name(self.releases)
        tiny_releases.write_model(self.model / "2", ["cola", "tea"], "2")
        _, out, _ = self.publish()
        self.assertIn(f"--releases {self.releases} --rollback\n", out)
        second = releases.live_name(self.releases)
        code, out, _ = self.run_command("--list")
        self.assertEqual(code, 0)
        # In the same second the ids decide the order.
        self.assertCountEqual(
            out.splitlines(),
            [
                f"{first}  sicot 1  2026-01-01-aa",
                f"{second}  sicot 2  2026-01-01-aa  <- LIVE",
            ],
        )
        self.run_command("--rollback")
        self.assertEqual(self.live_version(), 1)
        self.run_command("--rollback", second)
        self.assertEqual(self.live_version(), 2)
        (self.model / "1" / "saved_model.pb").unlink()
        code, _, err = self.run_command("--rollback")
        self.assertEqual((code, self.live_version()), (2, 2))
        self.assertIn("it is not there", err)
        _, out, _ = self.run_command("--list")
        self.assertIn("  can't be used: ", out)

    def test_vector_index(self):
        """Broken: visual search is not on the screen; or one of another
        model goes live if one insists."""
        model = self.model / "1"
        vectors = search_check_test.write_vectors(
            *(self.folder / "vectors", "vectors-1", model),
            self.index / "2026-01-01-aa",
        )
        flags = ("--vector_index", str(vectors.parent))
        code, out, err = self.publish(*flags, "--check")
        self.assertEqual((code, err), (0, ""))
        self.assertRegex(out, r"vectors +1 +of this model and index, vectors-1")
        code, out, _ = self.publish(*flags)
        self.assertEqual(code, 0)
        self.assertIn(", vectors vectors-1). Next: ", out)
        _, out, _ = self.run_command("--list")
        self.assertIn("2026-01-01-aa  vectors vectors-1  <- LIVE", out)
        tiny_releases.write_model(self.model / "2", ["cola", "tea"], "2")
        code, _, err = self.publish(*flags, "--force")
        self.assertEqual((code, self.live_version()), (2, 1))
        self.assertRegex(err, r"\Aerror: The vectors of .* stays so\.\n\Z")

    def test_keeps_settings(self):
        """Broken: the daily line undoes what was tuned."""
        path = self.folder / "recognition.json"
        path.write_text(json.dumps({"settings": {"max_objects": 2}}))
        self.publish("--settings", str(path))
        before = releases.live_name(self.releases)
        tiny_releases.write_model(self.model / "2", ["cola", "tea"])
        _, out, _ = self.publish()
        self.assertIn(f"Settings       as in {before}\n", out)
        self.assertEqual(self.live_version(), 2)
        settings = releases.live(self.releases).settings
        self.assertEqual(settings.max_objects, 2)

    def test_mistakes(self):
        """Broken: a mistyped line is a traceback, or makes folders."""
        for flags, expected in (
            ([], "--model and --product_index are needed"),
            (["--list"], "there is no folder"),
            (["--rollback"], "there is no folder"),
            (["--list", "--model", "x"], "take no --model"),
            (
                ["--model", "x", "--product_index", "x", "--ranker", "x"],
                "give both",
            ),
            (
                ["--model", "x", "--product_index", str(self.index)],
                "found no version in x",
            ),
            (
                ["--model", str(self.model), "--product_index", "x"],
                "Build it first",
            ),
            (["--max_missing_percent", "nan"], "expected 0 to 100"),
        ):
            with self.subTest(flags=flags):
                code, _, err = self.run_command(*flags)
                self.assertEqual(code, 2)
                self.assertIn(expected, err)
                self.assertFalse(self.releases.exists())

    def test_no_tensorflow(self):
        """Broken: the command, or the service that follows releases, takes
        seconds and hundreds of megabytes more."""
        code = (
            "import sys; from sicot_tf import release; "
            "from sicot_tf.recognition.releases import live_release; "
            "release.main(sys.argv[1:])"
        )
        flags = ["--model", self.model, "--product_index", self.index]
        found = imports.loaded(
            code, {"tensorflow"}, "--releases", self.releases, *flags
        )
        self.assertEqual(found, set())


if __name__ == "__main__":
    unittest.main()
