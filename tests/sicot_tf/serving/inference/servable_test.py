import pathlib
import shutil
import tempfile
import time

import numpy as np
import tensorflow as tf

from sicot_tf.serving import serving_config
from sicot_tf.serving.inference import batching
from sicot_tf.serving.inference import servable
from tests.helpers import serving_models


def load(name, **options):
    return servable.Servable(
        name, 1, serving_models.saved_model(name), **options
    )


class RunTest(tf.test.TestCase):
    """Breaks if an answer is not what the exported graph gives."""

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.linear = load("half_plus_two")
        cls.module = load("three_sums")
        cls.inputs = cls.module.signatures["serving_default"].inputs
        cls.outputs = cls.module.signatures["serving_default"].outputs

    def test_answers_in_the_order_of_the_fetches(self):
        """A name may come twice: two outputs of a signature may be one."""
        x = np.float32([[1, 2, 3], [0, 0, 1]])
        total = self.outputs["total"].name
        doubled = self.outputs["doubled"].name
        values = self.module.run(
            {self.inputs["x"].name: x}, [total, doubled, total], None
        )
        self.assertAllClose(values[0], [321, 100])
        self.assertAllClose(values[1], 2 * x)
        self.assertAllClose(values[2], values[0])

    def test_unknown_tensor(self):
        """A signature may name what its graph has not."""
        feeds = {"x:0": np.float32([1])}
        for wrong_feeds, fetches in (
            (feeds, ["nothing:0"]),
            ({"": np.float32([1])}, ["y:0"]),
        ):
            with self.assertRaises(tf.errors.NotFoundError):
                self.linear.run(wrong_feeds, fetches, None)

    def test_deadline(self):
        """Breaks if late requests pile up behind callers who are gone."""
        model = load("slow")
        signature = model.signatures["count_for_ever"]
        feeds = {signature.inputs["start"].name: np.array(0, np.int64)}
        fetches = [signature.outputs["count"].name]
        for seconds in (0.05, 0.0, -1.0):
            with self.assertRaises(tf.errors.DeadlineExceededError):
                model.run(feeds, fetches, time.monotonic() + seconds)
        # Waits for runs that did not end.
        model.close()

    def test_long_deadlines(self):
        """Some clients' deadline is a hundred years away."""
        for seconds in (11.5, 3000.0, 1e6, 3e9, float("inf")):
            deadline = time.monotonic() + seconds
            [y] = self.linear.run({"x:0": np.float32([2])}, ["y:0"], deadline)
            self.assertAllClose(y, [3])


class ServableTest(tf.test.TestCase):
    def test_attributes(self):
        """Answers repeat name and version; metadata shows the signatures."""
        model = servable.Servable(
            "other_name", 7, serving_models.saved_model("three_sums")
        )
        self.assertEqual((model.name, model.version), ("other_name", 7))
        self.assertContainsSubset(
            ["serving_default", "two_inputs", "to_scalar"], model.signatures
        )

    def test_unknown_tags(self):
        """--saved_model_tags of another export; the reason names them."""
        with self.assertRaisesRegex(tf.errors.NotFoundError, "gpu"):
            load("half_plus_two", tags=("serve", "gpu"))

    def test_broken_saved_models(self):
        """Half an upload is an error of the load, with a reason."""
        root = pathlib.Path(self.enterContext(tempfile.TemporaryDirectory()))
        source = serving_models.saved_model("three_sums")
        for index, break_it in enumerate(
            (
                lambda path: (path / "saved_model.pb").write_bytes(b"\xff\xff"),
                lambda path: (path / "saved_model.pb").write_bytes(b""),
                lambda path: (path / "saved_model.pb").unlink(),
                lambda path: shutil.rmtree(path / "variables"),
            )
        ):
            directory = shutil.copytree(source, root / str(index))
            break_it(directory)
            with self.assertRaises(tf.errors.OpError) as raised:
                servable.Servable("m", 1, directory)
            self.assertNotEqual(raised.exception.message, "")

    def test_session_config(self):
        """--tensorflow_intra_op_parallelism and its kind."""
        config = tf.compat.v1.ConfigProto(
            intra_op_parallelism_threads=1, inter_op_parallelism_threads=1
        )
        model = load("half_plus_two", session_config=config)
        [y] = model.run({"x:0": np.float32([2])}, ["y:0"], None)
        self.assertAllClose(y, [3])

    def test_closed(self):
        """A request that comes too late is an error, not a crash."""
        model = load("half_plus_two")
        model.close()
        with self.assertRaises(tf.errors.CancelledError):
            model.run({"x:0": np.float32([2])}, ["y:0"], None)

    def test_scheduler(self):
        """With one, requests go through batches."""
        batches = []
        scheduler = batching.BatchScheduler(
            serving_config.BatchingParameters(),
            on_batch=lambda *batch: batches.append(batch),
        )
        self.addCleanup(scheduler.close)
        model = load("half_plus_two", scheduler=scheduler)
        [y] = model.run({"x:0": np.float32([2, 4])}, ["y:0"], None)
        self.assertAllClose(y, [3, 4])
        self.assertLen(batches, 1)


if __name__ == "__main__":
    tf.test.main()
