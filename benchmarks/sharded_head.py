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
import dataclasses
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
import time
from collections.abc import Callable
from typing import Any
from typing import NamedTuple

import keras
import tensorflow as tf

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
    """A step of worker 0 and what it sent.

    num_collectives: of each kind, in the traced step. sent: bytes that the
    other end has acknowledged. expected: by `plan.sent_bytes`. overhead: of
    the transport, for the same collectives with next to nothing in them.
    """

    milliseconds: float
    num_collectives: dict[str, int]
    sent: float
    expected: int
    overhead: float


def measure_wire(case: Case, ways: tuple[str, ...]) -> dict[str, Wire]:
    """Steps of a classifier, or of a whole small model; on every worker."""
    strategy = cluster.make_strategy()
    collectives = collectives_module.Collectives(
        cluster.num_workers(), strategy.cluster_resolver.task_id
    )
    trainer = make_trainer(case, collectives)
    found = {}
    for way in ways:
        if way == "training step":
            step, arguments = make_training_step(case, trainer, strategy)
        else:
            arguments = make_rows(
                case, case.num_rows // collectives.num_workers
            )
            step = make_step(trainer, way, arguments, strategy)
        found[way] = _measure_wire(
            case, step, functools.partial(step, *arguments), collectives
        )
    return found


def _measure_wire(
    case: Case,
    traced: tf.types.experimental.ConcreteFunction,
    step: Callable,
    collectives: collectives_module.Collectives,
) -> Wire:
    sizes = _collective_sizes(traced)
    reduced = sum(sizes["CollectiveReduceV2"])

    @tf.function
    def nearly_empty() -> tf.Tensor:
        one = tf.ones([collectives.num_workers, 1])
        for _ in sizes["CollectiveGatherV2"]:
            one = collectives.gather(one[:1])
        for _ in sizes["CollectiveAllToAllV2"]:
            one += collectives.reduce_scatter(one)
        for _ in sizes["CollectiveReduceV2"]:
            one = collectives.all_reduce(one)
        return one

    sent, times = [], []
    for function in (step, nearly_empty):
        function()
        collectives.wait_for_all()
        before = _sent_bytes()
        for _ in range(_STEPS_ON_THE_WIRE):
            start = time.perf_counter()
            function()
            times.append(time.perf_counter() - start)
        collectives.wait_for_all()
        sent.append((_sent_bytes() - before) / _STEPS_ON_THE_WIRE)
    job = plan.Job(
        num_classes=case.num_classes,
        embedding_dim=case.dim,
        num_workers=collectives.num_workers,
        global_batch_size=case.num_rows,
        num_streams=1,
        backbone_parameters=reduced,
    )
    return Wire(
        1e3 * statistics.median(times[:_STEPS_ON_THE_WIRE]),
        {name: len(each) for name, each in sizes.items() if each},
        sent[0],
        sum(plan.sent_bytes(job, "sharded").values()),
        sent[1],
    )


def make_training_step(
    case: Case,
    trainer: shard_trainer.ShardTrainer,
    strategy: tf.distribute.Strategy,
) -> tuple[tf.types.experimental.ConcreteFunction, tuple]:
    """The step of `sicot_tf.train` with a small backbone, 128 features."""
    model_config = dataclasses.replace(
        config.ModelConfig(),
        streams="visual",
        backbone="SmallCNN",
        backbone_weights="none",
        image_size=32,
    )
    train_config = config.TrainConfig()
    streams = sicot.build_streams(model_config)
    optimizer = training_step.make_optimizer(train_config)
    optimizer.build(streams.trainable_variables)
    collectives = trainer.layer.collectives
    trainer.layer.head_memory = _HEAD_MEMORY["kept"]
    trainer.clip = train_config.clip_norm > 0
    step = training_step.make_training_step(
        strategy,
        streams,
        trainer,
        optimizer,
        training_step.make_schedule(train_config, steps_per_epoch=100),
        train_config,
        tf.zeros([case.num_classes]),
        collectives=collectives,
    )
    num_rows = case.num_rows // collectives.num_workers
    _, labels, weights = make_rows(case, num_rows)
    batch = {
        "image": tf.zeros([num_rows, 32, 32, 3]),
        "label": labels,
        "weight": tf.ones_like(weights),
    }
    arguments = (
        batch,
        tf.constant(float(case.num_rows)),
        tf.constant(0, tf.int64),
        tf.constant(0.0),
    )
    return step.get_concrete_function(*arguments), arguments


def _collective_sizes(
    traced: tf.types.experimental.ConcreteFunction,
) -> dict[str, list[int]]:
    """Numbers that each collective gives back, by its kind."""
    graph = traced.graph.as_graph_def(add_shapes=True)
    sizes = collections.defaultdict(list)
    for nodes in (
        graph.node,
        *(function.node_def for function in graph.library.function),
    ):
        for node in nodes:
            if node.op.startswith("Collective"):
                shape = node.attr["_output_shapes"].list.shape[0]
                size = tf.TensorShape(shape).num_elements()
                # The shape of a gather is not inferred.
                sizes[node.op].append(size or 0)
    return sizes


def _sent_bytes() -> int:
    """Bytes that other processes have acknowledged, over all TCP sockets."""
    # The other end may still be reading.
    time.sleep(0.2)
    total = 0
    for path in pathlib.Path("/proc/self/fd").iterdir():
        try:
            if not os.readlink(path).startswith("socket:"):
                continue
            copy = socket.socket(fileno=os.dup(int(path.name)))
        except FileNotFoundError:
            continue
        with copy:
            if copy.family in (socket.AF_INET, socket.AF_INET6):
                information = copy.getsockopt(
                    socket.IPPROTO_TCP, socket.TCP_INFO, 256
                )
                # tcpi_bytes_acked in linux/tcp.h.
                total += struct.unpack_from("Q", information, 120)[0]
    return total


# === Tables ===


def print_times(
    cases: list[Case], num_rounds: int
) -> dict[Case, dict[str, Ratio]]:
    """Steps and plain Keras over products and floor; what the aims need."""
    over_floor = collections.defaultdict(dict)
    print("\nTime of a step")
    print(
        f"{'':33}{'way':<20}{'ms':>8}  {'over products':<19}"
        f"{'over floor':<19}{'CPU over floor'}"
    )
    for case in cases:
        for plain_keras in (False, True):
            if plain_keras and not keras_fits(case):
                print(f"{case}  Keras{'':17}skipped: not enough memory")
                continue
            [(times, chosen)] = in_fresh_processes(
                time_steps, case, plain_keras, num_rounds
            )
            ways = [name for name in times if name not in _FLOOR]
            if plain_keras:
                # The faster one.
                ways = [min(ways, key=lambda way: milliseconds(times, way))]
            else:
                _print_floor(case, times, chosen)
            for way in ways:
                over_floor[case][way] = ratio(times, way, "floor")
                print(
                    f"{case}  {way:<20}{milliseconds(times, way):8.1f} "
                    f"{str(ratio(times, way, 'products')):<19} "
                    f"{str(over_floor[case][way]):<19} "
                    f"{ratio(times, way, 'floor', clock=1)}",
                    flush=True,
                )
    return over_floor


def _print_floor(
    case: Case, times: dict[str, list], chosen: dict[str, str]
) -> None:
    ops = {name: milliseconds(times, name) for name in _FLOOR}
    products = ", ".join(
        f"{name.split()[0]} {ops[name]:.1f} ({chosen[name]})"
        for name in _FLOOR[:3]
    )
    total = sum(ops.values()) + ops["exponential"]
    print(
        f"{case}  floor {total:.1f} ms = products: {products}; update "
        f"{ops['update']:.1f}; exponentials 2 x {ops['exponential']:.1f}",
        flush=True,
    )


def print_memory(cases: list[Case]) -> dict[Case, dict[str, float]]:
    """Peaks over the size of the weights; of the steps alone is returned."""
    peaks = collections.defaultdict(dict)
    print("\nPeak memory over the weights (2 are weights and momentum)")
    print(f"{'':33}{'way':<20}{'steps':>8}{'with building':>15}")
    for case in cases:
        for way in (*_WAYS, "Keras", "Keras, XLA"):
            if way.startswith("Keras") and not keras_fits(case):
                print(f"{case}  {way:<20}  skipped: not enough memory")
                continue
            [(steps, building)] = in_fresh_processes(measure_memory, case, way)
            peaks[case][way] = steps
            print(f"{case}  {way:<20}{steps:8.2f}{building:15.2f}", flush=True)
    return peaks


def print_wire(cases: list[Case]) -> dict[tuple[Case, str], Wire]:
    """Collectives and bytes of a step on two workers."""
    found = {}
    print(
        "\nOn the wire, a step of 2 workers: bytes that worker 0 sends; "
        "overhead: of the\ntransport, for the same collectives with next to "
        "nothing in them"
    )
    print(
        f"{'':33}{'':<16}{'sent':>11}{'expected':>11}{'overhead':>10}"
        f"{'rest':>8}  collectives"
    )
    for case in cases:
        ways = ("kept", "training step") if case.dim == 128 else ("kept",)
        wires = in_fresh_processes(measure_wire, case, ways, num_workers=2)[0]
        for way, wire in wires.items():
            found[case, way] = wire
            kinds = ", ".join(
                f"{count} {name.removeprefix('Collective')}"
                for name, count in wire.num_collectives.items()
            )
            print(
                f"{case}  {way:<16}{wire.sent:11,.0f}{wire.expected:11,}"
                f"{wire.overhead:10,.0f}{_rest(wire):8.2%}  {kinds}",
                flush=True,
            )
    return found


def _rest(wire: Wire) -> float:
    """What neither formula nor overhead explain, over the formula."""
    return (wire.sent - wire.overhead) / wire.expected - 1


def print_growth(base: Case, cases: list[Case], num_rounds: int) -> None:
    """How a step grows with each of its sizes, and on two workers."""
    print("\nGrowth, ms of a step; in brackets over the first line")
    first: dict[str, float] = {}
    for case in [base, *cases]:
        [(times, _)] = in_fresh_processes(time_steps, case, False, num_rounds)
        _print_growth(
            case,
            1,
            {way: milliseconds(times, way) for way in _WAYS[:2]},
            first,
        )
    for case in (base, base._replace(num_rows=2 * base.num_rows)):
        wires = in_fresh_processes(
            measure_wire, case, _WAYS[:2], num_workers=2
        )[0]
        values = {way: wire.milliseconds for way, wire in wires.items()}
        _print_growth(case, 2, values, first)


def _print_growth(
    case: Case,
    num_workers: int,
    values: dict[str, float],
    first: dict[str, float],
) -> None:
    columns = ""
    for way, value in values.items():
        over = value / first.setdefault(way, value)
        columns += f"  {way} {value:8.1f} ({over:5.2f})"
    print(f"{case}  workers {num_workers} {columns}", flush=True)


def print_verdict(
    over_floor: dict[Case, dict[str, Ratio]],
    peaks: dict[Case, dict[str, float]],
    wires: dict[tuple[Case, str], Wire],
) -> None:
    """Each aim, what was measured, and whether it is met."""
    print("\nAims")

    def line(what: str, value: float, aim: float, beside: str = "") -> None:
        verdict = "met" if value <= aim else "NOT MET"
        print(f"{what:<58}{value:8.2f}{aim:7.2f}  {verdict:<8}{beside}")

    for case, ratios in over_floor.items():
        plain = [each for way, each in ratios.items() if "Keras" in way]
        beside = f"plain Keras {plain[0].median:.2f}" if plain else ""
        if case.num_classes >= 100_000:
            for way, aim in _AIMS.items():
                line(
                    f"{case}  {way}, over floor",
                    ratios[way].median,
                    aim,
                    beside,
                )
        for way in _AIMS:
            cost = ratios[f"{way} clipped"].median / ratios[way].median
            print(f"{case}  clipping costs, {way:<10}{cost:10.2f}")
    for case, found in peaks.items():
        if case.num_classes >= 1_000_000 and case.dim == 128:
            line(
                f"{case}  recomputed, memory over weights",
                found["recomputed"],
                _MEMORY_AIM,
            )
    for (case, way), wire in wires.items():
        counts = wire.num_collectives
        reduced = counts.get("CollectiveReduceV2", 0)
        line(
            f"{case}  {way}, collectives of the head",
            sum(counts.values()) - reduced,
            5,
        )
        if way == "training step":
            line(f"{case}  {way}, of the backbone", reduced, 1)
        line(
            f"{case}  {way}, |bytes / formula - 1|", abs(_rest(wire)), _WIRE_AIM
        )


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__,
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--num_classes", type=int, nargs="+", default=[10**4, 10**5, 10**6]
    )
    parser.add_argument("--dim", type=int, nargs="+", default=[128, 512])
    parser.add_argument("--num_rows", type=int, default=128)
    parser.add_argument(
        "--num_rounds", type=int, default=9, help="of at most 60 seconds"
    )
    parser.add_argument(
        "--quick",
        action="store_true",
        help="10k and 100k classes, 128 features, 3 rounds",
    )
    arguments = parser.parse_args(argv)
    if arguments.quick:
        arguments.num_classes, arguments.dim = [10**4, 10**5], [128]
        arguments.num_rounds = 3
    cases = [
        Case(num_classes, dim, arguments.num_rows)
        for dim in arguments.dim
        for num_classes in arguments.num_classes
    ]
    print(
        f"TensorFlow {tf.__version__}, {os.cpu_count()} cores, load "
        f"{os.getloadavg()[0]:.1f} (of other work, if above 0)"
    )
    over_floor = print_times(cases, arguments.num_rounds)
    peaks = print_memory(cases)
    base = cases[0]._replace(num_classes=sorted(arguments.num_classes)[-2:][0])
    wires = print_wire([base._replace(dim=dim) for dim in arguments.dim])
    num_rows = (32, 512) if arguments.quick else (32, 64, 256, 512)
    others = [base._replace(num_rows=each) for each in num_rows]
    others += [
        case
        for case in cases
        if case.num_rows == base.num_rows
        and (case.dim == base.dim) != (case.num_classes == base.num_classes)
    ]
    print_growth(base, others, arguments.num_rounds)
    print_verdict(over_floor, peaks, wires)


if __name__ == "__main__":
    main()
