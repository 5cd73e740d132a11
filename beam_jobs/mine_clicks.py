"""Mines triplets for visual search from click logs and a catalogue.

docs/clicks.md tells the contract of the logs, and how bias, robots and double
clicks are treated; `beam_jobs.clicks.mine` is the road.
"""

import argparse
import pathlib

# Before TensorFlow: what is imported after it gets the SQLite inside
# TensorFlow's own library.
import sqlite3  # noqa: F401
import typing

from beam_jobs.pipelines import flags
from sicot_tf import command_line
from sicot_tf import files

if typing.TYPE_CHECKING:
    from beam_jobs.clicks import settings as click_settings

_EPILOG = """\
click logs: JSON Lines (.jsonl), CSV (.csv), both also gzipped, or Parquet; a
row is a click, or a result page without any
  required  query_id (of the page), image (the query picture), shown (product
            ids in order: a list, or text with | between)
  and       clicked (product id or null), position (from 1, or null),
            visitor (opaque id), time (ISO 8601), split (train, val, test)

catalogue files: as beam_jobs.build_product_index takes them

writes into OUTPUT/<generation>
  train-*.tfrecord, val-*.tfrecord  query, clicked and other product, pictures
  report.json         every number of the table that is printed
  rejects.jsonl       rows that can't be used; mended, a file for --clicks
  bad_pictures.jsonl  pictures that can't be read

examples:
  python -m beam_jobs.mine_clicks --clicks 'shop/clicks-*.jsonl' \\
      --catalogue 'shop/catalogue-*.jsonl' --output triplets
  python -m beam_jobs.mine_clicks --clicks 'shop/clicks-*.jsonl' \\
      --catalogue 'shop/catalogue-*.jsonl' --output triplets \\
      --vector_index vectors --saved_model saved_models/sicot \\
      --num_processes 4
"""


@command_line.mistakes_in_a_sentence()
def main(argv: list[str] | None = None) -> None:
    """Parses the flags, mines, prints the report."""
    parser = _make_parser()
    arguments, pipeline_options = flags.parse(parser, argv)
    _check(parser, arguments)
    command_line.import_tensorflow()
    from beam_jobs.clicks import mine
    from beam_jobs.clicks import outcome

    generation = mine.mine(
        arguments.clicks,
        arguments.catalogue,
        arguments.output,
        _settings(arguments),
        pipeline_options,
    )
    print(outcome.table(files.read_json(generation / outcome.REPORT)))
    print(f"Triplets: {generation}")
    print(
        "Next: python -m sicot_tf.train_search --triplets "
        f"{arguments.output} --init_from RUN --run_dir runs/search"
    )


def _settings(arguments: argparse.Namespace) -> "click_settings.Settings":
    import dataclasses

    from beam_jobs.clicks import settings
    from sicot_tf.recognition.releases import release_check

    values = {
        field.name: getattr(arguments, field.name)
        for field in dataclasses.fields(settings.Settings)
    }
    saved_model = values["saved_model"]
    if saved_model and not (saved_model / "saved_model.pb").is_file():
        values["saved_model"] = release_check.newest_version(saved_model)
    return settings.Settings(**values)


def _check(
    parser: command_line.ArgumentParser, arguments: argparse.Namespace
) -> None:
    for name, least in (
        ("negatives", 0),
        ("below", 0),
        ("hard_negatives", 1),
        ("max_pages_per_hour", 1),
        ("max_clicks_per_hour", 1),
        ("max_weight", 1),
        ("image_size", 16),
        ("shard_triplets", 1),
    ):
        if not getattr(arguments, name) >= least:
            parser.error(
                f"--{name}: expected {least} or more, received "
                f"{getattr(arguments, name)}"
            )
    if not 0 <= arguments.val_share < 1:
        parser.error(
            "--val_share: expected 0 or more, below 1, received "
            f"{arguments.val_share}"
        )
    if (arguments.vector_index is None) != (arguments.saved_model is None):
        parser.error(
            "--vector_index and --saved_model: expected both or neither"
        )


def _make_parser() -> command_line.ArgumentParser:
    parser = command_line.ArgumentParser(
        "beam_jobs.mine_clicks",
        "Mines training triplets from click logs: query picture, clicked "
        "product, product that was looked at and not clicked.",
        _EPILOG,
    )
    for name, metavar, what in (
        ("clicks", "LOG", "click logs: paths or globs"),
        ("catalogue", "CATALOGUE", "catalogue files: paths or globs"),
    ):
        parser.add_argument(
            f"--{name}", nargs="+", required=True, metavar=metavar, help=what
        )
    parser.add_argument(
        "--output",
        type=pathlib.Path,
        required=True,
        metavar="DIR",
        help="folder of the generations; DIR/LATEST names the newest",
    )
    _add_choice(parser.add_argument_group("triplets"))
    _add_people(parser.add_argument_group("people and places"))
    flags.add_arguments(parser)
    return parser


def _add_choice(group: "argparse._ArgumentGroup") -> None:
    """Which products stand against a click, and how they are stored."""
    group.add_argument(
        "--negatives",
        type=int,
        default=2,
        help="shown products against a click, at most (default: %(default)s)",
    )
    group.add_argument(
        "--below",
        type=int,
        default=1,
        help="places below a click that were probably looked at as well "
        "(default: %(default)s)",
    )
    group.add_argument(
        "--vector_index",
        type=pathlib.Path,
        metavar="DIR",
        help="also take the nearest products that nobody clicked for the "
        "query; needs --saved_model",
    )
    group.add_argument(
        "--saved_model",
        type=pathlib.Path,
        metavar="DIR",
        help="exported model that made the vectors of the index",
    )
    group.add_argument(
        "--hard_negatives",
        type=int,
        default=2,
        help="near products against a click, at most, with --vector_index "
        "(default: %(default)s)",
    )
    group.add_argument(
        "--val_share",
        type=float,
        default=0.1,
        help="of the query pictures without split (default: %(default)s)",
    )
    group.add_argument(
        "--image_size",
        type=int,
        default=256,
        help="shorter side of stored pictures, at most (default: %(default)s)",
    )
    group.add_argument(
        "--shard_triplets",
        type=int,
        default=2000,
        help="triplets of a file, at most (default: %(default)s)",
    )
    group.add_argument("--seed", type=int, default=0, help="(default: 0)")
    group.add_argument(
        "--encoding",
        default="utf-8",
        help="of the text of JSON Lines and CSV (default: utf-8)",
    )


def _add_people(group: "argparse._ArgumentGroup") -> None:
    """Who is no customer, and where customers look."""
    group.add_argument(
        "--max_pages_per_hour",
        type=int,
        default=60,
        help="a visitor with more is a robot (default: %(default)s)",
    )
    group.add_argument(
        "--max_clicks_per_hour",
        type=int,
        default=120,
        help="also one with more clicks (default: %(default)s)",
    )
    group.add_argument(
        "--examination",
        type=pathlib.Path,
        metavar="FILE",
        help="JSON list, or object with it as examination: how often each "
        "place is looked at (default: estimated from the log)",
    )
    group.add_argument(
        "--max_weight",
        type=float,
        default=10.0,
        help="of a click far down, where one at the first place has 1 "
        "(default: %(default)s)",
    )


if __name__ == "__main__":
    main()
