"""What `classifier_step.py` runs in fresh processes: time, memory, bytes."""

import functools
import statistics
import time
from collections.abc import Callable
from typing import NamedTuple

import tensorflow as tf

from benchmarks.training import classifier_step_meters as meters
from benchmarks.training import classifier_step_ways as steps
from sicot_tf.model.classifier import costs
from sicot_tf.workers import cluster
from sicot_tf.workers.collectives import Collectives
from sicot_tf.workers.strategy import make_strategy

_STEPS_ON_THE_WIRE = 20

# === Time ===


class Timing(NamedTuple):
    """Of one way to make a step; ratios: median, lowest, highest."""

    milliseconds: float
    over_products: tuple[float, float, float]
    over_floor: tuple[float, float, float]
    processor_over_floor: tuple[float, float, float]


def time_steps(
    case: steps.Case, plain_keras: bool, num_rounds: int
) -> tuple[dict[str, Timing], str]:
    """Steps and their floor in one process, and what the floor is made of."""
    floor, chosen = steps.make_floor(case)
    if plain_keras:
        ways = steps.make_keras_steps(case)
    else:
        examples, trainer = steps.make_examples(case), steps.make_trainer(case)
        ways = {
            way: functools.partial(
                steps.make_step(trainer, way, examples), *examples
            )
            for way in steps.WAYS
        }
    times = meters.time_rounds(floor | ways, num_rounds, max_seconds=60)

    def ratios(way: str, clock: int, ops: tuple[str, ...]) -> tuple:
        found = [
            each[clock]
            / sum(steps.FLOOR[op] * times[op][number][clock] for op in ops)
            for number, each in enumerate(times[way])
        ]
        return statistics.median(found), min(found), max(found)

    def milliseconds(name: str) -> float:
        return 1e3 * statistics.median(wall for wall, _ in times[name])

    timings = {
        way: Timing(
            milliseconds(way),
            ratios(way, 0, steps.PRODUCTS),
            ratios(way, 0, tuple(steps.FLOOR)),
            ratios(way, 1, tuple(steps.FLOOR)),
        )
        for way in ways
    }
    parts = [
        f"{count if count > 1 else ''} {name} {milliseconds(name):.1f}"
        + (f" by {chosen[name]}" if name in chosen else "")
        for name, count in steps.FLOOR.items()
    ]
    return timings, ",".join(parts)


# === Memory ===


def measure_memory(case: steps.Case, way: str) -> tuple[float, float]:
    """Peaks over the weights: of steps, and of building and steps."""
    # Libraries, compiler and its caches are there afterwards.
    _step_alone(case._replace(num_classes=1000), way)()
    before = meters.resident_bytes()
    meters.forget_peak()
    step = _step_alone(case, way)
    building = meters.peak_resident_bytes()
    meters.forget_peak()
    for _ in range(3):
        step()
    stepping = meters.peak_resident_bytes()
    return (
        (stepping - before) / case.weight_bytes,
        (max(building, stepping) - before) / case.weight_bytes,
    )


def _step_alone(case: steps.Case, way: str) -> Callable:
    if way in steps.KERAS_WAYS:
        return steps.make_keras_steps(case)[way]
    examples = steps.make_examples(case)
    traced = steps.make_step(steps.make_trainer(case), way, examples)
    return functools.partial(traced, *examples)


# === Two workers ===


class Wire(NamedTuple):
    """A step of worker 0 and what it sent.

    num_collectives: of each kind, in the traced step. sent: bytes that the
    other worker acknowledged. expected: by `costs.sent_bytes`. overhead: of
    the transport, for the same collectives with next to nothing in them.
    """

    milliseconds: float
    num_collectives: dict[str, int]
    sent: float
    expected: int
    overhead: float

    @property
    def rest(self) -> float:
        """What neither formula nor overhead explain, over the formula."""
        return (self.sent - self.overhead) / self.expected - 1


def measure_wire(case: steps.Case, ways: tuple[str, ...]) -> dict[str, Wire]:
    """Steps of a classifier, or of a whole small model; on every worker."""
    strategy = make_strategy()
    collectives = Collectives(cluster.num_workers(), cluster.worker_index())
    trainer = steps.make_trainer(case, collectives)
    found = {}
    for way in ways:
        if way == "training step":
            step, arguments = steps.make_whole_step(case, trainer, strategy)
        else:
            arguments = steps.make_examples(case, collectives.num_workers)
            step = steps.make_step(trainer, way, arguments, strategy)
        sizes = meters.collective_sizes(step)
        milliseconds, sent = _repeat(
            functools.partial(step, *arguments), collectives
        )
        _, overhead = _repeat(_nearly_empty(sizes, collectives), collectives)
        job = costs.Job(
            num_classes=case.num_classes,
            embedding_dim=case.dim,
            num_workers=collectives.num_workers,
            global_batch_size=case.num_examples,
            num_streams=1,
            # All that is packed with its gradients, too.
            backbone_parameters=sum(sizes.get("CollectiveReduceV2", [])),
        )
        found[way] = Wire(
            milliseconds,
            {kind: len(each) for kind, each in sizes.items()},
            sent,
            sum(costs.sent_bytes(job, "sharded").values()),
            overhead,
        )
    return found


def _repeat(step: Callable, collectives: Collectives) -> tuple[float, float]:
    """Median milliseconds of a step, and bytes that it sends."""
    step()
    collectives.wait_for_all()
    before, times = meters.sent_bytes(), []
    for _ in range(_STEPS_ON_THE_WIRE):
        start = time.perf_counter()
        step()
        times.append(time.perf_counter() - start)
    sent = meters.sent_bytes() - before
    return 1e3 * statistics.median(times), sent / _STEPS_ON_THE_WIRE


def _nearly_empty(
    sizes: dict[str, list[int]], collectives: Collectives
) -> Callable:
    """The collectives of a step, a number for each worker in each."""

    @tf.function
    def step() -> tf.Tensor:
        one = tf.ones([collectives.num_workers, 1])
        for _ in sizes.get("CollectiveGatherV2", []):
            one = collectives.gather(one[:1])
        for _ in sizes.get("CollectiveAllToAllV2", []):
            one += collectives.reduce_scatter(one)
        for _ in sizes.get("CollectiveReduceV2", []):
            one = collectives.all_reduce(one)
        return one

    return step
