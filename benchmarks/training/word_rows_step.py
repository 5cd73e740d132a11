"""What rows from words (`--word_rows_scale`) add to a step of the classifier.

Steps with and without them take turns in one process, on the same class rows
and momenta. Forward, backward and update with SGD, float32. The median over
rounds, and of their ratios with the lowest and the highest; CPU is the ratio of
the processor time of all threads. Linux only.
"""

import argparse
import functools
import statistics

import tensorflow as tf

from benchmarks.training import classifier_step_meters as meters
from benchmarks.training import classifier_step_ways as steps
from sicot_tf.model.classifier import row_optimizers
from sicot_tf.model.classifier.class_sharded_dense import ClassShardedDense
from sicot_tf.model.classifier.classifier_trainer import ClassifierTrainer

_EXAMPLES = """
examples:
  TF_CPP_MIN_LOG_LEVEL=2 python -m benchmarks.training.word_rows_step
  TF_CPP_MIN_LOG_LEVEL=2 python -m benchmarks.training.word_rows_step \\
      --num_classes 100000
"""


def main(argv: list[str] | None = None) -> None:
    """`python -m benchmarks.training.word_rows_step`."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    for flag, default in (
        ("num_classes", 1_000_000),
        ("dim", 512),
        ("word_dim", 128),
        ("num_examples", 128),
        ("rounds", 9),
    ):
        parser.add_argument(f"--{flag}", type=int, default=default)
    parser.add_argument("--way", choices=steps.WAYS, default="recomputed")
    given = parser.parse_args(argv)
    times = meters.time_rounds(
        _make_steps(given), given.rounds, max_seconds=120
    )
    for name, found in times.items():
        seconds = statistics.median(wall for wall, _ in found)
        print(f"{name:<14}{1e3 * seconds:10.1f} ms")
    pairs = list(zip(times["with words"], times["without"], strict=True))
    for clock, name in enumerate(("wall", "CPU")):
        ratios = [each[clock] / other[clock] for each, other in pairs]
        print(
            f"ratio, {name:<7}{statistics.median(ratios):10.3f} "
            f"({min(ratios):.3f}-{max(ratios):.3f}), {len(ratios)} rounds"
        )


class _SameRows(ClassShardedDense):
    """Trains the class rows of another layer, without its fixed columns."""

    def __init__(self, other: ClassShardedDense):
        super().__init__(other.num_classes, name="classifier")
        self._others_blocks = [other.blocks]

    def build(self, input_shape: tuple) -> None:
        self.embedding_dim = int(input_shape[-1])
        # For how many there are.
        self.kernels, self.fixed = [None] * len(self.blocks), []

    @property
    def blocks(self) -> list:
        return self._others_blocks[0]


def _make_steps(given: argparse.Namespace) -> dict[str, functools.partial]:
    """One step with fixed columns and one without, on the same variables."""
    layer = ClassShardedDense(
        given.num_classes, fixed_dim=given.word_dim, name="classifier"
    )
    layer.build((None, given.dim + given.word_dim))
    for each in layer.fixed:
        values = tf.random.stateless_normal(each.shape, [0, 0])
        each.assign(values / given.word_dim**0.5)
    trainer = ClassifierTrainer(layer, row_optimizers.RowSGD(0.9))
    plain = _SameRows(layer)
    plain.build((None, given.dim))
    plain_trainer = ClassifierTrainer(plain, row_optimizers.RowSGD(0.9))
    plain_trainer.class_rows.slots = trainer.class_rows.slots
    made = {}
    for name, each, dim in (
        ("with words", trainer, given.dim + given.word_dim),
        ("without", plain_trainer, given.dim),
    ):
        case = steps.Case(given.num_classes, dim, given.num_examples)
        examples = steps.make_examples(case)
        made[name] = functools.partial(
            steps.make_step(each, given.way, examples), *examples
        )
    return made


if __name__ == "__main__":
    main()
