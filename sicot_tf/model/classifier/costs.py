"""What a classifier costs on many workers, replicated against sharded.

Formulas of what training allocates, sends and multiplies; nothing is measured.
"""

import bisect
import dataclasses
import math

# Classes whose logits are computed at once (`ClassShardedDense`).
BLOCK_SIZE = 16_384
_WORD = 4  # Bytes of a float32, and of what is packed.
# Of each example: maximum, sum of exponentials, logit of the label, sum of all.
_STATISTICS = 4
# A label is an int64, the weight of its example a float32.
_LABEL_AND_WEIGHT_WORDS = 3
_BACKBONE = "gradient of the backbone"


@dataclasses.dataclass(frozen=True)
class Job:
    """A training job, as far as its classifier is concerned.

    Formulas below call C `num_classes`, D `embedding_dim`, W `word_dim`, M
    `num_workers`, k `num_slots`, n `examples_per_worker` and N
    `total_examples`.

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
    logit_memory: int = 256 * 2**20
    # Numbers trained outside the classifier.
    backbone_parameters: int = 23_500_000
    # By the global norm.
    clip: bool = False
    # Mixed precision: features are bfloat16.
    bfloat16: bool = False
    # Share of the classes that a sharded step looks at.
    sample_rate: float = 1.0
    # Columns of each class row that are made of words, and not trained.
    word_dim: int = 0

    def __post_init__(self):
        for name, least in (
            ("embedding_dim", 1),
            ("word_dim", 0),
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
    def examples_per_worker(self) -> int:
        """n: the streams stacked on the batch axis."""
        return self.num_streams * -(-self.global_batch_size // self.num_workers)

    @property
    def total_examples(self) -> int:
        """N: the examples of all workers, one for each stream of a record."""
        return self.num_workers * self.examples_per_worker

    @property
    def classes_per_worker(self) -> int:
        """ceil(C / M): what the first workers hold."""
        return -(-self.num_classes // self.num_workers)

    @property
    def features_dim(self) -> int:
        """D + W: what meets a class row."""
        return self.embedding_dim + self.word_dim

    @property
    def feature_words(self) -> int:
        """32-bit words of an example's features; two bfloat16 share one."""
        return -(-self.features_dim // (2 if self.bfloat16 else 1))


def choose_classifier(
    num_classes: int,
    embedding_dim: int,
    num_slots: int,
    num_workers: int,
    device_memory: float,
) -> str:
    """What `--classifier auto` takes: `replicated` where that is cheap.

    That is, with less than 100,000 classes whose weights, gradient and slots
    take less than 10 % of the device. Sharded, less is sent as soon as there
    are more classes than examples in a step; but replicated, no worker waits
    for another in mid-step. One worker runs the sharded code, which is then
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
    """Class rows, their dense gradient and slots, in bytes: 4 C D (2 + k)."""
    return _WORD * num_classes * embedding_dim * (2 + num_slots)


# === Memory ===


def keeps_logits(job: Job, layout: str) -> bool:
    """Whether a step's logits, 4 N C / M bytes, fit into `logit_memory`."""
    examples, classes = _shape_of_logits(job, layout)
    return _WORD * examples * classes <= job.logit_memory


def memory_bytes(job: Job, layout: str) -> dict[str, int]:
    """Bytes of the classifier on a worker, by what they are for.

    About three arrays [N, block] and a gradient [block, D] exist while a
    block of classes is at work. Sharded, a block is updated where its
    gradient is made. Replicated, the gradient of all class rows, its packed
    copy and the sum over the workers exist at once.
    """
    examples, classes = _shape_of_logits(job, layout)
    sharded, several = layout == "sharded", job.num_workers > 1
    held = job.classes_per_worker if sharded else job.num_classes
    weights = _WORD * held * (job.embedding_dim + 1)
    block = min(classes, BLOCK_SIZE)
    gathered_words = job.feature_words + _LABEL_AND_WEIGHT_WORDS
    gathered_words += job.num_workers * _STATISTICS
    features_gradient = _WORD * examples * job.features_dim
    # Once more for what the exchange of all with all brings.
    copies = 2 if sharded and several else 1
    return {
        "class rows and biases": weights,
        "word vectors of classes": _WORD * held * job.word_dim,
        "optimizer slots": job.num_slots * weights,
        "dense gradient": 0 if sharded else weights,
        "packed gradient and its sum": (
            2 * weights if several and not sharded else 0
        ),
        "logits kept": (
            _WORD * examples * classes if keeps_logits(job, layout) else 0
        ),
        "a block at work": _WORD * block * (3 * examples + job.embedding_dim),
        "gathered examples and statistics": (
            _WORD * examples * gathered_words if sharded and several else 0
        ),
        "gradient of the features": copies * features_gradient,
    }


def largest_num_classes(job: Job, layout: str, memory: float) -> int:
    """Most classes whose classifier takes at most `memory` bytes a worker.

    No logits are kept (`--logit_memory 0`). 0 if nothing fits.
    """

    def needed(num_classes: int) -> int:
        other = dataclasses.replace(
            job, num_classes=num_classes, logit_memory=0
        )
        return sum(memory_bytes(other, layout).values())

    choices = range(job.num_workers, 10**12)
    found = bisect.bisect_right(choices, memory, key=needed)
    return choices[found - 1] if found else 0


# === Communication ===


def num_collectives(job: Job, layout: str) -> int:
    """Collectives of a step: one packed all-reduce, three more if sharded.

    A gather of features, labels and weights, a gather of statistics, and
    the reduce-scatter of the features' gradient.
    """
    if job.num_workers == 1:
        return 0
    return 4 if layout == "sharded" else 1


def sent_bytes(job: Job, layout: str) -> dict[str, int]:
    """Bytes that each worker sends in a step, by what they are for.

    A gather in a ring sends a worker's part M - 1 times, an exchange of all
    with all (M - 1) / M of the tensor, an all-reduce in a ring twice that.
    The upstream gradient stays at home: a step knows it from the weights
    (under a gradient tape its gather adds 4 (M - 1) n).
    """
    others, n = job.num_workers - 1, job.examples_per_worker
    # With it goes the gradient of the words' projection, [D, W].
    projection = job.embedding_dim * job.word_dim
    backbone = _all_reduce_bytes(job, job.backbone_parameters + projection)
    if layout == "replicated":
        # 2 (M - 1) / M * 4 C (D + 1)
        rows = job.num_classes * (job.embedding_dim + 1)
        parts = {"gradient of all classes": _all_reduce_bytes(job, rows)}
        return {**parts, _BACKBONE: backbone}
    return {
        # 4 (M - 1) n (D + W), with bfloat16 half of it
        "features": _WORD * others * n * job.feature_words,
        # 4 (M - 1) n 3
        "labels and weights": _WORD * others * n * _LABEL_AND_WEIGHT_WORDS,
        # 4 (M - 1) N 4: each worker tells what it knows of all examples.
        "statistics": _WORD * others * job.total_examples * _STATISTICS,
        # 4 (M - 1) / M N (D + W)
        "gradient of the features": _WORD * others * n * job.features_dim,
        # 2 (M - 1) / M * 4 numbers
        _BACKBONE: backbone,
    }


def communication_seconds(
    job: Job, layout: str, bandwidth: float, latency: float
) -> float:
    """Seconds of a step's collectives, if they overlap with nothing.

    Args:
        bandwidth: bytes that a worker sends in a second.
        latency: seconds of a collective of a few bytes.
    """
    sent = sum(sent_bytes(job, layout).values())
    return num_collectives(job, layout) * latency + sent / bandwidth


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


def flops(job: Job, layout: str) -> dict[str, int]:
    """Operations of a worker's classifier in a step.

    A product [N, D] x [D, C / M] is 2 N C D / M; forward is one, backward
    two. Words widen all but the gradient of the class rows by 2 N C W / M.
    Logits that are not kept are computed once more, with clipping twice: the
    norm of a worker's gradient P^T X is found before any class row
    changes, from P P^T, 2 N N C / M, and X X^T, 2 N N D.
    """
    examples, classes = _shape_of_logits(job, layout)
    product = 2 * examples * classes * job.embedding_dim
    with_words = 2 * examples * classes * job.features_dim
    needs_gram = job.clip and layout == "sharded"
    again = 0 if keeps_logits(job, layout) else 1 + needs_gram
    return {
        "forward": with_words,
        "backward": product + with_words,
        "logits again": again * with_words,
        "norm of the gradient": (
            needs_gram * 2 * examples * examples * (classes + job.embedding_dim)
        ),
    }


def _shape_of_logits(job: Job, layout: str) -> tuple[int, int]:
    """[N, C / M] sharded, [n, C] replicated: equally many."""
    if layout == "replicated":
        return job.examples_per_worker, job.num_classes
    sampled = math.ceil(job.sample_rate * job.classes_per_worker)
    return job.total_examples, sampled


def _all_reduce_bytes(job: Job, count: int) -> int:
    """Bytes sent for the sum of `count` float32: 2 (M - 1) / M * 4 count."""
    return 2 * (job.num_workers - 1) * _WORD * count // job.num_workers
