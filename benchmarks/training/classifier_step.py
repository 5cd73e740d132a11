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
import os

import tensorflow as tf

from benchmarks.training import classifier_step_measures as measures
from benchmarks.training import classifier_step_meters as meters
from benchmarks.training import classifier_step_ways as steps

_EXAMPLES = """
examples:
  # 10k, 100k and 1M classes, 128 and 512 features: 20 minutes on 2 cores
  TF_CPP_MIN_LOG_LEVEL=2 python -m benchmarks.training.classifier_step

  # 10k and 100k classes, 128 features: 2 minutes
  TF_CPP_MIN_LOG_LEVEL=2 python -m benchmarks.training.classifier_step --quick

  # one shape
  python -m benchmarks.training.classifier_step --num_classes 1000000 --dim 128
"""

# Over the floor; over the weights; over the formula.
_TIME_AIMS = {"kept": 1.25, "recomputed": 1.6}
_MEMORY_AIM = 2.6
_WIRE_AIM = 0.05
_COLLECTIVES_AIM = 5

# === Tables ===


def print_times(
    cases: list[steps.Case], num_rounds: int
) -> dict[steps.Case, dict[str, measures.Timing]]:
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
                measures.time_steps, case, plain_keras, num_rounds
            )
            if plain_keras:
                way = min(timings, key=lambda way: timings[way].milliseconds)
                timings = {way: timings[way]}
            else:
                print(f"{case}  floor, ms:{floor}")
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


def print_memory(cases: list[steps.Case]) -> dict[steps.Case, dict[str, float]]:
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
                measures.measure_memory, case, way
            )
            found[case][way] = stepping
            print(f"{case}  {way:<20}{stepping:8.2f}{both:15.2f}", flush=True)
    return found


def print_wire(
    cases: list[steps.Case],
) -> dict[tuple[steps.Case, str], measures.Wire]:
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
            measures.measure_wire, case, ways, num_workers=2
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


def print_growth(
    timings: dict[steps.Case, dict[str, measures.Timing]],
    base: steps.Case,
    num_rounds: int,
) -> None:
    """How a step grows with C, D, N and workers, over that of `base`."""
    ways = steps.WAYS[:2]
    print("\nGrowth: milliseconds, and over the first line")
    others = [
        case
        for case in timings
        if (case.num_classes == base.num_classes) != (case.dim == base.dim)
    ]
    more_examples = [
        base._replace(num_examples=num_examples)
        for num_examples in (32, 64, 256, 512)
        if num_examples != base.num_examples
    ]
    for num_workers, case in [
        *((1, case) for case in [base, *others, *more_examples]),
        (2, base),
    ]:
        if num_workers > 1:
            found = meters.in_fresh_processes(
                measures.measure_wire, case, ways, num_workers=num_workers
            )[0]
        elif case in timings:
            found = timings[case]
        else:
            [(found, _)] = meters.in_fresh_processes(
                measures.time_steps, case, False, num_rounds
            )
        columns = "".join(
            f"  {way} {found[way].milliseconds:8.1f} "
            f"({found[way].milliseconds / timings[base][way].milliseconds:.2f})"
            for way in ways
        )
        print(f"{case}  workers {num_workers}{columns}", flush=True)


def print_verdict(
    timings: dict[steps.Case, dict[str, measures.Timing]],
    peaks: dict[steps.Case, dict[str, float]],
    wires: dict[tuple[steps.Case, str], measures.Wire],
) -> None:
    """What clipping costs, and each aim with what was measured."""
    print("\nClipped over not clipped")
    for case, found in timings.items():
        for way in _TIME_AIMS:
            clipped = found[f"{way} clipped"].over_floor[0]
            cost = clipped / found[way].over_floor[0]
            print(f"{case}  {way:<20}{cost:8.2f}")
    print("\nAims")
    _print_time_aims(timings)
    _print_memory_aims(peaks)
    _print_collective_aims(wires)


def _print_aim(
    what: str, value: float, aim: float, beside: str = "", form: str = ".2f"
) -> None:
    verdict = "met" if value <= aim else "NOT MET"
    print(f"{what:<67}{value:>6{form}} <= {aim:{form}}  {verdict:<9}{beside}")


def _print_time_aims(
    timings: dict[steps.Case, dict[str, measures.Timing]],
) -> None:
    for case, found in timings.items():
        if case.num_classes < 100_000:
            continue
        for way, aim in _TIME_AIMS.items():
            beside = f"CPU {found[way].processor_over_floor[0]:.2f}"
            for each in steps.KERAS_WAYS:
                if each in found:
                    beside += f"; {each}: {found[each].over_floor[0]:.2f}"
            _print_aim(
                f"{case}  time, {way}, over the floor",
                found[way].over_floor[0],
                aim,
                beside,
            )


def _print_memory_aims(peaks: dict[steps.Case, dict[str, float]]) -> None:
    for case, found in peaks.items():
        if case.num_classes >= 1_000_000 and case.dim == 128:
            plain = [
                f"{way}: {found[way]:.2f}"
                for way in steps.KERAS_WAYS
                if way in found
            ]
            _print_aim(
                f"{case}  memory, recomputed, over the weights",
                found["recomputed"],
                _MEMORY_AIM,
                "; ".join(plain),
            )


def _print_collective_aims(
    wires: dict[tuple[steps.Case, str], measures.Wire],
) -> None:
    for (case, way), wire in wires.items():
        counts = dict(wire.num_collectives)
        if way == "training step":
            reduced = counts.pop("CollectiveReduceV2", 0)
            _print_aim(f"{case}  collectives, backbone", reduced, 1, form="d")
        _print_aim(
            f"{case}  collectives, classifier, {way}",
            sum(counts.values()),
            _COLLECTIVES_AIM,
            form="d",
        )
        _print_aim(
            f"{case}  bytes off the formula, {way}",
            abs(wire.rest),
            _WIRE_AIM,
            form=".1%",
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
    parser.add_argument("--num_examples", type=int, default=128)
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
        steps.Case(num_classes, dim, arguments.num_examples)
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
