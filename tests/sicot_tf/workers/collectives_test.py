"""Collectives: order of rows, sums with equal bits, and waiting."""

import pathlib
import time

import numpy as np
import tensorflow as tf
from absl.testing import parameterized

from sicot_tf.workers.collectives import Collectives
from tests.helpers import classifier_workers

_TYPES = ("float32", "float64", "int32", "int64")


def _rows(worker: int) -> np.ndarray:
    """`[2, 3]`, other numbers on each worker; signalling NaNs as integers."""
    rows = np.arange(6).reshape(2, 3) + 10 * worker
    return rows + np.array([0, 0x7F800001 - 1000, -(2**31)])


def _values(worker: int, *shape: int) -> np.ndarray:
    """Float32 whose sum depends on the order."""
    random = np.random.default_rng(worker)
    return (random.normal(size=shape) * 10.0 ** random.uniform(-3, 3)).astype(
        np.float32
    )


def results_of_worker(collectives, strategy, folder):
    """Every operation, eager and traced; see `classifier_workers`."""
    worker, num_workers = collectives.worker_index, collectives.num_workers

    def operations():
        return {
            "gather": [
                collectives.gather(tf.constant(_rows(worker), dtype))
                for dtype in _TYPES
            ],
            "all_reduce": collectives.all_reduce(
                tf.constant(_values(worker, 1000))
            ),
            "all_reduce_packed": collectives.all_reduce_packed(
                [
                    tf.constant(_values(worker, 2, 3)),
                    tf.constant(_values(worker)),
                    tf.constant(_values(worker, 5)),
                ]
            ),
            "reduce_scatter": collectives.reduce_scatter(
                tf.constant(_values(worker, 2 * num_workers, 3))
            ),
        }

    def to_numpy(tensors):
        return tf.nest.map_structure(lambda each: each.numpy(), tensors)

    seen = []
    for turn in range(2):
        # The slowest is another one each time.
        time.sleep(0.1 * ((worker + turn) % num_workers))
        pathlib.Path(folder, f"turn-{turn}-worker-{worker}").touch()
        collectives.wait_for_all()
        files = pathlib.Path(folder).glob(f"turn-{turn}-*")
        seen.append(len(list(files)))
    return {
        "eager": to_numpy(operations()),
        "traced": to_numpy(tf.function(lambda: strategy.run(operations))()),
        "sum_now": collectives.sum_now(_values(worker, 4)),
        "seen": seen,
        "is_chief": collectives.is_chief,
    }


class CollectivesTest(parameterized.TestCase, tf.test.TestCase):
    @parameterized.product(num_workers=(1, 2, 3, 4), mode=("eager", "traced"))
    def test_gather_keeps_order_and_bits(self, num_workers, mode):
        """Breaks if rows of two workers are swapped, or their bits change."""
        expected = np.concatenate([_rows(each) for each in range(num_workers)])
        for result in classifier_workers.results(__name__, num_workers):
            for dtype, gathered in zip(_TYPES, result[mode]["gather"]):
                self.assertEqual(gathered.dtype, dtype)
                self.assertAllEqual(gathered, expected.astype(dtype))

    @parameterized.product(num_workers=(1, 2, 3, 4), mode=("eager", "traced"))
    def test_sums(self, num_workers, mode):
        """Breaks if replicas that should stay equal would drift apart."""
        results = classifier_workers.results(__name__, num_workers)
        workers = range(num_workers)

        def check(actual, *shape):
            expected = sum(
                _values(each, *shape).astype(np.float64) for each in workers
            )
            # M - 1 additions of numbers that may cancel.
            scale = sum(np.abs(_values(each, *shape)) for each in workers)
            error = np.abs(actual[0] - expected) / scale
            self.assertLess(error.max(), num_workers * 6e-8)
            for other in actual[1:]:
                self.assertEqual(other.tobytes(), actual[0].tobytes())

        check([each[mode]["all_reduce"] for each in results], 1000)
        packed = [each[mode]["all_reduce_packed"] for each in results]
        for part, shape in zip(zip(*packed), ((2, 3), (), (5,))):
            check(part, *shape)
        check([each["sum_now"] for each in results], 4)
        scattered = [each[mode]["reduce_scatter"] for each in results]
        self.assertEqual({each.shape for each in scattered}, {(2, 3)})
        check([np.concatenate(scattered)], 2 * num_workers, 3)

    @parameterized.parameters(2, 3, 4)
    def test_waits_for_the_slowest(self, num_workers):
        """Breaks if the chief publishes before all have written."""
        results = classifier_workers.results(__name__, num_workers)
        for worker, result in enumerate(results):
            self.assertEqual(result["seen"], [num_workers] * 2)
            self.assertEqual(result["is_chief"], worker == 0)

    def test_alone(self):
        """Breaks if one worker pays for, or waits in, a collective."""
        alone = Collectives()
        tensor = tf.constant([[1.0, 2.0]])
        self.assertIs(alone.gather(tensor), tensor)
        self.assertIs(alone.all_reduce(tensor), tensor)
        self.assertIs(alone.reduce_scatter(tensor), tensor)
        self.assertIs(alone.all_reduce_packed([tensor])[0], tensor)
        alone.wait_for_all()
        self.assertTrue(alone.is_chief)

    @parameterized.parameters((2, 2), (2, -1), (0, 0))
    def test_index_outside(self, num_workers, worker_index):
        """Breaks if a wrong TF_CONFIG hangs instead of failing."""
        with self.assertRaisesRegex(ValueError, f"received {worker_index}"):
            Collectives(num_workers, worker_index)


if __name__ == "__main__":
    tf.test.main()
