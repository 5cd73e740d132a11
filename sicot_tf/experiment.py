"""Runs an experiment: arms, seeds, shuffled twins, choices, tables.

The file (docs/experiments.md) names a dataset, arms and seeds. What is
missing is trained and evaluated, several jobs at once; started again it
repeats nothing that was finished. Every arm that reads titles gets a twin that
trains on other records' titles. Choices are made on validation records; test
records are looked at once, when all is trained. The results stand beside the
paper's tables in one folder.
"""

from sicot_tf import command_line
from sicot_tf.data import generation_cache
from sicot_tf.data import generations
from sicot_tf.experiments import experiment_file
from sicot_tf.experiments import planning
from sicot_tf.experiments import runner
from sicot_tf.stores import locations
from sicot_tf.workers import local_workers

_EXAMPLES = """
examples:
  # What would run, and how long it may take:
  python -m sicot_tf.experiment experiments/emoji.toml --dry_run

  python -m sicot_tf.experiment experiments/emoji.toml

  # The same on another dataset:
  python -m sicot_tf.experiment experiments/quick.toml \\
      --dataset dataset --output runs/mine
"""


def _make_parser() -> command_line.ArgumentParser:
    parser = command_line.ArgumentParser(
        "sicot_tf.experiment", __doc__, _EXAMPLES
    )
    parser.add_argument(
        "file",
        type=command_line.local_path,
        metavar="FILE",
        help="the experiment",
    )
    parser.add_argument(
        "--dataset",
        type=locations.location,
        help="what beam_jobs.build_dataset wrote (default: the file's)",
    )
    parser.add_argument(
        "--output",
        type=command_line.local_path,
        help="folder of runs and results (default: the file's)",
    )
    parser.add_argument(
        "--num_processes",
        type=int,
        default=max(1, local_workers.num_cores() // 2),
        help="jobs at once (default: half of the cores, here %(default)s)",
    )
    parser.add_argument(
        "--dry_run",
        action="store_true",
        help="only list what would run",
    )
    return parser


@command_line.mistakes_in_a_sentence()
def main(argv: list[str] | None = None) -> None:
    """`python -m sicot_tf.experiment`."""
    arguments = _make_parser().parse_args(argv)
    if arguments.num_processes < 1:
        raise ValueError(
            f"Expected --num_processes of 1 or more, received "
            f"{arguments.num_processes}."
        )
    experiment = experiment_file.read(
        arguments.file, arguments.dataset, arguments.output
    )
    generation = generation_cache.local_generation(
        experiment.dataset, lambda _: ["classes.jsonl"]
    ).resolve()
    plan = planning.make_plan(experiment, generation)
    runner.check(experiment, plan, generation.name)
    if arguments.dry_run:
        for line in runner.preview(experiment, plan, arguments.num_processes):
            print(line)
        return
    again = f"python -m sicot_tf.experiment {arguments.file}"
    for name in ("dataset", "output"):
        if getattr(arguments, name):
            again += f" --{name} {getattr(arguments, name)}"
    try:
        with generations.only_builder(experiment.output):
            plan, failed = runner.run(
                experiment, generation, arguments.num_processes
            )
    except runner.Stopped:
        print(f"Stopped; what was finished stays. Next: {again}")
        raise SystemExit(130) from None

    from sicot_tf.experiments import report

    page = report.write(experiment, plan, generation)
    for name, log in failed.items():
        print(f"Failed: {name}, see {log}")
    if page:
        print(f"Page: {page}")
    else:
        print(f"No page yet: the baseline {experiment.baseline} has no result.")
    if failed:
        print(f"Next: {again}")
        raise SystemExit(1)
    runs = experiment.output / "runs"
    print(f"Next: python -m sicot_tf.export --run_dir {runs}/RUN")


if __name__ == "__main__":
    main()
