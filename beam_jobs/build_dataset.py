"""Builds a dataset generation from raw records.

The road of a record, and what a generation is named by, stand in
`beam_jobs.dataset.build`.
"""

import argparse
import logging
import shlex
from typing import Any

from beam_jobs.dataset import inputs
from beam_jobs.dataset import report
from beam_jobs.pipelines import flags
from beam_jobs.records import reject_reasons
from sicot_tf import command_line
from sicot_tf import config
from sicot_tf.stores import locations

_log = logging.getLogger(__name__)

_EPILOG = """\
raw records: JSON Lines (.jsonl), CSV (.csv), both also gzipped, or Parquet
  required  record_id, sku_id (the class), title (may be empty), image (a
            path, absolute or relative to the record file, or a URI)
  optional  sku_name, split (train, val, test), group (stays on one side of
            the split), source, tags, category, description, lang, license,
            box [x_min, y_min, x_max, y_max]

records that can't be used stand in rejects.jsonl with one of these reasons
{reasons}

examples:
  python -m beam_jobs.build_dataset --input records.jsonl --output dataset
  python -m beam_jobs.build_dataset --input 'shop/*.parquet' --output dataset \\
      --preset paper --title_field title_zh --num_processes 8
"""


@command_line.mistakes_in_a_sentence()
def main(argv: list[str] | None = None) -> None:
    """Parses the flags, builds, prints what came of it."""
    arguments, pipeline_options = flags.parse(_make_parser(), argv)
    dataset_config = config.from_arguments(
        config.DatasetConfig, arguments, arguments.preset
    )
    command_line.import_tensorflow()
    from beam_jobs.dataset import build
    from sicot_tf.data import generations
    from sicot_tf.stores import opening

    generation = build.build(
        inputs.Inputs(
            arguments.input,
            arguments.frozen_test,
            arguments.keep_labels,
            arguments.word_vectors,
        ),
        arguments.output,
        dataset_config,
        pipeline_options,
        part_records=arguments.part_records,
        memory_megabytes=arguments.memory_megabytes,
    )
    manifest = opening.open_folder(generation).get_json(generations.MANIFEST)
    _print_results(generation, manifest, arguments.output)


def _make_parser() -> command_line.ArgumentParser:
    parser = command_line.ArgumentParser(
        "beam_jobs.build_dataset",
        "Builds a dataset generation from raw records.",
        _EPILOG.format(reasons=reject_reasons.table(reject_reasons.OF_DATASET)),
    )
    parser.add_argument(
        "--input",
        nargs="+",
        required=True,
        metavar="RECORDS",
        help="record files: paths or globs, also s3:// and gs://",
    )
    parser.add_argument(
        "--output",
        type=locations.location,
        required=True,
        metavar="DIR",
        help="folder of the generations, a path or s3:// or gs://; "
        "DIR/LATEST names the newest",
    )
    parser.add_argument(
        "--preset", choices=sorted(config.PRESETS), default="demo"
    )
    _add_extras(parser)
    parser.add_argument(
        "--part_records",
        type=int,
        default=inputs.PART_RECORDS,
        help="records a worker takes at a time, and may have to do again "
        "after a kill; the result does not depend on it (default: %(default)s)",
    )
    parser.add_argument(
        "--memory_megabytes",
        type=int,
        default=inputs.MEMORY_MEGABYTES,
        help="memory of the stage over all records before it spills to the "
        "disk (default: %(default)s)",
    )
    flags.add_arguments(parser)
    config.add_arguments(parser, config.DatasetConfig)
    return parser


def _add_extras(parser: argparse.ArgumentParser) -> None:
    """What is read beside the record files."""
    parser.add_argument(
        "--frozen_test",
        type=locations.location,
        metavar="FILE",
        help="record ids, one a line, that are in the test set whatever their "
        "hash says",
    )
    parser.add_argument(
        "--keep_labels",
        type=locations.location,
        metavar="DIR",
        help="an older data set: its classes keep their labels, new ones come "
        "behind them",
    )
    parser.add_argument(
        "--word_vectors",
        type=locations.location,
        metavar="FILE",
        help="take these instead of training word2vec: word2vec text or "
        "binary, GloVe, fastText .vec, also .gz and .bz2",
    )


def _print_results(
    generation: locations.Location,
    manifest: dict[str, Any],
    output: locations.Location,
) -> None:
    report.print_counts(manifest)
    for warning in report.warnings(manifest):
        _log.warning("%s", warning)
    print(f"\nGeneration: {generation}")
    counts = manifest["counts"]
    if not counts["written"]["train"]:
        raise ValueError(
            f"not one of {counts['records_read']:,} records can be trained "
            "on. See why: python -m beam_jobs.replay_rejects "
            f"{shlex.quote(str(generation))}"
        )
    print(
        "Next: python -m sicot_tf.train --dataset "
        f"{shlex.quote(str(output))} --run_dir runs/first"
    )


if __name__ == "__main__":
    main()
