"""Exports the visual stream of a run as a SavedModel for serving.

The folder runs unchanged under `python -m sicot_tf.serve` and under
TensorFlow Serving; its signatures are described in saved_models/README.md.
Titles and their layers stay behind, but for the words that --words asks for.
"""

import pathlib

from sicot_tf import command_line
from sicot_tf import config

_EXAMPLES = """
examples:
  python -m sicot_tf.export --run_dir runs/cotrain
  python -m sicot_tf.export --run_dir runs/cotrain --output models/shoes \\
      --top_k 10

  # Rare classes win more often, without training again:
  python -m sicot_tf.export --run_dir runs/cotrain --logit_adjustment 1

  # The same weights, more careful:
  python -m sicot_tf.export --run_dir runs/cotrain --threshold 0.8

  # Recognition tells the words that it sees in a picture, too:
  python -m sicot_tf.export --run_dir runs/words --words

The version is one more than the highest; a run that is exported already with
the same settings is not exported again.
"""


def _make_parser() -> command_line.ArgumentParser:
    parser = command_line.ArgumentParser("sicot_tf.export", __doc__, _EXAMPLES)
    parser.add_run_dir()
    parser.add_argument(
        "--output",
        type=pathlib.Path,
        default=pathlib.Path("saved_models/sicot"),
        help="folder of the model's versions (default: %(default)s)",
    )
    parser.add_argument(
        "--top_k",
        type=int,
        default=5,
        help="SKUs in an answer (default: %(default)s)",
    )
    config.add_arguments(parser, config.PostHocConfig)
    calibration = parser.add_mutually_exclusive_group()
    calibration.add_argument(
        "--calibration",
        type=pathlib.Path,
        help="a file of sicot_tf.calibrate (default: the run's own, if it is "
        "of this checkpoint)",
    )
    calibration.add_argument(
        "--no_calibration",
        action="store_true",
        help="leave the scores as they are",
    )
    parser.add_argument(
        "--threshold",
        type=float,
        help="least score that counts as recognised, 0 to 1 (default: that of "
        "the calibration; 0 without one)",
    )
    parser.add_argument(
        "--localization_size",
        type=int,
        help="side in pixels of the square in which a whole photo is looked "
        "at for its heat map, best a multiple of 32 plus 1 (default: twice the "
        "model's, at least 385)",
    )
    parser.add_argument(
        "--words",
        action="store_true",
        help="signature recognition names the words it sees, too; of a run "
        "trained with --word_loss_weight, whose dataset is still there",
    )
    return parser


@command_line.mistakes_in_a_sentence()
def main(argv: list[str] | None = None) -> None:
    """`python -m sicot_tf.export`."""
    arguments = _make_parser().parse_args(argv)
    changes = config.from_arguments(config.PostHocConfig, arguments)
    command_line.import_tensorflow()
    from sicot_tf.training import exporting

    directory = exporting.export(
        arguments.run_dir,
        arguments.output,
        top_k=arguments.top_k,
        changes=changes,
        calibration=arguments.calibration,
        use_calibration=not arguments.no_calibration,
        threshold=arguments.threshold,
        localization_size=arguments.localization_size,
        words=arguments.words,
    )
    print(f"SavedModel: {directory}")
    print(
        "Next: python -m sicot_tf.serve "
        f"--model_name {arguments.output.name} "
        f"--model_base_path {arguments.output.resolve()}"
    )


if __name__ == "__main__":
    main()
