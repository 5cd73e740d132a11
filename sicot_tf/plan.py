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
from sicot_tf.model.classifier import cost_table
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

# SGD keeps the momentum of each weight, AdamW its first two moments.
_NUM_SLOTS = {"sgd": 1, "adamw": 2}


def _make_parser() -> command_line.ArgumentParser:
    parser = command_line.ArgumentParser("sicot_tf.plan", __doc__, _EXAMPLES)
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
        ("word_dim", 0, "size of the word vectors with --word_rows_scale"),
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


def _check(
    parser: command_line.ArgumentParser, given: argparse.Namespace
) -> None:
    """Ends with an error for numbers that make no sense."""
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
        word_dim=given.word_dim,
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
    if job.word_dim:
        command += " --word_rows_scale 0.3"
    return command


@command_line.mistakes_in_a_sentence()
def main(argv: list[str] | None = None) -> None:
    """`python -m sicot_tf.plan`."""
    parser = _make_parser()
    given = parser.parse_args(argv)
    _check(parser, given)
    job = _make_job(given)
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
    print(cost_table.format_table(job, room, *wire))
    print("\n".join(cost_table.conclusions(job, layout, device_memory, room)))
    if wire and job.num_workers > 1:
        least = costs.break_even_classes(job, *wire)
        print(f"Sharded communicates faster from {least:,} classes on.")
    command = _next_command(job, layout, given)
    print(f"Next, on every worker: {command}")


if __name__ == "__main__":
    main()
