"""Measures what orders search results beside similarity, product by product.

docs/ranking.md tells what is measured, and how.
"""

import argparse
import pathlib

# Before TensorFlow: what is imported after it gets the SQLite inside
# TensorFlow's own library.
import sqlite3  # noqa: F401
import typing

from beam_jobs.catalogue import generation_flags
from beam_jobs.pipelines import flags
from beam_jobs.records import reject_reasons
from sicot_tf import command_line
from sicot_tf import files
from sicot_tf.data import generations

if typing.TYPE_CHECKING:
    from apache_beam.options import pipeline_options as beam_options

_EPILOG = """\
of each product
  sales, price, age_days (from listed_at)  as its catalogue record has them
  price_ratio       its price to the median of its category
  click_rate        clicks per customer who looked, from pages of train alone
  sharpness, picture_side, background_share, text_share
                    of its main picture
what is not known stays so (NaN); pictures, records and rows of logs that can't
be used stand in rejects.jsonl with a reason, counted in manifest.json

examples:
  python -m beam_jobs.product_features --product_index index \\
      --image_root shop --clicks 'shop/clicks-*.jsonl' --output features
  python -m beam_jobs.product_features --input 'shop/catalogue-*.jsonl' \\
      --clicks 'shop/clicks-*.jsonl' --output features --num_processes 4

exit codes: 0 measured, or found finished; 2 refused (wrong flags, a file that
can't be read); 1 another error
"""


@command_line.mistakes_in_a_sentence()
def main(argv: list[str] | None = None) -> None:
    """Parses the flags, measures, says what came of it."""
    parser = _make_parser()
    arguments, pipeline_options = flags.parse(parser, argv)
    if arguments.max_pages_per_day < 1:
        parser.error(
            "--max_pages_per_day: expected 1 or more, received "
            f"{arguments.max_pages_per_day}"
        )
    _build(arguments, pipeline_options)


def _make_parser() -> command_line.ArgumentParser:
    parser = command_line.ArgumentParser(
        "beam_jobs.product_features", __doc__, _EPILOG
    )
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument(
        "--product_index",
        type=pathlib.Path,
        metavar="INDEX",
        help="products of an index (the generation that LATEST names) or of a "
        "generation",
    )
    source.add_argument(
        "--input",
        nargs="+",
        metavar="CATALOGUE",
        help="catalogue files, as build_product_index takes them: paths or "
        "globs",
    )
    parser.add_argument(
        "--output",
        type=pathlib.Path,
        required=True,
        metavar="FEATURES",
        help="folder of the generations; FEATURES/LATEST names the newest",
    )
    parser.add_argument(
        "--clicks",
        nargs="+",
        metavar="LOG",
        help="click logs: paths or globs (default: no click rates)",
    )
    parser.add_argument(
        "--examination",
        type=pathlib.Path,
        metavar="FILE",
        help="JSON list, how often each place of a page is looked at (default: "
        "1 / place)",
    )
    parser.add_argument(
        "--max_pages_per_day",
        type=int,
        default=1000,
        help="who asks for more result pages is a robot (default: %(default)s)",
    )
    parser.add_argument(
        "--image_root",
        metavar="DIR",
        help="folder of relative picture paths (default: that of the catalogue "
        "file; with --product_index the current one)",
    )
    generation_flags.add_date(parser)
    parser.add_argument(
        "--encoding",
        default="utf-8",
        help="of the text of JSON Lines and CSV of the catalogue (default: "
        "utf-8)",
    )
    flags.add_arguments(parser)
    return parser


def _build(
    arguments: argparse.Namespace,
    pipeline_options: "beam_options.PipelineOptions",
) -> None:
    command_line.import_tensorflow()
    from beam_jobs.features import build

    generation = build.build(
        build.Sources(
            product_index=arguments.product_index,
            catalogue=arguments.input,
            clicks=arguments.clicks,
            image_root=arguments.image_root,
            examination=arguments.examination,
            encoding=arguments.encoding,
        ),
        arguments.output,
        pipeline_options,
        date=arguments.date,
        max_pages_per_day=arguments.max_pages_per_day,
    )
    manifest = files.read_json(generation / generations.MANIFEST)
    counts = manifest["counts"]
    if not counts["products"]:
        raise ValueError(
            f"{generation} holds no product; see its rejects.jsonl for the "
            "reasons."
        )
    print(f"{counts['products']:,} products; known of them:")
    for name, number in manifest["known"].items():
        print(f"  {name:18}{number:12,}")
    known = reject_reasons.OF_DATASET
    for reason, number in counts["rejects"].items():
        print(f"  rejected {number:,}: {reason}: {known.get(reason, '')}")
    print(
        f"Product features: {generation}. Next: python -m "
        f"sicot_tf.train_ranker --features {arguments.output} --clicks LOGS "
        "--output ranker --vector_index VECTORS --saved_model MODEL"
    )


if __name__ == "__main__":
    main()
