"""Trains the baseline or the co-training model on a dataset generation.

On one machine or many: the classifier's classes are split over the workers,
everything else is the same on each. A run that was killed goes on from its
last checkpoint with the same loss curve.
"""

import pathlib

from sicot_tf import command_line
from sicot_tf import config
from sicot_tf.checkpoints import step_folders
from sicot_tf.stores import locations
from sicot_tf.training import local_processes
from sicot_tf.workers import cluster

_EXAMPLES = """
examples:
  # Co-training and its baseline on the same records:
  python -m sicot_tf.train --dataset dataset --run_dir runs/cotrain
  python -m sicot_tf.train --dataset dataset --run_dir runs/visual \\
      --streams visual

  # The paper's settings, with another lambda:
  python -m sicot_tf.train --dataset dataset --run_dir runs/lambda \\
      --preset paper --lambda 0.3

  # The control: every picture with another record's title:
  python -m sicot_tf.train --dataset dataset --run_dir runs/shuffled \\
      --shuffle_titles

  # Two workers on this machine; on several machines start the same command
  # on each, with TF_CONFIG (docs/many_workers.md):
  python -m sicot_tf.train --dataset dataset --run_dir runs/workers \\
      --num_workers 2

  # A new run on more products, from what an old one has learned:
  python -m sicot_tf.train --dataset new_dataset --run_dir runs/grown \\
      --init_from runs/cotrain

  # A second stage: its classifier anew, all classes drawn alike:
  python -m sicot_tf.train --dataset dataset --run_dir runs/second \
      --init_from runs/cotrain --second_stage crt --epochs 3

Started again, a run goes on from its last checkpoint, with as many workers
as it is given.
"""


def _make_parser() -> command_line.ArgumentParser:
    parser = command_line.ArgumentParser("sicot_tf.train", __doc__, _EXAMPLES)
    parser.add_argument(
        "--dataset",
        type=locations.location,
        required=True,
        help="what beam_jobs.build_dataset wrote",
    )
    parser.add_run_dir("folder of this run")
    parser.add_argument(
        "--init_from",
        type=command_line.local_path,
        help="a run whose weights a new one starts from; classes and words "
        "are found by their names, new ones start fresh",
    )
    parser.add_argument(
        "--preset",
        choices=sorted(config.PRESETS),
        default="demo",
        help="settings to start from (default: %(default)s)",
    )
    for each in config.RunConfig.__annotations__.values():
        config.add_arguments(parser, each)
    return parser


def _check_start(
    run_dir: pathlib.Path, init_from: pathlib.Path | None, second_stage: str
) -> None:
    """Raises ValueError for a second stage that no first one went before."""
    is_new = step_folders.latest_step(run_dir / "checkpoints") is None
    if second_stage != "none" and is_new and not init_from:
        raise ValueError(
            f"Expected --init_from RUN with --second_stage {second_stage}: it "
            "keeps the streams of a trained run. Train one first, without "
            "--second_stage."
        )


@command_line.mistakes_in_a_sentence()
def main(argv: list[str] | None = None) -> None:
    """`python -m sicot_tf.train`."""
    arguments = _make_parser().parse_args(argv)
    run_dir = arguments.run_dir
    settings = config.RunConfig(
        *(
            config.from_arguments(each, arguments, arguments.preset)
            for each in config.RunConfig.__annotations__.values()
        )
    )
    config.check_together(settings)
    _check_start(run_dir, arguments.init_from, settings.train.second_stage)
    local_processes.run_if_asked(
        settings.workers.num_workers, "sicot_tf.train", argv, run_dir
    )

    command_line.import_tensorflow()
    from sicot_tf.training import loop
    from sicot_tf.workers import watchdog

    with watchdog.worker_failures():
        is_done = loop.train(
            arguments.dataset, run_dir, settings, arguments.init_from
        )
    if is_done and not cluster.worker_index():
        logs = run_dir / "logs"
        print(f"Run: {run_dir} (curves: tensorboard --logdir {logs})")
        print(f"Next: python -m sicot_tf.evaluate --run_dir {run_dir}")


if __name__ == "__main__":
    main()
