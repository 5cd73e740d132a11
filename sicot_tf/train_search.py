"""Trains visual search on clicks: where the object is, and what is like it.

Two branches learn together from triplets of a query picture, a clicked product
and another one; no box is marked anywhere. Starts from a run of
sicot_tf.train. A run that was killed goes on from its last checkpoint with the
same loss curve, on one worker or many.
"""

import pathlib

from sicot_tf import command_line
from sicot_tf import config
from sicot_tf.search_training import settings
from sicot_tf.stores import locations
from sicot_tf.training import local_processes
from sicot_tf.workers import cluster

_EXAMPLES = """
examples:
  python -m sicot_tf.train_search --triplets triplets \\
      --init_from runs/cotrain --run_dir runs/search

  # The same without the box branch, and with clicks that mean nothing:
  python -m sicot_tf.train_search --triplets triplets \\
      --init_from runs/cotrain --run_dir runs/whole --without_box
  python -m sicot_tf.train_search --triplets triplets \\
      --init_from runs/cotrain --run_dir runs/shuffled --shuffle_clicks

  # Two workers on this machine; on several machines start the same command
  # on each, with TF_CONFIG (docs/many_workers.md):
  python -m sicot_tf.train_search --triplets triplets \\
      --init_from runs/cotrain --run_dir runs/search --num_workers 2

Started again, a run goes on from its last checkpoint, with as many workers
as it is given.
"""


def _make_parser() -> command_line.ArgumentParser:
    parser = command_line.ArgumentParser(
        "sicot_tf.train_search", __doc__, _EXAMPLES
    )
    parser.add_argument(
        "--triplets",
        type=locations.location,
        required=True,
        help="what beam_jobs.mine_clicks wrote",
    )
    parser.add_argument(
        "--init_from",
        type=command_line.local_path,
        required=True,
        help="a run of sicot_tf.train, whose backbone a new run starts from",
    )
    parser.add_argument(
        "--run_dir",
        type=command_line.local_path,
        default=pathlib.Path("runs/search"),
        help="folder of this run (default: %(default)s)",
    )
    config.add_arguments(parser, settings.SearchConfig)
    config.add_arguments(parser, settings.WorkersConfig)
    return parser


@command_line.mistakes_in_a_sentence()
def main(argv: list[str] | None = None) -> None:
    """`python -m sicot_tf.train_search`."""
    arguments = _make_parser().parse_args(argv)
    run_dir = arguments.run_dir
    search = config.from_arguments(settings.SearchConfig, arguments)
    workers = config.from_arguments(settings.WorkersConfig, arguments)
    local_processes.run_if_asked(
        workers.num_workers, "sicot_tf.train_search", argv, run_dir
    )

    command_line.import_tensorflow()
    from sicot_tf.search_training import loop
    from sicot_tf.workers import watchdog

    with watchdog.worker_failures():
        is_done = loop.train(
            arguments.triplets, run_dir, arguments.init_from, search, workers
        )
    if is_done and not cluster.worker_index():
        logs = run_dir / "logs"
        print(f"Search run: {run_dir} (curves: tensorboard --logdir {logs})")
        print(
            f"Next: python -m sicot_tf.export --run_dir {arguments.init_from} "
            f"--search_run {run_dir}"
        )


if __name__ == "__main__":
    main()
