"""Top-1 and top-3 accuracy of a run, overall, head and tail, held-out records.

Only the visual stream is built, and records are read without their titles.
Intervals are 95 % bootstrap intervals over classes. A second run can be
compared on the same records. Labels of another dataset are joined by SKU id;
records of classes that the run does not know are left out, and counted.
"""

from sicot_tf import command_line
from sicot_tf import config
from sicot_tf.data import generations
from sicot_tf.evaluation import folders
from sicot_tf.stores import locations

_EXAMPLES = """
examples:
  python -m sicot_tf.evaluate --run_dir runs/cotrain

  # Against the baseline, on the same records:
  python -m sicot_tf.evaluate --run_dir runs/cotrain \\
      --compare_to runs/visual

  # Both with the logits of rare classes raised:
  python -m sicot_tf.evaluate --run_dir runs/cotrain \
      --compare_to runs/visual --logit_adjustment 1
"""


def _make_parser() -> command_line.ArgumentParser:
    parser = command_line.ArgumentParser(
        "sicot_tf.evaluate", __doc__, _EXAMPLES
    )
    parser.add_run_dir()
    parser.add_argument(
        "--compare_to",
        type=command_line.local_path,
        help="another run on the same data, usually the baseline",
    )
    parser.add_argument(
        "--dataset",
        type=locations.location,
        help="another place of the dataset (default: where the run saw it)",
    )
    parser.add_argument(
        "--split",
        choices=generations.SPLITS,
        default="test",
        help="whose records are recognised (default: %(default)s)",
    )
    parser.add_argument(
        "--batch_size",
        type=int,
        default=64,
        help="pictures at once (default: %(default)s)",
    )
    config.add_arguments(parser, config.PostHocConfig)
    return parser


@command_line.mistakes_in_a_sentence()
def main(argv: list[str] | None = None) -> None:
    """`python -m sicot_tf.evaluate`."""
    arguments = _make_parser().parse_args(argv)
    changes = config.from_arguments(config.PostHocConfig, arguments)
    command_line.import_tensorflow()
    from sicot_tf.evaluation import accuracy
    from sicot_tf.evaluation import outputs
    from sicot_tf.evaluation import report

    measured = accuracy.measure(
        arguments.run_dir,
        compare_to=arguments.compare_to,
        dataset_dir=arguments.dataset,
        split=arguments.split,
        batch_size=arguments.batch_size,
        changes=changes,
    )
    output = folders.evaluation_folder(
        arguments.run_dir, arguments.split, changes
    )
    output.mkdir(exist_ok=True)
    outputs.write(output, measured)
    print(report.format_table(measured.tables))
    for sentence in report.headline(measured.tables, measured.comparison):
        print(sentence)
    for note in measured.notes:
        print(note)
    print(f"Report: {output / 'report.html'}")
    print(f"Numbers: {output / 'metrics.json'}")
    command = f"python -m sicot_tf.export --run_dir {arguments.run_dir}"
    print(f"Next: {command} {changes.flags()}".rstrip())


if __name__ == "__main__":
    main()
