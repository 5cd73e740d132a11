"""ClassShardedDense on 1 to 4 workers against a dense float64 classifier."""

import dataclasses
import math
import pathlib

import keras
import numpy as np
import tensorflow as tf
from absl.testing import parameterized

from sicot_tf.model.classifier import class_sharded_dense
from sicot_tf.workers.collectives import Collectives
from tests.helpers import classifier_workers
from tests.helpers import dense_softmax
from tests.helpers import traced_graph

_WORKERS = (1, 2, 3, 4)
_KEPT = 2**30


@dataclasses.dataclass(frozen=True)
class _Case:
    """A layer and a batch; weights are rows' weights over their sum."""

    logit_memory: int = 0
    # Blocks of 125 and 126 classes; of 111 and 112 on three workers.
    block_size: int = 126
    num_classes: int = dense_softmax.NUM_CLASSES
    dim: int = dense_softmax.DIM
    num_rows: int = dense_softmax.NUM_ROWS
    num_streams: int = 1
    # Of the second stream.
    stream_weight: float = 0.5
    label_smoothing: float = 0.0
    has_offset: bool = False
    large: bool = False
    # Upstream gradient of the sum of losses.
    factor: float = 1.0
    dtype: str = "float32"

    def features(self) -> np.ndarray:
        """`[num_streams, num_rows, dim]`."""
        random = np.random.default_rng(2)
        shape = [self.num_streams, self.num_rows, self.dim]
        if self.large:
            return random.integers(-32, 33, shape).astype(np.float32)
        return random.normal(size=shape).astype(np.float32)

    def weights(self) -> tuple[np.ndarray, np.ndarray]:
        """Kernel and bias."""
        if not self.large:
            return dense_softmax.weights(3, self.num_classes, self.dim)
        # Families of 8 classes on all workers: they differ by multiples of
        # 2^-8, so that logits are exact in float32 and the softmax is not
        # all 0 and 1.
        random = np.random.default_rng(4)
        family = np.arange(self.num_classes) % 125
        kernel = random.integers(-64, 65, [125, self.dim])[family]
        kernel = kernel + random.integers(-4, 5, kernel.shape) / 256
        bias = random.integers(-256, 257, self.num_classes) / 256
        return kernel.astype(np.float32), bias.astype(np.float32)

    def labels(self) -> np.ndarray:
        """`[num_rows]`, the same in all streams."""
        if self.num_classes == dense_softmax.NUM_CLASSES:
            labels = dense_softmax.LABELS
        else:
            labels = np.arange(self.num_rows) % self.num_classes
        if self.large:
            # Half of them are of the best family, or all losses are huge.
            kernel, bias = self.weights()
            best = np.argmax(self.features()[0] @ kernel.T + bias, axis=1)
            labels = np.where(np.arange(self.num_rows) % 2, best, labels)
        return labels

    def row_weights(self) -> np.ndarray:
        """`[num_streams, num_rows]`."""
        weights = dense_softmax.row_weights(self.num_rows)
        scales = np.array([1.0, self.stream_weight])[: self.num_streams]
        return (scales[:, None] * weights).astype(np.float32)

    def upstream(self) -> float:
        """Gradient by the sum of the weighted losses."""
        return self.factor / float(self.row_weights()[0].sum() + 1e-9)

    def offset(self) -> np.ndarray | None:
        """As of logit adjustment."""
        if not self.has_offset:
            return None
        share = 1.0 / np.arange(1, self.num_classes + 1)
        return np.log(share / share.sum()).astype(np.float32)

    def expected(self) -> dense_softmax.CrossEntropy:
        """By the dense classifier, streams one after the other."""
        row_weights = self.row_weights().reshape(-1).astype(np.float64)
        offset = self.offset()
        found = dense_softmax.cross_entropy(
            self.features().reshape(-1, self.dim),
            *self.weights(),
            np.tile(self.labels(), self.num_streams),
            row_weights * self.upstream(),
            label_smoothing=self.label_smoothing,
            offset=0.0 if offset is None else offset,
        )
        return found._replace(losses=row_weights * found.losses)


_CASES = {
    "one_stream_recomputed": _Case(),
    "one_stream_kept": _Case(logit_memory=_KEPT, factor=1e3),
    "two_streams_recomputed": _Case(
        num_streams=2, label_smoothing=0.1, has_offset=True, factor=1e3
    ),
    "two_streams_kept": _Case(
        logit_memory=_KEPT,
        num_streams=2,
        label_smoothing=0.1,
        has_offset=True,
    ),
    "one_block": _Case(logit_memory=_KEPT, block_size=16_384),
    # Four workers have one class and one row each.
    "smallest": _Case(num_classes=4, dim=1, num_rows=4, block_size=1),
}
_LARGE_CASES = {
    "large_recomputed": _Case(large=True),
    "large_kept": _Case(large=True, logit_memory=_KEPT),
}
# Of many workers only some: each takes a second to compile on each of them.
_CASES_OF_WORKERS = {
    1: [*_CASES, *_LARGE_CASES],
    2: [*_CASES, *_LARGE_CASES],
    3: ["one_stream_recomputed", "two_streams_kept", "large_recomputed"],
    4: [
        "one_stream_recomputed",
        "two_streams_recomputed",
        "large_recomputed",
        "smallest",
    ],
}
# An odd number of features: bfloat16 travels in pairs.
_BFLOAT16 = _Case(
    num_classes=101, dim=23, block_size=30, dtype="mixed_bfloat16"
)
# Features and kernels of -1, 0 and 1 have many equal logits.
_TOP_K = (5, 300)


def _runs_of(cases):
    """Pairs of a number of workers and the name of a case that they run."""
    return [
        (num_workers, name)
        for num_workers, names in _CASES_OF_WORKERS.items()
        for name in names
        if name in cases
    ]


def _make_layer(case, collectives=None, weights=None):
    """A built layer with the case's weights."""
    layer = class_sharded_dense.ClassShardedDense(
        case.num_classes,
        label_smoothing=case.label_smoothing,
        logit_memory=case.logit_memory,
        block_size=case.block_size,
        collectives=collectives,
        dtype=case.dtype,
    )
    layer.build((None, case.dim))
    kernel, bias = weights or case.weights()
    for (first, last), block in zip(layer.block_ranges(), layer.blocks):
        block.kernel.assign(kernel[first:last])
        block.bias.assign(bias[first:last])
    return layer


def _own(collectives, values):
    """This worker's part of `[num_streams, num_rows, ...]`, stacked."""
    parts = np.split(values, collectives.num_workers, axis=1)
    part = parts[collectives.worker_index]
    return tf.constant(part.reshape(-1, *part.shape[2:]))


def _loss_and_gradients(collectives, strategy, case):
    """Losses, and gradients by features and own rows."""
    layer = _make_layer(case, collectives)
    features = _own(collectives, case.features())
    labels = _own(collectives, np.stack([case.labels()] * case.num_streams))
    row_weights = _own(collectives, case.row_weights())
    offset = case.offset()
    sources = [features] + [each for block in layer.blocks for each in block]

    def replica():
        with tf.GradientTape() as tape:
            tape.watch(features)
            losses = layer.loss(
                features, labels, row_weights, logit_offset=offset
            )
            loss = case.upstream() * tf.reduce_sum(losses)
        return losses, tape.gradient(loss, sources)

    function = tf.function(lambda: strategy.run(replica))
    concrete = function.get_concrete_function()
    losses, (by_features, *by_weights) = concrete()
    return {
        "losses": losses.numpy(),
        "by_features": by_features.numpy(),
        "by_kernel": np.concatenate(by_weights[::2]),
        "by_bias": np.concatenate(by_weights[1::2]),
        "num_collectives": traced_graph.num_collectives(concrete),
    }


def _ternary(seed, *shape):
    random = np.random.default_rng(seed)
    return random.integers(-1, 2, shape).astype(np.float32)


def _tie_weights():
    return (
        _ternary(5, dense_softmax.NUM_CLASSES, dense_softmax.DIM),
        _ternary(6, dense_softmax.NUM_CLASSES),
    )


def _tie_features():
    return _ternary(7, 1, dense_softmax.NUM_ROWS, dense_softmax.DIM)


def results_of_worker(collectives, strategy, folder):
    """Every case; see `classifier_workers`."""
    cases = {**_CASES, **_LARGE_CASES}
    results = {
        name: _loss_and_gradients(collectives, strategy, cases[name])
        for name in _CASES_OF_WORKERS[collectives.num_workers]
    }
    layer = _make_layer(_Case(), collectives, _tie_weights())
    features = _own(collectives, _tie_features())
    results["top_k"] = [
        [
            each.numpy()
            for each in tf.function(
                lambda: strategy.run(layer.top_k, args=(features, k))
            )()
        ]
        for k in _TOP_K
    ]
    if collectives.num_workers <= 2:
        results["bfloat16"] = _loss_and_gradients(
            collectives, strategy, _BFLOAT16
        )
        layer = _make_layer(_BFLOAT16, collectives)
        features = _own(collectives, _BFLOAT16.features())
        results["bfloat16_top_k"] = [
            each.numpy()
            for each in tf.function(
                lambda: strategy.run(layer.top_k, args=(features, 5))
            )()
        ]
    return results


def _assemble(results, num_streams):
    """Parts of all workers as the dense classifier has them."""
    whole = {}
    for name in ("losses", "by_features"):
        parts = [np.split(each[name], num_streams) for each in results]
        streams = [np.concatenate(stream) for stream in zip(*parts)]
        whole[name] = np.concatenate(streams)
    for name in ("by_kernel", "by_bias"):
        whole[name] = np.concatenate([each[name] for each in results])
    return whole


class LossTest(parameterized.TestCase, tf.test.TestCase):
    @parameterized.parameters(*_runs_of(_CASES))
    def test_equals_dense(self, num_workers, name):
        """Breaks if a worker's part of loss or gradients is wrong."""
        case, results = _CASES[name], self.results(num_workers, name)
        expected = case.expected()._asdict()
        for key, actual in _assemble(results, case.num_streams).items():
            error = dense_softmax.relative_error(actual, expected[key])
            print(f"error {name} M={num_workers} {key}: {error:.1e}")
            self.assertLessEqual(error, 2e-6, key)

    @parameterized.parameters(*_runs_of(_LARGE_CASES))
    def test_large_logits(self, num_workers, name):
        """Breaks if logits of 1e4 overflow, or eat the digits of the loss.

        The logits are exact in float32, so all errors are of the softmax.
        """
        case, results = _LARGE_CASES[name], self.results(num_workers, name)
        kernel, bias = case.weights()
        logits = case.features()[0] @ kernel.T + bias
        self.assertAllEqual(
            logits, case.features()[0].astype("d") @ kernel.T.astype("d") + bias
        )
        self.assertGreater(logits.max(), 1e4)
        self.assertLess(logits.min(), -1e4)
        expected = case.expected()._asdict()
        actual = _assemble(results, 1)
        # Rows whose label is almost the best class, by their own scale.
        best = expected["losses"] < 100
        self.assertGreater(expected["losses"].max(), 1e4)
        self.assertGreater(expected["losses"][best].max(), 1.0)
        expected["best_losses"] = expected["losses"][best]
        actual["best_losses"] = actual["losses"][best]
        for key, values in actual.items():
            self.assertAllInRange(values, -1e6, 1e6)
            error = dense_softmax.relative_error(values, expected[key])
            print(f"error {name} M={num_workers} {key}: {error:.1e}")
            self.assertLessEqual(error, 1e-5, key)

    @parameterized.parameters(2, 3, 4)
    def test_collectives(self, num_workers):
        """Breaks if a step talks more than it says.

        Rows with labels, statistics, upstream gradients, and their own
        gradients back.
        """
        for name in _CASES_OF_WORKERS[num_workers]:
            for result in self.results(num_workers, name):
                self.assertEqual(
                    result["num_collectives"],
                    {"CollectiveGatherV2": 3, "CollectiveAllToAllV2": 1},
                )

    @parameterized.parameters(1, 2)
    def test_bfloat16(self, num_workers):
        """Breaks if pairs of features are torn apart on their way.

        Features, kernels and products have 8 digits each, 2^-9 by rounding.
        """
        results = self.results(num_workers, "bfloat16")
        expected = _BFLOAT16.expected()._asdict()
        for key, actual in _assemble(results, 1).items():
            error = dense_softmax.relative_error(actual, expected[key])
            print(f"error bfloat16 M={num_workers} {key}: {error:.1e}")
            self.assertLessEqual(error, 0.02, key)

    def test_eager(self):
        """Breaks if the loss works in traced functions only."""
        case = _CASES["two_streams_kept"]
        layer = _make_layer(case)
        alone = Collectives()
        labels = np.tile(case.labels(), 2)
        with tf.GradientTape() as tape:
            losses = layer.loss(
                _own(alone, case.features()),
                labels.astype(np.int32),
                _own(alone, case.row_weights()),
                logit_offset=case.offset(),
            )
            loss = case.upstream() * tf.reduce_sum(losses)
        gradients = tape.gradient(loss, [each.kernel for each in layer.blocks])
        expected = case.expected()
        for actual, wanted in (
            (losses, expected.losses),
            (np.concatenate(gradients), expected.by_kernel),
        ):
            self.assertLessEqual(
                dense_softmax.relative_error(actual, wanted), 2e-6
            )

    def test_without_weights(self):
        """Breaks if missing weights are not 1."""
        case = _Case()
        layer, features = _make_layer(case), tf.constant(case.features()[0])
        losses = layer.loss(features, case.labels())
        ones = layer.loss(features, case.labels(), tf.ones([case.num_rows]))
        self.assertAllEqual(losses, ones)

    @parameterized.product(label=(-1, 5), traced=(False, True))
    def test_label_outside(self, label, traced):
        """Breaks if a wrong label trains in silence or ends the process."""
        case = _Case(num_classes=5, dim=3)
        layer, features = _make_layer(case), tf.ones([2, 3])
        loss = tf.function(layer.loss) if traced else layer.loss
        with self.assertRaisesRegex(
            tf.errors.InvalidArgumentError, "labels (start at 0|end before 5)"
        ):
            loss(features, tf.constant([1, label], tf.int64))
        self.assertAllInRange(
            loss(features, tf.constant([1, 4], tf.int64)), 0.0, 100.0
        )

    @parameterized.parameters("recomputed", "kept")
    def test_memory_does_not_grow_with_classes(self, kind):
        """Breaks if a tensor of rows times classes is made."""
        largest = {}
        for num_classes, block_size in ((500, 64), (2000, 64), (500, 128)):
            case = _Case(
                num_classes=num_classes,
                block_size=block_size,
                logit_memory=0 if kind == "recomputed" else _KEPT,
            )
            layer = _make_layer(case)

            @tf.function
            def loss_and_gradients(features, labels):
                with tf.GradientTape() as tape:
                    tape.watch(features)
                    loss = tf.reduce_sum(layer.loss(features, labels))
                sources = [features, *(block.kernel for block in layer.blocks)]
                return tape.gradient(loss, sources)

            shapes = traced_graph.tensor_shapes(
                loss_and_gradients.get_concrete_function(
                    tf.TensorSpec([case.num_rows, case.dim]),
                    tf.TensorSpec([case.num_rows], tf.int64),
                )
            )
            largest[num_classes, block_size] = traced_graph.largest_size(shapes)
            for shape in shapes:
                self.assertNotEqual(sorted(shape), [24, num_classes])
        # A block's logits or kernel, both 24 times its classes (62 or 63 of
        # at most 64, 125 of at most 128).
        self.assertLessEqual(largest[2000, 64], 24 * 64)
        self.assertLessEqual(largest[500, 64], 24 * 64)
        self.assertGreater(largest[500, 128], 24 * 64)

    def results(self, num_workers, name):
        results = classifier_workers.results(__name__, num_workers)
        return [each[name] for each in results]


class TopKTest(parameterized.TestCase, tf.test.TestCase):
    @parameterized.parameters(*_WORKERS)
    def test_equals_dense(self, num_workers):
        """Breaks if evaluation depends on the number of workers.

        Of equal logits the lowest class comes first. Four workers have 251
        classes each, fewer than k.
        """
        kernel, bias = _tie_weights()
        logits = _tie_features()[0] @ kernel.T + bias
        order = np.argsort(-logits, axis=1, kind="stable")
        results = classifier_workers.results(__name__, num_workers)
        for number, k in enumerate(_TOP_K):
            values, classes = (
                np.concatenate(parts)
                for parts in zip(*(each["top_k"][number] for each in results))
            )
            self.assertAllEqual(classes, order[:, :k])
            self.assertAllEqual(
                values, np.take_along_axis(logits, order[:, :k], axis=1)
            )
            self.assertEqual(classes.dtype, np.int64)

    def test_bfloat16(self):
        """Breaks if two workers can't exchange bfloat16 features."""
        values, classes = (
            np.concatenate(parts)
            for parts in zip(
                *(
                    each["bfloat16_top_k"]
                    for each in classifier_workers.results(__name__, 2)
                )
            )
        )
        kernel, bias = _BFLOAT16.weights()
        logits = _BFLOAT16.features()[0] @ kernel.T + bias
        best = -np.sort(-logits, axis=1)[:, :5]
        self.assertAllClose(values, best, rtol=0.02, atol=0.05)
        self.assertAllClose(
            np.take_along_axis(logits, classes, axis=1), best, 0.02, 0.05
        )

    @parameterized.parameters(0, 6)
    def test_k_outside(self, k):
        """Breaks if classes that don't exist are given."""
        layer = _make_layer(_Case(num_classes=5, dim=3))
        with self.assertRaisesRegex(ValueError, f"1 to 5.*received {k}"):
            layer.top_k(tf.ones([2, 3]), k)


class LayerTest(parameterized.TestCase, tf.test.TestCase):
    def test_ranges(self):
        """Breaks if a class belongs to no worker, or to two."""
        ranges = [
            class_sharded_dense.class_range(1003, 4, each) for each in range(4)
        ]
        self.assertEqual(
            ranges, [(0, 251), (251, 502), (502, 753), (753, 1003)]
        )
        for num_workers in range(1, 12):
            for num_classes in (num_workers, 11, 1003):
                borders = [
                    class_sharded_dense.class_range(
                        num_classes, num_workers, each
                    )
                    for each in range(num_workers)
                ]
                self.assertEqual(borders[0][0], 0)
                self.assertEqual(borders[-1][1], num_classes)
                for left, right in zip(borders, borders[1:]):
                    self.assertEqual(left[1], right[0])

    def test_blocks(self):
        """Breaks if classes of a worker are left out, or XLA compiles more."""
        for worker in range(4):
            layer = _built(10_003, collectives=(4, worker), block_size=99)
            borders = list(layer.block_ranges())
            self.assertEqual(borders[0][0], layer.first_class)
            self.assertEqual(borders[-1][1], layer.last_class)
            for left, right in zip(borders, borders[1:]):
                self.assertEqual(left[1], right[0])
            sizes = {last - first for first, last in borders}
            self.assertLessEqual(len(sizes), 2)
            self.assertLessEqual(max(sizes), 99)

    def test_initial_rows(self):
        """Breaks if a run starts differently on another number of workers.

        2500 classes: rows of three draws.
        """
        expected = _rows([_built(2500, seed=3)])
        for num_workers in (2, 3, 4, 7):
            rows = _rows(
                [
                    _built(2500, seed=3, collectives=(num_workers, each))
                    for each in range(num_workers)
                ]
            )
            self.assertEqual(rows.tobytes(), expected.tobytes())
        other_blocks = _rows([_built(2500, seed=3, block_size=333)])
        self.assertEqual(other_blocks.tobytes(), expected.tobytes())
        self.assertLess((_rows([_built(2500, seed=4)]) == expected).mean(), 0.1)
        # Glorot: uniform, the standard deviation is the limit over root 3.
        limit = math.sqrt(6 / (2500 + 3))
        self.assertAllInRange(expected, -limit, limit)
        self.assertNear(expected.std(), limit / math.sqrt(3), limit * 0.02)
        self.assertLen(np.unique(expected, axis=0), 2500)

    def test_fewer_classes_than_workers(self):
        """Breaks if a worker without classes is found out in the middle."""
        with self.assertRaisesRegex(ValueError, "4 workers, received 3"):
            _built(3, collectives=(4, 0))

    @parameterized.parameters("float32", "mixed_bfloat16")
    def test_logits_equal_dense(self, dtype):
        """Breaks if the layer is no classifier that serving can take over."""
        case = _Case(dtype=dtype)
        features = case.features()[0]
        dense = keras.layers.Dense(case.num_classes, dtype=dtype)
        dense.build((None, case.dim))
        kernel, bias = case.weights()
        dense.set_weights([kernel.T, bias])
        expected = dense(features)
        # Dense gives bfloat16, of 8 digits; the layer float32.
        tolerance = 1e-6 if dtype == "float32" else 0.03
        for collectives in (None, Collectives(3, 1)):
            layer = _make_layer(case, collectives)
            logits = layer(features)
            self.assertEqual(logits.dtype, tf.float32)
            self.assertAllClose(
                logits,
                tf.cast(expected, tf.float32)[
                    :, layer.first_class : layer.last_class
                ],
                rtol=tolerance,
                atol=tolerance,
            )

    def test_config(self):
        """Breaks if a saved model remembers the workers that trained it."""
        layer = class_sharded_dense.ClassShardedDense(
            7,
            seed=5,
            label_smoothing=0.1,
            logit_memory=100,
            block_size=3,
            fixed_dim=2,
            collectives=Collectives(3, 1),
            name="classifier",
        )
        config = layer.get_config()
        of_keras = {"name", "trainable", "dtype"}
        self.assertEqual(
            {key: config[key] for key in config if key not in of_keras},
            {
                "num_classes": 7,
                "seed": 5,
                "label_smoothing": 0.1,
                "logit_memory": 100,
                "block_size": 3,
                "fixed_dim": 2,
            },
        )
        again = class_sharded_dense.ClassShardedDense.from_config(config)
        self.assertEqual(again.get_config(), config)
        self.assertEqual((again.first_class, again.last_class), (0, 7))

    def test_row_slices(self):
        """Breaks if a checkpoint gets rows in another order."""
        layer = _built(1003, collectives=(3, 1), block_size=126, name="last")
        slices = layer.slices()
        for name in ("last/kernel", "last/bias"):
            parts = [each for each in slices if each.name == name]
            self.assertLen(parts, 3)
            # 1003 classes are 335, 334 and 334.
            rows = [335]
            for each in parts:
                self.assertEqual(each.first_row, rows[-1])
                self.assertEqual(each.total_rows, 1003)
                self.assertEqual(each.row_axis, "classes")
                rows.append(each.last_row)
            self.assertEqual(rows[-1], 669)
        self.assertLen(slices, 6)

    @parameterized.parameters(16_384, 126)
    def test_keras_file(self, block_size):
        """Breaks if a saved model comes back with other logits."""
        model = _model(1003, block_size)
        path = pathlib.Path(self.get_temp_dir(), "model.keras")
        model.save(path)
        again = keras.models.load_model(path)
        features = _Case().features()[0]
        self.assertAllEqual(again(features), model(features))
        self.assertEqual(again.layers[1].block_size, block_size)
        # Rows that no block has would be the initial ones.
        self.assertEqual(
            _rows([again.layers[1]]).tobytes(),
            _rows([model.layers[1]]).tobytes(),
        )

    def test_fixed_columns(self):
        """Breaks if logits, best classes, a tape or a file leave out columns
        that are not trained."""
        random = np.random.default_rng(0)
        features = random.normal(size=[6, 5]).astype(np.float32)
        labels = np.array([0, 3, 4, 8, 10, 4])
        rows = random.normal(size=[11, 5]).astype(np.float32)

        def make(name):
            layer = class_sharded_dense.ClassShardedDense(
                11, fixed_dim=2, block_size=4, name=name
            )
            return keras.Sequential([keras.Input([5]), layer]), layer

        model, layer = make("classifier")
        for (first, last), block, fixed in zip(
            layer.block_ranges(), layer.blocks, layer.fixed_blocks
        ):
            block.kernel.assign(rows[first:last, :3])
            fixed.assign(rows[first:last, 3:])
        logits = features @ rows.T
        self.assertAllClose(layer(features), logits, 1e-5, 1e-5)
        order = np.argsort(-logits, axis=1)[:, :2]
        self.assertAllEqual(layer.top_k(features, 2)[1], order)
        expected = dense_softmax.cross_entropy(
            features, rows, np.zeros(11), labels, np.ones(6)
        )
        self.assertLen(layer.trainable_variables, 6)

        @tf.function
        def differentiate(features):
            with tf.GradientTape() as tape:
                tape.watch(features)
                losses = layer.loss(features, labels)
            sources = [features, *(block.kernel for block in layer.blocks)]
            return losses, tape.gradient(losses, sources)

        losses, (by_features, *by_kernels) = differentiate(features)
        for actual, wanted in (
            (losses, expected.losses),
            (by_features, expected.by_features),
            (tf.concat(by_kernels, axis=0), expected.by_kernel[:, :3]),
        ):
            self.assertAllClose(actual, wanted, 1e-5, 1e-5)
        path = pathlib.Path(self.get_temp_dir(), "fixed.weights.h5")
        model.save_weights(path)
        other, _ = make("classifier")
        other.load_weights(path)
        self.assertAllEqual(other(features), model(features))

    @parameterized.parameters((126, 16_384), (16_384, 126), (126, 90))
    def test_weights_file_of_other_blocks(self, saved, loaded):
        """Breaks if how a worker computes decides what it can read."""
        model, other = _model(1003, saved), _model(1003, loaded, seed=2)
        path = pathlib.Path(self.get_temp_dir(), "model.weights.h5")
        model.save_weights(path)
        other.load_weights(path)
        features = _Case().features()[0]
        self.assertAllClose(other(features), model(features), 1e-5, 1e-5)
        self.assertEqual(
            _rows([other.layers[1]]).tobytes(),
            _rows([model.layers[1]]).tobytes(),
        )

    def test_weights_file_on_several_workers(self):
        """Breaks if a worker takes rows of other classes than its own."""
        model = _model(1003, 126)
        path = pathlib.Path(self.get_temp_dir(), "model.weights.h5")
        model.save_weights(path)
        workers = [
            _model(1003, 126, collectives=Collectives(3, index), seed=2)
            for index in range(3)
        ]
        for each in workers:
            each.load_weights(path)
        self.assertEqual(
            _rows([each.layers[1] for each in workers]).tobytes(),
            _rows([model.layers[1]]).tobytes(),
        )

    def test_weights_file_of_other_classes(self):
        """Breaks if a class gets another one's weights, or none, in silence."""
        folder = pathlib.Path(self.get_temp_dir())
        _model(1003, 126).save_weights(folder / "model.weights.h5")
        with self.assertRaisesRegex(
            ValueError, r"kernel of shape \(1004, 24\).*received \(1003, 24\)"
        ):
            _model(1004, 126).load_weights(folder / "model.weights.h5")
        dense = keras.Sequential(
            [keras.Input([24]), keras.layers.Dense(24), keras.layers.ReLU()]
        )
        dense.save_weights(folder / "dense.weights.h5")
        with self.assertRaisesRegex(ValueError, r"\(1003, 24\).*received none"):
            _model(1003, 126).load_weights(folder / "dense.weights.h5")

    def test_a_worker_saves_no_keras_file(self):
        """Breaks if a worker's rows pass for the whole classifier."""
        model = _model(1003, 126, collectives=Collectives(2, 1))
        self.assertEqual(model(np.ones([2, 24], np.float32)).shape, (2, 501))
        folder = pathlib.Path(self.get_temp_dir())
        for save in (
            lambda: model.save(folder / "worker.keras"),
            lambda: model.save_weights(folder / "worker.weights.h5"),
        ):
            with self.assertRaisesRegex(
                ValueError, "502 to 1002 of 1003, on one of 2 workers"
            ):
                save()


def _model(num_classes, block_size, *, seed=1, **arguments):
    """A layer before the classifier; biases are not 0."""
    layer = class_sharded_dense.ClassShardedDense(
        num_classes, seed=seed, block_size=block_size, **arguments
    )
    model = keras.Sequential([keras.Input([24]), keras.layers.Dense(24), layer])
    for block in layer.blocks:
        block.bias.assign(tf.range(block.bias.shape[0], dtype=tf.float32))
    return model


def _built(num_classes, *, dim=3, collectives=(1, 0), **arguments):
    layer = class_sharded_dense.ClassShardedDense(
        num_classes,
        collectives=Collectives(*collectives),
        **arguments,
    )
    layer.build((None, dim))
    return layer


def _rows(layers):
    """Kernels of all layers in order, `[num_classes, dim]`."""
    return np.concatenate(
        [block.kernel.numpy() for layer in layers for block in layer.blocks]
    )


if __name__ == "__main__":
    tf.test.main()
