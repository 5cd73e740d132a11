"""What a classifier costs on many workers, replicated against sharded.

Replicated, every worker holds all classes, and the gradients of their rows
are summed over the workers. Sharded, every worker holds the rows of its
classes, and the features of all workers travel to it. Nothing is measured:
these are formulas of what sicot_tf.train allocates, sends and multiplies.
"""

import argparse
import math

from sicot_tf import command_line
from sicot_tf import config
from sicot_tf.model.classifier import costs

_EXAMPLES = """
examples:
  # The paper's largest set on 8 workers:
  python -m sicot_tf.plan --num_classes 998131 --embedding_dim 2048 \\
      --workers 8 --global_batch_size 256

  # With times: a worker sends 1.2 GB/s, a collective takes 0.3 ms or more:
  python -m sicot_tf.plan --num_classes 100000 --embedding_dim 512 \\
      --workers 2 --bandwidth 1.2 --latency 0.3

  # AdamW, clipped gradients and bfloat16 on devices of 139 GiB:
  python -m sicot_tf.plan --num_classes 20000000 --workers 60 \\
      --optimizer adamw --clip --bfloat16 --device_memory 149

GB are 10^9 bytes; --logit_memory counts 2^20, as sicot_tf.train does.
"""

_LAYOUTS = ("replicated", "sharded")
# SGD keeps the momentum of each weight, AdamW its first two moments.
_NUM_SLOTS = {"sgd": 1, "adamw": 2}


def format_table(
    job: costs.Job,
    room: float,
    bandwidth: float | None = None,
    latency: float | None = None,
) -> str:
    """Memory, work and communication, replicated against sharded.

    Args:
        room: bytes of a device that the classifier may take.
        bandwidth: bytes a second; None leaves the time out, as for latency.
        latency: seconds.
    """
    lines = [f"{'':34}" + "".join(f"{layout:>14}" for layout in _LAYOUTS)]

    def add(name: str, *cells: str) -> None:
        lines.append(f"{name:34}" + "".join(f"{cell:>14}" for cell in cells))

    for name, function, unit in (
        ("classifier's memory of a worker", costs.memory_bytes, "B"),
        ("classifier's work in a step", costs.flops, "FLOP"),
        ("sent by a worker in a step", costs.sent_bytes, "B"),
    ):
        columns = [function(job, layout) for layout in _LAYOUTS]
        add(name, *(_amount(sum(each.values()), unit) for each in columns))
        for part in dict.fromkeys([*columns[0], *columns[1]]):
            values = [each.get(part, 0) for each in columns]
            if any(values):
                add("  " + part, *(_amount(each, unit) for each in values))
    counts = [costs.num_collectives(job, layout) for layout in _LAYOUTS]
    add("collectives in a step", *map(str, counts))
    if bandwidth is not None and latency is not None:
        seconds = [
            costs.communication_seconds(job, layout, bandwidth, latency)
            for layout in _LAYOUTS
        ]
        add("their time", *(f"{1000 * each:,.1f} ms" for each in seconds))
    largest = [
        costs.largest_num_classes(job, layout, room) for layout in _LAYOUTS
    ]
    add(f"most classes in {_amount(room, 'B')}", *(f"{n:,}" for n in largest))
    return "\n".join(lines)


def _amount(value: float, unit: str) -> str:
    """Three digits and a prefix, as in 24.5 GB."""
    if not value:
        return "-"
    for prefix in ("", "k", "M", "G", "T"):
        if value < 999.5 or prefix == "T":
            break
        value /= 1000
    decimals = (value < 99.95) + (value < 9.995)
    return f"{value:,.{decimals}f} {prefix}{unit}"


def _conclusions(
    job: costs.Job, layout: str, device_memory: float, room: float
) -> list[str]:
    """What the table means for the chosen layout, a sentence or two a line."""
    needed = costs.parameter_bytes(
        job.num_classes, job.embedding_dim, job.num_slots
    )
    found = [
        f"--classifier auto: {layout}; weights, gradient and slots of all "
        f"classes are {_amount(needed, 'B')}, {needed / device_memory:.1%} of "
        "a device."
    ]
    if not costs.keeps_logits(job, layout):
        found.append(
            "The logits exceed --logit_memory and are computed again, "
            f"{costs.BLOCK_SIZE:,} classes at a time."
        )
    total = sum(costs.memory_bytes(job, layout).values())
    if total > room:
        found.append(
            f"It does not fit: {_amount(total, 'B')} where "
            f"{_amount(room, 'B')} are free. Take more workers or a smaller "
            "embedding."
        )
    return found


def _make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m sicot_tf.plan",
        description=__doc__,
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    for flag, default, text in (
        ("num_classes", 1_000_000, "classes"),
        ("embedding_dim", 2048, "size of the features"),
        ("workers", 8, "processes that train together, one device each"),
        ("global_batch_size", 256, "records of a step over all workers"),
        ("streams", 2, "2: co-training, 1: the visual stream alone"),
        ("logit_memory", 256, "megabytes of logits that a step may keep"),
        ("device_memory", 16.0, "gigabytes of a worker's device"),
        (
            "backbone_memory",
            8.0,
            "gigabytes of it for everything else; 8 is ResNet-50 with 32 "
            "pictures a worker",
        ),
        ("backbone_parameters", 23.5e6, "numbers trained beside it"),
        ("sample_rate", 1.0, "share of classes in a step, sharded"),
    ):
        parser.add_argument(
            f"--{flag}",
            type=type(default),
            default=default,
            help=f"{text} (default: {default:,})",
        )
    config.add_old_flag(
        parser, "--head_memory", "--logit_memory", dest="logit_memory", type=int
    )
    parser.add_argument(
        "--optimizer",
        choices=sorted(_NUM_SLOTS),
        default="sgd",
        help="SGD with momentum, or AdamW (default: %(default)s)",
    )
    for flag, text in (
        ("clip", "clip by the global norm of the gradients"),
        ("bfloat16", "mixed precision"),
    ):
        parser.add_argument(f"--{flag}", action="store_true", help=text)
    for flag, text in (
        ("bandwidth", "GB/s that a worker sends"),
        ("latency", "milliseconds of a collective of a few bytes"),
    ):
        parser.add_argument(f"--{flag}", type=float, help=text)
    return parser


def _make_job(given: argparse.Namespace) -> costs.Job:
    """Raises ValueError if a number makes no sense."""
    return costs.Job(
        num_classes=given.num_classes,
        embedding_dim=given.embedding_dim,
        num_workers=given.workers,
        global_batch_size=given.global_batch_size,
        num_streams=given.streams,
        num_slots=_NUM_SLOTS[given.optimizer],
        logit_memory=given.logit_memory * 2**20,
        backbone_parameters=int(given.backbone_parameters),
        clip=given.clip,
        bfloat16=given.bfloat16,
        sample_rate=given.sample_rate,
    )


def _next_command(
    job: costs.Job, layout: str, given: argparse.Namespace
) -> str:
    """The training that this plan is of."""
    command = (
        f"python -m sicot_tf.train --dataset dataset --classifier {layout} "
        f"--streams {'visual' if job.num_streams == 1 else 'cotrain'} "
        f"--global_batch_size {job.global_batch_size} "
        f"--optimizer {given.optimizer} --logit_memory {given.logit_memory}"
    )
    if job.bfloat16:
        command += " --dtype_policy mixed_bfloat16"
    if job.sample_rate < 1:
        command += f" --sample_rate {job.sample_rate}"
    return command


@command_line.mistakes_in_a_sentence()
def main(argv: list[str] | None = None) -> None:
    """`python -m sicot_tf.plan`."""
    parser = _make_parser()
    given = parser.parse_args(argv)
    for flag in (
        *("logit_memory", "device_memory", "backbone_memory"),
        *("backbone_parameters", "bandwidth", "latency"),
    ):
        value = getattr(given, flag)
        if value is not None and not 0 <= value < math.inf:
            parser.error(f"--{flag}: expected 0 or more, received {value}.")
    if given.streams not in (1, 2):
        parser.error(f"--streams: expected 1 or 2, received {given.streams}.")
    if (given.bandwidth is None) != (given.latency is None):
        parser.error("--bandwidth and --latency belong together.")
    if given.bandwidth is not None and given.bandwidth <= 0:
        parser.error("--bandwidth must be above 0.")
    if given.backbone_memory >= given.device_memory:
        parser.error("--backbone_memory must be below --device_memory.")
    try:
        job = _make_job(given)
    except ValueError as error:
        parser.error(str(error))

    wire = ()
    if given.bandwidth is not None:
        wire = (given.bandwidth * 1e9, given.latency / 1000)
    device_memory = given.device_memory * 1e9
    room = device_memory - given.backbone_memory * 1e9
    layout = costs.choose_classifier(
        job.num_classes,
        job.embedding_dim,
        job.num_slots,
        job.num_workers,
        device_memory,
    )
    print(
        f"{job.num_classes:,} classes, features of {job.embedding_dim:,}, "
        f"{job.total_examples:,} examples on {job.num_workers} workers"
    )
    print(format_table(job, room, *wire))
    print("\n".join(_conclusions(job, layout, device_memory, room)))
    if wire and job.num_workers > 1:
        least = costs.break_even_classes(job, *wire)
        print(f"Sharded communicates faster from {least:,} classes on.")
    command = _next_command(job, layout, given)
    print(f"Next, on every worker: {command}")


if __name__ == "__main__":
    main()
