"""Fits a run's calibration on its validation records: temperature, threshold.

The temperature makes scores probabilities; the threshold is the lowest score
at which the wanted share of the recognised photos is shown to be right. Both
are kept in RUN/calibration.json, which the next export takes along. Test
records are not read.
"""

from sicot_tf import command_line
from sicot_tf import config
from sicot_tf.stores import locations

_EXAMPLES = """
examples:
  python -m sicot_tf.calibrate --run_dir runs/cotrain
  python -m sicot_tf.calibrate --run_dir runs/cotrain --precision 0.99

  # For an export with the same flag:
  python -m sicot_tf.calibrate --run_dir runs/cotrain --logit_adjustment 1
"""


def _make_parser() -> command_line.ArgumentParser:
    parser = command_line.ArgumentParser(
        "sicot_tf.calibrate", __doc__, _EXAMPLES
    )
    parser.add_run_dir()
    parser.add_argument(
        "--precision",
        type=float,
        default=0.95,
        help="wanted share of right ones among the recognised photos "
        "(default: %(default)s)",
    )
    parser.add_argument(
        "--dataset",
        type=locations.location,
        help="another place of the dataset (default: where the run saw it)",
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
    """`python -m sicot_tf.calibrate`."""
    arguments = _make_parser().parse_args(argv)
    changes = config.from_arguments(config.PostHocConfig, arguments)
    command_line.import_tensorflow()
    from sicot_tf.evaluation.calibration import fitting
    from sicot_tf.evaluation.calibration import page

    fitted = fitting.fit(
        arguments.run_dir,
        precision=arguments.precision,
        dataset_dir=arguments.dataset,
        batch_size=arguments.batch_size,
        changes=changes,
    )
    path, html = fitting.write(fitted)
    for sentence in page.findings(fitted.calibration, fitted.measured):
        print(sentence)
    for note in fitted.notes:
        print(note)
    print(f"Calibration: {path}")
    print(f"Page: {html}")
    command = f"python -m sicot_tf.export --run_dir {arguments.run_dir}"
    print(f"Next: {command} {changes.flags()}".rstrip())


if __name__ == "__main__":
    main()
