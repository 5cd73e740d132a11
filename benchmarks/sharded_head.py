"""What the class-sharded classifier costs: time, memory, bytes on the wire.

A step is forward, backward and update with momentum, float32. It is compared
with a floor that is measured in the same rounds of the same process:

products  three matrix products of the step's shape, each by the faster of
          TensorFlow (oneDNN) and XLA and in the faster of two layouts
floor     the products, one read and write of weights and momentum, and two
          exponentials a logit, each a bare compiled op

and with plain Keras: Dense, sparse categorical cross-entropy with logits and
SGD with momentum, compiled or not, whatever is faster. "kept" keeps the logits
for the backward pass, "recomputed" computes them again (four products),
"clipped" adds the norm of the gradient. Memory is what a fresh process has
above what a step of 1,000 classes left it, over the size of the weights.

Times are medians over rounds, ratios medians of the rounds' ratios with the
lowest and the highest. CPU is the ratio of the processor time of all threads,
which other work on the machine disturbs less. Linux only.
"""

import argparse
import collections
import functools
import os
import statistics
import time
from collections.abc import Callable
from typing import NamedTuple

import sharded_head_meters as meters
import sharded_head_steps as steps
import tensorflow as tf

from sicot_tf import plan
from sicot_tf.distribute import cluster
from sicot_tf.distribute import collectives as collectives_module

_EXAMPLES = """
examples:
  # 10k, 100k and 1M classes, 128 and 512 features: 15 minutes on 2 cores
  TF_CPP_MIN_LOG_LEVEL=2 python benchmarks/sharded_head.py

  # 10k and 100k classes, 128 features: 3 minutes
  TF_CPP_MIN_LOG_LEVEL=2 python benchmarks/sharded_head.py --quick

  # one shape
  python benchmarks/sharded_head.py --num_classes 1000000 --dim 128
"""

# Over the floor; over the weights; over the formula.
_TIME_AIMS = {"kept": 1.25, "recomputed": 1.6}
_MEMORY_AIM = 2.6
_WIRE_AIM = 0.05
_COLLECTIVES_AIM = 5
_STEPS_ON_THE_WIRE = 20

Case = steps.Case

# === Time ===


class Timing(NamedTuple):
    """Of one way to make a step; ratios: median, lowest, highest."""

    milliseconds: float
    over_products: tuple[float, float, float]
    over_floor: tuple[float, float, float]
    processor_over_floor: tuple[float, float, float]


def time_steps(
    case: Case, plain_keras: bool, num_rounds: int
) -> tuple[dict[str, Timing], str]:
    """Steps and their floor in one process, and what the floor is made of."""
    floor, chosen = steps.make_floor(case)
    if plain_keras:
        ways = steps.make_keras_steps(case)
    else:
        rows, trainer = steps.make_rows(case), steps.make_trainer(case)
        ways = {
            way: functools.partial(steps.make_step(trainer, way, rows), *rows)
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
        f"{count} x {name} {milliseconds(name):.1f} ms"
        + (f" ({chosen[name]})" if name in chosen else "")
        for name, count in steps.FLOOR.items()
    ]
    return timings, ", ".join(parts)


def print_times(
    cases: list[Case], num_rounds: int
) -> dict[Case, dict[str, Timing]]:
    """Steps over products and floor."""
    found = collections.defaultdict(dict)
    print("\nTime of a step")
    print(
        f"{'':38}{'ms':>17}  {'over products':<19}{'over floor':<19}"
        "CPU over floor"
    )
    for case in cases:
        for plain_keras in (False, True):
            if plain_keras and not steps.keras_fits(case):
                print(f"{case}  Keras: skipped, not enough memory")
                continue
            [(timings, floor)] = meters.in_fresh_processes(
                time_steps, case, plain_keras, num_rounds
            )
            if plain_keras:
                way = min(timings, key=lambda way: timings[way].milliseconds)
                timings = {way: timings[way]}
            else:
                print(f"{case}  floor: {floor}")
            for way, timing in timings.items():
                ratios = "".join(
                    f"{middle:6.2f} ({low:.2f}-{high:.2f})".ljust(19)
                    for middle, low, high in timing[1:]
                )
                print(
                    f"{case}  {way:<20}{timing.milliseconds:8.1f} {ratios}",
                    flush=True,
                )
            found[case] |= timings
    return found


# === Memory ===


def measure_memory(case: Case, way: str) -> tuple[float, float]:
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


def _step_alone(case: Case, way: str) -> Callable:
    if way in steps.KERAS_WAYS:
        return steps.make_keras_steps(case)[way]
    rows = steps.make_rows(case)
    traced = steps.make_step(steps.make_trainer(case), way, rows)
    return functools.partial(traced, *rows)


def print_memory(cases: list[Case]) -> dict[Case, dict[str, float]]:
    """Peaks over the weights; those of the steps alone are returned."""
    found = collections.defaultdict(dict)
    print("\nPeak memory over the weights; weights and momentum are 2")
    print(f"{'':47}{'steps':>8}{'with building':>15}")
    for case in cases:
        for way in steps.WAYS + steps.KERAS_WAYS:
            if way in steps.KERAS_WAYS and not steps.keras_fits(case):
                print(f"{case}  {way}: skipped, not enough memory")
                continue
            [(stepping, both)] = meters.in_fresh_processes(
                measure_memory, case, way
            )
            found[case][way] = stepping
            print(f"{case}  {way:<20}{stepping:8.2f}{both:15.2f}", flush=True)
    return found


# === Two workers ===


class Wire(NamedTuple):
    """A step of worker 0 and what it sent.

    num_collectives: of each kind, in the traced step. sent: bytes that the
    other worker acknowledged. expected: by `plan.sent_bytes`. overhead: of
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


def measure_wire(case: Case, ways: tuple[str, ...]) -> dict[str, Wire]:
    """Steps of a classifier, or of a whole small model; on every worker."""
    strategy = cluster.make_strategy()
    collectives = collectives_module.Collectives(
        cluster.num_workers(), cluster.worker_index()
    )
    trainer = steps.make_trainer(case, collectives)
    found = {}
    for way in ways:
        if way == "training step":
            step, arguments = steps.make_training_step(case, trainer, strategy)
        else:
            arguments = steps.make_rows(case, collectives.num_workers)
            step = steps.make_step(trainer, way, arguments, strategy)
        sizes = meters.collective_sizes(step)
        milliseconds, sent = _repeat(
            functools.partial(step, *arguments), collectives
        )
        _, overhead = _repeat(_nearly_empty(sizes, collectives), collectives)
        job = plan.Job(
            num_classes=case.num_classes,
            embedding_dim=case.dim,
            num_workers=collectives.num_workers,
            global_batch_size=case.num_rows,
            num_streams=1,
            # All that is packed with its gradients, too.
            backbone_parameters=sum(sizes.get("CollectiveReduceV2", [])),
        )
        found[way] = Wire(
            milliseconds,
            {kind: len(each) for kind, each in sizes.items()},
            sent,
            sum(plan.sent_bytes(job, "sharded").values()),
            overhead,
        )
    return found


def _repeat(
    step: Callable, collectives: collectives_module.Collectives
) -> tuple[float, float]:
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
    sizes: dict[str, list[int]], collectives: collectives_module.Collectives
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


def print_wire(cases: list[Case]) -> dict[tuple[Case, str], Wire]:
    """Collectives and bytes of a step on two workers."""
    found = {}
    print(
        "\nBytes that one of 2 workers sends in a step; overhead is what the "
        "transport\nadds to the same collectives with next to nothing in them"
    )
    print(
        f"{'':43}{'sent':>11}{'expected':>11}{'overhead':>10}{'rest':>8}"
        "  collectives"
    )
    for case in cases:
        # The small backbone has 128 features.
        ways = ("kept", "training step") if case.dim == 128 else ("kept",)
        wires = meters.in_fresh_processes(
            measure_wire, case, ways, num_workers=2
        )[0]
        for way, wire in wires.items():
            found[case, way] = wire
            kinds = ", ".join(
                f"{count} {kind.removeprefix('Collective')}"
                for kind, count in wire.num_collectives.items()
            )
            print(
                f"{case}  {way:<16}{wire.sent:11,.0f}{wire.expected:11,}"
                f"{wire.overhead:10,.0f}{wire.rest:8.2%}  {kinds}",
                flush=True,
            )
    return found


# === Growth ===


def print_growth(
    timings: dict[Case, dict[str, Timing]], base: Case, num_rounds: int
) -> None:
    """How a step grows with C, D, N and workers, over that of `base`."""
    ways = steps.WAYS[:2]
    print("\nGrowth: milliseconds, and over the first line")
    others = [
        case
        for case in timings
        if (case.num_classes == base.num_classes) != (case.dim == base.dim)
    ]
    more_rows = [
        base._replace(num_rows=num_rows)
        for num_rows in (32, 64, 256, 512)
        if num_rows != base.num_rows
    ]
    for num_workers, case in [
        *((1, case) for case in [base, *others, *more_rows]),
        (2, base),
    ]:
        if num_workers > 1:
            found = meters.in_fresh_processes(
                measure_wire, case, ways, num_workers=num_workers
            )[0]
        elif case in timings:
            found = timings[case]
        else:
            [(found, _)] = meters.in_fresh_processes(
                time_steps, case, False, num_rounds
            )
        columns = "".join(
            f"  {way} {found[way].milliseconds:8.1f} "
            f"({found[way].milliseconds / timings[base][way].milliseconds:.2f})"
            for way in ways
        )
        print(f"{case}  workers {num_workers}{columns}", flush=True)


# === Aims ===


def print_verdict(
    timings: dict[Case, dict[str, Timing]],
    peaks: dict[Case, dict[str, float]],
    wires: dict[tuple[Case, str], Wire],
) -> None:
    """What clipping costs, and each aim with what was measured."""
    print("\nClipped over not clipped")
    for case, found in timings.items():
        for way in _TIME_AIMS:
            clipped = found[f"{way} clipped"].over_floor[0]
            cost = clipped / found[way].over_floor[0]
            print(f"{case}  {way:<20}{cost:8.2f}")
    print("\nAims")

    def line(what: str, value: float, aim: float, beside: str = "") -> None:
        verdict = "met" if value <= aim else "NOT MET"
        print(f"{what:<62}{value:7.2f} <= {aim:4.2f}  {verdict:<9}{beside}")

    for case, found in timings.items():
        if case.num_classes < 100_000:
            continue
        for way, aim in _TIME_AIMS.items():
            beside = f"CPU {found[way].processor_over_floor[0]:.2f}"
            for each in steps.KERAS_WAYS:
                if each in found:
                    beside += f"; {each}: {found[each].over_floor[0]:.2f}"
            line(
                f"{case}  time, {way}, over the floor",
                found[way].over_floor[0],
                aim,
                beside,
            )
    for case, found in peaks.items():
        if case.num_classes >= 1_000_000 and case.dim == 128:
            line(
                f"{case}  memory, recomputed, over the weights",
                found["recomputed"],
                _MEMORY_AIM,
                "".join(
                    f"{way}: {found[way]:.2f}; " for way in list(found)[4:]
                ),
            )
    for (case, way), wire in wires.items():
        counts = dict(wire.num_collectives)
        if way == "training step":
            reduced = counts.pop("CollectiveReduceV2", 0)
            line(f"{case}  collectives of the backbone", reduced, 1)
        line(
            f"{case}  collectives of the head, {way}",
            sum(counts.values()),
            _COLLECTIVES_AIM,
        )
        line(f"{case}  bytes off the formula, {way}", abs(wire.rest), _WIRE_AIM)


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
        "--num_rounds", type=int, default=9, help="at most, in 60 seconds"
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
        f"TensorFlow {tf.__version__}, {os.cpu_count()} cores; load at the "
        f"start {os.getloadavg()[0]:.1f}, which should be 0"
    )
    timings = print_times(cases, arguments.num_rounds)
    peaks = print_memory(cases)
    middle = sorted(arguments.num_classes)[
        (len(arguments.num_classes) - 1) // 2
    ]
    base = cases[0]._replace(num_classes=middle)
    wires = print_wire([base._replace(dim=dim) for dim in arguments.dim])
    print_growth(timings, base, arguments.num_rounds)
    print_verdict(timings, peaks, wires)


if __name__ == "__main__":
    main()
