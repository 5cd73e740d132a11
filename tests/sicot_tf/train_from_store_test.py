"""Training and its readers on a data set that lies on a store."""

import contextlib
import io
import pathlib
import tempfile

import tensorflow as tf

from sicot_tf import evaluate
from sicot_tf import explain
from sicot_tf import train
from sicot_tf.data import generations
from sicot_tf.stores import opening
from sicot_tf.training import runs
from tests.helpers import mistakes
from tests.helpers import object_stores
from tests.helpers import own_cache
from tests.helpers import tiny_road


def _shards(cache):
    """Of which splits a copy has files."""
    return {path.name.split("-")[0] for path in cache.glob("*/*/*.tfrecord")}


class TrainFromStoreTest(tf.test.TestCase):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.dataset = f"{cls.enterClassContext(object_stores.s3_bucket())}/data"
        generation = tiny_road.generation()
        object_stores.upload_folder(
            generation, f"{cls.dataset}/{generation.name}"
        )
        opening.open_folder(cls.dataset).put(
            generations.LATEST, generation.name.encode()
        )

    def setUp(self):
        super().setUp()
        self.folder = pathlib.Path(
            self.enterContext(tempfile.TemporaryDirectory())
        )
        self.cache = self.folder / "cache"
        self.enterContext(own_cache.own_cache(self.cache))

    def test_trained_evaluated_explained(self):
        """Breaks if a run needs its data set on a disk, or reads test files."""
        run_dir = self.folder / "runs" / "a"
        train.main(
            [
                *("--dataset", self.dataset, "--run_dir", str(run_dir)),
                *("--epochs", "1", *tiny_road.TRAIN_FLAGS),
            ]
        )
        self.assertEqual(_shards(self.cache), {"train", "val"})
        found = runs.load(run_dir).dataset
        self.assertEqual(
            found["path"], f"{self.dataset}/{tiny_road.generation().name}"
        )
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            # They find the data set where the run saw it.
            evaluate.main(["--run_dir", str(run_dir)])
            explain.main(["--run_dir", str(run_dir)])
        self.assertIn("Report:", printed.getvalue())
        self.assertEqual(_shards(self.cache), {"train", "val", "test"})

    def test_mistakes_are_sentences(self):
        """Breaks if a mistyped URL is a traceback, or a folder named s3:."""
        with mistakes.assert_told(self, "manifest.json"):
            train.main(["--dataset", f"{self.dataset}/no", "--run_dir", "x"])
        with mistakes.assert_told(self, "no-such-bucket"):
            train.main(
                ["--dataset", "s3://no-such-bucket/data", "--run_dir", "x"]
            )
        with mistakes.assert_told(self, "a path of this machine"):
            train.main(["--dataset", self.dataset, "--run_dir", "s3://a/b"])


if __name__ == "__main__":
    tf.test.main()
