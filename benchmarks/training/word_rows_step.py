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


def _make_steps(given: argparse.Namespace) -> dict[str, functools.partial]:
    """One step with fixed columns and one without, on the same variables."""
    made, variables = {}, None
    for name, fixed_dim in (("with words", given.word_dim), ("without", 0)):
        layer = ClassShardedDense(
            given.num_classes if variables is None else 1,
            fixed_dim=fixed_dim,
            name="classifier",
        )
        layer.build((None, given.dim + fixed_dim))
        trainer = ClassifierTrainer(layer, row_optimizers.RowSGD(0.9))
        if variables is None:
            for each in layer.fixed:
                each.assign(
                    tf.random.stateless_normal(each.shape, [0, 0])
                    / given.word_dim**0.5
                )
            variables = layer, trainer
        else:
            whole, first = variables
            layer.num_classes = layer.last_class = given.num_classes
            layer.kernels, layer.biases = whole.kernels, whole.biases
            trainer.class_rows.slots = first.class_rows.slots
        case = steps.Case(
            given.num_classes, given.dim + fixed_dim, given.num_examples
        )
        examples = steps.make_examples(case)
        step = steps.make_step(trainer, given.way, examples)
        made[name] = functools.partial(step, *examples)
    return made


if __name__ == "__main__":
    main()
