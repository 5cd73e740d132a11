"""Builds a generation of the product index from catalogue records.

The road of a record stands in `beam_jobs.catalogue.build`;
`sicot_tf.catalogue.product_index` reads the result.
"""

import argparse
import logging
import pathlib

# Before TensorFlow: what is imported after it gets the SQLite inside
# TensorFlow's own library, and the version stands in the file.
import sqlite3  # noqa: F401
import typing

from beam_jobs.catalogue import generation_flags
from beam_jobs.catalogue import report
from beam_jobs.catalogue import retention
from beam_jobs.pipelines import flags
from beam_jobs.records import reject_reasons
from sicot_tf import command_line
from sicot_tf.stores import locations
from sicot_tf.stores import opening

if typing.TYPE_CHECKING:
    from apache_beam.options import pipeline_options as beam_options

_log = logging.getLogger(__name__)

_EPILOG = """\
catalogue records: JSON Lines (.jsonl), CSV (.csv), both also gzipped, or
Parquet; many files are read by many processes, one file by one
  required  product_id, sku_id (the class; several products may share one),
            title (may be empty)
  optional  images (a list, or text with | between) or image, tags, category,
            updated_at (ISO 8601, or seconds since 1970), deleted
  any other field (price, quality, ...) is kept as it is

of several records of a product the one with the latest updated_at counts, at
equal times that of the later file and line; "deleted": true removes it

records and pictures that can't be used stand in rejects.jsonl with a reason;
mended, the file can be given to --input
{reasons}

examples:
  python -m beam_jobs.build_product_index --input 'catalogue/*.parquet' \\
      --output index --labels runs/cotrain/classes.jsonl
  python -m beam_jobs.build_product_index --input changes.jsonl \\
      --output index --mode delta
  python -m beam_jobs.build_product_index --output index --list
  python -m beam_jobs.build_product_index --output s3://bucket/index \\
      --input 's3://bucket/catalogue/*.parquet'
  python -m beam_jobs.build_product_index --output index --rollback

exit codes: 0 built, found finished or rolled back; 2 refused (wrong flags, a
file that can't be read, an index that would shrink too much); 1 another error.
The index in use stays as it is unless the code is 0.
"""


@command_line.mistakes_in_a_sentence()
def main(argv: list[str] | None = None) -> None:
    """Parses the flags, builds, lists or rolls back, says what came of it."""
    parser = _make_parser()
    arguments, pipeline_options = flags.parse(parser, argv)
    generation_flags.check(parser, arguments)
    if arguments.list:
        print(retention.describe(arguments.output))
    elif arguments.rollback is not None:
        generation_flags.roll_back(arguments)
    else:
        _build(arguments, pipeline_options)


def _make_parser() -> command_line.ArgumentParser:
    parser = command_line.ArgumentParser(
        "beam_jobs.build_product_index",
        "Builds a dated product index: SKU id to products.",
        _EPILOG.format(
            reasons=reject_reasons.table(reject_reasons.OF_CATALOGUE)
        ),
    )
    generation_flags.add_output(parser, "INDEX", locations.location)
    action = parser.add_mutually_exclusive_group(required=True)
    action.add_argument(
        "--input",
        nargs="+",
        metavar="CATALOGUE",
        help="catalogue files: paths, URLs or globs",
    )
    generation_flags.add_list_and_rollback(action)
    _add_contents(parser)
    generation_flags.add_retention(parser, "products")
    flags.add_arguments(parser)
    return parser


def _add_contents(parser: argparse.ArgumentParser) -> None:
    """What the index is made of, beside the catalogue files."""
    generation_flags.add_date(parser)
    parser.add_argument(
        "--mode",
        choices=("full", "delta"),
        default="full",
        help="full: the input is the whole catalogue; delta: changes on top "
        "of a base (default: full)",
    )
    parser.add_argument(
        "--base",
        type=locations.location,
        metavar="GENERATION",
        help="what a delta stands on (default: LATEST)",
    )
    parser.add_argument(
        "--labels",
        type=locations.location,
        metavar="FILE",
        help="classes.jsonl of a run or data set, or the sku_ids.txt of a "
        "SavedModel: report SKUs without class and classes without SKU",
    )
    parser.add_argument(
        "--saved_model",
        type=pathlib.Path,
        metavar="DIR",
        help="exported model, saved_models/sicot (its newest version) or "
        "saved_models/sicot/1: write its embedding of every picture",
    )
    parser.add_argument(
        "--image_root",
        metavar="DIR",
        help="folder of relative picture paths, read with --saved_model "
        "(default: that of the catalogue file)",
    )
    parser.add_argument(
        "--encoding",
        default="utf-8",
        help="of the text of JSON Lines and CSV, for example gb18030 or "
        "utf-16 (default: utf-8)",
    )


def _build(
    arguments: argparse.Namespace,
    pipeline_options: "beam_options.PipelineOptions",
) -> None:
    command_line.import_tensorflow()
    from beam_jobs.catalogue import build
    from beam_jobs.catalogue import identity
    from sicot_tf.recognition.releases import release_check

    saved_model = arguments.saved_model
    if saved_model and not (saved_model / "saved_model.pb").is_file():
        saved_model = release_check.newest_version(saved_model)
    print(f"date {arguments.date}", flush=True)
    generation = build.build(
        arguments.input,
        arguments.output,
        identity.Settings(
            date=arguments.date,
            mode=arguments.mode,
            base=arguments.base,
            labels=arguments.labels,
            saved_model=saved_model,
            image_root=arguments.image_root,
            encoding=arguments.encoding,
        ),
        pipeline_options,
        max_shrink_percent=(
            100 if arguments.force else arguments.max_shrink_percent
        ),
        keep=arguments.keep,
    )
    _print_results(generation, arguments)


def _print_results(
    generation: locations.Location, arguments: argparse.Namespace
) -> None:
    found = opening.open_folder(generation).get_json(report.REPORT)
    counts, classes = found["counts"], found["classes"]
    print(
        f"{counts['products']:,} products of {counts['skus']:,} SKUs from "
        f"{counts['records_read']:,} records; "
        f"{counts['records_rejected']:,} rejected"
    )
    if classes is not None:
        print(
            f"{classes['skus_without_class']['count']:,} SKUs without class, "
            f"{classes['classes_without_sku']['count']:,} classes without SKU"
        )
        if classes["count"] == classes["classes_without_sku"]["count"]:
            _log.warning(
                "no product is of one of the %s classes of %s",
                f"{classes['count']:,}",
                arguments.labels,
            )
    if not counts["products"]:
        raise ValueError(
            f"{generation} holds no product; see its rejects.jsonl "
            "for the reasons."
        )
    print(f"Product index: {generation}")
    print(
        "Go back with: python -m beam_jobs.build_product_index --output "
        f"{arguments.output} --rollback"
    )


if __name__ == "__main__":
    main()
