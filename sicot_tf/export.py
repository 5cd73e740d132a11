"""Exports the visual stream of a run as a SavedModel for serving.

The folder runs unchanged under `python -m sicot_tf.serve` and under
TensorFlow Serving; its signatures are described in saved_models/README.md.
Titles and their layers stay behind, but for the words that --words asks for.
"""

import argparse
import pathlib

from sicot_tf import command_line
from sicot_tf import config
from sicot_tf.stores import locations

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

  # For phones, too: float and 8-bit LiteRT models with their labels:
  python -m sicot_tf.export --run_dir runs/cotrain --litert phones/shoes

  # Visual search by what clicks taught (signature search):
  python -m sicot_tf.export --run_dir runs/cotrain --search_run runs/search

The version is one more than the highest; a run that is exported already with
the same settings is not exported again.
"""


def _make_parser() -> command_line.ArgumentParser:
    parser = command_line.ArgumentParser("sicot_tf.export", __doc__, _EXAMPLES)
    parser.add_run_dir()
    parser.add_argument(
        "--output",
        type=command_line.local_path,
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
        type=command_line.local_path,
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
    parser.add_argument(
        "--litert",
        type=command_line.local_path,
        metavar="DIR",
        help="folder for LiteRT models of the same weights, for phones: float "
        "and 8-bit, with labels, tried on the validation records of the "
        "dataset; needs the package ai-edge-litert",
    )
    parser.add_argument(
        "--dataset",
        type=locations.location,
        help="for --litert, another place of the dataset (default: where the "
        "run saw it)",
    )
    parser.add_argument(
        "--representative_pictures",
        type=int,
        default=200,
        help="for --litert, training records that the ranges of the 8-bit "
        "model are taken from (default: %(default)s)",
    )
    parser.add_argument(
        "--search_run",
        type=command_line.local_path,
        help="a run of sicot_tf.train_search: the version gets a signature "
        "search, from a picture to an embedding and a box",
    )
    return parser


@command_line.mistakes_in_a_sentence()
def main(argv: list[str] | None = None) -> None:
    """`python -m sicot_tf.export`."""
    arguments = _make_parser().parse_args(argv)
    changes = config.from_arguments(config.PostHocConfig, arguments)
    command_line.import_tensorflow()
    from sicot_tf.training import exporting

    search = None
    if arguments.search_run:
        from sicot_tf.search_training import exporting as search_exporting

        restored = search_exporting.restore(arguments.search_run)
        search = restored.model, restored.info
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
        search=search,
    )
    print(f"SavedModel: {directory}")
    if arguments.litert:
        _export_for_phones(arguments, directory)
    print(
        "Next: python -m sicot_tf.serve "
        f"--model_name {arguments.output.name} "
        f"--model_base_path {arguments.output.resolve()}"
    )


def _export_for_phones(
    arguments: argparse.Namespace, version: pathlib.Path
) -> None:
    """Writes the LiteRT models of a version and says what they lose."""
    from sicot_tf.training.phone import exporting
    from sicot_tf.training.phone import parity

    description = exporting.export(
        arguments.run_dir,
        version,
        arguments.litert,
        dataset_dir=arguments.dataset,
        num_pictures=arguments.representative_pictures,
    )
    print(parity.findings(description, exporting.MODELS))
    print(f"For phones: {arguments.litert} (docs/phone.md)")


if __name__ == "__main__":
    main()
