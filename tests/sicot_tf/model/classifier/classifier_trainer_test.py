"""ClassifierTrainer on 1 to 4 workers against float64 NumPy and plain Keras."""

import dataclasses
import functools

import keras
import numpy as np
import tensorflow as tf
from absl.testing import parameterized

from sicot_tf.model.classifier import class_sharded_dense
from sicot_tf.model.classifier import row_optimizers
from sicot_tf.model.classifier.classifier_trainer import ClassifierTrainer
from sicot_tf.workers.collectives import Collectives
from tests.helpers import classifier_workers
from tests.helpers import dense_softmax
from tests.helpers import traced_graph

_WORKERS = (1, 2, 3, 4)
_KEPT = 2**30


@dataclasses.dataclass(frozen=True)
class _Run:
    """Steps of a classifier; weights are over their sum."""

    optimizer: row_optimizers.RowOptimizer = row_optimizers.RowSGD(0.9)
    learning_rate: float = 0.5
    weight_decay: float = 0.0
    logit_memory: int = 0
    label_smoothing: float = 0.0
    has_offset: bool = False
    # Gradients are scaled to this norm.
    clip_norm: float = 0.0
    sample_rate: float = 1.0
    sample_seed: int = 0
    replicated: bool = False
    dtype: str = "float32"
    dim: int = dense_softmax.DIM
    # Features beyond `dim`, whose rows are not trained.
    fixed_dim: int = 0
    num_steps: int = 20

    def batch(self, step: int) -> dict[str, np.ndarray]:
        """Rows of all workers."""
        random = np.random.default_rng(100 + step)
        weights = random.permutation(dense_softmax.row_weights())
        return {
            "features": random.normal(
                size=[dense_softmax.NUM_ROWS, self.dim + self.fixed_dim]
            ).astype(np.float32),
            "labels": random.permutation(dense_softmax.LABELS),
            "weights": weights / weights.sum(),
        }

    def rate(self, step: int) -> float:
        """Of a schedule."""
        return float(np.float32(self.learning_rate * 0.97**step))

    def offset(self) -> np.ndarray:
        """As of logit adjustment."""
        share = 1.0 / np.arange(1, dense_softmax.NUM_CLASSES + 1)
        offset = np.log(share / share.sum()) if self.has_offset else 0 * share
        return offset.astype(np.float32)

    def fixed(self) -> np.ndarray:
        """`[num_classes, fixed_dim]`, rows that are not trained."""
        return dense_softmax.weights(4, dim=self.fixed_dim)[0]


_RUNS = {
    "sgd": _Run(),
    "sgd_decay": _Run(
        weight_decay=0.01,
        logit_memory=_KEPT,
        label_smoothing=0.1,
        has_offset=True,
    ),
    "adamw": _Run(
        row_optimizers.RowAdamW(),
        learning_rate=0.01,
        weight_decay=0.1,
    ),
}
_CLIPPED_RUNS = {
    "clipped_kept": _Run(clip_norm=0.1, logit_memory=_KEPT, num_steps=3),
    "clipped_recomputed": _Run(clip_norm=0.1, num_steps=3),
}
# Clipped, the fixed columns don't count for the norm.
_FIXED_RUNS = {
    "fixed": _Run(
        fixed_dim=5, weight_decay=0.01, logit_memory=_KEPT, num_steps=3
    ),
    "fixed_clipped": _Run(fixed_dim=5, clip_norm=0.1, num_steps=2),
}
_FIXED_ALONE = {
    "replicated": _Run(fixed_dim=5, replicated=True, num_steps=2),
    "drawn": _Run(fixed_dim=5, sample_rate=0.9999, num_steps=2),
}
_REPLICATED = _Run(replicated=True, num_steps=3)
_ALL_DRAWN = _Run(sample_rate=0.9999, num_steps=3)
_SAMPLED = _Run(sample_rate=0.3, num_steps=2)
# An odd number of features: bfloat16 travels in pairs.
_BFLOAT16 = _Run(dtype="mixed_bfloat16", dim=23, num_steps=1)


# === On the workers ===


def _make_trainer(run, collectives):
    layer = class_sharded_dense.ClassShardedDense(
        dense_softmax.NUM_CLASSES,
        label_smoothing=run.label_smoothing,
        logit_memory=run.logit_memory,
        # Blocks of 125 and 126 classes; of 111 and 112 on three workers.
        block_size=126,
        fixed_dim=run.fixed_dim,
        collectives=None if run.replicated else collectives,
        dtype=run.dtype,
        name="classifier",
    )
    layer.build((None, run.dim + run.fixed_dim))
    kernel, bias = dense_softmax.weights(3, dim=run.dim)
    for (first, last), block in zip(layer.block_ranges(), layer.blocks):
        block.kernel.assign(kernel[first:last])
        block.bias.assign(bias[first:last])
    if run.fixed_dim:
        for (first, last), fixed in zip(
            layer.block_ranges(), layer.fixed_blocks
        ):
            fixed.assign(run.fixed()[first:last])
    return ClassifierTrainer(
        layer,
        run.optimizer,
        logit_offset=run.offset() if run.has_offset else None,
        weight_decay=run.weight_decay,
        clip=run.clip_norm > 0,
        sample_rate=run.sample_rate,
        replicated=run.replicated,
        seed=run.sample_seed,
    )


def _state(trainer):
    """Own rows and slots by the names that a checkpoint has."""
    parts = {}
    for each in trainer.slices():
        parts.setdefault(each.name, []).append(each.variable.numpy())
    return {name: np.concatenate(values) for name, values in parts.items()}


def _make_step(run, trainer, collectives, strategy):
    """A traced step, as a training step calls it."""

    def replica(batch, learning_rate, step):
        classified = trainer.step(
            **batch, learning_rate=learning_rate, step=step
        )
        found = {
            "losses": classified.losses,
            "is_best": classified.is_best,
            "by_features": classified.features_gradient,
            "is_finite": classified.is_finite,
        }
        if classified.finish is None:
            return found
        before = [tf.identity(each.kernel) for each in trainer.layer.blocks]
        *summed, found["squared_norm"] = collectives.all_reduce_packed(
            [*classified.row_gradients, classified.squared_norm]
        )
        scale = tf.constant(1.0)
        if run.clip_norm:
            scale = run.clip_norm / tf.sqrt(found["squared_norm"])
        tf.cond(
            classified.is_finite,
            lambda: classified.finish(scale, summed),
            lambda: None,
        )
        return {**found, "kernel_before": tf.concat(before, axis=0)}

    @tf.function
    def step_of_worker(batch, learning_rate, step):
        return strategy.run(replica, args=(batch, learning_rate, step))

    def own(values):
        parts = np.split(values, collectives.num_workers)
        return tf.constant(parts[collectives.worker_index])

    def arguments(batch, step):
        return (
            {name: own(values) for name, values in batch.items()},
            tf.constant(run.rate(step)),
            tf.constant(step, tf.int64),
        )

    concrete = step_of_worker.get_concrete_function(*arguments(run.batch(0), 0))

    def make_step(batch, step):
        found = concrete(*arguments(batch, step))
        return {name: each.numpy() for name, each in found.items()}

    return make_step, traced_graph.num_collectives(concrete)


def _train(run, collectives, strategy):
    """All that the steps gave, and the own state at the end."""
    trainer = _make_trainer(run, collectives)
    step, num_collectives = _make_step(run, trainer, collectives, strategy)
    found = [step(run.batch(each), each) for each in range(run.num_steps)]
    return {
        "steps": {
            name: np.stack([each[name] for each in found]) for name in found[0]
        },
        "state": _state(trainer),
        "poisoned": _poison(run, trainer, step, collectives),
        "num_collectives": num_collectives,
    }


def _poison(run, trainer, step, collectives):
    """Whether a step calls itself finite, and rows stay bit for bit."""
    found = {}
    for name, key, value in (
        ("nan_features", "features", np.nan),
        ("infinite_features", "features", np.inf),
        # Logits are beyond float32, features are not.
        ("infinite_logits", "features", 3e38),
        # Nothing of the rows would be left.
        ("large_features", "features", 1e25),
        ("nan_weights", "weights", np.nan),
        ("infinite_weights", "weights", -np.inf),
        ("nothing", "weights", 0.1),
    ):
        before = _state(trainer)
        batch = run.batch(run.num_steps)
        # The last row, of the last worker.
        batch[key][-1] = value
        is_finite = bool(step(batch, run.num_steps)["is_finite"])
        after = _state(trainer)
        equal = [before[key].tobytes() == after[key].tobytes() for key in after]
        found[name] = (is_finite, all(equal), any(equal))
    return found


def _sample(run, collectives, strategy):
    """What each step gave, and the state before and after it."""
    trainer = _make_trainer(run, collectives)
    step, _ = _make_step(run, trainer, collectives, strategy)
    states, found = [_state(trainer)], []
    for number in range(run.num_steps):
        found.append(step(run.batch(number), number))
        states.append(_state(trainer))
    blocks = list(trainer.layer.block_ranges())
    return {"steps": found, "states": states, "blocks": blocks}


def results_of_worker(collectives, strategy, folder):
    """Every run; see `classifier_workers`."""
    runs = dict(_RUNS)
    if collectives.num_workers <= 2:
        runs |= {
            **_CLIPPED_RUNS,
            **_FIXED_RUNS,
            "replicated": _REPLICATED,
            "all_drawn": _ALL_DRAWN,
            "bfloat16": _BFLOAT16,
        }
    results = {
        name: _train(run, collectives, strategy) for name, run in runs.items()
    }
    if collectives.num_workers <= 2:
        results["sampled"] = _sample(_SAMPLED, collectives, strategy)
    return results


# === References ===


@functools.cache
def _expected(run):
    """Losses, gradients and norms of the steps, and state; float64 NumPy."""
    kernel, bias = dense_softmax.weights(3, dim=run.dim)
    rows = {"kernel": kernel.astype("d"), "bias": bias.astype("d")}
    slots = {
        f"{name}/{slot}": np.zeros_like(value)
        for name, value in rows.items()
        for slot in run.optimizer.slot_names
    }
    steps = []
    for step in range(run.num_steps):
        batch, rate = run.batch(step), run.rate(step)
        kernel = np.concatenate([rows["kernel"], run.fixed()], axis=1)
        found = dense_softmax.cross_entropy(
            batch["features"],
            kernel,
            rows["bias"],
            batch["labels"],
            batch["weights"],
            label_smoothing=run.label_smoothing,
            offset=run.offset(),
        )
        logits = batch["features"] @ kernel.T + rows["bias"]
        logits += run.offset()
        gradients = {
            "kernel": found.by_kernel[:, : run.dim],
            "bias": found.by_bias,
        }
        squared_norm = sum((each**2).sum() for each in gradients.values())
        steps.append(
            {
                "losses": found.losses,
                "by_features": found.by_features,
                "is_best": logits.argmax(axis=1) == batch["labels"],
                "kernel_before": rows["kernel"].copy(),
                "squared_norm": squared_norm,
            }
        )
        for name, gradient in gradients.items():
            if run.clip_norm:
                gradient = gradient * run.clip_norm / np.sqrt(squared_norm)
            decay = run.weight_decay if name == "kernel" else 0.0
            if "velocity" in run.optimizer.slot_names:
                mean, square = (
                    slots[f"{name}/{slot}"] for slot in ("momentum", "velocity")
                )
                rows[name] -= rate * decay * rows[name]
                mean += 0.1 * (gradient - mean)
                square += 0.001 * (gradient**2 - square)
                corrected = np.sqrt(1 - 0.999 ** (step + 1))
                corrected /= 1 - 0.9 ** (step + 1)
                rows[name] -= rate * corrected * mean / (np.sqrt(square) + 1e-7)
            else:
                momentum = slots[f"{name}/momentum"]
                momentum *= 0.9
                momentum -= rate * (gradient + decay * rows[name])
                rows[name] += momentum
    return {
        "steps": {
            name: np.stack([each[name] for each in steps]) for name in steps[0]
        },
        "state": {
            f"classifier/{name}": each
            for name, each in {
                **rows,
                **slots,
                **({"fixed": run.fixed()} if run.fixed_dim else {}),
            }.items()
        },
    }


def _keras_rows(run):
    """Kernel and bias after a run of plain Keras in this process."""
    dense = keras.layers.Dense(dense_softmax.NUM_CLASSES)
    dense.build((None, run.dim))
    kernel, bias = dense_softmax.weights(3)
    dense.set_weights([kernel.T, bias])
    decay = 0.0
    if isinstance(run.optimizer, row_optimizers.RowAdamW):
        optimizer = keras.optimizers.AdamW(weight_decay=run.weight_decay)
        optimizer.exclude_from_weight_decay(var_list=[dense.bias])
    else:
        optimizer = keras.optimizers.SGD(momentum=0.9)
        decay = run.weight_decay
    optimizer.build(dense.trainable_variables)

    @tf.function
    def step(features, labels, weights):
        with tf.GradientTape() as tape:
            losses = keras.losses.categorical_crossentropy(
                tf.one_hot(labels, dense_softmax.NUM_CLASSES),
                dense(features) + run.offset(),
                from_logits=True,
                label_smoothing=run.label_smoothing,
            )
            loss = tf.reduce_sum(weights * losses)
            loss += decay / 2 * tf.reduce_sum(tf.square(dense.kernel))
        gradients = tape.gradient(loss, dense.trainable_variables)
        optimizer.apply(gradients, dense.trainable_variables)

    for number in range(run.num_steps):
        optimizer.learning_rate = run.rate(number)
        step(**{key: tf.constant(v) for key, v in run.batch(number).items()})
    return dense.kernel.numpy().T, dense.bias.numpy()


def _results(num_workers, name):
    results = classifier_workers.results(__name__, num_workers)
    return [each[name] for each in results]


def _whole_state(results):
    return {
        name: np.concatenate([each["state"][name] for each in results])
        for name in results[0]["state"]
    }


def _whole_steps(results, name):
    """`[num_steps, num_rows, ...]`."""
    return np.concatenate([each["steps"][name] for each in results], axis=1)


# === Tests ===


class StepsTest(parameterized.TestCase, tf.test.TestCase):
    def check(self, actual, expected, tolerance, name):
        error = dense_softmax.relative_error(actual, expected)
        print(f"error {name}: {error:.1e}")
        self.assertLessEqual(error, tolerance, name)

    @parameterized.product(num_workers=_WORKERS, name=list(_RUNS))
    def test_equals_dense(self, num_workers, name):
        """Breaks if rows, slots or gradients drift from the dense ones."""
        results, expected = _results(num_workers, name), _expected(_RUNS[name])
        label = f"{name} M={num_workers}"
        for key in ("losses", "by_features"):
            self.check(
                _whole_steps(results, key),
                expected["steps"][key],
                1e-5,
                f"{label} {key}",
            )
        self.assertAllEqual(
            _whole_steps(results, "is_best"), expected["steps"]["is_best"]
        )
        self.assertGreater(expected["steps"]["is_best"].sum(), 0)
        state = _whole_state(results)
        self.assertEqual(set(state), set(expected["state"]))
        for key, values in state.items():
            self.check(values, expected["state"][key], 1e-5, f"{label} {key}")

    @parameterized.parameters(*_RUNS)
    def test_equals_keras(self, name):
        """Breaks if sharding a classifier changes its training."""
        kernel, bias = _keras_rows(_RUNS[name])
        for num_workers in _WORKERS:
            state = _whole_state(_results(num_workers, name))
            label = f"{name} M={num_workers} against Keras"
            self.check(
                state["classifier/kernel"], kernel, 1e-5, f"{label}, kernel"
            )
            self.check(state["classifier/bias"], bias, 1e-5, f"{label}, bias")

    @parameterized.product(num_workers=(1, 2), name=list(_FIXED_RUNS))
    def test_fixed_columns(self, num_workers, name):
        """Breaks if columns that are not trained are trained or left out,
        or widen what is sent by more than themselves."""
        results = _results(num_workers, name)
        self.check_run(results, _expected(_FIXED_RUNS[name]), name)
        if num_workers > 1:
            self.assertEqual(
                sum(results[0]["num_collectives"].values()),
                4 if "clipped" in name else 3,
            )

    @parameterized.parameters(*_FIXED_ALONE)
    def test_fixed_columns_alone(self, name):
        """Breaks if a way back knows nothing of columns without gradient."""
        run, alone = _FIXED_ALONE[name], Collectives()
        result = _train(run, alone, tf.distribute.get_strategy())
        self.check_run([result], _expected(run), f"fixed {name}")

    def check_run(self, results, expected, label):
        for key in ("losses", "by_features"):
            self.check(
                _whole_steps(results, key),
                expected["steps"][key],
                1e-5,
                f"{label} {key}",
            )
        state = _whole_state(results)
        self.assertEqual(set(state), set(expected["state"]))
        for key, values in state.items():
            self.check(values, expected["state"][key], 1e-5, f"{label} {key}")

    @parameterized.product(num_workers=(1, 2), name=list(_CLIPPED_RUNS))
    def test_clipping(self, num_workers, name):
        """Breaks if the norm is of one shard, or rows change before it."""
        results = _results(num_workers, name)
        expected = _expected(_CLIPPED_RUNS[name])
        label = f"{name} M={num_workers}"
        for result in results:
            self.check(
                result["steps"]["squared_norm"],
                expected["steps"]["squared_norm"],
                2e-6,
                f"{label} squared norm",
            )
        for key in ("losses", "by_features", "kernel_before"):
            self.check(
                _whole_steps(results, key),
                expected["steps"][key],
                1e-5,
                f"{label} {key}",
            )
        for key, values in _whole_state(results).items():
            self.check(values, expected["state"][key], 1e-5, f"{label} {key}")

    @parameterized.parameters(1, 2)
    def test_replicated(self, num_workers):
        """Breaks if workers that hold all rows drift apart."""
        results = _results(num_workers, "replicated")
        expected = _expected(_REPLICATED)
        for result in results:
            for key, values in result["state"].items():
                self.check(
                    values,
                    expected["state"][key],
                    1e-5,
                    f"replicated M={num_workers} {key}",
                )
                self.assertEqual(
                    values.tobytes(), results[0]["state"][key].tobytes()
                )

    @parameterized.parameters(1, 2)
    def test_bfloat16(self, num_workers):
        """Breaks if rows lose digits: they and their slots stay float32."""
        results = _results(num_workers, "bfloat16")
        expected = _expected(_BFLOAT16)
        state = _whole_state(results)
        for key in ("kernel/momentum", "bias/momentum"):
            self.check(
                state[f"classifier/{key}"],
                expected["state"][f"classifier/{key}"],
                0.02,
                f"bfloat16 M={num_workers} {key}",
            )
        kernel = dense_softmax.weights(3, dim=_BFLOAT16.dim)[0]
        self.assertAllEqual(
            state["classifier/kernel"],
            kernel + state["classifier/kernel/momentum"],
        )

    @parameterized.parameters(
        *((each, name) for each in _WORKERS for name in _RUNS),
        *((each, name) for each in (1, 2) for name in _CLIPPED_RUNS),
        (1, "all_drawn"),
        (2, "all_drawn"),
    )
    def test_not_finite(self, num_workers, name):
        """Breaks if one worker's NaN gets into any worker's rows."""
        for result in _results(num_workers, name):
            poisoned = result["poisoned"]
            is_finite, _, any_equal = poisoned.pop("nothing")
            self.assertTrue(is_finite)
            self.assertFalse(any_equal)
            for key, (is_finite, all_equal, _) in poisoned.items():
                self.assertFalse(is_finite, key)
                self.assertTrue(all_equal, key)

    @parameterized.product(num_workers=_WORKERS[1:], name=list(_RUNS))
    def test_collectives(self, num_workers, name):
        """Breaks if a step talks more than it says.

        Examples with labels and weights, statistics, and gradients of
        the features back.
        """
        for result in _results(num_workers, name):
            self.assertEqual(
                result["num_collectives"],
                {"CollectiveGatherV2": 2, "CollectiveAllToAllV2": 1},
            )

    @parameterized.parameters(
        {"logit_memory": 0},
        {"logit_memory": _KEPT},
        {"logit_memory": 0, "clip": True},
        {"logit_memory": 0, "sample_rate": 0.9},
    )
    def test_memory_does_not_grow_with_classes(self, logit_memory, **arguments):
        """Breaks if a tensor of rows times classes is made."""
        largest = {}
        for num_classes, block_size in ((500, 64), (2000, 64), (500, 128)):
            layer = class_sharded_dense.ClassShardedDense(
                num_classes, logit_memory=logit_memory, block_size=block_size
            )
            layer.build((None, 24))
            trainer = ClassifierTrainer(
                layer, row_optimizers.RowSGD(0.9), **arguments
            )

            @tf.function
            def step(features, labels, weights):
                classified = trainer.step(
                    features,
                    labels,
                    weights,
                    learning_rate=tf.constant(0.1),
                    step=tf.constant(0, tf.int64),
                )
                if classified.finish is not None:
                    classified.finish(tf.constant(1.0), [])

            shapes = traced_graph.tensor_shapes(
                step.get_concrete_function(
                    tf.TensorSpec([24, 24]),
                    tf.TensorSpec([24], tf.int64),
                    tf.TensorSpec([24]),
                )
            )
            # How many labels are in a block is not known, at most 24.
            shapes -= {(None,), (None, 1)}
            largest[num_classes, block_size] = traced_graph.largest_size(shapes)
            for shape in shapes:
                self.assertNotEqual(sorted(shape), [24, num_classes])
        # A block's logits or kernel, both 24 times its classes (62 or 63 of
        # at most 64, 125 of at most 128).
        self.assertLessEqual(largest[2000, 64], 24 * 64)
        self.assertLessEqual(largest[500, 64], 24 * 64)
        self.assertGreater(largest[500, 128], 24 * 64)

    @parameterized.parameters(-1, dense_softmax.NUM_CLASSES)
    def test_label_outside(self, label):
        """Breaks if a wrong label trains in silence or ends the process."""
        run, alone = _Run(), Collectives()
        trainer = _make_trainer(run, alone)
        strategy = tf.distribute.get_strategy()
        step, _ = _make_step(run, trainer, alone, strategy)
        batch, before = run.batch(0), _state(trainer)
        batch["labels"][3] = label
        with self.assertRaisesRegex(
            tf.errors.InvalidArgumentError,
            f"labels (start at 0|end before {dense_softmax.NUM_CLASSES})",
        ):
            step(batch, 0)
        for name, values in _state(trainer).items():
            self.assertEqual(values.tobytes(), before[name].tobytes())
        self.assertTrue(step(run.batch(0), 0)["is_finite"])


class SampledClassesTest(parameterized.TestCase, tf.test.TestCase):
    @parameterized.parameters(1, 2)
    def test_all_drawn(self, num_workers):
        """Breaks if a rate of 1 is not the exact step.

        Of a block of at most 126 rows, 0.9999 draws all.
        """
        results, expected = (
            _results(num_workers, "all_drawn"),
            _expected(_ALL_DRAWN),
        )
        self.assertLessEqual(
            dense_softmax.relative_error(
                _whole_steps(results, "losses"), expected["steps"]["losses"]
            ),
            2e-6,
        )
        for key, values in _whole_state(results).items():
            error = dense_softmax.relative_error(values, expected["state"][key])
            print(f"error all drawn M={num_workers} {key}: {error:.1e}")
            self.assertLessEqual(error, 1e-5, key)

    def steps(self, results):
        """For each step: results, states before and after, and who is drawn.

        A drawn row's momentum changes; those of the others, and their rows
        and biases, must not.
        """
        for number in range(len(results[0]["steps"])):
            before, after = (
                {
                    name: np.concatenate(
                        [each["states"][each_state][name] for each in results]
                    )
                    for name in results[0]["states"][0]
                }
                for each_state in (number, number + 1)
            )
            changed = {
                name: (before[name] != after[name])
                .reshape(dense_softmax.NUM_CLASSES, -1)
                .any(axis=1)
                for name in after
            }
            steps = [each["steps"][number] for each in results]
            drawn = changed["classifier/kernel/momentum"]
            yield number, steps, before, after, changed, drawn

    @parameterized.parameters(1, 2)
    def test_drawn_rows_alone_change(self, num_workers):
        """Breaks if momentum moves rows that a step does not see."""
        results = _results(num_workers, "sampled")
        blocks = [block for each in results for block in each["blocks"]]
        for number, _, _, _, changed, drawn in self.steps(results):
            labels = _SAMPLED.batch(number)["labels"]
            self.assertTrue(drawn[labels].all())
            for first, last in blocks:
                # Rounded up; more than the 24 labels that a block may have.
                self.assertEqual(
                    drawn[first:last].sum(), int(np.ceil(0.3 * (last - first)))
                )
            for name, each in changed.items():
                self.assertFalse((each & ~drawn).any(), name)

    @parameterized.parameters(1, 2)
    def test_equals_dense_of_drawn(self, num_workers):
        """Breaks if drawn classes don't count for those left out."""
        results = _results(num_workers, "sampled")
        blocks = [block for each in results for block in each["blocks"]]
        for number, steps, before, after, _, drawn in self.steps(results):
            batch = _SAMPLED.batch(number)
            is_label = np.zeros(dense_softmax.NUM_CLASSES, bool)
            is_label[batch["labels"]] = True
            offset = np.zeros(dense_softmax.NUM_CLASSES)
            for first, last in blocks:
                others = ~is_label[first:last]
                chance = (drawn[first:last] & others).sum() / others.sum()
                offset[first:last][others] = -np.log(chance)
            expected = dense_softmax.cross_entropy(
                batch["features"],
                before["classifier/kernel"][drawn],
                before["classifier/bias"][drawn],
                np.searchsorted(np.flatnonzero(drawn), batch["labels"]),
                batch["weights"],
                offset=offset[drawn],
            )
            momentum = before["classifier/kernel/momentum"][drawn].astype("d")
            momentum *= 0.9
            momentum -= _SAMPLED.rate(number) * expected.by_kernel
            actual = {
                key: np.concatenate([each[key] for each in steps])
                for key in ("losses", "by_features")
            }
            for key, values, wanted in (
                ("losses", actual["losses"], expected.losses),
                ("by_features", actual["by_features"], expected.by_features),
                (
                    "momentum",
                    after["classifier/kernel/momentum"][drawn],
                    momentum,
                ),
                (
                    "kernel",
                    after["classifier/kernel"][drawn],
                    before["classifier/kernel"][drawn] + momentum,
                ),
            ):
                error = dense_softmax.relative_error(values, wanted)
                print(f"error sampled M={num_workers} {key}: {error:.1e}")
                self.assertLessEqual(error, 2e-6, key)

    def test_draws(self):
        """Breaks if a resumed run draws other classes, or always the same."""
        results = _results(1, "sampled")
        (*_, first), (*_, second) = self.steps(results)
        alone = Collectives()
        strategy = tf.distribute.get_strategy()
        again = _sample(_SAMPLED, alone, strategy)
        for name, values in again["states"][-1].items():
            self.assertEqual(
                values.tobytes(), results[0]["states"][-1][name].tobytes()
            )
        other_seed = dataclasses.replace(_SAMPLED, sample_seed=1, num_steps=1)
        ((*_, other),) = self.steps([_sample(other_seed, alone, strategy)])
        # 30 % of 1003 classes and some labels; by chance they share a third.
        for left, right in ((first, second), (first, other)):
            self.assertLess((left & right).sum(), 0.6 * left.sum())

    @parameterized.parameters((0.3, 18, 400), (0.01, 6, 2000))
    def test_expected_sum(self, sample_rate, num_drawn, num_draws):
        """Breaks if the sum of exponentials is biased.

        One block of 60 classes, of which 5 are labels. 18 drawn: 13 of the
        other 55 without replacement. A rate of 0.01 is 1 class, but labels
        and one of the others are always drawn, or these had no chance. Sums
        over draws of k of n values spread by n^2 (1 - k / n) s^2 / k; their
        mean is within 5 deviations.
        """
        num_classes = 60
        layer = class_sharded_dense.ClassShardedDense(num_classes)
        layer.build((None, 8))
        kernel, bias = dense_softmax.weights(3, num_classes, 8)
        layer.blocks[0].kernel.assign(kernel)
        layer.blocks[0].bias.assign(bias)
        trainer = ClassifierTrainer(
            layer, row_optimizers.RowSGD(0.9), sample_rate=sample_rate
        )
        random = np.random.default_rng(0)
        features = random.normal(size=[5, 8]).astype(np.float32)
        labels = np.array([0, 7, 30, 31, 59])

        @tf.function
        def losses(step):
            return trainer.step(
                tf.constant(features),
                tf.constant(labels),
                tf.ones([5]),
                learning_rate=tf.constant(0.0),
                step=step,
            ).losses

        logits = features.astype("d") @ kernel.T.astype("d") + bias
        targets = logits[np.arange(5), labels]
        sums = [
            np.exp(losses(tf.constant(step, tf.int64)).numpy() + targets)
            for step in range(num_draws)
        ]
        others = np.delete(np.exp(logits), labels, axis=1)
        n, k = 55, num_drawn - 5
        variance = n**2 * (1 - k / n) / k * others.var(axis=1, ddof=1)
        error = np.mean(sums, axis=0) - np.exp(logits).sum(axis=1)
        deviations = error / np.sqrt(variance / num_draws)
        print(f"deviations of expected sums: {np.round(deviations, 1)}")
        self.assertAllInRange(deviations, -5.0, 5.0)
        # And the draws do spread as they should.
        self.assertAllInRange(np.var(sums, axis=0) / variance, 0.5, 2.0)

    @parameterized.parameters(0.0, 1.1, -0.5)
    def test_rate_outside(self, sample_rate):
        """Breaks if a percentage passes for a share."""
        layer = class_sharded_dense.ClassShardedDense(5)
        layer.build((None, 3))
        with self.assertRaisesRegex(ValueError, f"received {sample_rate}"):
            ClassifierTrainer(
                layer, row_optimizers.RowSGD(0.9), sample_rate=sample_rate
            )

    def test_refused(self):
        """Breaks if an option is silently computed over drawn classes."""
        for arguments, smoothing in (
            ({"clip": True}, 0.0),
            ({"replicated": True}, 0.0),
            ({}, 0.1),
        ):
            layer = class_sharded_dense.ClassShardedDense(
                5, label_smoothing=smoothing
            )
            layer.build((None, 3))
            with self.assertRaisesRegex(ValueError, "without --sample_rate"):
                ClassifierTrainer(
                    layer,
                    row_optimizers.RowSGD(0.9),
                    sample_rate=0.5,
                    **arguments,
                )


if __name__ == "__main__":
    tf.test.main()
