"""Trains the order of search results from clicks and product features."""

import dataclasses
import pathlib
import typing

from sicot_tf import command_line

if typing.TYPE_CHECKING:
    import argparse

_DEBIASING = ("position", "inverse_propensity", "none")
# `training.Settings` has the ranges and defaults; NumPy would be imported.
_SETTINGS = {
    "num_trees": (int, 200, "most trees"),
    "num_leaves": (int, 15, "leaves of a tree"),
    "learning_rate": (float, 0.05, "what a tree adds"),
    "min_leaf": (int, 50, "fewest products in a leaf"),
    "patience": (int, 30, "trees without gain on val before the end"),
    "seed": (int, 0, "of everything"),
}

_EPILOG = """\
click logs (.jsonl, .csv, both also gzipped, or .parquet), a row for each
click or page without any:
  query_id, visitor, time, image, shown, clicked, position
  optional: split (train, val, test), similarities (one for each of shown)

writes OUTPUT/<generation>/ and points OUTPUT/LATEST to it
  model.txt         the trees, as LightGBM reads them
  features.parquet  what they ask of each product
  manifest.json     sources, settings, floor of similarity, metrics
  report.html       gains, importance of the features, the floor
  rejects.jsonl     rows of the logs that can't be used

examples:
  python -m sicot_tf.train_ranker --clicks 'shop/clicks-*.jsonl' \\
      --features features --output ranker \\
      --vector_index vectors --saved_model saved_models/sicot/2

  # A log that says how similar what was shown is:
  python -m sicot_tf.train_ranker --clicks 'logs/*.parquet' \\
      --features features --output ranker

exit codes: 0 trained; 2 refused (too few clicks, a file that can't be read,
vectors of another model); 1 another error.
"""


def _make_parser() -> command_line.ArgumentParser:
    parser = command_line.ArgumentParser(
        "sicot_tf.train_ranker", __doc__, _EPILOG
    )
    parser.add_argument(
        "--clicks",
        nargs="+",
        required=True,
        metavar="LOG",
        help="click logs: paths or globs",
    )
    for name, what in (
        ("features", "folder of beam_jobs.product_features, or a generation"),
        ("output", "folder of the generations; LATEST names the newest"),
    ):
        parser.add_argument(
            f"--{name}",
            type=pathlib.Path,
            required=True,
            metavar=name.upper(),
            help=what,
        )
    parser.add_argument(
        "--vector_index",
        type=pathlib.Path,
        metavar="VECTORS",
        help="where similarities are looked up (default: the log has them)",
    )
    parser.add_argument(
        "--saved_model",
        type=pathlib.Path,
        metavar="DIR",
        help="the model of its vectors (of a base path its newest version): "
        "embeds the query pictures",
    )
    parser.add_argument(
        "--examination",
        type=pathlib.Path,
        metavar="FILE",
        help="JSON list, how often each place is looked at (default: "
        "estimated from train)",
    )
    parser.add_argument(
        "--debiasing",
        choices=_DEBIASING,
        default=_DEBIASING[0],
        help="position: LightGBM learns a bias of each place; "
        "inverse_propensity: clicks count by --examination; none (default: "
        "%(default)s)",
    )
    parser.add_argument(
        "--max_pages_per_day",
        type=int,
        default=1000,
        help="who asks for more is a robot (default: %(default)s)",
    )
    parser.add_argument(
        "--date",
        type=_parse_date,
        default=None,
        metavar="YYYY-MM-DD",
        help="of the generation (default: today)",
    )
    for name, (kind, default, text) in _SETTINGS.items():
        parser.add_argument(
            f"--{name}",
            type=kind,
            default=default,
            help=f"{text} (default: %(default)s)",
        )
    return parser


def _parse_date(text: str) -> str:
    import datetime

    return datetime.date.fromisoformat(text).isoformat()


@command_line.mistakes_in_a_sentence()
def main(argv: list[str] | None = None) -> None:
    """`python -m sicot_tf.train_ranker`."""
    parser = _make_parser()
    arguments = parser.parse_args(argv)
    if bool(arguments.vector_index) != bool(arguments.saved_model):
        parser.error("--vector_index and --saved_model belong together")
    if arguments.max_pages_per_day < 1:
        parser.error(
            "--max_pages_per_day: expected 1 or more, received "
            f"{arguments.max_pages_per_day}"
        )
    _train(arguments)


def _train(arguments: "argparse.Namespace") -> None:
    import datetime

    saved_model = arguments.saved_model
    if saved_model:
        command_line.import_tensorflow()
    from sicot_tf import files
    from sicot_tf.data import generations
    from sicot_tf.ranking import build
    from sicot_tf.ranking import report
    from sicot_tf.ranking import training
    from sicot_tf.recognition.releases import release_check

    if saved_model:
        saved_model = release_check.newest_version(saved_model)
    settings = training.Settings(
        **{
            field.name: getattr(arguments, field.name)
            for field in dataclasses.fields(training.Settings)
        }
    )
    generation = build.build(
        build.Sources(
            clicks=arguments.clicks,
            features=arguments.features,
            vector_index=arguments.vector_index,
            saved_model=saved_model,
            examination=arguments.examination,
        ),
        arguments.output,
        settings,
        date=arguments.date or datetime.date.today().isoformat(),
        debiasing=arguments.debiasing,
        max_pages_per_day=arguments.max_pages_per_day,
    )
    manifest = files.read_json(generation / generations.MANIFEST)
    counts = manifest["counts"]
    print(
        f"{counts['clicks_train']:,} clicks on "
        f"{counts['pages_used_train']:,} pages of train; "
        f"{counts['robots']:,} robots left out, "
        f"{counts['rows_rejected']:,} rows rejected; "
        f"{manifest['num_trees']} trees"
    )
    for sentence in report.findings(manifest):
        print(sentence)
    print(f"Page: {generation / report.REPORT}")
    print(
        f"Ranker: {generation}. Next: python -m sicot_tf.release --model "
        "MODEL --product_index INDEX --vector_index VECTORS --ranker "
        f"{arguments.output}"
    )


if __name__ == "__main__":
    main()
