"""What the class-sharded classifier costs: time, memory, bytes on the wire.

A step is forward, backward and update with momentum, float32. It is compared
with a floor measured in the same round of the same process:

products  three matrix products of the step's shape, each by the faster of
          TensorFlow (oneDNN) and XLA and in the faster of two layouts
floor     the products, one read and write of weights and momentum, and two
          exponentials a logit, each a bare compiled op

and with plain Keras: Dense, sparse categorical cross-entropy with logits and
SGD with momentum, the faster of compiled and not. `kept` keeps the logits for
the backward pass, `recomputed` does not (four products), `clipped` adds the
norm of the gradient. Memory is that of a fresh process above what it had
after importing and warming up, over the size of the weights.

Times are medians over rounds; ratios are medians of the rounds' ratios, with
the lowest and highest. CPU is the same ratio of processor time over all
threads, which other work on the machine disturbs less. Linux only.
"""

import argparse
import collections
import functools
import json
import multiprocessing
import multiprocessing.connection
import os
import pathlib
import signal
import socket
import statistics
import struct
import sys
import time
from collections.abc import Callable
from typing import Any
from typing import NamedTuple

import keras
import numpy as np
import tensorflow as tf
import tqdm

from sicot_tf import config
from sicot_tf import plan
from sicot_tf.distribute import cluster
from sicot_tf.distribute import collectives as collectives_module
from sicot_tf.model import class_sharded_dense
from sicot_tf.model import row_optimizers
from sicot_tf.model import shard_trainer
from sicot_tf.model import sicot
from sicot_tf.model import training_step

_EXAMPLES = """
examples:
  # 10k, 100k and 1M classes, 128 and 512 features: about 15 minutes on 2
  # cores, 13 GB of memory
  TF_CPP_MIN_LOG_LEVEL=2 python benchmarks/sharded_head.py

  # 10k and 100k classes, 128 features: 3 minutes
  TF_CPP_MIN_LOG_LEVEL=2 python benchmarks/sharded_head.py --quick

  # One shape
  python benchmarks/sharded_head.py --num_classes 1000000 --dim 128
"""

# Of the logits; enough for all here, and nothing.
_HEAD_MEMORY = {"kept": 2**40, "recomputed": 0}
_WAYS = ("kept", "recomputed", "kept clipped", "recomputed clipped")
_FLOOR = (
    "logits product",
    "features product",
    "rows product",
    "exponential",
    "update",
)
_AIMS = {"kept": 1.25, "recomputed": 1.6}
_MEMORY_AIM = 2.6
_WIRE_AIM = 0.05
_STEPS_ON_THE_WIRE = 20


class Case(NamedTuple):
    """Shape of a step: C classes, D features, N rows of all workers."""

    num_classes: int
    dim: int
    num_rows: int

    @property
    def weight_bytes(self) -> int:
        """Kernel and bias in float32."""
        return 4 * self.num_classes * (self.dim + 1)

    def __str__(self) -> str:
        return (
            f"C {self.num_classes:>9,}  D {self.dim:>3}  N {self.num_rows:>3}"
        )


# === Fresh processes ===


def in_fresh_processes(
    function: Callable, *arguments: Any, num_workers: int = 1
) -> list[Any]:
    """What a function returns in new processes, which form one cluster."""
    context = multiprocessing.get_context("spawn")
    sockets = [socket.socket() for _ in range(num_workers)]
    for each in sockets:
        each.bind(("127.0.0.1", 0))
    addresses = [f"127.0.0.1:{each.getsockname()[1]}" for each in sockets]
    for each in sockets:
        each.close()
    workers, ends = [], []
    for index in range(num_workers):
        environment = {"TF_CPP_MIN_LOG_LEVEL": "2"}
        if num_workers > 1:
            job = {
                "cluster": {"worker": addresses},
                "task": {"type": "worker", "index": index},
            }
            # As `sicot_tf.train --num_workers` starts them.
            threads = max(1, os.cpu_count() // num_workers)
            environment["TF_CONFIG"] = json.dumps(job)
            environment["TF_NUM_INTRAOP_THREADS"] = str(threads)
            environment["OMP_NUM_THREADS"] = str(threads)
        end, far_end = context.Pipe(duplex=False)
        worker = context.Process(
            target=_call, args=(far_end, environment, function, arguments)
        )
        worker.start()
        far_end.close()
        workers.append(worker)
        ends.append(end)
    found = {}
    try:
        while len(found) < num_workers:
            waiting = [end for end in ends if end not in found]
            for end in multiprocessing.connection.wait(waiting):
                found[end] = end.recv()
    except EOFError:
        raise RuntimeError(
            f"A process that measured {function.__name__} {arguments} ended "
            "early. Its error is above; without one, memory ran out."
        ) from None
    finally:
        for worker in workers:
            worker.kill()
            worker.join()
    return [found[end] for end in ends]


def _call(
    end: multiprocessing.connection.Connection,
    environment: dict[str, str],
    function: Callable,
    arguments: tuple,
) -> None:
    os.environ.update(environment)
    end.send(function(*arguments))
    # Whoever left first would disturb the other workers.
    signal.pause()


# === Steps ===


def make_rows(case: Case, num_rows: int) -> tuple[tf.Tensor, ...]:
    """Features, labels and upstream gradient of a worker's rows."""
    return (
        tf.random.stateless_normal([num_rows, case.dim], [0, 0]),
        tf.random.stateless_uniform(
            [num_rows], [0, 1], 0, case.num_classes, tf.int64
        ),
        tf.fill([num_rows], 1.0 / case.num_rows),
    )


def make_trainer(
    case: Case, collectives: collectives_module.Collectives | None = None
) -> shard_trainer.ShardTrainer:
    """The classifier with its slots."""
    layer = class_sharded_dense.ClassShardedDense(
        case.num_classes, collectives=collectives, name="classifier"
    )
    layer.build((None, case.dim))
    return shard_trainer.ShardTrainer(layer, row_optimizers.RowSGD(0.9))


def make_step(
    trainer: shard_trainer.ShardTrainer,
    way: str,
    rows: tuple[tf.Tensor, ...],
    strategy: tf.distribute.Strategy | None = None,
) -> tf.types.experimental.ConcreteFunction:
    """A traced step; several ways share the rows and slots of one trainer."""
    memory, *clipped = way.split()
    trainer.layer.head_memory = _HEAD_MEMORY[memory]
    trainer.clip = bool(clipped)

    def replica_step(*rows: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        head = trainer.step(
            *rows,
            learning_rate=tf.constant(0.1),
            step=tf.constant(0, tf.int64),
        )
        if head.finish is not None:
            squared_norm = trainer.layer.collectives.all_reduce(
                head.squared_norm[None]
            )[0]
            head.finish(tf.minimum(1.0, tf.math.rsqrt(squared_norm)))
        return head.losses, head.features_gradient

    @tf.function
    def step(*rows: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        if strategy is None:
            return replica_step(*rows)
        return strategy.run(replica_step, args=rows)

    return step.get_concrete_function(*rows)


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

    features, labels, _ = make_rows(case, case.num_rows)
    return {
        name: functools.partial(
            tf.function(step, jit_compile=compiled), features, labels
        )
        for name, compiled in (("Keras", False), ("Keras, XLA", True))
    }


def make_floor(case: Case) -> tuple[dict[str, Callable], dict[str, str]]:
    """The bare ops of a step, and which engine and layout each product takes.

    Logits and their gradients are `[N, C]`, or transposed `[C, N]`.
    """
    features, _, _ = make_rows(case, case.num_rows)
    kernel = tf.Variable(
        tf.random.stateless_normal([case.num_classes, case.dim], [0, 2])
    )
    momentum = tf.Variable(tf.zeros_like(kernel))
    by_logit = tf.random.stateless_normal(
        [case.num_rows, case.num_classes], [0, 3]
    )
    transposed = tf.transpose(by_logit)
    matmul = tf.matmul
    products = {
        "logits product": {
            "[N, C]": lambda: matmul(features, kernel, transpose_b=True),
            "[C, N]": lambda: matmul(kernel, features, transpose_b=True),
        },
        "features product": {
            "[N, C]": lambda p: matmul(p, kernel),
            "[C, N]": lambda p: matmul(p, kernel, transpose_a=True),
        },
        "rows product": {
            "[N, C]": lambda p: matmul(p, features, transpose_a=True),
            "[C, N]": lambda p: matmul(p, features),
        },
    }
    inputs = {"[N, C]": by_logit, "[C, N]": transposed}
    ops, chosen = {}, {}
    for name, layouts in products.items():
        candidates = {}
        for layout, product in layouts.items():
            arguments = () if name == "logits product" else (inputs[layout],)
            for engine in ("TensorFlow", "XLA"):
                compiled = tf.function(
                    product, jit_compile=engine == "XLA", autograph=False
                )
                candidates[f"{engine} {layout}"] = functools.partial(
                    compiled, *arguments
                )
        times = time_rounds(candidates, num_rounds=3)
        chosen[name] = min(times, key=lambda each: min(times[each])[0])
        ops[name] = candidates[chosen[name]]
    logits = tf.Variable(by_logit)

    @tf.function(jit_compile=True)
    def exponential() -> None:
        # Of small numbers: their exponentials stay finite.
        logits.assign(tf.exp(1e-3 * logits))

    @tf.function(jit_compile=True)
    def update() -> None:
        velocity = 0.9 * momentum + 1e-6
        momentum.assign(velocity)
        kernel.assign_add(velocity)

    ops |= {"exponential": exponential, "update": update}
    return ops, chosen


# === Time ===


def time_rounds(
    functions: dict[str, Callable],
    num_rounds: int,
    max_seconds: float = float("inf"),
) -> dict[str, list[tuple[float, float]]]:
    """Wall and processor seconds of each function in each round."""
    for function in functions.values():
        function()
    times = collections.defaultdict(list)
    deadline = time.monotonic() + max_seconds
    for number in range(num_rounds):
        for name, function in functions.items():
            processor, wall = time.process_time(), time.perf_counter()
            function()
            times[name].append(
                (time.perf_counter() - wall, time.process_time() - processor)
            )
        # A range needs three.
        if number >= 2 and time.monotonic() > deadline:
            break
    return dict(times)


def time_steps(
    case: Case, plain_keras: bool, num_rounds: int
) -> tuple[dict[str, list], dict[str, str]]:
    """Times of steps and of their floor, in one process."""
    ops, chosen = make_floor(case)
    if plain_keras:
        steps = make_keras_steps(case)
    else:
        rows = make_rows(case, case.num_rows)
        trainer = make_trainer(case)
        steps = {
            way: functools.partial(make_step(trainer, way, rows), *rows)
            for way in _WAYS
        }
    return time_rounds(ops | steps, num_rounds, max_seconds=60), chosen


class Ratio(NamedTuple):
    """Median, lowest and highest of the rounds."""

    median: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.median:5.2f} ({self.low:.2f}-{self.high:.2f})"


def ratio(
    times: dict[str, list], name: str, base: str, clock: int = 0
) -> Ratio:
    """A step over "products" or "floor", round by round."""
    counts = {each: 1 for each in _FLOOR}
    counts["exponential"] = 2
    if base == "products":
        counts = {each: 1 for each in _FLOOR[:3]}
    found = [
        step[clock]
        / sum(count * times[op][number][clock] for op, count in counts.items())
        for number, step in enumerate(times[name])
    ]
    return Ratio(statistics.median(found), min(found), max(found))


def milliseconds(times: dict[str, list], name: str) -> float:
    """Median over the rounds."""
    return 1e3 * statistics.median(wall for wall, _ in times[name])


# === Memory ===


def measure_memory(case: Case, way: str) -> tuple[float, float]:
    """Largest resident memory over the weights, during steps and with building.

    What the process had after importing and warming up does not count.
    """
    size = 2048
    for compiled in (False, True):
        square = tf.ones([size, size])
        tf.function(tf.matmul, jit_compile=compiled)(square, square)
    del square
    before = _resident_bytes("VmRSS")
    if way.startswith("Keras"):
        step = make_keras_steps(case)[way]
    else:
        rows = make_rows(case, case.num_rows)
        step = functools.partial(
            make_step(make_trainer(case), way, rows), *rows
        )
    building = _resident_bytes("VmHWM")
    # The next largest value counts from here, proc_pid_clear_refs(5).
    pathlib.Path("/proc/self/clear_refs").write_text("5")
    for _ in range(3):
        step()
    stepping = _resident_bytes("VmHWM")
    return (
        (stepping - before) / case.weight_bytes,
        (max(building, stepping) - before) / case.weight_bytes,
    )


def _resident_bytes(name: str) -> int:
    return 1024 * _kilobytes("/proc/self/status", name)


def _kilobytes(path: str, name: str) -> int:
    for line in pathlib.Path(path).read_text().splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1])
    raise ValueError(f"Expected a line {name} in {path}, found none.")


def keras_fits(case: Case) -> bool:
    """Whether there is memory for plain Keras and its floor.

    Weights, momentum, gradient and a copy; five arrays of the logits' size.
    The floor has weights, momentum and three of those arrays.
    """
    logits = 4 * case.num_rows * case.num_classes
    needed = 6 * case.weight_bytes + 8 * logits
    return needed < 1024 * _kilobytes("/proc/meminfo", "MemAvailable")


# === Two workers ===


class Wire(NamedTuple):
    """What worker 0 sent in a step, and how long it took.

    sent: bytes that its sockets had acknowledged. overhead: of the transport
    for the same collectives with next to nothing in them. expected: by
    `plan`. num_collectives: of each kind, in the traced step.
    """

    sent: float
    overhead: float
    expected: int
    num_collectives: dict[str, int]
    seconds: dict[str, float]


def measure_wire(case: Case, with_backbone: bool) -> Wire:
    """Runs on every worker."""
    strategy = cluster.make_strategy()
    num_workers = cluster.num_workers()
    resolver = strategy.cluster_resolver
    collectives = collectives_module.Collectives(num_workers, resolver.task_id)
    trainer = make_trainer(case, collectives)
    num_packed = 0
    steps = {}
    if with_backbone:
        step, num_packed = _training_step(case, trainer, strategy)
        steps["kept"] = step
    else:
        rows = make_rows(case, case.num_rows // num_workers)
        for way in ("kept", "recomputed"):
            traced = make_step(trainer, way, rows, strategy)
            steps[way] = functools.partial(traced, *rows)

    @tf.function
    def nearly_empty() -> tf.Tensor:
        one = tf.ones([num_workers, 1])
        first = collectives.gather(one[:1])
        second = collectives.gather(first[:1] + 1.0)
        third = collectives.reduce_scatter(second[:1] + one)
        if with_backbone:
            third = collectives.all_reduce(third[0])
        return third

    sent, seconds = {}, {}
    for name, step in {**steps, "nearly empty": nearly_empty}.items():
        step()
        collectives.wait_for_all()
        before, start = _sent_bytes(), time.perf_counter()
        for _ in range(_STEPS_ON_THE_WIRE):
            step()
        seconds[name] = (time.perf_counter() - start) / _STEPS_ON_THE_WIRE
        sent[name] = (_sent_bytes() - before) / _STEPS_ON_THE_WIRE
    job = plan.Job(
        num_classes=case.num_classes,
        embedding_dim=case.dim,
        num_workers=num_workers,
        global_batch_size=case.num_rows,
        num_streams=1,
        backbone_parameters=num_packed,
    )
    return Wire(
        sent["kept"],
        sent["nearly empty"],
        sum(plan.sent_bytes(job, "sharded").values()),
        _count_collectives(traced if not with_backbone else step_graph(steps)),
        seconds,
    )
