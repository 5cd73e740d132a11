"""Steps that `classifier_step.py` measures: ours, Keras's, and the floor."""

import dataclasses
import functools
from collections.abc import Callable
from typing import NamedTuple

import keras
import numpy as np
import tensorflow as tf

from benchmarks.training import classifier_step_meters as meters
from sicot_tf import config
from sicot_tf.model import sicot
from sicot_tf.model.classifier import row_optimizers
from sicot_tf.model.classifier.class_sharded_dense import ClassShardedDense
from sicot_tf.model.classifier.classifier_trainer import ClassifierTrainer
from sicot_tf.training.losses import make_losses
from sicot_tf.training.optimizers import StreamsOptimizer
from sicot_tf.training.step import TrainingStep
from sicot_tf.workers.collectives import Collectives

WAYS = ("kept", "recomputed", "kept clipped", "recomputed clipped")
KERAS_WAYS = ("Keras", "Keras, XLA")
PRODUCTS = ("logits product", "features product", "rows product")
# How often each bare op counts.
FLOOR = {**dict.fromkeys(PRODUCTS, 1), "exponential": 2, "update": 1}
# Enough for the logits of all cases, and for none.
_LOGIT_MEMORY = {"kept": 2**40, "recomputed": 0}


class Case(NamedTuple):
    """Shape of a step: C classes, D features, N examples of all workers."""

    num_classes: int
    dim: int
    num_examples: int

    @property
    def weight_bytes(self) -> int:
        """Kernel and bias in float32."""
        return 4 * self.num_classes * (self.dim + 1)

    def __str__(self) -> str:
        return (
            f"C {self.num_classes:>9,}  D {self.dim:>3}  "
            f"N {self.num_examples:>3}"
        )


def make_examples(case: Case, num_workers: int = 1) -> tuple[tf.Tensor, ...]:
    """Features, labels and weights of a worker's examples."""
    num_examples = case.num_examples // num_workers
    return (
        tf.random.stateless_normal([num_examples, case.dim], [0, 0]),
        tf.random.stateless_uniform(
            [num_examples], [0, 1], 0, case.num_classes, tf.int64
        ),
        tf.fill([num_examples], 1.0 / case.num_examples),
    )


# === The sharded classifier ===


def make_trainer(
    case: Case, collectives: Collectives | None = None
) -> ClassifierTrainer:
    """The classifier with its slots."""
    layer = ClassShardedDense(
        case.num_classes, collectives=collectives, name="classifier"
    )
    layer.build((None, case.dim))
    return ClassifierTrainer(layer, row_optimizers.RowSGD(0.9))


def make_step(
    trainer: ClassifierTrainer,
    way: str,
    examples: tuple[tf.Tensor, ...],
    strategy: tf.distribute.Strategy | None = None,
) -> tf.types.experimental.ConcreteFunction:
    """A traced step; several ways share one trainer's weights."""
    memory, *clipped = way.split()
    trainer.layer.logit_memory = _LOGIT_MEMORY[memory]
    trainer.clip = bool(clipped)

    def replica_step(*examples: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        classified = trainer.step(
            *examples,
            learning_rate=tf.constant(0.1),
            step=tf.constant(0, tf.int64),
        )
        if classified.finish is not None:
            classified.finish(
                tf.minimum(1.0, tf.math.rsqrt(classified.squared_norm)), []
            )
        return classified.losses, classified.features_gradient

    @tf.function
    def step(*examples: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        if strategy is None:
            return replica_step(*examples)
        return strategy.run(replica_step, args=examples)

    return step.get_concrete_function(*examples)


def make_whole_step(
    case: Case,
    trainer: ClassifierTrainer,
    strategy: tf.distribute.Strategy,
) -> tuple[tf.types.experimental.ConcreteFunction, tuple]:
    """The step of `sicot_tf.train` with a small backbone of 128 features."""
    model_config = dataclasses.replace(
        config.ModelConfig(),
        streams="visual",
        backbone="SmallCNN",
        backbone_weights="none",
        image_size=32,
    )
    train_config = config.TrainConfig()
    streams = sicot.build_streams(model_config)
    collectives = trainer.layer.collectives
    trainer.layer.logit_memory = _LOGIT_MEMORY["kept"]
    trainer.clip = train_config.clip_norm > 0
    step = TrainingStep(
        streams,
        trainer,
        StreamsOptimizer(streams, train_config, steps_per_epoch=100),
        make_losses(train_config, np.ones([case.num_classes], int)),
        tf.zeros([case.num_classes]),
        collectives=collectives,
    ).compiled(strategy)
    _, labels, weights = make_examples(case, collectives.num_workers)
    arguments = (
        {
            "image": tf.zeros([*labels.shape, 32, 32, 3]),
            "label": labels,
            "weight": tf.ones_like(weights),
        },
        tf.constant(float(case.num_examples)),
        tf.constant(0, tf.int64),
        tf.constant(0.0),
    )
    return step.get_concrete_function(*arguments), arguments


# === Plain Keras ===


def make_keras_steps(case: Case) -> dict[str, Callable]:
    """Steps of plain Keras, compiled and not, on the same variables."""
    dense = keras.layers.Dense(case.num_classes)
    dense.build((None, case.dim))
    optimizer = keras.optimizers.SGD(0.1, momentum=0.9)
    optimizer.build(dense.trainable_variables)
    cross_entropy = keras.losses.SparseCategoricalCrossentropy(from_logits=True)

    def step(features: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
        with tf.GradientTape() as tape:
            tape.watch(features)
            loss = cross_entropy(labels, dense(features))
        by_features, *gradients = tape.gradient(
            loss, [features, *dense.trainable_variables]
        )
        optimizer.apply(gradients)
        return by_features

    features, labels, _ = make_examples(case)
    return {
        way: functools.partial(
            tf.function(step, jit_compile=compiled), features, labels
        )
        for way, compiled in zip(KERAS_WAYS, (False, True))
    }


def keras_fits(case: Case) -> bool:
    """Whether there is memory for plain Keras beside its floor.

    Weights, momentum, gradient and a copy, and five arrays of the logits'
    size; the floor has weights and momentum, and three such arrays.
    """
    logits = 4 * case.num_examples * case.num_classes
    needed = 6 * case.weight_bytes + 8 * logits
    return needed < meters.available_bytes()


# === The floor ===


def make_floor(case: Case) -> tuple[dict[str, Callable], dict[str, str]]:
    """Bare ops of a step, and engine and layout that each product takes.

    Logits and their gradients are `[N, C]` or transposed, `[C, N]`.
    """
    features, _, _ = make_examples(case)
    kernel = tf.Variable(
        tf.random.stateless_normal([case.num_classes, case.dim], [0, 2])
    )
    momentum = tf.Variable(tf.zeros_like(kernel))
    by_logit = {
        "[N, C]": tf.random.stateless_normal(
            [case.num_examples, case.num_classes], [0, 3]
        )
    }
    by_logit["[C, N]"] = tf.transpose(by_logit["[N, C]"])
    logits = tf.Variable(by_logit["[N, C]"])
    candidates = {name: {} for name in PRODUCTS}
    for layout, array in by_logit.items():
        is_transposed = layout == "[C, N]"
        pair = (kernel, features) if is_transposed else (features, kernel)
        for name, operands, transposition in (
            ("logits product", pair, {"transpose_b": True}),
            (
                "features product",
                (array, kernel),
                {"transpose_a": is_transposed},
            ),
            (
                "rows product",
                (array, features),
                {"transpose_a": not is_transposed},
            ),
        ):
            for engine in ("TensorFlow", "XLA"):
                product = tf.function(
                    functools.partial(tf.matmul, **transposition),
                    jit_compile=engine == "XLA",
                )
                candidates[name][f"{engine} {layout}"] = functools.partial(
                    product, *operands
                )
    ops, chosen = {}, {}
    for name, products in candidates.items():
        times = meters.time_rounds(products, num_rounds=3)
        chosen[name] = min(times, key=lambda each: min(times[each]))
        ops[name] = products[chosen[name]]

    @tf.function(jit_compile=True)
    def exponential() -> None:
        # Of small numbers, so that they stay finite.
        logits.assign(tf.exp(1e-3 * logits))

    @tf.function(jit_compile=True)
    def update() -> None:
        velocity = 0.9 * momentum + 1e-6
        momentum.assign(velocity)
        kernel.assign_add(velocity)

    return ops | {"exponential": exponential, "update": update}, chosen
