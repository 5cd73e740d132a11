"""The statistics of a dataset generation as a page, plots, CSV and JSON.

Every record is read once; `beam_jobs.statistics.outputs` says how.
"""

from beam_jobs.pipelines import flags
from sicot_tf import command_line
from sicot_tf.data import publishing
from sicot_tf.stores import locations

_EPILOG = """\
writes into the output folder
  statistics.html   the page; one file that loads nothing else
  statistics.json   every number of the page
  classes.csv       one row for each class, with its rank by training images
  words.csv         one row for each word of the vocabulary
  *.svg, *.png      the plots
  croissant.json    a description that other tools read (mlcommons.org)

examples:
  python -m beam_jobs.dataset_statistics --dataset dataset
  python -m beam_jobs.dataset_statistics --dataset dataset --output about \\
      --num_processes 8
"""


@command_line.mistakes_in_a_sentence()
def main(argv: list[str] | None = None) -> None:
    """Parses the flags, writes the statistics, says what they show."""
    arguments, pipeline_options = flags.parse(_make_parser(), argv)
    generation = publishing.resolve_generation(arguments.dataset)
    output = arguments.output or locations.join(
        locations.parent(generation),
        f"statistics-{locations.name(generation)}",
    )
    command_line.import_tensorflow()
    from beam_jobs.statistics import outputs
    from beam_jobs.statistics import page

    statistics = outputs.write_statistics(generation, output, pipeline_options)
    for finding in page.findings(statistics):
        print(f"\n{finding}")
    print(f"\nPage: {locations.join(output, 'statistics.html')}")
    print(
        f"Next: python -m sicot_tf.train --dataset {arguments.dataset} "
        "--run_dir runs/first"
    )


def _make_parser() -> command_line.ArgumentParser:
    parser = command_line.ArgumentParser(
        "beam_jobs.dataset_statistics",
        "Writes the statistics of a dataset as one HTML page, with plots, CSV, "
        "JSON and a Croissant description.",
        _EPILOG,
    )
    parser.add_argument(
        "--dataset",
        type=locations.location,
        required=True,
        metavar="DIR",
        help="folder of generations (the newest is taken), or one of them; "
        "like --output a path or a URL (s3://, gs://)",
    )
    parser.add_argument(
        "--output",
        type=locations.location,
        metavar="DIR",
        help="folder to write; an earlier result is replaced (default: "
        "statistics-<generation> beside the generation)",
    )
    flags.add_arguments(parser)
    return parser


if __name__ == "__main__":
    main()
