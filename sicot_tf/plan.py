"""What a classifier costs on many workers, replicated against sharded.

Replicated, every worker holds all classes, and the gradients of their rows
are summed over the workers. Sharded, every worker holds the rows of its
classes, and the features of all workers travel to it. Nothing is measured:
these are formulas of what sicot_tf.train allocates, sends and multiplies.
"""

import argparse
import bisect
import dataclasses
import math

from sicot_tf import user_mistakes

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

GB are 10^9 bytes; --head_memory counts 2^20, as sicot_tf.train does.
"""

_HEADS = ("replicated", "sharded")
# SGD keeps the momentum of each weight, AdamW its first two moments.
_NUM_SLOTS = {"sgd": 1, "adamw": 2}
# Classes whose logits are computed at once (`ClassShardedDense`).
_BLOCK_SIZE = 16_384
_WORD = 4  # Bytes of a float32, and of what is packed.
# Of each row: maximum, sum of exponentials, logit of the label, sum of logits.
_STATISTICS = 4
# A label is an int64, the weight of its row a float32.
_LABEL_AND_WEIGHT_WORDS = 3
_BACKBONE = "gradient of the backbone"


@dataclasses.dataclass(frozen=True)
class Job:
    """A training job, as far as its classifier is concerned.

    Formulas below call C `num_classes`, D `embedding_dim`, M `num_workers`,
    k `num_slots`, n `rows_per_worker` and N `total_rows`.

    Raises:
        ValueError: if a number makes no sense.
    """

    num_classes: int
    embedding_dim: int
    num_workers: int
    global_batch_size: int = 256
    num_streams: int = 2
    # Values that the optimizer keeps for each weight.
    num_slots: int = 1
    # Bytes of logits kept for the backward pass; beyond, they are computed
    # again, a block of classes at a time.
    head_memory: int = 256 * 2**20
    # Numbers trained outside the classifier.
    backbone_parameters: int = 23_500_000
    # By the global norm.
    clip: bool = False
    # Mixed precision: features are bfloat16.
    bfloat16: bool = False
    # Share of the classes that a sharded step looks at.
    sample_rate: float = 1.0

    def __post_init__(self):
        for name, least in (
            ("embedding_dim", 1),
            ("num_workers", 1),
            ("global_batch_size", 1),
            ("num_streams", 1),
            # Every worker holds some.
            ("num_classes", self.num_workers),
        ):
            if getattr(self, name) < least:
                raise ValueError(
                    f"Expected {name} of at least {least}, received "
                    f"{getattr(self, name)}."
                )
        if not 0 < self.sample_rate <= 1:
            raise ValueError(
                "Expected a sample_rate above 0 and at most 1, received "
                f"{self.sample_rate}."
            )

    @property
    def rows_per_worker(self) -> int:
        """n: the streams stacked on the batch axis."""
        return self.num_streams * -(-self.global_batch_size // self.num_workers)

    @property
    def total_rows(self) -> int:
        """N: the rows of all workers."""
        return self.num_workers * self.rows_per_worker

    @property
    def classes_per_worker(self) -> int:
        """ceil(C / M): what the first workers hold."""
        return -(-self.num_classes // self.num_workers)

    @property
    def feature_words(self) -> int:
        """32-bit words of a row of features; two bfloat16 share one."""
        return -(-self.embedding_dim // (2 if self.bfloat16 else 1))


def choose_head(
    num_classes: int,
    embedding_dim: int,
    num_slots: int,
    num_workers: int,
    device_memory: float,
) -> str:
    """What `--head auto` takes: `replicated` where that is cheap.

    That is, with less than 100,000 classes whose rows, gradient and slots
    take less than 10 % of the device. Sharded, less is sent as soon as there
    are more classes than rows in a step; but replicated, no worker waits for
    another in mid-step. One worker runs the sharded code, which is then
    without collectives.

    Args:
        device_memory: bytes.
    """
    needed = parameter_bytes(num_classes, embedding_dim, num_slots)
    is_small = num_classes < 100_000 and needed < 0.1 * device_memory
    return "replicated" if is_small and num_workers > 1 else "sharded"


def parameter_bytes(
    num_classes: int, embedding_dim: int, num_slots: int
) -> int:
    """Rows, their dense gradient and slots, in bytes: 4 C D (2 + k)."""
    return _WORD * num_classes * embedding_dim * (2 + num_slots)


# === Memory ===


def keeps_logits(job: Job, head: str) -> bool:
    """Whether a step's logits, 4 N C / M bytes, fit into `head_memory`."""
    rows, classes = _shape_of_logits(job, head)
    return _WORD * rows * classes <= job.head_memory


def memory_bytes(job: Job, head: str) -> dict[str, int]:
    """Bytes of the classifier on a worker, by what they are for.

    About three arrays [rows, block] and a gradient [block, D] exist while a
    block of classes is at work. Sharded, a block is updated where its
    gradient is made. Replicated, the gradient of all rows, its packed copy
    and the sum over the workers exist at once.
    """
    rows, classes = _shape_of_logits(job, head)
    sharded, several = head == "sharded", job.num_workers > 1
    held = job.classes_per_worker if sharded else job.num_classes
    weights = _WORD * held * (job.embedding_dim + 1)
    block = min(classes, _BLOCK_SIZE)
    gathered_words = job.feature_words + _LABEL_AND_WEIGHT_WORDS
    gathered_words += job.num_workers * _STATISTICS
    # Once more for what the exchange of all with all brings.
    copies = 2 if sharded and several else 1
    return {
        "rows and biases": weights,
        "optimizer slots": job.num_slots * weights,
        "dense gradient": 0 if sharded else weights,
        "packed gradient and its sum": (
            2 * weights if several and not sharded else 0
        ),
        "logits kept": (
            _WORD * rows * classes if keeps_logits(job, head) else 0
        ),
        "a block at work": _WORD * block * (3 * rows + job.embedding_dim),
        "gathered rows and statistics": (
            _WORD * rows * gathered_words if sharded and several else 0
        ),
        "gradient of the features": copies * _WORD * rows * job.embedding_dim,
    }


def largest_num_classes(job: Job, head: str, memory: float) -> int:
    """Most classes whose classifier takes at most `memory` bytes a worker.

    No logits are kept (`--head_memory 0`). 0 if nothing fits.
    """

    def needed(num_classes: int) -> int:
        other = dataclasses.replace(job, num_classes=num_classes, head_memory=0)
        return sum(memory_bytes(other, head).values())

    choices = range(job.num_workers, 10**12)
    found = bisect.bisect_right(choices, memory, key=needed)
    return choices[found - 1] if found else 0


# === Communication ===


def num_collectives(job: Job, head: str) -> int:
    """Collectives of a step: one packed all-reduce, three more if sharded.

    A gather of features, labels and row weights, a gather of statistics, and
    the reduce-scatter of the features' gradient.
    """
    if job.num_workers == 1:
        return 0
    return 4 if head == "sharded" else 1


def sent_bytes(job: Job, head: str) -> dict[str, int]:
    """Bytes that each worker sends in a step, by what they are for.

    A gather in a ring sends a worker's part M - 1 times, an exchange of all
    with all (M - 1) / M of the tensor, an all-reduce in a ring twice that.
    The upstream gradient stays at home: a step knows it from the row weights
    (under a gradient tape its gather adds 4 (M - 1) n).
    """
    others, n = job.num_workers - 1, job.rows_per_worker
    backbone = _all_reduce_bytes(job, job.backbone_parameters)
    if head == "replicated":
        # 2 (M - 1) / M * 4 C (D + 1)
        rows = job.num_classes * (job.embedding_dim + 1)
        parts = {"gradient of all classes": _all_reduce_bytes(job, rows)}
        return {**parts, _BACKBONE: backbone}
    return {
        # 4 (M - 1) n D, with bfloat16 half of it
        "features": _WORD * others * n * job.feature_words,
        # 4 (M - 1) n 3
        "labels and weights": _WORD * others * n * _LABEL_AND_WEIGHT_WORDS,
        # 4 (M - 1) N 4: each worker tells what it knows of all rows.
        "statistics": _WORD * others * job.total_rows * _STATISTICS,
        # 4 (M - 1) / M N D
        "gradient of the features": _WORD * others * n * job.embedding_dim,
        # 2 (M - 1) / M * 4 numbers
        _BACKBONE: backbone,
    }


def communication_seconds(
    job: Job, head: str, bandwidth: float, latency: float
) -> float:
    """Seconds of a step's collectives, if they overlap with nothing.

    Args:
        bandwidth: bytes that a worker sends in a second.
        latency: seconds of a collective of a few bytes.
    """
    sent = sum(sent_bytes(job, head).values())
    return num_collectives(job, head) * latency + sent / bandwidth


def break_even_classes(job: Job, bandwidth: float, latency: float) -> int:
    """Classes from which sharded communicates faster, for M > 1.

    Its time does not depend on C. That of replicated grows by
    2 (M - 1) / M * 4 (D + 1) / bandwidth with each class.
    """
    sent = sent_bytes(job, "sharded")
    sharded = sum(sent.values()) - sent[_BACKBONE]
    more = num_collectives(job, "sharded") - num_collectives(job, "replicated")
    a_class = _all_reduce_bytes(job, job.embedding_dim + 1)
    return math.ceil((sharded + more * latency * bandwidth) / a_class)


# === Work ===


def flops(job: Job, head: str) -> dict[str, int]:
    """Operations of a worker's classifier in a step.

    A product [N, D] x [D, C / M] is 2 N C D / M; forward is one, backward
    two. Logits that are not kept are computed once more, with clipping twice:
    the norm of a shard's gradient P^T X is found before any row changes, from
    P P^T, 2 N N C / M, and X X^T, 2 N N D.
    """
    rows, classes = _shape_of_logits(job, head)
    product = 2 * rows * classes * job.embedding_dim
    needs_gram = job.clip and head == "sharded"
    again = 0 if keeps_logits(job, head) else 1 + needs_gram
    return {
        "forward": product,
        "backward": 2 * product,
        "logits again": again * product,
        "norm of the gradient": (
            needs_gram * 2 * rows * rows * (classes + job.embedding_dim)
        ),
    }


def _shape_of_logits(job: Job, head: str) -> tuple[int, int]:
    """[N, C / M] sharded, [n, C] replicated: equally many."""
    if head == "replicated":
        return job.rows_per_worker, job.num_classes
    sampled = math.ceil(job.sample_rate * job.classes_per_worker)
    return job.total_rows, sampled


def _all_reduce_bytes(job: Job, count: int) -> int:
    """Bytes sent for the sum of `count` float32: 2 (M - 1) / M * 4 count."""
    return 2 * (job.num_workers - 1) * _WORD * count // job.num_workers


# === Table ===


def format_table(
    job: Job,
    room: float,
    bandwidth: float | None = None,
    latency: float | None = None,
) -> str:
    """All of the above, replicated against sharded.

    Args:
        room: bytes of a device that the classifier may take.
        bandwidth: bytes a second; None leaves the time out, as for latency.
        latency: seconds.
    """
    lines = [f"{'':34}" + "".join(f"{head:>14}" for head in _HEADS)]

    def add(name: str, *cells: str) -> None:
        lines.append(f"{name:34}" + "".join(f"{cell:>14}" for cell in cells))

    for name, function, unit in (
        ("classifier's memory of a worker", memory_bytes, "B"),
        ("classifier's work in a step", flops, "FLOP"),
        ("sent by a worker in a step", sent_bytes, "B"),
    ):
        columns = [function(job, head) for head in _HEADS]
        add(name, *(_amount(sum(each.values()), unit) for each in columns))
        for part in dict.fromkeys([*columns[0], *columns[1]]):
            values = [each.get(part, 0) for each in columns]
            if any(values):
                add("  " + part, *(_amount(each, unit) for each in values))
    counts = [num_collectives(job, head) for head in _HEADS]
    add("collectives in a step", *map(str, counts))
    if bandwidth is not None and latency is not None:
        seconds = [
            communication_seconds(job, head, bandwidth, latency)
            for head in _HEADS
        ]
        add("their time", *(f"{1000 * each:,.1f} ms" for each in seconds))
    largest = [largest_num_classes(job, head, room) for head in _HEADS]
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
    job: Job, head: str, device_memory: float, room: float
) -> list[str]:
    """What the table means for the chosen head, a sentence or two a line."""
    needed = parameter_bytes(job.num_classes, job.embedding_dim, job.num_slots)
    found = [
        f"--head auto: {head}; rows, gradient and slots of all classes are "
        f"{_amount(needed, 'B')}, {needed / device_memory:.1%} of a device."
    ]
    if not keeps_logits(job, head):
        found.append(
            "The logits exceed --head_memory and are computed again, "
            f"{_BLOCK_SIZE:,} classes at a time."
        )
    total = sum(memory_bytes(job, head).values())
    if total > room:
        found.append(
            f"It does not fit: {_amount(total, 'B')} where "
            f"{_amount(room, 'B')} are free. Take more workers or a smaller "
            "embedding."
        )
    return found


@user_mistakes.in_a_sentence("plan")
def main(argv: list[str] | None = None) -> None:
    """`python -m sicot_tf.plan`."""
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
        ("global_batch_size", 256, "rows of a step over all workers"),
        ("streams", 2, "2: co-training, 1: the visual stream alone"),
        ("head_memory", 256, "megabytes of logits that a step may keep"),
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
    given = parser.parse_args(argv)
    for flag in (
        *("head_memory", "device_memory", "backbone_memory"),
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
        job = Job(
            num_classes=given.num_classes,
            embedding_dim=given.embedding_dim,
            num_workers=given.workers,
            global_batch_size=given.global_batch_size,
            num_streams=given.streams,
            num_slots=_NUM_SLOTS[given.optimizer],
            head_memory=given.head_memory * 2**20,
            backbone_parameters=int(given.backbone_parameters),
            clip=given.clip,
            bfloat16=given.bfloat16,
            sample_rate=given.sample_rate,
        )
    except ValueError as error:
        parser.error(str(error))

    wire = ()
    if given.bandwidth is not None:
        wire = (given.bandwidth * 1e9, given.latency / 1000)
    device_memory = given.device_memory * 1e9
    room = device_memory - given.backbone_memory * 1e9
    head = choose_head(
        job.num_classes,
        job.embedding_dim,
        job.num_slots,
        job.num_workers,
        device_memory,
    )
    print(
        f"{job.num_classes:,} classes, features of {job.embedding_dim:,}, "
        f"{job.total_rows:,} rows on {job.num_workers} workers"
    )
    print(format_table(job, room, *wire))
    print("\n".join(_conclusions(job, head, device_memory, room)))
    if wire and job.num_workers > 1:
        least = break_even_classes(job, *wire)
        print(f"Sharded communicates faster from {least:,} classes on.")
    command = (
        f"python -m sicot_tf.train --dataset dataset --head {head} "
        f"--streams {'visual' if job.num_streams == 1 else 'cotrain'} "
        f"--global_batch_size {job.global_batch_size} "
        f"--optimizer {given.optimizer} --head_memory {given.head_memory}"
    )
    if job.bfloat16:
        command += " --dtype_policy mixed_bfloat16"
    if job.sample_rate < 1:
        command += f" --sample_rate {job.sample_rate}"
    print(f"Next, on every worker: {command}")


if __name__ == "__main__":
    main()
